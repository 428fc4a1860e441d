"""A checkpoint from elsewhere: whole, checked and once, or an error that says why not."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.weights import CheckpointError, HParams, find_checkpoint, open_checkpoint
from tests.blobs import Blobs, cut, serve, status
from tests.checkpoints import write_transformers

HPARAMS = HParams(n_vocab=280, n_ctx=16, n_embd=32, n_head=2, n_layer=2)
WEIGHTS = "run9/model.safetensors"


def sum_up(folder: Path) -> None:
    """As `sha256sum * > SHA256SUMS` does."""
    lines = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n"
        for file in sorted(folder.iterdir())
        if file.name != "SHA256SUMS"
    ]
    (folder / "SHA256SUMS").write_text("".join(lines))


@pytest.fixture
def blobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Blobs]:
    """Serves a checkpoint in the folder run9, whose files come into a cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("server.weights.remote.PAUSE", 0)
    served = tmp_path / "served"
    write_transformers(served / "run9", HPARAMS)
    sum_up(served / "run9")
    with serve(served) as running:
        yield running


def found(blobs: Blobs, path: str = "run9") -> Path:
    directory, name = find_checkpoint(Path(f"{blobs.url}/{path}"), "")
    assert name == path.rstrip("/").rpartition("/")[2]
    return directory


def kept(tmp_path: Path) -> list[str]:
    """What the cache has beside locks."""
    return sorted(
        file.name for file in (tmp_path / "cache").rglob("*") if file.is_file() and file.name != "lock"
    )


def test_it_comes_and_is_a_checkpoint(blobs: Blobs) -> None:
    with open_checkpoint(found(blobs)) as checkpoint:
        assert checkpoint.hparams == HPARAMS


def test_it_does_not_come_twice(blobs: Blobs) -> None:
    first = found(blobs)
    blobs.gets.clear()
    assert found(blobs) == found(blobs, "run9/") == first
    assert {get.file for get in blobs.gets} == {"run9/SHA256SUMS"}


def test_what_broke_off_is_gone_on_with(blobs: Blobs, tmp_path: Path) -> None:
    blobs.faults[WEIGHTS] = [cut(0.5)] + [status(500)] * 30
    with pytest.raises(CheckpointError, match="can't be had"):
        found(blobs)
    blobs.faults.clear()
    blobs.gets.clear()
    found(blobs)
    [(asked, sent)] = blobs.gets_of(WEIGHTS)
    assert asked
    assert sent < (blobs.folder / WEIGHTS).stat().st_size
    assert not [name for name in kept(tmp_path) if name.endswith(".part")]


def test_another_version_takes_the_place_of_the_first(blobs: Blobs, tmp_path: Path) -> None:
    first = found(blobs)
    names = kept(tmp_path)
    shutil.rmtree(blobs.folder / "run9")
    write_transformers(blobs.folder / "run9", HPARAMS, seed=2)
    sum_up(blobs.folder / "run9")
    second = found(blobs)
    assert second != first
    assert not first.exists()
    assert kept(tmp_path) == names


def test_what_is_damaged_is_not_kept(blobs: Blobs, tmp_path: Path) -> None:
    (blobs.folder / WEIGHTS).write_bytes(b"other bytes")
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors has not the checksum that is named for it"
    ):
        found(blobs)
    assert "model.safetensors" not in "".join(kept(tmp_path))


@pytest.mark.parametrize(
    "line", ["", "x" * 64 + "  a", "0" * 64 + "  ../../a", "0" * 64 + "  /etc/a", "0" * 64 + "  .."]
)
def test_a_listing_that_is_none_is_refused(blobs: Blobs, line: str, tmp_path: Path) -> None:
    (blobs.folder / "run9/SHA256SUMS").write_text(f"{line}\n")
    with pytest.raises(CheckpointError, match="SHA256SUMS has a line"):
        found(blobs)
    (blobs.folder / "run9/SHA256SUMS").write_text("")
    with pytest.raises(CheckpointError, match="no file is named there"):
        found(blobs)
    assert kept(tmp_path) == []


def test_an_address_without_a_listing_says_so(blobs: Blobs) -> None:
    with pytest.raises(CheckpointError, match="404"):
        found(blobs, "run8")
    with pytest.raises(CheckpointError, match="can't be had"):
        find_checkpoint(Path("http://127.0.0.1:9/run8"), "")


def test_an_s3_address_is_asked_at_its_endpoint(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(blobs.folder / "run9", blobs.folder / "bucket/models/run9")
    monkeypatch.setenv("AWS_ENDPOINT_URL", blobs.url)
    directory, name = find_checkpoint(Path("s3://bucket/models/run9"), "")
    assert (name, (directory / "config.json").exists()) == ("run9", True)


def make_hub(blobs: Blobs, revision: str) -> None:
    """What the Hub answers for me/pokegen: its large files by SHA-256, the small ones as git names them."""
    siblings = []
    for file in (blobs.folder / "run9").iterdir():
        content = file.read_bytes()
        named = hashlib.sha1(b"blob %d\0%b" % (len(content), content), usedforsecurity=False).hexdigest()
        entry: dict[str, object] = {"rfilename": file.name, "size": len(content), "blobId": named}
        if file.suffix == ".safetensors":
            entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        siblings.append(entry)
    siblings.append({"rfilename": "training/optimizer.pt", "size": 1, "blobId": "0" * 40})
    answer = blobs.folder / "api/models/me/pokegen/revision" / revision
    answer.parent.mkdir(parents=True)
    answer.write_text(json.dumps({"sha": "c0ffee", "siblings": siblings}))
    shutil.copytree(blobs.folder / "run9", blobs.folder / "me/pokegen/resolve/c0ffee")


@pytest.mark.parametrize(("address", "revision"), [("hf://me/pokegen", "main"), ("hf://me/pokegen@v2", "v2")])
def test_a_hub_repository_is_fetched_and_checked(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch, address: str, revision: str
) -> None:
    make_hub(blobs, revision)
    monkeypatch.setenv("HF_ENDPOINT", blobs.url)
    directory, name = find_checkpoint(Path(address), "")
    assert name == "pokegen"
    with open_checkpoint(directory) as checkpoint:
        assert checkpoint.hparams == HPARAMS
    assert not (directory / "training").exists()


def test_a_hub_file_that_is_damaged_is_not_kept(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    make_hub(blobs, "main")
    monkeypatch.setenv("HF_ENDPOINT", blobs.url)
    (blobs.folder / "me/pokegen/resolve/c0ffee/config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"config\.json has not the checksum"):
        find_checkpoint(Path("hf://me/pokegen"), "")


def test_a_hub_name_that_is_none_is_refused() -> None:
    with pytest.raises(CheckpointError, match="hf://OWNER/NAME"):
        find_checkpoint(Path("hf://pokegen"), "")
