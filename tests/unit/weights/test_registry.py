"""What an MLflow server keeps is copied once, and whole; MLflow itself is not asked here."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from server.weights.registry import _copy


def test_a_copy_is_on_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its files could be empty after a power cut, and pass for whole for ever."""
    done: list[str] = []
    rename = Path.rename

    def download(*, artifact_uri: str, dst_path: str, tracking_uri: str) -> str:
        copy = Path(dst_path) / "checkpoint"
        (copy / "assets").mkdir(parents=True)
        for name in ("config.json", "assets/merges.txt"):
            (copy / name).write_text("{}")
        return str(copy)

    def note_rename(path: Path, target: Path) -> Path:
        done.append(f"{path.name} renamed")
        return rename(path, target)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "mlflow.artifacts", SimpleNamespace(download_artifacts=download))
    monkeypatch.setattr("os.fsync", lambda file: done.append(Path(f"/proc/self/fd/{file}").readlink().name))
    monkeypatch.setattr(Path, "rename", note_rename)
    copied = _copy("mlflow-artifacts:/1", "http://127.0.0.1:9", "pokegen/3")
    assert (copied / "assets/merges.txt").read_text() == "{}"
    assert sorted(done[:-1]) == ["assets", "checkpoint", "config.json", "merges.txt"]
    assert done[-1] == "checkpoint renamed"
