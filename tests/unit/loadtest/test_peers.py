"""The comparison with other engines: what is made of what they say. The peers themselves are optional."""

import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.peers.engines import LOCKS, PEERS, Event, Peer, events_of
from loadtest.peers.picture import draw
from loadtest.peers.results import Comparison, Missing, Result, read, summarise, write
from loadtest.peers.table import table

SAID: list[Event] = [
    {"event": "loaded", "seconds": 0.5, "rss_mb": 300.0},
    {"event": "decode", "sampling": "greedy", "sequences": 1, "tokens_per_s": 90.0, "prefill": 900.0},
    {"event": "decode", "sampling": "greedy", "sequences": 8, "tokens_per_s": 300.0, "prefill": 1900.0},
    {"event": "memory", "sequences": 8, "tokens": 256, "rss_mb": 512.0, "peak_mb": 600.0},
    {"event": "loaded", "seconds": 0.7, "rss_mb": 300.0},
    {"event": "decode", "sampling": "greedy", "sequences": 1, "tokens_per_s": 110.0, "prefill": 950.0},
]


@pytest.fixture
def comparison() -> Comparison:
    ours = Result(
        "Pokegen int8",
        "pokegen 0.1.0",
        decode={"greedy": {"1": 225.0, "8": 1300.4}, "top-p": {"1": 220.0, "8": 1290.0}},
        prefill=2500.0,
        load_s=0.42,
        rss_mb=501.0,
    )
    return Comparison(
        command="python -m loadtest.peers --json docs/peers.json",
        date="2026-01-31",
        machine="a processor, 2 threads",
        results=[ours, summarise("llama.cpp Q8_0", "llama-cpp-python 0.3", SAID)],
        missing=[Missing("openvino int8", "not installed: loadtest/peers/install openvino")],
        ceilings={"1": 268.0, "8": 1950.0},
    )


def test_rounds_become_medians_with_their_spread() -> None:
    result = summarise("llama.cpp Q8_0", "llama-cpp-python 0.3", SAID)
    assert result.decode == {"greedy": {"1": 100.0, "8": 300.0}}
    assert result.spread == {"greedy": {"1": (90.0, 110.0), "8": (300.0, 300.0)}}
    assert (result.prefill, result.load_s, result.rss_mb) == (1900.0, 0.6, 512.0)


def test_the_table_has_a_row_an_engine_with_the_best_of_each_column_in_bold(comparison: Comparison) -> None:
    assert table(comparison) == (
        "| engine | version | greedy, 1 | greedy, 8 | top_p 0.9, 1 | top_p 0.9, 8 | prefill | MiB | load |\n"
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| Pokegen int8 | pokegen 0.1.0 | **225** | **1,300** | **220** | **1,290** | 2,500 | 501 | 0.42 s |\n"
        "| llama.cpp Q8_0 | llama-cpp-python 0.3 | 100 | 300 | - | - | 1,900 | 512 | 0.60 s |\n"
        "| the machine's ceiling | int8 | 268 | 1,950 | 268 | 1,950 |  |  |  |\n"
        "\n"
        "Tokens/s by number of sequences. `python -m loadtest.peers --json docs/peers.json`, 2026-01-31,"
        " a processor, 2 threads.\n"
        "Not measured: openvino int8: not installed: loadtest/peers/install openvino.\n"
    )


def test_what_is_written_is_read_back(comparison: Comparison, tmp_path: Path) -> None:
    write(comparison, tmp_path / "comparison.json")
    assert table(read(tmp_path / "comparison.json")) == table(comparison)


def test_the_picture_names_every_engine_and_is_the_same_every_time(
    comparison: Comparison, tmp_path: Path
) -> None:
    first, again = tmp_path / "first" / "out.svg", tmp_path / "again" / "out.svg"
    for file in (first, again):
        file.parent.mkdir()
        draw(comparison, file)
    assert first.read_bytes() == again.read_bytes()
    # Text is drawn as glyphs, and the SVG says beside them what they spell.
    for name in ("Pokegen int8", "llama.cpp Q8_0", "the machine's ceiling, int8"):
        assert f"<!-- {name} -->" in first.read_text()


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_every_peer_has_a_lock_with_its_version_and_hashes(peer: Peer) -> None:
    package, version = peer.version.split(" ")
    lock = (LOCKS / f"{peer.lock}.txt").read_text()
    assert f"\n{package}=={version} \\\n    --hash=sha256:" in f"\n{lock}"


def test_an_unknown_peer_is_refused_with_the_names_of_those_there_are() -> None:
    install = LOCKS.parent / "install"
    result = subprocess.run([install, "vllm"], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert (
        result.stderr == "There is no peer vllm: ctranslate2 gpt-2-simple llama.cpp openvino transformers.\n"
    )


def test_what_a_peer_said_before_it_took_too_long_counts() -> None:
    slow = 'import time; print(\'{"event": "loaded"}\', flush=True); time.sleep(60)'
    assert list(events_of([sys.executable, "-c", slow], timeout=2)) == [{"event": "loaded"}]


def test_a_peer_that_fails_is_an_error() -> None:
    with pytest.raises(subprocess.CalledProcessError, match="status 3"):
        list(events_of([sys.executable, "-c", "raise SystemExit(3)"], timeout=30))
