"""How many processors this process may use."""

import math
import os
from collections.abc import Iterable
from pathlib import Path

from server.engine.cgroup import own_groups

# How many microseconds of processor time in how many microseconds, in cgroup v2 and v1.
# https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files
LIMITS = (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us"))


def usable_cpus(groups: Iterable[Path] | None = None) -> int:
    """Those that the process may run on, or what its control groups' quota amounts to, rounded up; at least 1.

    groups: their directories; the process's own where none are given.
    """
    cpus = len(os.sched_getaffinity(0))
    for group in own_groups("cpu") if groups is None else groups:
        for names in LIMITS:
            try:
                quota, period = (int(word) for name in names for word in (group / name).read_text().split())
            except (OSError, ValueError):  # not this version of cgroups; or "max": no limit
                continue
            if quota > 0 and period > 0:
                cpus = min(cpus, math.ceil(quota / period))
    return max(cpus, 1)
