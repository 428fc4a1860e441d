"""`pokegen download` from a server that fails in the middle, in every way that one does."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from finetune.download.command import FILES, command, download
from server.weights import HParams, open_checkpoint
from server.weights.fetch import describe, new_session, part_of
from tests.blobs import Blobs, cut, headers, serve, slow, status
from tests.checkpoints import random_tensors, write_gpt2_simple

HPARAMS = HParams(n_vocab=280, n_ctx=16, n_embd=96, n_head=2, n_layer=2)
DATA = "model.ckpt.data-00000-of-00001"


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as OpenAI's folders have it, but small: called model.ckpt, and nothing else in it."""
    folder = tmp_path_factory.mktemp("original")
    write_gpt2_simple(folder, HPARAMS)
    for file in folder.glob("model-1000*"):
        file.rename(folder / file.name.replace("model-1000", "model.ckpt"))
    latest = folder / "checkpoint"
    latest.write_text(latest.read_text().replace("model-1000", "model.ckpt"))
    assert {file.name for file in folder.iterdir()} == set(FILES)
    return folder


@pytest.fixture
def blobs(original: Path, tmp_path: Path) -> Iterator[Blobs]:
    """A server of a copy of it that a test may change."""
    served = tmp_path / "served"
    served.mkdir()
    for file in original.iterdir():
        (served / file.name).write_bytes(file.read_bytes())
    with serve(served) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models/124M"


def assert_same(folder: Path, served: Path) -> None:
    """Every file as it is served, and nothing beside them."""
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {
        file.name: file.read_bytes() for file in served.iterdir()
    }


def test_what_comes_is_the_checkpoint(blobs: Blobs, folder: Path) -> None:
    assert download(blobs.url, folder) == list(FILES)
    assert_same(folder, blobs.folder)
    with open_checkpoint(folder) as checkpoint:
        assert checkpoint.hparams == HPARAMS
        np.testing.assert_array_equal(checkpoint.tensor("wte"), random_tensors(HPARAMS, 0)["wte"])


def test_what_is_there_does_not_come_twice(blobs: Blobs, folder: Path) -> None:
    download(blobs.url, folder)
    (folder / "encoder.json").write_bytes(b"{")  # as a download that was not checked leaves it
    blobs.gets.clear()
    assert download(blobs.url, folder) == ["encoder.json"]
    assert [get.file for get in blobs.gets] == ["encoder.json"]
    assert_same(folder, blobs.folder)


def test_a_broken_connection_is_gone_on_with_where_it_broke(blobs: Blobs, folder: Path) -> None:
    blobs.faults[DATA] = [cut(0.5), cut(0.5)]
    download(blobs.url, folder, pause=0)
    assert_same(folder, blobs.folder)
    (first, _), *later = blobs.gets_of(DATA)
    assert first is None
    starts = [int(asked.removeprefix("bytes=").removesuffix("-")) for asked, _ in later if asked]
    assert len(starts) == 2
    assert 0 < starts[0] < starts[1]
    assert later[-1][1] == (blobs.folder / DATA).stat().st_size - starts[1]


def test_a_server_in_trouble_is_asked_again(blobs: Blobs, folder: Path) -> None:
    blobs.faults["vocab.bpe"] = [status(500), status(503), status(429)]
    download(blobs.url, folder, pause=0)
    assert_same(folder, blobs.folder)


def test_a_server_that_stays_in_trouble_is_given_up(blobs: Blobs, folder: Path) -> None:
    blobs.faults["vocab.bpe"] = [status(500)] * 9
    with pytest.raises(OSError, match=r"/vocab\.bpe: the server answers 500 .*: try again later"):
        download(blobs.url, folder, pause=0)
    assert not (folder / "checkpoint").exists()


def test_a_connection_that_always_breaks_at_once_is_given_up(blobs: Blobs, folder: Path) -> None:
    blobs.faults[DATA] = [cut(0)] * 9
    size = (blobs.folder / DATA).stat().st_size
    with pytest.raises(OSError, match=rf"the connection fails or breaks: .*; 0 of {size:,} bytes have come"):
        download(blobs.url, folder, pause=0)
    assert len(blobs.gets_of(DATA)) == 5


