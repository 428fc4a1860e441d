"""`python -m loadtest.run`, where it cannot begin; what it does otherwise is in tests/service/test_loadtest.py."""

from pathlib import Path

import pytest

from loadtest.box import PROFILES, BoxError
from loadtest.run import Run


def test_an_earlier_run_is_kept_until_the_next_can_begin(tmp_path: Path) -> None:
    run = Run(tmp_path, "pokegen", "nowhere", PROFILES["t2.medium"], "steady")
    run.folder.mkdir()
    (run.folder / "readers.csv").write_text("measured")
    with pytest.raises(BoxError, match="no checkpoint nowhere"):
        run.go("none", 32, [], [], 1.0)
    assert (run.folder / "readers.csv").read_text() == "measured"
