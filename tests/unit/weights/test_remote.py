"""A checkpoint from elsewhere: whole, checked and once, or an error that says why not."""

import base64
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import requests

from server.weights import CheckpointError, HParams, find_checkpoint, open_checkpoint
from server.weights.remote import _session
from tests.blobs import Answer, Blobs, Fault, content, cut, headers, serve, status
from tests.checkpoints import write_transformers, write_vocabulary

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


def current(blobs: Blobs) -> Path:
    return find_checkpoint(Path(f"{blobs.url}/run9"), "", only_current=True).directory


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


def test_weak_etags_do(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """As nginx sends them with what it compresses."""
    send = BaseHTTPRequestHandler.send_header

    def weaken(handler: BaseHTTPRequestHandler, name: str, value: str) -> None:
        send(handler, name, f"W/{value}" if name == "ETag" else value)

    monkeypatch.setattr(BaseHTTPRequestHandler, "send_header", weaken)
    with open_checkpoint(found(blobs)) as checkpoint:
        assert checkpoint.hparams == HPARAMS
    assert len(blobs.gets_of(WEIGHTS)) == 1


def test_what_gets_its_name_is_on_the_disk(
    blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its content first: else it could be empty after a power cut, and pass for whole for ever."""
    done: list[tuple[str, Path]] = []
    rename = Path.rename

    def note_rename(path: Path, target: Path) -> Path:
        done.append(("renamed", path))
        return rename(path, target)

    monkeypatch.setattr(
        "os.fsync", lambda file: done.append(("on the disk", Path(f"/proc/self/fd/{file}").readlink()))
    )
    monkeypatch.setattr(Path, "rename", note_rename)
    place = found(blobs)
    renamed = [path for what, path in done if what == "renamed"]
    assert len(renamed) == len(list(place.iterdir())) + 1
    assert renamed[-1] == place.with_suffix(".part")
    assert done == [pair for path in renamed for pair in (("on the disk", path), ("renamed", path))]


def test_from_https_nothing_leads_to_http() -> None:
    with _session("https://models.example/run9") as session, pytest.raises(requests.exceptions.InvalidSchema):
        session.get("http://127.0.0.1:9/run9/SHA256SUMS")


def test_what_is_half_removed_stands_in_nobodys_way(blobs: Blobs, tmp_path: Path) -> None:
    first = found(blobs)
    left = first.with_suffix(".gone")
    left.mkdir()
    (left / "model.safetensors").write_text("half")
    shutil.rmtree(blobs.folder / "run9")
    write_transformers(blobs.folder / "run9", HPARAMS, seed=2)
    sum_up(blobs.folder / "run9")
    second = found(blobs)
    assert [place for place in second.parent.iterdir() if place.is_dir()] == [second]


def test_a_listing_nested_too_deeply_is_none(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", blobs.url)
    listing = blobs.folder / "api/models/ash/run9/revision/main"
    listing.parent.mkdir(parents=True)
    listing.write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match="nested too deeply"):
        find_checkpoint(Path("hf://ash/run9"), "")


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


@pytest.mark.parametrize(
    "fault", [status(503), status(404), cut(0.5), headers(**{"Content-Encoding": "gzip"}), content(b"")]
)
def test_at_a_start_without_a_listing_what_has_come_before_is_taken(
    blobs: Blobs, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    """So a service that dies while its server is away comes back; a reload changes nothing then."""
    first = found(blobs)
    blobs.faults["run9/SHA256SUMS"] = [fault] * 30
    assert found(blobs) == first
    [line] = caplog.messages
    assert f"{blobs.url}/run9 can't be had (" in line
    assert line.endswith("what has come before is taken")
    with pytest.raises(CheckpointError, match="can't be had"):
        current(blobs)
    blobs.faults.clear()
    assert current(blobs) == first


def test_at_a_start_a_server_that_asks_to_wait_is_not_waited_for(blobs: Blobs) -> None:
    def come_later(answer: Answer) -> None:
        status(503)(answer)
        answer.headers["Retry-After"] = "3600"

    first = found(blobs)
    blobs.faults["run9/SHA256SUMS"] = [come_later] * 30
    began = time.monotonic()
    assert found(blobs) == first
    assert time.monotonic() - began < 10


def test_at_a_start_without_its_server_too(blobs: Blobs) -> None:
    with serve(blobs.folder) as other:
        first = found(other)
    assert found(other) == first
    with pytest.raises(CheckpointError, match="can't be had"):
        current(other)


def test_only_what_is_whole_is_taken(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(folder: Path, **_: object) -> None:
        time.sleep(0.02)  # a system's clock for files may tick a hundred times a second only
        (folder / "config.json").unlink()
        raise KeyboardInterrupt

    blobs.faults[WEIGHTS] = [cut(0.5)] + [status(500)] * 30
    for _ in range(2):
        with pytest.raises(CheckpointError, match="can't be had"):
            found(blobs)
        blobs.faults["run9/SHA256SUMS"] = [status(503)] * 30  # what began to come is there and not whole
    blobs.faults.clear()
    found(blobs)
    shutil.rmtree(blobs.folder / "run9")
    write_transformers(blobs.folder / "run9", HPARAMS, seed=2)
    sum_up(blobs.folder / "run9")
    monkeypatch.setattr("server.weights.remote.shutil.rmtree", die)  # while the first is removed
    with pytest.raises(KeyboardInterrupt):
        found(blobs)
    blobs.faults["run9/SHA256SUMS"] = [status(503)] * 30
    weights = (found(blobs) / "model.safetensors").read_bytes()
    assert weights == (blobs.folder / WEIGHTS).read_bytes()


def test_a_listing_that_breaks_off_is_said_in_one_line(blobs: Blobs) -> None:
    for fault in (cut(0.5), headers(**{"Content-Encoding": "gzip"})):
        blobs.faults["run9/SHA256SUMS"] = [fault] * 30
        with pytest.raises(CheckpointError, match=r"can't be had: .*; check the address and the network"):
            found(blobs)


def test_a_listing_without_end_is_refused(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.weights.remote.LARGEST_LISTING", 100)
    with pytest.raises(CheckpointError, match="SHA256SUMS has more than 100 bytes"):
        found(blobs)


@pytest.mark.parametrize("in_the_way", ["", "pokegen"])
def test_a_cache_that_cannot_be_written_to_says_which_variable_names_it(
    blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_the_way: str
) -> None:
    cache = tmp_path / "elsewhere"
    (cache / in_the_way).parent.mkdir(exist_ok=True)
    (cache / in_the_way).touch()  # a file, which root can't make a folder in either
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    with pytest.raises(CheckpointError, match=r"can't be written to: .*; let XDG_CACHE_HOME name") as caught:
        found(blobs)
    assert str(caught.value).startswith(str(cache / "pokegen"))


@pytest.mark.parametrize(
    "address",
    [
        "https://me:secret@models.example/run2",
        "https://me:secret@models.example",
        "https://me:secret@models.example/my run",
        "https://secret@models.example/run2",
        "https://models.example/run2?signature=secret",
        "https://models.example/run2#secret",
        "s3://me:secret@bucket/run2",
        "hf://me:secret@huggingface.co/me/pokegen",
    ],
)
def test_a_secret_in_an_address_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(CheckpointError, match=r"HF_TOKEN.* NETRC") as caught:
        find_checkpoint(Path(address), "")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "variable", "endpoint"),
    [
        ("http://models.example/run2", "", ""),
        ("http://10.0.0.1/run2", "", ""),
        ("http://127.0.0.1.example/run2", "", ""),
        ("http://localhost.example/run2", "", ""),
        ("s3://bucket/run2", "AWS_ENDPOINT_URL", "http://models.example"),
        ("s3://bucket/run2", "AWS_ENDPOINT_URL", "models.example"),
        ("hf://me/pokegen", "HF_ENDPOINT", "http://models.example"),
    ],
)
def test_nobody_is_asked_over_http_but_this_machine(
    monkeypatch: pytest.MonkeyPatch, address: str, variable: str, endpoint: str
) -> None:
    if variable:
        monkeypatch.setenv(variable, endpoint)
    monkeypatch.setattr("server.weights.remote.new_session", lambda _: pytest.fail("somebody was asked"))
    with pytest.raises(CheckpointError, match=f"{variable or 'the address'} must begin with https://"):
        find_checkpoint(Path(address), "")


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "HF_ENDPOINT"])
def test_a_secret_in_an_endpoint_is_refused_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "https://me:secret@models.example")
    address = "hf://me/pokegen" if variable == "HF_ENDPOINT" else "s3://bucket/run2"
    with pytest.raises(CheckpointError, match=variable) as caught:
        find_checkpoint(Path(address), "")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "[::1]", "localhost"])
def test_this_machine_may_be_asked_over_http(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    def ask(_: float) -> None:
        raise OSError("it was asked")

    monkeypatch.setattr("server.weights.remote.new_session", ask)
    with pytest.raises(CheckpointError, match="it was asked"):
        find_checkpoint(Path(f"http://{host}:8000/run2"), "")


def test_who_asks_is_taken_from_the_file_that_netrc_names(
    blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal of a password in an address sends people there."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    found(blobs)
    basic = "Basic " + base64.b64encode(b"me:secret").decode()
    assert {get.authorization for get in blobs.gets} == {basic}


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


@pytest.mark.parametrize("names", [("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")])
def test_a_hub_repository_keeps_its_delimiter(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch, names: tuple[str, str]
) -> None:
    """Of GPT-2's pair of files, which say nothing of it: tokenizer_config.json does."""
    run9 = blobs.folder / "run9"
    (run9 / "tokenizer.json").unlink()
    write_vocabulary(run9, HPARAMS.n_vocab)
    for theirs, name in zip(("encoder.json", "vocab.bpe"), names, strict=True):
        (run9 / theirs).rename(run9 / name)
    (run9 / "tokenizer_config.json").write_text('{"add_bos_token": true}')
    make_hub(blobs, "main")
    monkeypatch.setenv("HF_ENDPOINT", blobs.url)
    directory, _ = find_checkpoint(Path("hf://me/pokegen"), "")
    with open_checkpoint(directory) as checkpoint, open_checkpoint(run9) as cloned:
        assert checkpoint.tokenizer.encode_prompt("Ash")[0] == checkpoint.tokenizer.end_of_text
        assert checkpoint.identity() == cloned.identity()


@pytest.mark.parametrize(
    ("missing", "spoil"),
    [
        ("sha", lambda said: said.pop("sha")),
        ("siblings", lambda said: said.update(siblings=None)),
        ("rfilename", lambda said: said.update(siblings=["config.json"])),
        ("blobId", lambda said: [entry.pop("blobId") for entry in said["siblings"]]),
        ("sha256", lambda said: [entry.update(lfs={"size": 1}) for entry in said["siblings"]]),
    ],
)
def test_a_mirror_that_says_too_little_is_refused(
    blobs: Blobs,
    monkeypatch: pytest.MonkeyPatch,
    missing: str,
    spoil: Callable[[dict[str, Any]], object],
) -> None:
    make_hub(blobs, "main")
    listing = blobs.folder / "api/models/me/pokegen/revision/main"
    said = json.loads(listing.read_text())
    spoil(said)
    listing.write_text(json.dumps(said))
    monkeypatch.setenv("HF_ENDPOINT", blobs.url)
    with pytest.raises(CheckpointError, match=f"the Hub's answer has no {missing};"):
        find_checkpoint(Path("hf://me/pokegen"), "")


def test_a_hub_file_that_is_damaged_is_not_kept(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    make_hub(blobs, "main")
    monkeypatch.setenv("HF_ENDPOINT", blobs.url)
    (blobs.folder / "me/pokegen/resolve/c0ffee/config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"config\.json has not the checksum"):
        find_checkpoint(Path("hf://me/pokegen"), "")


def test_a_hub_name_that_is_none_is_refused() -> None:
    with pytest.raises(CheckpointError, match="hf://OWNER/NAME"):
        find_checkpoint(Path("hf://pokegen"), "")
