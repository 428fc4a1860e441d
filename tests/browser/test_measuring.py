"""`python -m loadtest.page` measures the readers that it was told to, and says so where it can't."""

import subprocess
import sys

import click
import pytest

from loadtest.page import streaming
from tests.service.stack import ROOT, Stack, wait_until


def test_a_refused_reader_is_no_reader(slow_service: Stack) -> None:
    with pytest.raises(click.ClickException, match="refused: 503"), streaming(slow_service.url, 3) as pieces:
        wait_until(lambda: len(pieces) > 0, within=20, what="a piece")


def test_a_page_is_measured_with_nobody_beside_it(service: Stack) -> None:
    command = [sys.executable, "-m", "loadtest.page", "--url", service.url, "--visits", "1", "--readers", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    said = [line.split()[0] for line in done.stdout.splitlines()]
    assert said == ["alone", "first", "first", "frames", "layout"]
