"""What the service is made of: a bill of materials that is complete, and the same whoever writes it."""

import json
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from tests.service.stack import ROOT

NO_INTERNET = {
    f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https", "all")
}  # nobody listens there


def audit(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`scripts/audit` for the service's own lock, without the internet."""
    return subprocess.run(
        [ROOT / "scripts/audit", *arguments],
        env=os.environ | {"LOCKS": "server", "no_proxy": ""} | NO_INTERNET,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_bill_of_materials_has_every_package_with_its_hashes(tmp_path: Path) -> None:
    """And it is the same again, when an audit writes it. An audit that can ask nobody says so, and fails."""
    with ThreadPoolExecutor() as pool:
        wrote, asked = pool.submit(audit, "sbom", str(tmp_path)), pool.submit(audit)
    assert wrote.result().returncode == 0
    written = (tmp_path / "server.cdx.json").read_bytes()
    bill = json.loads(written)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["name"] == "pokegen"
    locked = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements/server.txt").read_text(), re.MULTILINE)
    assert {(part["name"], part["version"]) for part in bill["components"]} == set(locked)
    for part in bill["components"]:
        assert any(reference.get("hashes") for reference in part["externalReferences"]), part["name"]

    done = asked.result()
    assert (ROOT / "run/sbom/server.cdx.json").read_bytes() == written
    assert done.returncode == 2
    assert "nothing is known" in done.stderr
    assert "No known vulnerabilities" not in done.stdout


def test_composes_containers_have_no_rights_and_publish_one_port_of_this_machine() -> None:
    """What can be said without Docker; tests/image asks the containers themselves."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for service in services.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not {"privileged", "cap_add", "pid", "network_mode", "ipc", "devices", "user"} & set(service)
    assert "ports" not in services["server"], (
        "its sockets are for nginx: who reaches the uwsgi one can run code"
    )
    assert services["nginx"]["ports"] == ["127.0.0.1:${PORT:-8080}:8080"]
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert dockerfile.count("USER 10001:10001") == len(services)
