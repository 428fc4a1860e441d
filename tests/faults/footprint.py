"""What a running service holds: to be the same after a fault as before."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.service.stack import Stack, descendants


@dataclass(frozen=True)
class Footprint:
    """How many processes nginx and uWSGI have, and how many open files and threads these have."""

    processes: dict[str, int]
    files: dict[str, int]
    threads: dict[str, int]


def footprint(stack: Stack) -> Footprint:
    """Of all that `scripts/run` has started. Raises FileNotFoundError where a process ends while it is looked at."""
    processes, files, threads = Counter[str](), Counter[str](), Counter[str]()
    tcp = _tcp_inodes()
    for pid in descendants(stack.process.pid):
        process = Path(f"/proc/{pid}")
        name = (process / "comm").read_text().strip()
        is_loader = (
            b"cache loader" in (process / "cmdline").read_bytes()
        )  # nginx's, of the first minute alone
        if name in ("nginx", "uwsgi") and not is_loader:
            processes[name] += 1
            files[name] += sum(
                not (name == "nginx" and _is_unix_socket(file, tcp)) for file in (process / "fd").iterdir()
            )
            threads[name] += len(list((process / "task").iterdir()))
    return Footprint(dict(processes), dict(files), dict(threads))


def _is_unix_socket(file: Path, tcp: set[str]) -> bool:
    """Whether this open file is one, by which nginx's processes talk with each other and with uWSGI.

    They inherit each other's, as many as there were when each was started. The connections to uWSGI are counted there.
    """
    link = file.readlink().name
    return link.startswith("socket:") and link[8:-1] not in tcp


def _tcp_inodes() -> set[str]:
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return {line.split()[9] for line in lines}
