"""Every control group around the process may set a limit, in version 1 and in version 2."""

from pathlib import Path

from server.engine.cgroup import own_groups


def groups(tmp_path: Path, membership: str, *directories: str) -> list[str]:
    """What is found of `controller` cpu, relative to the mount."""
    file, mount = tmp_path / "cgroup", tmp_path / "mount"
    file.write_text(membership)
    for directory in ("", *directories):
        (mount / directory).mkdir(parents=True, exist_ok=True)
    return [str(found.relative_to(mount)) for found in own_groups("cpu", file, mount)]


def test_version_2_has_one_tree(tmp_path: Path) -> None:
    found = groups(tmp_path, "0::/system.slice/pokegen.service\n", "system.slice/pokegen.service")
    assert found == ["system.slice/pokegen.service", "system.slice", "."]


def test_version_1_has_a_tree_for_each_controller(tmp_path: Path) -> None:
    membership = "3:cpuset:/other\n2:cpu,cpuacct:/box\n0::/\n"
    assert groups(tmp_path, membership, "cpu/box", "cpuset/other") == ["cpu/box", "cpu", "."]


def test_in_a_container_the_names_of_the_outside_mean_nothing(tmp_path: Path) -> None:
    assert groups(tmp_path, "1:cpu:/docker/0123\n", "cpu") == ["cpu"]
    assert groups(tmp_path, "0::/../../outside\n") == ["."]


def test_without_control_groups_there_are_none(tmp_path: Path) -> None:
    assert own_groups("cpu", tmp_path / "missing", tmp_path) == []
