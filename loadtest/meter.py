"""The box meter: once a second, what the box and the service in it do, as a row of box.csv.

It reads what the kernel counts anyway, and asks /metrics on the plain port. It runs outside of the box; what it takes
of the processors itself is in generator_cpu_share, with what the readers take.
"""

import contextlib
import csv
import os
import re
import time
from collections.abc import Callable, Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil
from prometheus_client.parser import text_string_to_metric_families

from loadtest.box import MIB, Box

BOX = "box.csv"

COLUMNS = (
    "at", "readers", "rss_mb", "pss_mb", "cgroup_mb", "cpu_share", "throttled_share", "threads", "connections",
    "running", "waiting", "free_blocks", "tokens_per_second", "step_ms", "refused_total", "generator_cpu_share",
    "oom_kills", "machine_cpu_share",
)  # fmt: skip

INTERVAL = 1.0
# Rows. A row takes 8 ms of a processor, most of it for the kernel's list of connections. To sum up the pages of uWSGI's
# process with its 800 threads takes another 5 ms, in which that process can map no memory (124M on two shared cores;
# 46 ms when it was not let go on), so that is done more rarely.
PSS_EVERY = 5
METRICS_TIMEOUT = 0.5  # seconds: a service that is too busy to say has an empty cell

Row = dict[str, float | int | None]


class Meter:
    """Measures a box. generator: the process that makes the load. port: of nginx. plain_port: of /metrics, if any."""

    def __init__(self, box: Box, generator: psutil.Process, port: int, plain_port: int | None) -> None:
        self._box = box
        self._generator = generator
        self._port = port
        self._plain_port = plain_port
        self._processes: dict[int, psutil.Process] = {}
        self._counters: dict[str, tuple[float, float]] = {}  # when each was read last, and what it said
        self._rows = 0

    def row(self) -> Row:
        """What is so now, and what happened since the last row, of which the first knows nothing. None: unknown."""
        groups = self._box.groups
        row: Row = self._memory_and_threads() | {"connections": self._connections()}
        if groups:
            row["cgroup_mb"] = sum(group.memory_mb() for group in groups)
            row["oom_kills"] = sum(group.oom_kills() for group in groups)
            row["cpu_share"] = self._rate("cpu", sum(group.cpu_seconds() for group in groups))
            throttled = self._rate("throttled", sum(group.throttled_seconds() for group in groups))
            row["throttled_share"] = None if throttled is None else throttled / (os.cpu_count() or 1)
        else:
            row["cpu_share"] = self._rate("cpu", sum(map(_cpu_seconds, self._processes.values())))
        if self._plain_port:
            row |= self._engine()
        own = time.process_time() + _cpu_seconds(self._generator)
        row["generator_cpu_share"] = self._rate("generator", own)
        everything = psutil.cpu_times()  # what neither box nor generator took, others did: then measure again
        row["machine_cpu_share"] = self._rate(
            "machine", sum(everything) - everything.idle - everything.iowait
        )
        self._rows += 1
        return row

    def _rate(self, name: str, total: float) -> float | None:
        """How fast a counter grows, a second."""
        now = time.monotonic()
        then, before = self._counters.get(name, (now, total))
        self._counters[name] = now, total
        return max(total - before, 0) / (now - then) if now > then else None

    def _memory_and_threads(self) -> Row:
        pids = self._box.pids()
        for pid in pids:
            if pid not in self._processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    self._processes[pid] = psutil.Process(pid)
        self._processes = {pid: self._processes[pid] for pid in pids if pid in self._processes}
        rss = pss = threads = 0
        with_pss = self._rows % PSS_EVERY == 0
        for process in self._processes.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                rss += process.memory_info().rss
                threads += process.num_threads()
                if with_pss:
                    pss += process.memory_full_info().pss
        return {"rss_mb": rss / MIB, "threads": threads, "pss_mb": pss / MIB if with_pss else None}

    def _connections(self) -> int:
        """Those that readers have to nginx (established is 01, Documentation/networking/proc_net_tcp.rst)."""
        if self._box.by == "docker":  # each container has a network of its own, and nginx its usual port
            places = [(str(pid), 8080) for group in self._box.groups for pid in group.pids()[:1]]
        else:
            places = [("self", self._port)]
        count = 0
        for process, port in places:
            with contextlib.suppress(OSError):
                table = Path(f"/proc/{process}/net/tcp").read_bytes()
                count += len(re.findall(rb": \w{8}:%04X \w{8}:\w{4} 01 " % port, table))
        return count

    def _engine(self) -> Row:
        said = self._metrics()
        if not said:
            return {}
        return {
            "running": int(said["pokegen_samples_running"]),
            "waiting": int(said["pokegen_samples_waiting"]),
            "free_blocks": int(said["pokegen_kv_blocks_free"]),
            "tokens_per_second": self._rate("tokens", said["pokegen_tokens_total"]),
            "step_ms": 1000 * said["pokegen_step_seconds"],
            "refused_total": int(said["pokegen_requests_refused_total"]),
        }

    def _metrics(self) -> Mapping[str, float]:
        """What /metrics says; nothing where it does not answer in time."""
        connection = HTTPConnection("127.0.0.1", self._plain_port, timeout=METRICS_TIMEOUT)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        except (OSError, HTTPException):
            return {}
        finally:
            connection.close()
        families = text_string_to_metric_families(text)
        return {sample.name: sample.value for family in families for sample in family.samples}


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system


def measure(
    meter: Meter,
    file: Path,
    began: float,
    readers: Callable[[], int | None],
    goes_on: Callable[[], bool],
    each: Callable[[Row], None],
) -> None:
    """Write a row each second as long as `goes_on`, and hand it to `each`.

    began: time.monotonic() at 0 s. readers: how many there are. A row that is late is not made up for.
    """
    with file.open("w", buffering=1, newline="") as out:
        writer = csv.DictWriter(out, COLUMNS)
        writer.writeheader()
        due = time.monotonic()
        while goes_on():
            row = {"at": due - began, "readers": readers()} | meter.row()
            writer.writerow({name: round(v, 4) if isinstance(v, float) else v for name, v in row.items()})
            each(row)
            due += INTERVAL * (1 + max(0, time.monotonic() - due) // INTERVAL)
            time.sleep(max(0, due - time.monotonic()))
