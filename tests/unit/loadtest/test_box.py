"""Boxes: what a control group is told and what it tells; a real process in a box and out of it."""

import sys
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from loadtest import box, jobs
from loadtest.box import PROFILES, BoxError, By, ControlGroup, Job
from tests.boxes import best_way
from tests.service.stack import free_ports, is_alive, wait_until

SPENT = PROFILES["t2.medium-spent"]

STATS = {
    1: {
        "cpu/box/cpu.stat": "nr_periods 9\nnr_throttled 3\nthrottled_time 1500000000\n",
        "cpuacct/box/cpuacct.usage": "2500000000\n",
        "memory/box/memory.stat": "cache 5\ntotal_inactive_file 1048576\n",
        "memory/box/memory.usage_in_bytes": f"{11 * 2**20}\n",
        "memory/box/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    },
    2: {
        "box/cpu.stat": "usage_usec 2500000\nnr_periods 9\nthrottled_usec 1500000\n",
        "box/memory.stat": "anon 5\ninactive_file 1048576\n",
        "box/memory.current": f"{11 * 2**20}\n",
        "box/memory.events": "low 0\noom 3\noom_kill 2\n",
    },
}


@pytest.fixture(params=[1, 2])
def mount(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """What /sys/fs/cgroup looks like in either version: ordinary files here, which no kernel reads."""
    if request.param == 2:
        (tmp_path / "cgroup.controllers").write_text("cpu memory")
    else:
        for controller in ("cpu", "cpuacct", "memory"):
            (tmp_path / controller).mkdir()
    return tmp_path


def test_a_group_has_the_profiles_limits(mount: Path) -> None:
    group = ControlGroup.create("box", SPENT, mount)
    if group.version == 2:
        assert (mount / "cgroup.subtree_control").read_text() == "+cpu +memory"
        assert (mount / "box/cpu.max").read_text() == "40000 100000"
        assert (mount / "box/memory.max").read_text() == str(4 * 2**30)
    else:
        assert (mount / "cpu/box/cpu.cfs_quota_us").read_text() == "40000"
        assert (mount / "cpu/box/cpu.cfs_period_us").read_text() == "100000"
        assert (mount / "memory/box/memory.limit_in_bytes").read_text() == str(4 * 2**30)


def test_a_group_tells_what_it_takes(mount: Path) -> None:
    group = ControlGroup.create("box", SPENT, mount)
    for name, text in STATS[group.version].items():
        (mount / name).write_text(text)
    assert group.cpu_seconds() == 2.5
    assert group.throttled_seconds() == 1.5
    assert group.memory_mb() == 10
    assert group.oom_kills() == 2


def test_where_cpu_and_cpuacct_are_one_place(tmp_path: Path) -> None:
    """As systemd mounts version 1."""
    for controller in ("cpu,cpuacct", "memory"):
        (tmp_path / controller).mkdir()
    for name in ("cpu", "cpuacct"):
        (tmp_path / name).symlink_to("cpu,cpuacct")
    group = ControlGroup.create("box", SPENT, tmp_path)
    assert group.cpu == group.cpuacct == tmp_path / "cpu,cpuacct/box"


def test_of_a_group_that_cannot_be_made_nothing_is_left(tmp_path: Path) -> None:
    for controller in ("cpu", "cpuacct"):
        (tmp_path / controller).mkdir()
    with pytest.raises(BoxError, match="No such file"):
        ControlGroup.create("box", SPENT, tmp_path)
    assert not [*tmp_path.glob("*/*")]


def test_without_the_right_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BoxError, match=r"be root on a machine .* --by docker, or --by none"):
        ControlGroup.create("box", SPENT, tmp_path / "none")


SERVE = "import http.server as h; h.ThreadingHTTPServer(('127.0.0.1', {}), h.SimpleHTTPRequestHandler).serve_forever()"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A server of files, in a shell that leaves it behind."""
    [port] = free_ports(1)
    command = ("sh", "-c", f'"{sys.executable}" -c "{SERVE.format(port)}" & wait')
    return Job(command, {"POKEGEN_LENGTH": "7"}, port, None, "/", tmp_path)


@pytest.mark.parametrize("by", sorted({"none", best_way()}))
def test_a_job_runs_in_its_box(job: Job, by: By, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with box.running(job, SPENT, by, log) as running:
        jobs.wait_until_ready(job, running, log)
        inside = running.pids()
        assert len(inside) >= 2
        assert psutil.Process(inside[0]).environ()["POKEGEN_LENGTH"] == "7"
        for group in running.groups:
            [(cpu, memory)] = {(each.cpu, each.memory) for each in map(ControlGroup.of, inside)}
            assert (cpu, memory) == (group.cpu, group.memory)
            assert 0 < group.memory_mb() < 4096
            assert group.cpu_seconds() > 0
        assert len(running.groups) == (by == "cgroup")
    wait_until(lambda: not any(map(is_alive, inside)), within=20, what="every process to end")
    for group in running.groups:
        assert not group.cpu.exists()
        assert not group.memory.exists()


def test_a_job_that_ends_at_once_says_why(tmp_path: Path) -> None:
    job = Job(("sh", "-c", "echo the checkpoint is damaged; exit 1"), {}, 1, None, "/", tmp_path)
    log = tmp_path / "log"
    with (
        box.running(job, SPENT, "none", log) as running,
        pytest.raises(BoxError, match="checkpoint is damaged"),
    ):
        jobs.wait_until_ready(job, running, log)


def test_a_checkpoint_that_is_not_there() -> None:
    with pytest.raises(BoxError, match="no checkpoint nowhere: run1, 124M, or a directory"):
        jobs.checkpoint_of("nowhere")


def test_without_a_docker_engine(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
    with pytest.raises(BoxError, match="no Docker engine answers"), ExitStack() as stack:
        stack.enter_context(box.running(job, SPENT, "docker", tmp_path / "log"))
