"""How many processors this process may use."""

import math
import os
from pathlib import Path

# The limit files of cgroup v2 and v1, as they stand inside of a container: how many microseconds of processor time in
# how many microseconds. https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files
CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
CGROUP_V1 = (Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us"))


def usable_cpus(v2: Path = CGROUP_V2, v1: tuple[Path, Path] = CGROUP_V1) -> int:
    """Those that the process may run on, or what the control group's quota amounts to, rounded up; at least 1."""
    cpus = len(os.sched_getaffinity(0))
    for files in ((v2,), v1):
        try:
            quota, period = (int(word) for word in " ".join(file.read_text() for file in files).split())
        except (OSError, ValueError):  # not this version of cgroups; or "max": no limit
            continue
        if quota > 0 and period > 0:
            cpus = min(cpus, math.ceil(quota / period))
    return max(cpus, 1)
