"""Reading what a load test left, whole or not."""

import json
from pathlib import Path

import numpy as np
import pytest

from loadtest.report.runs import RunError, read_run
from tests.unit.loadtest.made_runs import REQUESTS, request, write_csv, write_run


def test_a_whole_run_has_nothing_to_complain_of(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path, requests=[request(1), request(2)], box=[{"at": 0}]))
    assert run.notes == []
    assert (len(run.requests), len(run.box), run.seconds) == (2, 1, 60)
    assert run.requests.has("total_s")
    assert not run.requests.has("retry_after_s")
    assert [(stage.readers, end) for stage, end in run.stages()] == [(1, 60)]


def test_an_interrupted_run_ends_with_the_last_thing_written(tmp_path: Path) -> None:
    stages = [(0.0, 1, "1"), (30.0, 2, "2"), (60.0, 4, "4")]
    run = read_run(
        write_run(tmp_path, requests=[request(40, total_s=3)], box=[{"at": 41}], stages=stages, seconds=None)
    )
    assert run.seconds == 43
    assert [(stage.readers, end) for stage, end in run.stages()] == [(1, 30), (2, 43)]
    assert run.notes == ["It was interrupted: run.json has no `seconds`."]


def test_a_run_that_was_killed_has_its_stages_in_a_file_of_their_own(tmp_path: Path) -> None:
    write_run(tmp_path, requests=[request(40)], stages=(), seconds=None)
    write_csv(tmp_path / "stages.csv", ("at", "readers", "name"), [{"at": 0.5, "readers": 7, "name": "7"}])
    run = read_run(tmp_path)
    assert [stage.readers for stage, _ in run.stages()] == [7]
    assert len(run.notes) == 1


def test_without_stages_all_is_one(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path, requests=[request(1, readers=3), request(2, readers=4)], stages=()))
    assert [stage.readers for stage, _ in run.stages()] == [4]
    assert run.notes == ["run.json names no stages: everything is taken for one."]


def test_a_column_that_is_missing_is_named(tmp_path: Path) -> None:
    write_run(tmp_path, box=[{"at": 0}])
    columns = [column for column in REQUESTS if column != "first_token_s"]
    rows = [{name: value for name, value in request(1).items() if name in columns}]
    write_csv(tmp_path / "readers.csv", columns, rows)
    run = read_run(tmp_path)
    assert run.notes == ["readers.csv has no column `first_token_s`: what depends on it is left out."]
    assert np.isnan(run.requests["first_token_s"]).all()
    assert run.requests["total_s"].tolist() == [1.37]


def test_the_seed_design_misses_none_of_the_engines_columns(tmp_path: Path) -> None:
    write_run(tmp_path, about={"service": "seed"}, requests=[request(1)])
    columns = ["at", "readers", "rss_mb", "pss_mb", "cgroup_mb", "cpu_share", "throttled_share", "threads"]
    write_csv(tmp_path / "box.csv", [*columns, "connections", "generator_cpu_share"], [{"at": 1}])
    assert read_run(tmp_path).notes == []


def test_what_a_kill_cut_off_or_garbled_is_left_out(tmp_path: Path) -> None:
    write_run(tmp_path, requests=[request(1), request(2)])
    with (tmp_path / "readers.csv").open("a") as out:
        out.write("3,casual,1,complete,200,soon,1,128,0,,\n4,casual,1,comp")
    run = read_run(tmp_path)
    assert run.requests["at"].tolist() == [1, 2, 3]
    assert np.isnan(run.requests["first_token_s"][2])
    assert run.notes == ["readers.csv: 2 damaged places were left out."]


@pytest.mark.parametrize("what", ["inf", "nan", "-1e999", "0x10"])
def test_a_cell_that_is_no_finite_number_is_damaged(tmp_path: Path, what: str) -> None:
    run = read_run(write_run(tmp_path, requests=[request(1, total_s=what)]))
    assert np.isnan(run.requests["total_s"]).all()
    assert run.notes == ["readers.csv: 1 damaged place was left out."]


def test_a_missing_and_an_empty_file(tmp_path: Path) -> None:
    write_run(tmp_path, requests=[request(1)])
    (tmp_path / "box.csv").unlink()
    assert read_run(tmp_path).notes == [
        "box.csv cannot be read (No such file or directory): what depends on it is left out."
    ]
    (tmp_path / "box.csv").write_bytes(b"")
    assert read_run(tmp_path).notes == ["box.csv is empty: what depends on it is left out."]
    (tmp_path / "box.csv").write_bytes(b'\xff\0at,"\n' + b"x" * 200_000)
    assert read_run(tmp_path).notes[0].startswith("box.csv ")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read (No such file or directory): name a directory that a load test wrote"),
        ("", "is not JSON"),
        ('{"service": "pok', "is not JSON"),
        ("[1]", "the file: Input should be a valid dictionary"),
        ('{"service": "pokegen"}', "checkpoint: Field required. Another version wrote it: measure again"),
        ('{"service": "other"}', "service: Input should be 'pokegen' or 'seed'"),
    ],
)
def test_a_run_without_a_readable_run_json_is_refused_in_a_sentence(
    tmp_path: Path, content: str | None, says: str
) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError) as error:
        read_run(tmp_path)
    assert str(tmp_path / "run.json") in str(error.value)
    assert says in str(error.value)


@pytest.mark.parametrize(
    "broken", [{"stages": [{"at": "soon", "readers": 1}]}, {"length": -1}, {"box": {"cpus": float("nan")}}]
)
def test_a_field_of_another_kind_is_named(tmp_path: Path, broken: dict[str, object]) -> None:
    write_run(tmp_path, about=broken, requests=[request(1)])
    with pytest.raises(RunError, match=rf"run\.json: {next(iter(broken))}[.:]"):
        read_run(tmp_path)


def test_what_a_newer_version_adds_does_no_harm(tmp_path: Path) -> None:
    write_run(tmp_path, about={"weather": {"wind": "3"}}, requests=[request(1)], box=[{"at": 1}])
    text = (tmp_path / "box.csv").read_text().splitlines()
    (tmp_path / "box.csv").write_text(f"{text[0]},mood\n{text[1]},good\n")
    assert read_run(tmp_path).notes == []


def test_a_run_that_measured_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="ended before anything was measured"):
        read_run(write_run(tmp_path))


def test_an_error_may_span_lines(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path, requests=[request(1, error='a "b",\nc')]))
    assert run.requests["error"].tolist() == ['a "b",\nc']
    assert json.loads((tmp_path / "run.json").read_text())["stages"]
