"""Every answer is as the OpenAPI document says it: schemathesis asks all operations through nginx and uWSGI."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.weights import Checkpoint
from tests.cards import write_card
from tests.service.stack import Stack, running

# Not asked: that everything which the schemas allow is accepted. They can't say how many tokens a prefix has, how many
# samples POKEGEN_MAX_SAMPLES allows, or what the model is called.
SETTINGS = """
warnings = false

[checks]
positive_data_acceptance.enabled = false

# As gpt-2-cloud-run did, it takes numbers in quotes, and 0 for false.
[[operations]]
include-name = "POST /"
checks.negative_data_rejection.enabled = false
"""


@pytest.fixture
def stack(tiny_checkpoint: Checkpoint, tmp_path: Path) -> Iterator[Stack]:
    """A service over a tiny model, whose texts take milliseconds, with a card."""
    checkpoint = Path(shutil.copytree(tiny_checkpoint.directory, tmp_path / "run1"))  # the examples name it
    write_card(checkpoint)
    with running(Stack(tmp_path / "log", {"POKEGEN_CHECKPOINT": str(checkpoint)})) as stack:
        yield stack


def test_every_answer_is_as_documented(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "schemathesis.toml").write_text(SETTINGS)
    report = tmp_path / "report.json"
    command = [str(Path(sys.executable).with_name("schemathesis")), "--config-file=schemathesis.toml", "run"]
    options = [
        "--max-examples=20",  # of each operation, besides the limits of each field
        "--seed=1",
        "--generation-database=none",
        "--continue-on-failure",
        "--suppress-health-check=too_slow",  # which is the machine's fault
        "--request-timeout=60",
        f"--report-json-path={report}",
    ]
    done = subprocess.run(
        [*command, *options, f"{stack.url}/openapi.json"],
        cwd=tmp_path,
        env={**os.environ, "NO_PROXY": "127.0.0.1", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(report.read_text())
    paths = stack.get("/openapi.json").json()["paths"]
    assert told["operations"]["tested"] == sum(len(methods) for methods in paths.values())
    assert {phase["status"] for phase in told["phases"].values()} == {"success"}
    for operation, phases in told["valid_rates"].items():
        assert sum(rate["accepted"] for rate in phases.values()), (
            f"nothing that it takes was sent to {operation}"
        )
