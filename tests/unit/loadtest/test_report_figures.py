"""The report's arithmetic, beside values worked out by hand."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadtest.report.comparison import Price, settings
from loadtest.report.figures import (
    Level,
    Spread,
    by_minute,
    capacity,
    drift,
    first_token,
    levels,
    memory_mb,
    per_token,
    percentile,
    soak,
    spike,
)
from loadtest.report.runs import ENDINGS, Run, read_run
from tests.unit.loadtest.made_runs import request, write_run


def run_of(directory: Path, **parts: Any) -> Run:  # noqa: ANN401
    return read_run(write_run(directory, **parts))


def test_a_percentile_is_a_value_that_was_measured() -> None:
    ten = np.arange(1.0, 11.0)
    assert [percentile(ten, rank) for rank in (10, 11, 50, 90, 95, 100)] == [1, 2, 5, 9, 10, 10]
    assert percentile(np.array([7.0]), 99) == 7


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (0, (None, None, None, None)),
        (1, (None, None, None, None)),
        (2, (1.0, None, None, None)),
        (10, (5.0, 9.0, None, None)),
        (19, (10.0, 18.0, None, None)),
        (20, (10.0, 18.0, 19.0, None)),
        (99, (50.0, 90.0, 95.0, None)),
        (100, (50.0, 90.0, 95.0, 99.0)),
    ],
)
def test_a_percentile_of_too_few_is_not_invented(count: int, told: tuple[float | None, ...]) -> None:
    spread = Spread.of(np.append(np.arange(1.0, count + 1), np.nan))
    assert tuple(spread[rank] for rank in (50, 90, 95, 99)) == told
    assert (spread.count, spread.most) == (count, count or None)
    assert spread.bound(99) == (told[3] or count or math.inf)


def test_time_to_first_token_is_of_streams_and_of_those_who_did_not_wait_for_it(tmp_path: Path) -> None:
    rows = [
        request(0, first_token_s=0.2, total_s=2),
        request(1, first_token_s="", total_s=9, story="script"),
        request(2, first_token_s=9, total_s=9, story="script"),
        request(3, first_token_s="", total_s=5, ending="left"),
        request(4, first_token_s="", total_s=60, ending="deadline"),
        request(5, first_token_s="", total_s=0.01, ending="refused"),
        request(6, first_token_s=0.1, total_s=1, ending="left"),
        request(7, first_token_s="", total_s=9, story="script", ending="left"),
    ]
    found = first_token(run_of(tmp_path, requests=rows).requests)
    np.testing.assert_array_equal(found, [0.2, np.nan, np.nan, 5, 60, np.nan, 0.1, np.nan])


def test_where_nothing_streams_the_first_token_comes_with_the_last(tmp_path: Path) -> None:
    rows = [
        request(0, first_token_s=14, total_s=14),
        request(1, first_token_s="", total_s=60, ending="failed"),
    ]
    found = run_of(tmp_path, about={"service": "seed"}, requests=rows).requests
    np.testing.assert_array_equal(first_token(found), [14, np.nan])
    np.testing.assert_array_equal(per_token(found), [np.nan, np.nan])


def test_the_pace_is_that_of_the_tokens_after_the_first(tmp_path: Path) -> None:
    rows = [
        request(0, first_token_s=1, total_s=3, tokens=101),
        request(1, first_token_s=1, total_s=1.5, tokens=1),
        request(2, first_token_s="", total_s=3),
        request(3, tokens=""),
    ]
    found = per_token(run_of(tmp_path, requests=rows).requests)
    np.testing.assert_allclose(found, [0.02, np.nan, np.nan, np.nan])


def test_memory_is_pss_or_else_what_there_is(tmp_path: Path) -> None:
    box = [{"at": 0, "pss_mb": 100, "cgroup_mb": 200, "rss_mb": 300}, {"at": 1, "cgroup_mb": 220}]
    found = run_of(tmp_path, box=box).box
    np.testing.assert_array_equal(memory_mb(found), [100, np.nan])
    found = run_of(tmp_path, box=[{"at": 0, "rss_mb": 300, "cgroup_mb": 200}]).box
    np.testing.assert_array_equal(memory_mb(found), [200])
    np.testing.assert_array_equal(memory_mb(run_of(tmp_path, box=[{"at": 0}]).box), [np.nan])


def test_a_level_counts_what_was_asked_once_its_readers_were_there(tmp_path: Path) -> None:
    rows = [
        request(1, readers=10),  # its readers are still coming
        request(9, readers=8),  # too few of them
        request(10, readers=10, tokens=100, total_s=2),
        request(20, readers=10, tokens=100, total_s=2),
        request(30, readers=10, ending="failed", first_token_s="", tokens=0, total_s=1),
        request(41, readers=20),
    ]
    box = [{"at": second, "pss_mb": 100 + second, "cpu_share": 1.5} for second in range(0, 60, 5)]
    found = levels(
        run_of(tmp_path, requests=rows, box=box, stages=[(0, 10, "ten"), (40, 20, "twenty")], seconds=60)
    )
    assert [level.readers for level in found] == [10]  # the other's only request came while it settled
    ten = found[0]
    assert (ten.requests, ten.seconds, ten.memory_mb, ten.cpu_share) == (3, 32, 135, 1.5)
    assert ten.endings["complete"] == 2
    assert ten.endings["failed"] == 1
    assert ten.unserved == pytest.approx(1 / 3)
    # In the 32 seconds from 8 s on three texts were finished: the one asked at 9 s, too.
    assert ten.episodes_per_minute == pytest.approx(60 * 3 / 32)
    assert ten.tokens_per_s == pytest.approx(328 / 32)


def test_all_of_the_seed_designs_requests_count(tmp_path: Path) -> None:
    rows = [request(at, readers=1 + at, first_token_s=20, total_s=20) for at in range(5)]
    run = run_of(tmp_path, about={"service": "seed"}, requests=rows, stages=[(0, 5, "")], seconds=90)
    assert [(level.requests, level.seconds) for level in levels(run)] == [(5, 90)]


def test_of_two_levels_with_as_many_readers_the_longer_counts(tmp_path: Path) -> None:
    rows = [request(at, readers=5) for at in range(10, 200, 10)]
    ramp = run_of(tmp_path / "ramp", requests=rows[:3], stages=[(0, 5, "")], seconds=40)
    steady = run_of(
        tmp_path / "steady", about={"shape": "steady"}, requests=rows, stages=[(0, 5, "")], seconds=200
    )
    assert [level.requests for level in levels([ramp, steady])] == [len(rows)]


def level(readers: int, first: float, pace: float = 0.05, failed: int = 0, requests: int = 200) -> Level:
    told = {
        name: Spread.of(np.full(requests, value))
        for name, value in (
            ("first", first),
            ("total", first + 127 * pace),
            ("gap", pace),
            ("longest_gap", pace),
        )
    }
    return Level(
        stage="",
        readers=readers,
        seconds=60,
        requests=requests,
        endings=dict.fromkeys(ENDINGS, 0) | {"complete": requests - failed, "failed": failed},
        episodes_per_minute=requests,
        tokens_per_s=requests * 128 / 60,
        memory_mb=500,
        cpu_share=2,
        throttled_share=0,
        generator_share=0.2,
        **told,
    )


def test_the_capacity_is_the_last_level_before_the_first_at_which_readers_are_not_content() -> None:
    measured = [level(1, 0.1), level(8, 0.4), level(16, 1.5), level(32, 0.9)]
    found = capacity(measured, 1.0)
    assert (found.readers, found.level, found.beyond) == (8, measured[1], measured[2])
    assert found.why == "p95 to the first token was 1.50 s"
    assert capacity(measured, 2.0).readers == 32
    assert capacity(measured, 2.0).beyond is None
    assert capacity(measured, 0.05).readers == 0
    assert capacity([], 1.0).readers == 0


def test_a_slow_text_and_one_that_never_came_make_readers_discontent_too() -> None:
    slow = capacity([level(1, 0.1), level(2, 0.1, pace=0.126)])
    assert (slow.readers, slow.why) == (1, "a twentieth got fewer than 8 tok/s")
    assert capacity([level(2, 0.1, pace=0.125)]).readers == 2
    failing = capacity([level(1, 0.1, failed=2), level(2, 0.1, failed=3)])
    assert (failing.readers, failing.why) == (1, "1.5% got no text")


def test_too_few_requests_for_a_percentile_are_judged_by_the_longest() -> None:
    assert capacity([level(1, 1.1, requests=3)]).readers == 0
    assert capacity([level(1, 0.9, requests=3)]).readers == 1


def spiky(during: float, refused: int, back_after: float) -> dict[str, Any]:
    """100 seconds before, 100 of a spike, 100 after, a request each second."""
    rows = []
    for at in range(300):
        crowded = 100 <= at < 200 + back_after
        wait = during if crowded else 0.2
        rows.append(
            request(at, readers=200 if 100 <= at < 200 else 10, first_token_s=wait, total_s=wait + 1.27)
        )
    refusal = request(0, readers=200, ending="refused", first_token_s="")
    rows.extend(refusal | {"at": 100.5 + i, "total_s": 0.01 * (i + 1)} for i in range(refused))
    stages = [(0.0, 10, "before"), (100.0, 200, "spike"), (200.0, 10, "after")]
    return {"about": {"shape": "spike"}, "requests": rows, "stages": stages, "seconds": 300}


def test_a_spike_tells_what_the_admitted_and_the_refused_saw(tmp_path: Path) -> None:
    found = spike(run_of(tmp_path, **spiky(0.3, 20, 0)))
    assert found
    assert found.readers == (10, 200, 10)
    assert (found.before[95], found.during[95], found.after[95]) == (0.2, 0.3, 0.2)
    slowdowns = {"the first token": 1.5, "a token after it": 1.0, "a whole text": 1.57 / 1.47}
    assert found.slowdowns == pytest.approx(slowdowns)
    assert (found.refused.count, found.refused[95], found.refused.most) == (20, 0.19, 0.2)
    assert found.told is None  # nobody wrote the header down
    assert {ending: count for ending, count in found.endings[1].items() if count} == {
        "complete": 100,
        "refused": 20,
    }
    assert found.recovery == 0


def test_who_is_refused_should_hear_when_to_come_back(tmp_path: Path) -> None:
    parts = spiky(0.3, 4, 0)
    for row, after in zip(parts["requests"][-4:], ("5", "", "7", "9"), strict=True):
        row["retry_after_s"] = after
    found = spike(run_of(tmp_path, **parts))
    assert found
    assert found.told == 0.75


@pytest.mark.parametrize(("late", "recovery"), [(1, 5), (5, 5), (11, 15), (100, None)])
def test_recovery_is_the_first_five_seconds_in_which_all_is_as_before(
    tmp_path: Path, late: float, recovery: float | None
) -> None:
    found = spike(run_of(tmp_path, **spiky(2.0, 0, late)))
    assert found
    assert found.recovery == recovery


def test_a_spike_that_was_interrupted_is_none(tmp_path: Path) -> None:
    parts = spiky(0.3, 0, 0)
    parts["requests"] = parts["requests"][:150]
    assert spike(run_of(tmp_path, **{**parts, "seconds": None})) is None


def test_a_drift_is_that_of_the_fitted_line() -> None:
    at = np.array([0.0, 60.0, 120.0])
    assert drift(at, np.array([100.0, 101.0, 102.0])) == pytest.approx((0.02, 0))
    assert drift(at, np.array([200.0, 150.0, 100.0])) == pytest.approx((-0.5, 0))
    # Residuals -1, 2, -1: their squares' sum 6 over one degree of freedom, over 2 * 60**2, is the slope's variance.
    assert drift(at, np.array([100.0, 103.0, 100.0])) == pytest.approx((0, 2 * (6 / 7200) ** 0.5 * 120 / 101))
    assert drift(at[:2], np.array([1.0, 2.0])) is None
    assert drift(at, np.zeros(3)) is None


def test_by_minute() -> None:
    at, values = by_minute(np.array([0.0, 59.0, 60.0, 185.0]), np.array([1.0, 3.0, 5.0, np.nan]), 50)
    np.testing.assert_array_equal(at, [30, 90])
    np.testing.assert_array_equal(values, [1, 5])


def test_a_soak_without_its_first_minute_and_the_seconds_of_its_end(tmp_path: Path) -> None:
    rows = [
        request(at, first_token_s=9 if at < 60 or at >= 660 else 0.1 + at / 6000) for at in range(0, 663, 1)
    ]
    rows.append(request(300.5, ending="failed", first_token_s="", error="502"))
    box = [{"at": at, "pss_mb": 10 if at < 60 else 100 + (at - 60) / 600} for at in range(663)]
    run = run_of(
        tmp_path, about={"shape": "soak"}, requests=rows, box=box, stages=[(0, 90, "soak")], seconds=663
    )
    found = soak(run)
    assert found
    assert (found.minutes, found.readers, found.requests) == (10, 90, 601)
    assert found.endings["failed"] == 1
    assert found.memory
    assert found.memory[2] == pytest.approx(100)
    assert found.memory_drift
    assert found.memory_drift.rise == pytest.approx(0.009, rel=0.02)
    assert found.median_drift
    assert found.median_drift.rise == pytest.approx(0.09 / 0.115, rel=0.05)


def test_a_soak_of_less_than_three_minutes_says_nothing(tmp_path: Path) -> None:
    run = run_of(tmp_path, about={"shape": "soak"}, requests=[request(1)], seconds=179)
    assert soak(run) is None


def test_the_price_of_a_thousand_episodes() -> None:
    price = Price(per_hour=0.06, surplus=0.05, baseline=0.4)
    assert price.of(0.4) == pytest.approx(0.06)
    assert price.of(2.0) == pytest.approx(0.14)
    assert price.per_thousand(0.4, 100) == pytest.approx(0.01)
    assert price.per_thousand(2.0, 0) is None


def test_runs_are_put_side_by_side_the_later_one_of_a_kind(tmp_path: Path) -> None:
    def made(name: str, **about: str) -> Run:
        return run_of(tmp_path / name, about=about, requests=[request(10)])

    runs = [
        made("other", checkpoint="mine", profile="big"),
        made("new", started="2026-02-02T00:00:00Z"),
        made("old", started="2026-01-01T00:00:00Z"),
        made("seed", service="seed"),
        made("shipped", checkpoint="run1"),
    ]
    found, replaced = settings(runs)
    assert [str(setting) for setting in found] == ["run1 on t2.medium", "124M on t2.medium", "mine on big"]
    assert list(found[1].sides) == ["seed", "pokegen"] or list(found[1].sides) == ["pokegen", "seed"]
    assert found[1].sides["pokegen"].runs["ramp"].directory.name == "new"
    assert replaced == [f"{tmp_path / 'old'} is left out: {tmp_path / 'new'} is a later run of the same."]
