"""deploy/kubernetes as kustomize renders it, and how to find one's way in it."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.service.stack import ROOT

SOURCE = ROOT / "deploy/kubernetes"
ALL = ("base", "overlays/one-node", "overlays/crowd")
# The first kubectl whose kustomize speaks today's words. Debian 12 has an older one.
MODERN_KUBECTL = (1, 21)

Document = dict[str, Any]


@dataclass(frozen=True)
class Manifests:
    """The documents of a directory that kustomize knows."""

    documents: list[Document]

    def all(self, kind: str) -> list[Document]:
        return [document for document in self.documents if document["kind"] == kind]

    def one(self, kind: str) -> Document:
        [found] = self.all(kind)
        return found

    @property
    def pod(self) -> Document:
        """What the Deployment makes: labels in `metadata`, the rest in `spec`."""
        template: Document = self.one("Deployment")["spec"]["template"]
        return template

    @property
    def containers(self) -> dict[str, Document]:
        """All of the pod's, by name; those that stay and those that only prepare something."""
        spec = self.pod["spec"]
        return {each["name"]: each for each in [*spec.get("initContainers", []), *spec["containers"]]}

    def environment(self, container: str) -> dict[str, str]:
        """What the container gets from the ConfigMap, and what it is given besides."""
        found: dict[str, str] = {}
        described = self.containers[container]
        for source in described.get("envFrom", []):
            name = source["configMapRef"]["name"]
            [settings] = [each for each in self.all("ConfigMap") if each["metadata"]["name"] == name]
            found |= settings["data"]
        return found | {each["name"]: each["value"] for each in described.get("env", [])}


@cache
def render(directory: str) -> Manifests:
    """What `kubectl apply -k` would send of one of ALL.

    CalledProcessError where kustomize refuses it; AssertionError where it warns.
    """
    if shutil.which("kustomize"):
        said = _run("kustomize", "build", str(SOURCE / directory))
    elif _kubectl_version() >= MODERN_KUBECTL:
        said = _run("kubectl", "kustomize", str(SOURCE / directory))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            copy = Path(temporary) / "kubernetes"
            shutil.copytree(SOURCE, copy)
            for file in copy.rglob("kustomization.yaml"):
                file.write_text(yaml.safe_dump(_in_old_words(yaml.safe_load(file.read_text()))))
            said = _run("kubectl", "kustomize", str(copy / directory))
    return Manifests([document for document in yaml.safe_load_all(said) if document])


def can_render() -> bool:
    return any(shutil.which(command) for command in ("kustomize", "kubectl"))


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    """Whether a selector, which is not empty, finds what has these labels."""
    return bool(selector) and selector.items() <= labels.items()


def quantity(text: str) -> float:
    """CPUs or bytes, such as 1500m, 2 and 64Mi."""
    units = {"m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
    for unit, factor in units.items():
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    return float(text)


def stages() -> Iterator[tuple[str, str]]:
    """Name and text of each stage of the Dockerfile."""
    for stage in (ROOT / "Dockerfile").read_text().split("\nFROM ")[1:]:
        head, _, text = stage.partition("\n")
        yield head.split(" AS ")[1], text


def _run(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert done.stderr == "", "kustomize calls something old-fashioned"
    return done.stdout


def _kubectl_version() -> tuple[int, int]:
    answer = json.loads(_run("kubectl", "version", "--client", "--output", "json"))["clientVersion"]
    return int(answer["major"]), int(answer["minor"].rstrip("+"))


def _in_old_words(kustomization: Document) -> Document:
    """The same for kustomize 2, which has other names for two of the fields. Nothing else differs."""
    resources = kustomization.get("resources", [])
    bases = [each for each in resources if not each.endswith(".yaml")]
    patches = [each["path"] for each in kustomization.get("patches", [])]
    others = {name: value for name, value in kustomization.items() if name not in ("resources", "patches")}
    return others | {
        "bases": bases,
        "resources": [each for each in resources if each not in bases],
        "patchesStrategicMerge": patches,
    }
