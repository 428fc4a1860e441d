"""The real images, built from the Dockerfile by a real Docker engine."""

import os
import shutil
import subprocess

import pytest

from tests.service.stack import ROOT


def docker(*arguments: str) -> str:
    """What the docker command prints; CalledProcessError if it fails."""
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def has_engine() -> bool:
    return (
        shutil.which("docker") is not None
        and not subprocess.run(["docker", "info"], capture_output=True).returncode
    )


@pytest.fixture(scope="session")
def images() -> None:
    """`make image`: pokegen-server and pokegen-nginx."""
    if not has_engine():
        pytest.skip("no Docker engine answers: start one (or set DOCKER_HOST), then: make test-image")
    made = subprocess.run(["make", "image"], cwd=ROOT, env=dict(os.environ), capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
