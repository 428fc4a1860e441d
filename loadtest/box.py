"""A box: so many processors and so much memory, and whatever runs in it.

By "cgroup", with a control group of its own (version 1 or 2; needs root); by "docker", in two containers that share the
box; by "none", on the machine as it is, for a machine that has the box's size itself.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, Self

import psutil

MIB = 2**20
ROOT = Path(__file__).parents[1]

By = Literal["cgroup", "docker", "none"]

GRACE_SECONDS = 90.0  # for answers in flight: more than POKEGEN_GRACE
PERIOD_US = 100_000  # of the quota of processor time: the kernel's own default


class BoxError(Exception):
    """The box cannot be made, or what should run in it does not; the message says what to do."""


@dataclass(frozen=True)
class Profile:
    """A size: processors, of which a share is possible, and memory in MiB."""

    name: str
    cpus: float
    memory_mb: int


# https://aws.amazon.com/ec2/instance-types/t2: two processors and 4 GiB. Without credits each has 20% of its speed.
PROFILES = {
    profile.name: profile
    for profile in (Profile("t2.medium", 2.0, 4096), Profile("t2.medium-spent", 0.4, 4096))
}


@dataclass(frozen=True)
class ControlGroup:
    """A control group, by its folders; in version 2 they are one.

    https://docs.kernel.org/admin-guide/cgroup-v1 and https://docs.kernel.org/admin-guide/cgroup-v2.html
    """

    version: Literal[1, 2]
    cpu: Path
    cpuacct: Path
    memory: Path

    @classmethod
    def create(cls, name: str, profile: Profile, mount: Path = Path("/sys/fs/cgroup")) -> Self:
        """A new one with the profile's limits, and without swap. Raises BoxError."""
        group = cls._below(mount, dict.fromkeys(("", "cpu", "cpuacct", "memory"), name))
        try:
            if group.version == 2:
                (mount / "cgroup.subtree_control").write_text("+cpu +memory")
            for folder in group._folders():
                folder.mkdir(exist_ok=True)
            group._limit(profile)
        except OSError as error:
            for folder in group._folders():
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise BoxError(
                f"cannot make a control group ({error}): be root on a machine whose {mount} may be written to,"
                " take --by docker, or --by none on a machine of the box's own size"
            ) from error
        return group

    @classmethod
    def of(cls, pid: int, mount: Path = Path("/sys/fs/cgroup")) -> Self:
        """That of a process. Raises BoxError where it is not to be seen from here."""
        paths: dict[str, str] = {}
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            paths |= dict.fromkeys(controllers.split(","), path.lstrip("/"))
        group = cls._below(mount, paths)
        if not all(folder.is_dir() for folder in group._folders()):
            raise BoxError(
                "the containers' control groups are not below /sys/fs/cgroup: is the engine elsewhere?"
            )
        return group

    @classmethod
    def _below(cls, mount: Path, paths: Mapping[str, str]) -> Self:
        """Its folders, by the controllers' names; by "" in version 2."""
        if (mount / "cgroup.controllers").exists():
            return cls(2, *(mount / paths[""] for _ in range(3)))
        # Many systems have cpu and cpuacct in one place, to which both names lead.
        return cls(1, *((mount / each).resolve() / paths[each] for each in ("cpu", "cpuacct", "memory")))

    def _folders(self) -> set[Path]:
        return {self.cpu, self.cpuacct, self.memory}

    def _limit(self, profile: Profile) -> None:
        quota, size = round(profile.cpus * PERIOD_US), str(profile.memory_mb * MIB)
        if self.version == 2:
            (self.cpu / "cpu.max").write_text(f"{quota} {PERIOD_US}")
            (self.memory / "memory.max").write_text(size)
            swap, nothing = self.memory / "memory.swap.max", "0"
        else:
            (self.cpu / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (self.cpu / "cpu.cfs_quota_us").write_text(str(quota))
            (self.memory / "memory.limit_in_bytes").write_text(size)
            swap, nothing = self.memory / "memory.memsw.limit_in_bytes", size  # of memory and swap together
        if swap.exists():  # not every kernel counts it
            swap.write_text(nothing)

    def entering(self, command: Sequence[str]) -> list[str]:
        """The command that enters the group and becomes `command`, so that nothing of it ever ran outside."""
        enter = 'until [ "$1" = -- ]; do echo $$ >"$1"; shift; done; shift; exec "$@"'
        files = sorted(str(folder / "cgroup.procs") for folder in self._folders())
        return ["sh", "-ec", enter, "sh", *files, "--", *command]

    def pids(self) -> list[int]:
        """Its processes."""
        return [int(pid) for pid in (self.cpu / "cgroup.procs").read_text().split()]

    def cpu_seconds(self) -> float:
        """The processor time that it has taken."""
        if self.version == 2:
            return _figures(self.cpu / "cpu.stat")["usage_usec"] / 1e6
        return int((self.cpuacct / "cpuacct.usage").read_text()) / 1e9

    def throttled_seconds(self) -> float:
        """How long its processors stood still because its quota was used up: the sum over processors."""
        figures = _figures(self.cpu / "cpu.stat")
        return figures["throttled_usec"] / 1e6 if self.version == 2 else figures["throttled_time"] / 1e9

    def memory_mb(self) -> float:
        """What it takes of its limit (MiB), without files that were read or written and can be dropped at once."""
        stat = _figures(self.memory / "memory.stat")
        if self.version == 2:
            usage, droppable = "memory.current", stat["inactive_file"]
        else:
            usage, droppable = "memory.usage_in_bytes", stat["total_inactive_file"]
        return max(0, int((self.memory / usage).read_text()) - droppable) / MIB

    def oom_kills(self) -> int:
        """How many of its processes were killed because it wanted more memory than it may have."""
        file = "memory.events" if self.version == 2 else "memory.oom_control"
        return _figures(self.memory / file).get("oom_kill", 0)

    def remove(self) -> None:
        """Kill what is left in it, and remove it."""
        while pids := self.pids():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        for folder in self._folders():
            folder.rmdir()


def _figures(file: Path) -> dict[str, int]:
    """Lines of a name and a number."""
    return {name: int(number) for name, number in (line.split() for line in file.read_text().splitlines())}


@dataclass(frozen=True)
class Job:
    """What runs in a box: a command that serves HTTP, in the foreground, until it gets SIGTERM.

    environment: as the command needs it. port: where readers ask. plain_port: where /metrics is asked, None if nowhere.
    ready: the path that answers 200 once it can serve. checkpoint: what it serves.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]
    port: int
    plain_port: int | None
    ready: str
    checkpoint: Path


class Box:
    """A running box: what the meter looks at.

    groups: its control groups, none where the machine itself is the box. process: the command that keeps it running.
    """

    def __init__(self, by: By, profile: Profile, process: "subprocess.Popen[bytes]") -> None:
        self.by = by
        self.profile = profile
        self.process = process
        self.groups: list[ControlGroup] = []

    def pids(self) -> list[int]:
        """All processes in it."""
        if self.groups:
            return [pid for group in self.groups for pid in group.pids()]
        if self.process.poll() is not None:
            return []
        return [self.process.pid, *(child.pid for child in _children(self.process.pid))]


@contextlib.contextmanager
def running(job: Job, profile: Profile, by: By, log: Path) -> Iterator[Box]:
    """The job in a box, which ends with the block: answers in flight arrive, and nothing is left. Raises BoxError.

    log: the file for what the job says.
    """
    with log.open("wb") as out, contextlib.ExitStack() as stack:
        if by == "docker":
            box = stack.enter_context(_in_docker(job, profile, out))
        else:
            group = (
                ControlGroup.create(f"pokegen-{profile.name}-{os.getpid()}", profile)
                if by == "cgroup"
                else None
            )
            if group:
                stack.callback(group.remove)
            process = stack.enter_context(_process(job, group, out))
            box = Box(by, profile, process)
            box.groups = [group] if group else []
        yield box


@contextlib.contextmanager
def _process(job: Job, group: ControlGroup | None, out: IO[bytes]) -> Iterator["subprocess.Popen[bytes]"]:
    # Should this process be killed, the kernel asks the job to end; a terminal's Ctrl-C reaches this process alone.
    command = ["setpriv", "--pdeathsig", "TERM", *job.command]
    process = subprocess.Popen(  # noqa: S603
        group.entering(command) if group else command,
        cwd=ROOT,
        env=os.environ | dict(job.environment),
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        family = _children(process.pid)
        process.terminate()
        try:
            process.wait(GRACE_SECONDS)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.terminate()  # the second makes scripts/run end at once
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
            process.kill()
            process.wait()
        for left in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()


def _children(pid: int) -> list[psutil.Process]:
    """And theirs; of a process that has ended, none."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


# nginx only passes on what the engine makes, and needs little; but what it has, the server has not.
NGINX_CPUS = 0.1  # of the box's
NGINX_MEMORY_MB = 64


@contextlib.contextmanager
def _in_docker(job: Job, profile: Profile, out: IO[bytes]) -> Iterator[Box]:
    """docker-compose.yml's two containers, whose limits together are the box's."""
    compose = _compose_command()
    limits = {
        "server": (profile.cpus * (1 - NGINX_CPUS), profile.memory_mb - NGINX_MEMORY_MB),
        "nginx": (profile.cpus * NGINX_CPUS, NGINX_MEMORY_MB),
    }
    settings = {name: value for name, value in os.environ.items() if name.startswith("POKEGEN_")}
    # Docker's own proxy stands in front of nginx, so all readers come from one address here.
    settings |= {"POKEGEN_ADDRESS_AT_ONCE": "0", "POKEGEN_ADDRESS_RATE": "0"}
    services = {
        name: {"cpus": round(cpus, 3), "mem_limit": f"{memory_mb}m", "environment": settings}
        for name, (cpus, memory_mb) in limits.items()
    }
    services["server"] |= {
        "environment": settings | {"POKEGEN_CHECKPOINT": "/checkpoint", "POKEGEN_HTTP": "0.0.0.0:5000"},
        "volumes": [f"{job.checkpoint.resolve()}:/checkpoint:ro"],
        "ports": [f"127.0.0.1:{job.plain_port}:5000"],
    }
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as override:
        json.dump({"services": services}, override)  # JSON is YAML
        override.flush()
        compose += ["-p", f"pokegen-{os.getpid()}", "-f", "docker-compose.yml", "-f", override.name]
        environment = os.environ | {"PORT": str(job.port)}

        def run(*arguments: str) -> str:
            done = subprocess.run(  # noqa: S603
                [*compose, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
            )
            if done.returncode:
                raise BoxError(f"docker compose {arguments[0]}: {done.stderr.strip().splitlines()[-1]}")
            return done.stdout

        box = None
        try:
            run("up", "--detach", "--no-build")
            follow = [*compose, "logs", "--follow", "--no-color"]
            logs = subprocess.Popen(follow, cwd=ROOT, env=environment, stdout=out)  # noqa: S603
            box = Box("docker", profile, logs)
            for container in run("ps", "--quiet").split():
                box.groups.append(
                    ControlGroup.of(int(_docker("inspect", "--format={{.State.Pid}}", container)))
                )
            yield box
        finally:
            run("down", "--timeout", f"{GRACE_SECONDS:.0f}")
            if box:
                box.process.wait()


def _compose_command() -> list[str]:
    """`docker compose` or docker-compose. BoxError where there is none, or no engine or image."""
    try:
        _docker("info")
    except BoxError as error:
        raise BoxError(
            f"no Docker engine answers: start one, or take --by cgroup as root ({error})"
        ) from None
    for image in ("pokegen-server", "pokegen-nginx"):
        try:
            _docker("image", "inspect", image)
        except BoxError:
            raise BoxError(f"there is no image {image}: make image") from None
    try:
        _docker("compose", "version")
    except BoxError:
        if shutil.which("docker-compose"):
            return ["docker-compose"]
        raise BoxError("neither `docker compose` nor docker-compose is installed") from None
    return ["docker", "compose"]


def _docker(*arguments: str) -> str:
    """What the docker command says. Raises BoxError."""
    try:
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True)  # noqa: S603, S607
    except FileNotFoundError:
        raise BoxError("docker is not installed") from None
    if done.returncode:
        raise BoxError(done.stderr.strip() or f"docker {arguments[0]} failed")
    return done.stdout
