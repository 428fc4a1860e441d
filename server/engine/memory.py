"""How much memory this process may use: the container's limit, or the machine's."""

import os
from pathlib import Path

# The limit files of cgroup v2 and v1, as they stand inside of a container.
# https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def memory_limit(cgroup_limits: tuple[Path, ...] = CGROUP_LIMITS) -> int:
    """The limit in bytes: the smallest of the machine's memory and what the control groups allow."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in cgroup_limits:
        try:
            limits.append(int(file.read_text()))
        except (OSError, ValueError):  # not this version of cgroups; or "max": no limit
            continue
    return min(limits)
