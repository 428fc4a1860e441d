"""docker-compose.yml, and deploy/swarm.yml on top of it: what each container is told."""

import re
from typing import Any

import yaml

from tests.service.stack import ROOT


def services(file: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / file).read_text())["services"]
    return found


def test_nginx_is_handed_all_that_it_reads() -> None:
    read = set(re.findall(r"\b(POKEGEN_\w+|NGINX_SERVERS)\b", (ROOT / "nginx/start").read_text()))
    assert read == set(services("docker-compose.yml")["nginx"]["environment"])


def test_nginx_is_told_how_many_servers_a_stack_has() -> None:
    stack = services("deploy/swarm.yml")
    assert stack["nginx"]["environment"]["NGINX_SERVERS"] == stack["server"]["deploy"]["replicas"]
