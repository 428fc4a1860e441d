"""What the C++ refuses: it checks all that could lead it outside of its memory, whoever calls it."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from server.engine.native import _core
from server.weights import HParams
from tests.unit.engine.native.models import PRECISIONS, RandomCheckpoint, native_model

HPARAMS = HParams(n_vocab=100, n_ctx=32, n_embd=24, n_head=2, n_layer=1)
SIZES = asdict(HPARAMS)
C = HPARAMS.n_embd
HUGE = 2**31 - 1  # one more does not fit into an int


@pytest.fixture(scope="module", params=PRECISIONS)
def layout(request: pytest.FixtureRequest) -> _core.Layout:
    return _core.Layout(**SIZES, precision=request.param)


@pytest.fixture(scope="module", params=PRECISIONS)
def model(request: pytest.FixtureRequest) -> _core.Model:
    return native_model(RandomCheckpoint(HPARAMS), request.param, n_blocks=4)


def zeros(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("size", [0, -1, -HUGE, 2**24 + 1, HUGE])
def test_sizes_that_no_model_has(name: str, size: int) -> None:
    with pytest.raises(ValueError, match=r"from 1 to 2\*\*24"):
        _core.Layout(**SIZES | {name: size}, precision="int8")


def test_sizes_that_do_not_fit_together() -> None:
    with pytest.raises(ValueError, match="n_embd must be a multiple of n_head"):
        _core.Layout(100, 32, 24, 5, 1, "int8")
    with pytest.raises(ValueError, match="n_embd may be 32768 at most"):
        _core.Layout(100, 32, 2**15 + 64, 64, 1, "int8")
    _core.Layout(100, 32, 2**15, 64, 1, "int8")
    with pytest.raises(ValueError, match="n_embd / n_head may be 1024 at most"):
        _core.Layout(100, 32, 1025, 1, 1, "int8")
    with pytest.raises(ValueError, match="precision must be int8 or float32, not int4"):
        _core.Layout(**SIZES, precision="int4")


@pytest.mark.parametrize(
    ("method", "arguments", "says"),
    [
        ("pack_matrix", (1, 0, zeros(C, 3 * C), zeros(3 * C)), "no such matrix"),
        ("pack_matrix", (-1, 0, zeros(C, 3 * C), zeros(3 * C)), "no such matrix"),
        ("pack_matrix", (0, 4, zeros(C, C), zeros(C)), "no such matrix"),
        ("pack_matrix", (0, -1, zeros(C, C), zeros(C)), "no such matrix"),
        ("pack_matrix", (0, 0, zeros(3 * C, C), zeros(3 * C)), "another shape"),
        ("pack_matrix", (0, 2, zeros(C, 4 * C), zeros(C)), "another length"),
        ("pack_token_embeddings", (-1, zeros(1, C)), "no such tokens"),
        ("pack_token_embeddings", (100, zeros(1, C)), "no such tokens"),
        ("pack_token_embeddings", (98, zeros(3, C)), "no such tokens"),
        ("pack_token_embeddings", (HUGE, zeros(1, C)), "no such tokens"),
        ("pack_token_embeddings", (0, zeros(1, C + 1)), "another length"),
        ("pack_position_embeddings", (zeros(31, C),), "another shape"),
        ("pack_position_embeddings", (zeros(32, C - 1),), "another shape"),
        ("pack_final_norm", (zeros(1, C),), "gain and bias"),
        ("pack_final_norm", (zeros(2, C + 1),), "another shape"),
    ],
)
def test_weights_of_another_model(
    layout: _core.Layout, method: str, arguments: tuple[Any, ...], says: str
) -> None:
    arena = _core.allocate(layout.size)
    with pytest.raises(ValueError, match=says):
        getattr(layout, method)(arena, *arguments)
    assert not arena.any(), "nothing is written"


def test_an_arena_of_another_size(layout: _core.Layout) -> None:
    for size in (0, layout.size - 1, layout.size + 1):
        arena = np.zeros(size, np.uint8)
        with pytest.raises(ValueError, match=r"must have layout\.size bytes"):
            layout.pack_token_embeddings(arena, 0, zeros(1, C))
        with pytest.raises(ValueError, match=r"must have layout\.size bytes"):
            _core.Model(layout, arena, 1, 1, "auto")


def test_an_arena_that_would_have_to_be_copied(layout: _core.Layout) -> None:
    """What was packed would be lost with the copy, and a model would read memory that is no longer its own."""
    for arena in (np.zeros(layout.size, np.int8), np.zeros(2 * layout.size, np.uint8)[::2]):
        with pytest.raises(TypeError):
            layout.pack_token_embeddings(arena, 0, zeros(1, C))  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            _core.Model(layout, arena, 1, 1, "auto")  # type: ignore[arg-type]


def test_an_arena_that_is_read_only_can_be_computed_from_but_not_packed_into(layout: _core.Layout) -> None:
    arena = np.zeros(layout.size, np.uint8)
    arena.flags.writeable = False
    with pytest.raises(TypeError):
        layout.pack_token_embeddings(arena, 0, zeros(1, C))
    _core.Model(layout, arena, 1, 1, "auto")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((0, 1, "auto"), "n_blocks must be at least 1"),
        ((-1, 1, "auto"), "n_blocks must be at least 1"),
        ((1, 0, "auto"), "threads must be from 1 to 256"),
        ((1, -1, "auto"), "threads must be from 1 to 256"),
        ((1, 257, "auto"), "threads must be from 1 to 256"),
        ((1, 1, "sse2"), "must be auto, portable, avx2 or avx512-vnni, not sse2"),
        ((1, 1, ""), "must be auto, portable, avx2 or avx512-vnni, not "),
    ],
)
def test_a_model_that_cannot_be(layout: _core.Layout, arguments: tuple[int, int, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        _core.Model(layout, _core.allocate(layout.size), *arguments)


def test_a_cache_beyond_all_memory() -> None:
    layout = _core.Layout(1, 1, 2**14, 2**10, 2**10, "float32")
    arena = _core.allocate(layout.size)  # not a page of which is touched
    with pytest.raises(MemoryError):
        _core.Model(layout, arena, HUGE, 1, "auto")
    with pytest.raises(MemoryError):
        _core.allocate(2**62)


# A step of two slices, in order, which all that follows differs from in one thing.
STEP: dict[str, tuple[list[float], type]] = {
    "tokens": ([1, 2, 3, 4], np.int32),
    "lengths": ([3, 1], np.int32),
    "positions": ([0, 16], np.int32),
    "blocks": ([0, 1, 3], np.int32),
    "n_blocks": ([1, 2], np.int32),
    "draws": ([1, 1], np.uint8),
    "temperature": ([1, 0], np.float64),
    "top_k": ([0, 40], np.int32),
    "top_p": ([0.9, 0], np.float64),
    "seeds": ([1, 2], np.uint64),
    "samples": ([0, 1], np.uint64),
    "n_logits": ([2, 0], np.int32),
}


def step(model: _core.Model, **changes: list[float]) -> tuple[list[int], list[list[float]]]:
    arrays: dict[str, Any] = {
        name: np.array(changes.get(name, values), dtype) for name, (values, dtype) in STEP.items()
    }
    drawn, logits = model.step(**arrays)
    return drawn, logits.tolist()


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("tokens", [1, 2, 100, 4], "not in the vocabulary"),
        ("tokens", [-1, 2, 3, 4], "not in the vocabulary"),
        ("tokens", [1, 2, 3, HUGE], "not in the vocabulary"),
        ("tokens", [1, 2, 3], "fewer tokens or blocks"),
        ("lengths", [0, 1], "one or more, and lie within n_ctx"),
        ("lengths", [3, -1], "one or more, and lie within n_ctx"),
        ("lengths", [3, 17], "one or more, and lie within n_ctx"),
        ("lengths", [HUGE, 1], "one or more, and lie within n_ctx"),
        ("lengths", [3, HUGE], "one or more, and lie within n_ctx"),
        ("lengths", [3, 2], "fewer tokens or blocks"),
        ("positions", [0, -1], "one or more, and lie within n_ctx"),
        ("positions", [0, 32], "one or more, and lie within n_ctx"),
        ("positions", [0, HUGE], "one or more, and lie within n_ctx"),
        ("positions", [14, 16], "too few blocks"),
        ("blocks", [0, 1, 4], "no such block"),
        ("blocks", [0, -1, 3], "no such block"),
        ("blocks", [0, 1], "fewer tokens or blocks"),
        ("n_blocks", [0, 2], "too few blocks"),
        ("n_blocks", [1, 1], "too few blocks"),
        ("n_blocks", [-1, 2], "too few blocks"),
        ("n_blocks", [1, HUGE], "fewer tokens or blocks"),
        ("temperature", [-1, 0], "temperature must be from 0 to 10"),
        ("temperature", [1, 10.01], "temperature must be from 0 to 10"),
        ("temperature", [np.nan, 0], "temperature must be from 0 to 10"),
        ("temperature", [np.inf, 0], "temperature must be from 0 to 10"),
        ("top_k", [-1, 0], "top_k must be 0 or more"),
        ("top_p", [0, 1.01], "top_p must be from 0 to 1"),
        ("top_p", [-0.01, 0], "top_p must be from 0 to 1"),
        ("top_p", [np.nan, 0], "top_p must be from 0 to 1"),
        ("n_logits", [4, 0], "from 0 to a slice's length"),
        ("n_logits", [0, -1], "from 0 to a slice's length"),
        *((name, [1], "one of each") for name in STEP if name not in ("tokens", "blocks", "lengths")),
        ("lengths", [3], "one of each"),
        ("lengths", [], "one of each"),
    ],
)
def test_a_step_that_cannot_be(model: _core.Model, name: str, values: list[float], says: str) -> None:
    before = step(model)
    with pytest.raises(ValueError, match=says):
        step(model, **{name: values})
    assert step(model) == before, "the model is as good as before"


def test_a_step_of_nobody(model: _core.Model) -> None:
    assert step(model, **{name: [] for name in STEP}) == ([], [])


@pytest.mark.parametrize(
    ("tokens", "position", "blocks", "says"),
    [
        ([], 0, [0], "one or more, and lie within n_ctx"),
        ([1], 32, [0, 1, 2], "one or more, and lie within n_ctx"),
        ([1], -1, [0, 1], "one or more, and lie within n_ctx"),
        ([1], HUGE, [0, 1], "one or more, and lie within n_ctx"),
        ([1] * 33, 0, [0, 1, 2], "one or more, and lie within n_ctx"),
        ([1], 16, [0], "too few blocks"),
        ([1], 0, [], "too few blocks"),
        ([100], 0, [0], "not in the vocabulary"),
        ([-1], 0, [0], "not in the vocabulary"),
        ([1], 0, [4], "no such block"),
        ([1], 0, [-1], "no such block"),
    ],
)
def test_logits_that_cannot_be(
    model: _core.Model, tokens: list[int], position: int, blocks: list[int], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        model.logits(np.array(tokens, np.int32), position, np.array(blocks, np.int32))


def draw(**changes: Any) -> list[int]:  # noqa: ANN401 - as many types as arguments
    arguments: dict[str, Any] = {"logits": zeros(3), "temperature": 1.0, "top_k": 0, "top_p": 0.0}
    arguments |= {"seed": 1, "sample": 0, "position": 0, "n": 1, "isa": "auto"}
    return _core.draw(**arguments | changes)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("logits", zeros(0), "no logits"),
        ("temperature", -1.0, "temperature must be from 0 to 10"),
        ("temperature", 10.01, "temperature must be from 0 to 10"),
        ("temperature", float("nan"), "temperature must be from 0 to 10"),
        ("top_k", -1, "top_k must be 0 or more"),
        ("top_p", -0.01, "top_p must be from 0 to 1"),
        ("top_p", 1.01, "top_p must be from 0 to 1"),
        ("isa", "mmx", "not mmx"),
    ],
)
def test_a_draw_that_cannot_be(name: str, value: object, says: str) -> None:
    assert draw() in ([0], [1], [2])
    with pytest.raises(ValueError, match=says):
        draw(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("seed", -1), ("seed", 2**64), ("top_k", 2**31), ("position", -1)]
)
def test_numbers_that_the_types_cannot_hold(name: str, value: int) -> None:
    with pytest.raises(TypeError):
        draw(**{name: value})


def test_ceilings_that_cannot_be_measured() -> None:
    for threads in (0, 1025):
        with pytest.raises(ValueError, match="threads must be from 1 to 256"):
            _core.ceilings("auto", threads, 0.01)
    with pytest.raises(ValueError, match="not mmx"):
        _core.ceilings("mmx", 1, 0.01)
