"""The box on paper: what can be said of it beforehand, and that it is not believed where it was not right."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from loadtest.report.runs import RunError, read_run
from loadtest.simulate import StepTime, closed, command, most_per_second, opened, simulate
from server.settings import Settings
from tests.unit.loadtest.made_runs import request, write_run

LENGTH = 100


def steady(step_ms: float = 50.0) -> StepTime:
    """Every step takes as long, however many run."""
    return StepTime(np.array([10.0, 500.0]), np.array([step_ms, step_ms]) / 1000, [np.ones(5)] * 2)


def growing() -> StepTime:
    """A step takes 1 ms and 1 ms more for each text."""
    running = np.array([1.0, 10.0, 100.0, 500.0])
    return StepTime(running, (1 + running) / 1000, [np.ones(5)] * 4)


def test_a_reader_alone_gets_a_token_a_step() -> None:
    seen = closed(steady(), 1, LENGTH, seconds=60)
    assert seen.refused == 0
    assert seen.first[0] == pytest.approx(0.05 / 2 * 1.1, rel=0.5), "a step of one is shorter than one of ten"
    assert len(set(np.round(seen.total, 6))) == 1


def test_readers_share_what_a_step_makes() -> None:
    few, many = (closed(steady(), readers, LENGTH, seconds=120) for readers in (50, 100))
    assert many.ended == pytest.approx(2 * few.ended, rel=0.1)
    assert np.median(many.total) == pytest.approx(LENGTH * 0.05, rel=0.05)


def test_no_more_run_than_keep_their_pace() -> None:
    settings = Settings(_env_file=None, pace=10, max_running=500, max_wait=3600)
    come = (0.001 * number for number in range(300))
    seen = simulate(growing(), come, lambda _: None, length=LENGTH, seconds=600, settings=settings)
    assert len(seen.total) == 300, "the others wait for their turn, and get it"
    texts = np.array(seen.total) - np.array(seen.first)
    assert texts.max() <= 99 * 0.1 * 1.01


def test_who_would_wait_for_too_long_is_turned_away_and_nobody_else() -> None:
    calm = opened(growing(), 3.0, LENGTH)
    assert calm.refused == 0
    assert np.percentile(calm.first, 95) < 0.2
    crowded = opened(growing(), 30.0, LENGTH)
    assert crowded.unserved > 0.5
    assert max(crowded.first) < 2, "whoever is let in does not wait for long"
    assert crowded.ended / crowded.seconds == pytest.approx(calm.ended / calm.seconds * 3, rel=0.25)


def test_the_most_that_a_box_serves_is_between_what_it_does_and_does_not() -> None:
    most = most_per_second(growing(), LENGTH)
    # At the pace of 9 a step may take 111 ms: 110 texts, so 990 tokens a second.
    assert 0.7 * 9.9 < most < 1.05 * 9.9
    assert opened(growing(), 0.9 * most, LENGTH).unserved <= 0.01
    assert opened(growing(), 1.2 * most, LENGTH).unserved > 0.01


def test_slow_seconds_are_those_that_were_measured() -> None:
    slow = StepTime(np.array([10.0, 100.0]), np.array([0.01, 0.01]), [np.array([1.0, 3.0])] * 2)
    assert [round(slow(100, second), 3) for second in (0, 1, 2)] == [0.01, 0.03, 0.01]
    assert slow(200) == pytest.approx(0.02), "beyond what was measured, it grows with the texts"


def a_run(directory: Path, speed: float, readers: tuple[int, ...] = (20, 40)) -> Path:
    """Each text grows by 1000/20 tokens a second, whatever the number of readers; `speed` times that in readers.csv."""
    stages = [(60.0 * i, n, "") for i, n in enumerate(readers)]
    box = [
        {"at": at, "readers": n, "running": n, "tokens_per_second": 50.0 * n, "pss_mb": 100}
        for begin, n, _ in stages
        for at in np.arange(begin, begin + 60)
    ]
    takes = LENGTH / 50 / speed
    requests = [
        request(float(at), readers=n, first_token_s=0.02, total_s=takes, tokens=LENGTH)
        for begin, n, _ in stages
        for reader in range(n)
        for at in np.arange(begin + 0.01 * reader, begin + 60 - takes, takes + 0.1)
    ]
    return write_run(
        directory,
        about={"length": LENGTH},
        requests=sorted(requests, key=lambda row: row["at"]),
        box=box,
        stages=stages,
        seconds=60.0 * len(readers),
    )


def test_the_command_compares_before_it_computes(tmp_path: Path) -> None:
    ramp = a_run(tmp_path / "ramp", 1.0)
    done = CliRunner().invoke(command, [str(ramp), str(a_run(tmp_path / "steady", 1.0, (30,)))])
    assert done.exit_code == 0, done.output
    assert "readers a second" in done.output
    assert "| 1,000,000 |" in done.output
    off = CliRunner().invoke(command, [str(ramp), str(a_run(tmp_path / "off", 0.5, (30,)))])
    assert off.exit_code == 1
    assert "does not repeat the run" in off.output
    assert "readers a second" not in off.output


def test_a_run_without_levels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="fewer than two levels"):
        StepTime.of(read_run(a_run(tmp_path / "steady", 1.0, (30,))))
