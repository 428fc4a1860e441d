"""Which control groups bound this process: those of a container, of a systemd service, of a job.

https://docs.kernel.org/admin-guide/cgroup-v2.html and .../cgroup-v1/cgroups.html; for /proc/self/cgroup man 7 cgroups.
"""

from pathlib import Path, PurePosixPath

MEMBERSHIP = Path("/proc/self/cgroup")
MOUNT = Path("/sys/fs/cgroup")


def own_groups(controller: str, membership: Path = MEMBERSHIP, mount: Path = MOUNT) -> list[Path]:
    """The directories of this process's group and of those around it, of version 2 and of version 1's `controller`.

    Each may set a limit, and all of them count. Inside of a container the names may be those of the outside: then
    only the mount's root is there, which is the container's own group. Directories that do not exist are left out.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:  # a kernel without control groups
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = mount / controller if controllers else mount  # version 2 has one tree for all controllers
        group = PurePosixPath(path)
        found += [root / str(each).lstrip("/") for each in (group, *group.parents) if ".." not in each.parts]
    return [group for group in found if group.is_dir()]