def test_a_file_that_changes_between_two_runs_is_not_glued_together(blobs: Blobs, folder: Path) -> None:
    blobs.faults["encoder.json"] = [cut(0.5)] + [status(500)] * 9
    with pytest.raises(OSError, match="answers 500"):
        download(blobs.url, folder, pause=0)
    blobs.faults.clear()
    (blobs.folder / "encoder.json").write_text(
        json.dumps(json.loads((blobs.folder / "encoder.json").read_text()), indent=1)
    )
    download(blobs.url, folder, pause=0)
    assert_same(folder, blobs.folder)


def test_a_file_that_changes_during_a_run_is_not_glued_together(blobs: Blobs, folder: Path) -> None:
    encoder = blobs.folder / "encoder.json"

    def cut_and_change(answer: object) -> None:
        cut(0.5)(answer)  # type: ignore[arg-type]
        encoder.write_text(json.dumps(json.loads(encoder.read_text()), indent=1))

    blobs.faults["encoder.json"] = [cut_and_change]
    download(blobs.url, folder, pause=0)
    assert_same(folder, blobs.folder)


@pytest.mark.parametrize("lacking", ["ranges", "etags"])
def test_without_ranges_or_etags_a_file_comes_anew(blobs: Blobs, folder: Path, lacking: str) -> None:
    setattr(blobs, lacking, False)
    blobs.faults[DATA] = [cut(0.5)]
    download(blobs.url, folder, pause=0)
    assert_same(folder, blobs.folder)
    assert blobs.gets_of(DATA)[-1][1] == (blobs.folder / DATA).stat().st_size


@pytest.mark.parametrize("etag", ['"a"', 'W/"a"'])
def test_an_etag_that_was_not_to_be_relied_on_is_no_change(blobs: Blobs, folder: Path, etag: str) -> None:
    """HEAD has none here; a weak one is none either."""
    blobs.etags = False
    blobs.faults[DATA] = [headers(ETag=etag)]
    download(blobs.url, folder, pause=0)
    assert_same(folder, blobs.folder)
    assert len(blobs.gets_of(DATA)) == 1


@pytest.mark.parametrize(("header", "value"), [("Content-Length", "many"), ("Content-MD5", "a")])
def test_a_header_that_says_nothing_is_named(
    blobs: Blobs, folder: Path, monkeypatch: pytest.MonkeyPatch, header: str, value: str
) -> None:
    send = BaseHTTPRequestHandler.send_header

    def spoil(handler: BaseHTTPRequestHandler, name: str, sound: str) -> None:
        send(handler, name, value if name == header else sound)

    monkeypatch.setattr(BaseHTTPRequestHandler, "send_header", spoil)
    with pytest.raises(OSError, match=rf"encoder\.json: the server's .*{header}.*: check the address"):
        download(blobs.url, folder)


def test_a_wrong_md5_is_refused_and_removed(blobs: Blobs, folder: Path) -> None:
    blobs.wrong_md5 = {"encoder.json"}
    with pytest.raises(
        ValueError, match=r"encoder\.json: what came has not the size and MD5 that the server gives"
    ):
        download(blobs.url, folder)
    assert list(folder.iterdir()) == []
    blobs.wrong_md5.clear()
    download(blobs.url, folder)
    assert_same(folder, blobs.folder)


def test_damaged_weights_are_found_by_their_own_checksums_where_the_server_has_none(
    blobs: Blobs, folder: Path
) -> None:
    blobs.md5 = False
    content = bytearray((blobs.folder / DATA).read_bytes())
    content[1000] ^= 1
    (blobs.folder / DATA).write_bytes(content)
    with pytest.raises(
        ValueError, match=rf"124M/{DATA}: tensor .* has a checksum other than .* has been removed"
    ):
        download(blobs.url, folder)
    assert list(folder.iterdir()) == []


def test_of_what_was_there_only_the_damaged_file_is_removed(blobs: Blobs, folder: Path) -> None:
    download(blobs.url, folder)
    blobs.md5 = False
    content = bytearray((folder / DATA).read_bytes())
    content[1000] ^= 1
    (folder / DATA).write_bytes(content)
    (folder / "encoder.json").unlink()
    with pytest.raises(ValueError, match=f"124M/{DATA}: tensor .* has a checksum other than"):
        download(blobs.url, folder)
    assert {file.name for file in folder.iterdir()} == set(FILES) - {DATA, "encoder.json"}
    assert download(blobs.url, folder) == ["encoder.json", DATA]
    assert_same(folder, blobs.folder)


