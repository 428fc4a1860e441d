"""What counts as another checkpoint: its content does, and neither the place of its files nor their times."""

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from server.api.card import Unavailable
from server.api.page import HTML
from server.app import load
from server.serving import Serving
from server.settings import Settings
from server.weights import CheckpointError
from tests.blobs import serve
from tests.checkpoints import write_transformers
from tests.conftest import TINY
from tests.unit.weights.test_remote import sum_up

Serve = Callable[[Path], Serving]


@pytest.fixture
def start() -> Iterator[Serve]:
    """Serves what lies somewhere, as a start of the service does."""
    started: list[Serving] = []

    def start(checkpoint: Path) -> Serving:
        settings = Settings(checkpoint=checkpoint, max_running=4, pace=0)
        started.append(Serving(partial(load, settings, lambda _: None)))
        return started[-1]

    yield start
    for serving in started:
        serving.close()


@pytest.fixture
def run1(tmp_path: Path) -> Path:
    write_transformers(tmp_path / "run1", TINY, seed=1)
    return tmp_path / "run1"


@pytest.fixture
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on."""
    return lambda: monkeypatch.setattr("server.app.create_engine", lambda *_, **__: pytest.fail("it was"))


def touch(directory: Path) -> None:
    """As `chown -R` does: each file changes, but for what is in it."""
    for file in directory.iterdir():
        file.chmod(0o640)


def test_the_same_files_with_other_times_are_not_loaded_again(
    start: Serve, run1: Path, nothing_is_loaded: Callable[[], None]
) -> None:
    serving = start(run1)
    old = serving.current
    nothing_is_loaded()
    touch(run1)
    assert not serving.reload()
    assert serving.current.engine is old.engine
    assert serving.current.stamp != old.stamp
    assert serving.current.created == old.created


def test_every_copy_has_the_same_fingerprint(start: Serve, run1: Path, tmp_path: Path) -> None:
    """Which is the ETag's: what one server wrote, another may call unchanged."""
    copy = shutil.copytree(run1, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    assert start(run1).current.fingerprint == start(copy).current.fingerprint
    assert start(copy).current.fingerprint == start(run1).current.fingerprint, "from the packed weights, too"


def test_another_card_is_shown_though_nothing_is_loaded(
    start: Serve, run1: Path, nothing_is_loaded: Callable[[], None]
) -> None:
    serving = start(run1)
    engine = serving.current.engine
    assert isinstance(serving.current.card_forms[HTML], Unavailable)
    nothing_is_loaded()
    for title in ("A card", "Another card"):
        (run1 / "README.md").write_text(f"# {title}\n")
        assert not serving.reload()
        shown = serving.current.card_forms[HTML]
        assert isinstance(shown, bytes)
        assert title.encode() in shown
    (run1 / "README.md").unlink()
    assert not serving.reload()
    assert isinstance(serving.current.card_forms[HTML], Unavailable)
    assert serving.current.engine is engine


def test_the_same_content_answers_under_its_new_name(
    start: Serve, run1: Path, tmp_path: Path, nothing_is_loaded: Callable[[], None]
) -> None:
    (tmp_path / "served").symlink_to(run1)
    serving = start(tmp_path / "served")
    old = serving.current
    nothing_is_loaded()
    shutil.copytree(run1, tmp_path / "run2")
    (tmp_path / "link").symlink_to(tmp_path / "run2")
    (tmp_path / "link").replace(tmp_path / "served")
    assert serving.reload()
    assert (old.model, serving.current.model) == ("run1", "run2")
    assert (serving.current.engine, serving.current.fingerprint) == (old.engine, old.fingerprint)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [("tokenizer_config.json", "add_bos_token", True), ("config.json", "n_head", 2)],
)
def test_another_tokenizer_or_size_alone_is_another_checkpoint(
    start: Serve, run1: Path, name: str, field: str, value: object
) -> None:
    serving = start(run1)
    old = serving.current
    content = json.loads((run1 / name).read_text())
    assert content.get(field) != value
    (run1 / name).write_text(json.dumps(content | {field: value}))
    assert serving.reload()
    assert serving.current.engine is not old.engine
    assert serving.current.fingerprint != old.fingerprint
    assert start(run1).current.fingerprint == serving.current.fingerprint


def test_a_start_does_without_the_server_that_a_reload_asks(
    start: Serve, run1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("server.weights.remote.PAUSE", 0)
    sum_up(run1)
    with serve(tmp_path) as blobs:
        address = Path(f"{blobs.url}/run1")
        serving = start(address)
    served = serving.current
    with pytest.raises(CheckpointError, match="can't be had"):
        serving.reload()
    assert serving.current is served
    again = start(address).current
    assert (again.model, again.fingerprint) == ("run1", served.fingerprint)
