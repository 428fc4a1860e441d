"""A checkpoint takes another's place while readers read on: nobody's text changes, and a bad one changes nothing."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from server.app import load
from server.engine import EngineClosedError, NotEnoughMemoryError, SamplingParams
from server.engine.kv_blocks import blocks_for
from server.serving import ReloadRunsError, Served, Serving
from server.settings import Settings
from server.watch import _run, watch
from server.weights import CheckpointError
from tests.checkpoints import write_transformers
from tests.conftest import TINY

LONG = SamplingParams(length=200, seed=3, ignore_end_of_text=True)


class Place:
    """A directory in which one checkpoint after the other lies, and what serves it."""

    def __init__(self, directory: Path, **settings: object) -> None:
        self.directory = directory
        self.lay(1)
        fields = {"checkpoint": directory, "max_running": 4, "engine": "int8", "pace": 0} | settings
        self.settings = Settings(**fields)  # type: ignore[arg-type]
        self.serving = Serving(self.load)
        self.gate = threading.Event()  # before a checkpoint is loaded
        self.gate.set()

    def load(self, beside: Served | None) -> Served:
        if beside:
            self.gate.wait(20)
        return load(self.settings, lambda _: None, beside)

    def lay(self, seed: int) -> None:
        """Another checkpoint, by renaming, as one should."""
        new = self.directory.with_name(f"{self.directory.name}-{seed}")
        write_transformers(new, TINY, seed=seed)
        if self.directory.exists():
            shutil.rmtree(self.directory)
        new.rename(self.directory)

    def text(self) -> str:
        generation = self.serving.ask(lambda served: served.engine.submit("Ash", LONG))
        return generation.result(timeout=30)[0].text


@pytest.fixture
def make_place(tmp_path: Path) -> Iterator[Callable[..., Place]]:
    places: list[Place] = []

    def make(**settings: object) -> Place:
        places.append(Place(tmp_path / str(len(places)), **settings))
        return places[-1]

    yield make
    for place in places:
        place.gate.set()
        place.serving.close()


@pytest.fixture
def place(make_place: Callable[..., Place]) -> Place:
    return make_place()


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def engines() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "engine"}


def test_what_has_begun_is_finished_by_the_old_one_and_what_comes_gets_the_new_one(place: Place) -> None:
    before = place.text()
    old = place.serving.current
    begun = old.engine.submit("Ash", LONG)
    place.lay(2)
    assert place.serving.reload()
    assert place.serving.current is not old
    assert place.serving.current.fingerprint != old.fingerprint
    assert begun.result(timeout=30)[0].text == before
    assert place.text() != before
    wait_until(lambda: not old.engine._thread.is_alive())
    with pytest.raises(EngineClosedError):
        old.engine.submit("Ash", LONG)


def test_what_waits_is_begun_by_the_one_that_admitted_it(make_place: Callable[..., Place]) -> None:
    place = make_place(max_running=1, max_waiting=3, max_samples=1)
    before = place.text()
    begun = [place.serving.current.engine.submit("Ash", LONG) for _ in range(4)]
    place.lay(2)
    assert place.serving.reload()
    assert {generation.result(timeout=30)[0].text for generation in begun} == {before}


def test_what_has_not_changed_is_not_loaded_again(place: Place) -> None:
    old = place.serving.current
    assert not place.serving.reload()
    assert place.serving.current is old
    assert old.engine.statistics().free_blocks == old.plan.n_blocks


def test_a_bad_one_is_refused_and_the_old_one_stays(place: Place) -> None:
    before = place.text()
    (place.directory / "model.safetensors").write_bytes(b"no tensors")
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            place.serving.reload()
        assert place.text() == before
    place.lay(2)
    assert place.serving.reload()
    assert place.text() != before


def test_memory_for_both_is_found_before_anything_is_loaded(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = place.serving.current
    one_sequence = blocks_for(TINY.n_ctx)
    before = place.text()
    place.lay(2)
    both = old.plan.process_bytes + 2 * old.plan.model_bytes
    # It may take a sequence at any moment, as soon as somebody asks.
    used = max(old.engine.used_blocks, one_sequence) * old.plan.block_bytes
    monkeypatch.setattr(
        "server.engine.memory_limit", lambda: both + used + (one_sequence - 1) * old.plan.block_bytes
    )
    with pytest.raises(NotEnoughMemoryError, match="allow more memory"):
        place.serving.reload()
    assert place.text() == before
    monkeypatch.setattr(
        "server.engine.memory_limit", lambda: both + used + one_sequence * old.plan.block_bytes
    )
    begun = old.engine.submit("Ash", LONG)
    assert place.serving.reload()
    new = place.serving.current
    assert begun.result(timeout=30)[0].text == before
    wait_until(lambda: new.engine.statistics().free_blocks == new.plan.n_blocks)
    assert new.plan.n_blocks > one_sequence, "as soon as the old one is gone, the new one has its memory"


def test_a_stop_while_another_is_loaded_leaves_none_running(place: Place) -> None:
    old = place.serving.current
    others = engines() - {old.engine._thread}
    place.lay(2)
    place.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        reload = pool.submit(place.serving.reload)
        wait_until(place.serving._reload.locked)
        place.serving.close()
        place.gate.set()
        with pytest.raises(EngineClosedError, match="the service stops"):
            reload.result(timeout=30)
    assert place.serving.current is old
    assert engines() <= others, "those of earlier tests may end meanwhile"


def test_one_at_a_time(place: Place) -> None:
    place.lay(2)
    place.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(place.serving.reload)
        wait_until(place.serving._reload.locked)
        with pytest.raises(ReloadRunsError):
            place.serving.reload()
        place.gate.set()
        assert first.result(timeout=30)


def test_who_asked_the_old_one_a_moment_too_late_is_answered_by_the_new_one(place: Place) -> None:
    old = place.serving.current
    asked: list[Served] = []

    def question(served: Served) -> str:
        asked.append(served)
        if served is old:
            place.lay(2)
            place.serving.reload()
            wait_until(lambda: not old.engine.alive)
        return served.engine.submit("Ash", LONG).result(timeout=30)[0].text

    assert place.serving.ask(question) == place.text()
    assert asked == [old, place.serving.current]


def test_counts_never_go_back(place: Place) -> None:
    seen = []
    for seed in (2, 3, 4):
        place.text()
        seen.append(place.serving.statistics())
        place.lay(seed)
        assert place.serving.reload()
        seen.append(place.serving.statistics())
    for earlier, later in pairwise(seen):
        assert later.tokens >= earlier.tokens
        assert later.steps >= earlier.steps
        assert later.ended["length"] >= earlier.ended["length"]
    assert seen[-1].ended["length"] >= 3


def test_a_watched_directory_answers_by_itself_and_survives_a_bad_one(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    before = place.text()
    watch(place.serving, 0.05)
    (place.directory / "model.safetensors").write_bytes(b"no tensors")
    wait_until(lambda: "is not taken" in caplog.text)
    time.sleep(0.3)
    assert caplog.text.count("is not taken") == 1, "once is enough"
    assert place.text() == before
    place.lay(2)
    wait_until(lambda: place.text() != before)


@pytest.mark.parametrize(
    ("seconds", "looks", "pauses"),
    [
        (10, ["bad"] * 7, [10, 20, 40, 80, 160, 300, 300, 300]),
        (10, ["bad", "bad", "worse", "worse"], [10, 20, 40, 20, 40]),
        (10, ["bad", "bad", "", "bad"], [10, 20, 40, 10, 20]),
        (3600, ["bad", "bad"], [3600, 3600, 3600]),
    ],
)
def test_what_is_refused_is_loaded_ever_more_seldom_until_it_is_another(
    seconds: int, looks: list[str], pauses: list[int]
) -> None:
    says = iter(looks)
    waited: list[float] = []

    def wait(pause: float) -> bool:
        waited.append(pause)
        return len(waited) > len(looks)

    def reload() -> bool:
        if problem := next(says):
            raise CheckpointError("model.safetensors", problem, "copy it again")
        return True

    _run(SimpleNamespace(closed=SimpleNamespace(wait=wait), reload=reload), seconds)  # type: ignore[arg-type]
    assert waited == pauses