def test_what_comes_and_does_not_fit_leaves_what_was_there(blobs: Blobs, folder: Path) -> None:
    download(blobs.url, folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    hparams = json.loads((blobs.folder / "hparams.json").read_text())
    (blobs.folder / "hparams.json").write_text(json.dumps({**hparams, "n_layer": 3}))
    with pytest.raises(ValueError, match=r"model\.ckpt\.index: tensor .* is missing; .* remove .*124M\)"):
        download(blobs.url, folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_a_disk_that_fails_costs_no_file(blobs: Blobs, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    download(blobs.url, folder)
    (folder / "encoder.json").unlink()

    def fails(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("os.pread", fails)
        with pytest.raises(OSError, match=r"Input/output error; .* \(nothing has been removed: "):
            download(blobs.url, folder)
    blobs.gets.clear()
    assert download(blobs.url, folder) == ["encoder.json"]
    assert blobs.gets == [], "what has come comes again"
    assert_same(folder, blobs.folder)


def test_what_is_not_there_is_named(blobs: Blobs, folder: Path) -> None:
    with pytest.raises(OSError, match=r"/124m/encoder\.json: it is not there \(404\): check the address"):
        download(f"{blobs.url}/124m", folder)


def test_a_server_that_is_not_there_is_named(folder: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # it keeps the port, and does not listen
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(
            OSError, match=r"encoder\.json: the connection fails or breaks: check the network and the address"
        ):
            download(url, folder, pause=0)


def test_a_name_that_cannot_be_resolved_is_named(folder: Path) -> None:
    with pytest.raises(OSError, match="the server's name can't be resolved"):
        download("http://nowhere.invalid", folder, pause=0)


def test_a_proxy_that_is_not_there_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # it keeps the port, and does not listen
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        with pytest.raises(OSError, match="the proxy does not let it through: check HTTPS_PROXY"):
            download("http://nowhere.invalid", folder, pause=0)


def test_an_address_that_is_none_is_named(folder: Path) -> None:
    with pytest.raises(OSError, match="it can't be asked for: Invalid URL"):
        download("models", folder)


def test_a_full_disk_is_noticed_before_anything_comes(
    blobs: Blobs, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**6, 10**6 - 1000, 1000))
    with pytest.raises(
        OSError, match=r"needs [\d,]+ bytes more and its disk has 1,000: name another --models-dir"
    ):
        download(blobs.url, folder)
    assert blobs.gets == []


def test_a_killed_download_goes_on_where_it_was(blobs: Blobs, folder: Path) -> None:
    """A process of its own, and the one signal that it can do nothing about."""
    size = (blobs.folder / DATA).stat().st_size
    served = blobs.folder.rename(blobs.folder.with_name("124M")).parent
    blobs.folder = served
    name = f"124M/{DATA}"
    blobs.faults[name] = [slow(0.01)]
    part = part_of(folder / DATA, describe(new_session(0), f"{blobs.url}/{name}"))
    code = "from finetune.download.command import command; command()"
    line = [sys.executable, "-c", code, "124M", "--url", blobs.url, "--models-dir", str(folder.parent)]

    process = subprocess.Popen(line)
    try:
        deadline = time.monotonic() + 60
        while not (part.exists() and part.stat().st_size > size / 4):
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    kept = part.stat().st_size
    assert kept < size
    assert not (folder / DATA).exists()

    subprocess.run(line, check=True, timeout=60)
    assert blobs.gets_of(name)[-1] == (f"bytes={kept}-", size - kept)
    for other in set(FILES) - {DATA, "checkpoint"}:
        assert len(blobs.gets_of(f"124M/{other}")) == 1, "what had come whole came again"
    assert_same(folder, served / "124M")


def test_the_command_says_what_it_did(blobs: Blobs, tmp_path: Path) -> None:
    blobs.folder = blobs.folder.rename(blobs.folder.with_name("355M")).parent
    arguments = ["355M", "--url", f"{blobs.url}/", "--models-dir", str(tmp_path / "m")]
    first, second = (CliRunner().invoke(command, arguments) for _ in range(2))
    assert (
        first.output
        == f"{tmp_path}/m/355M: 7 of 7 files fetched, every tensor has the checksum stored for it\n"
    )
    assert (
        second.output
        == f"{tmp_path}/m/355M: 0 of 7 files fetched, every tensor has the checksum stored for it\n"
    )
    assert CliRunner().invoke(command, ["125M"]).exit_code == 2
