"""`python -m loadtest.run`, for seconds: the real service in a box, real readers, and the files that tell of them."""

import contextlib
import csv
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.boxes import best_way
from tests.service.stack import ROOT, descendants, is_alive, wait_until

BY = best_way()


def start(out: Path, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "loadtest.run", "--by", BY, "--checkpoint", "run1", "--out", str(out)]
    return subprocess.Popen(
        [*command, "--length", "32", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def rows(file: Path) -> list[dict[str, str]]:
    with contextlib.suppress(FileNotFoundError), file.open(newline="") as lines:
        return list(csv.DictReader(lines))
    return []


Spike = tuple[Path, "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def spike(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spike]:
    """A run that goes on while others are tested: where it writes, and its process."""
    out = tmp_path_factory.mktemp("loadtest")
    process = start(out, "--shape", "spike", "--readers", "2", "--minutes", "0.2")
    yield out, process
    process.terminate()
    process.wait(timeout=120)


@pytest.mark.usefixtures("spike")
def test_a_run_that_is_interrupted_leaves_what_it_saw_and_nothing_else(tmp_path: Path) -> None:
    process = start(tmp_path, "--shape", "soak", "--readers", "20", "--minutes", "10")
    folder = tmp_path / "pokegen-run1-t2.medium-soak"
    stories = {"CasualReader", "ImpatientReader", "Sharer", "Script"}

    def seen() -> bool:
        return {row["story"] for row in rows(folder / "readers.csv")} >= stories and len(
            rows(folder / "box.csv")
        ) > 2

    try:
        wait_until(lambda: seen() or process.poll() is not None, within=200, what="every story")
        family = descendants(process.pid)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 1, said
    assert "Traceback" not in said
    wait_until(lambda: not any(map(is_alive, family)), within=20, what="every process to end")
    about = json.loads((folder / "run.json").read_text())
    assert about["seconds"] > 2
    assert [stage["name"] for stage in about["stages"]] == ["soak"]
    failed = [row["error"] for row in rows(folder / "readers.csv") if row["ending"] == "failed"]
    assert not failed
    if BY == "cgroup":
        name = f"pokegen-t2.medium-{process.pid}"
        assert not [folder for folder in Path("/sys/fs/cgroup").glob(f"**/{name}") if folder.exists()]


def test_a_run_that_cannot_be_says_why(tmp_path: Path) -> None:
    process = start(tmp_path, "--shape", "steady")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.startswith("Error: no ramp has found the knee in ")
    assert not psutil.pid_exists(process.pid)


def test_a_spike_from_its_begin_to_its_end(spike: Spike) -> None:
    out, process = spike
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said
    folder = out / "pokegen-run1-t2.medium-spike"

    about = json.loads((folder / "run.json").read_text())
    assert about["service"] == "pokegen"
    assert about["box"] == {"cpus": 2.0, "memory_mb": 4096, "by": BY}
    assert [(stage["name"], stage["readers"]) for stage in about["stages"]] == [
        ("before", 2),
        ("spike", 40),
        ("after", 2),
    ]
    assert about["seconds"] >= about["stages"][2]["at"] >= 8

    requests = rows(folder / "readers.csv")
    assert {row["story"] for row in requests} <= {"CasualReader", "Crowd"}
    assert {row["ending"] for row in requests} <= {"complete", "left", "refused", "limited"}, Counter(
        (row["ending"], row["error"]) for row in requests
    )
    complete = [row for row in requests if row["ending"] == "complete"]
    assert len(complete) > 10
    for row in complete:
        assert 0 < float(row["first_token_s"]) <= float(row["total_s"])
        assert 0 < int(row["tokens"]) <= 32
    assert max(int(row["readers"]) for row in requests) == 40

    seconds = rows(folder / "box.csv")
    assert max(int(row["connections"] or 0) for row in seconds) > 0
    assert max(float(row["tokens_per_second"] or 0) for row in seconds) > 0
    assert {row["readers"] for row in seconds} >= {"2", "40"}
    for column in ("rss_mb", "generator_cpu_share") + (("cgroup_mb", "cpu_share") if BY == "cgroup" else ()):
        assert any(float(row[column] or 0) > 0 for row in seconds), column
