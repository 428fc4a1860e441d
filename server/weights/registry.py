"""Where a checkpoint lies: in a directory, at an address, or in an MLflow registry (models:/NAME/VERSION, @ALIAS).

Source of the form: MLflow's "Model Registry" documentation. MLflow is an optional extra, and imported when there is
such a name only: it takes seconds and about 70 MiB of memory.
"""

import hashlib
import os
import re
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

from server.weights.cache import cache_folder, writing_to
from server.weights.errors import CheckpointError
from server.weights.files import flush

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

SCHEME = "models:"
SQLITE = "sqlite:///"

_ADDRESS = re.compile(r"(?P<scheme>https?|s3|hf):/{1,2}(?P<rest>[^/].*)")  # a Path keeps one slash only
_MODEL = re.compile(r"models:/(?P<name>[^/:@]+)(?:/(?P<version>[1-9][0-9]{0,8})|@(?P<alias>[^/:@]+))")

# MLflow reads these, some of them when it is first imported: it is to tell nobody of its use, to write no notices, and
# to give up within a minute on a server that does not answer.
for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
}.items():
    os.environ.setdefault(_name, _value)


class Found(NamedTuple):
    """Where a checkpoint lies, and what answers call it: `run1`, or `pokegen/3`."""

    directory: Path
    name: str


def is_model_name(checkpoint: Path) -> bool:
    """Whether this names a model in a registry. Raises ValueError when it begins like one and is none."""
    if not str(checkpoint).startswith(SCHEME):
        return False
    if not _MODEL.fullmatch(str(checkpoint)):
        raise ValueError(
            "a model in a registry is models:/NAME/VERSION or models:/NAME@ALIAS, such as models:/pokegen/3"
        )
    return True


def require_registry_address(registry: str) -> str:
    """`registry` itself. Raises ValueError, which does not repeat it, when it is none or has a password in it.

    A password would be shown in messages; MLflow has variables for that.
    """
    if not re.fullmatch(rf"{SQLITE}[^?#]+|https?://[^\s@]+", registry):
        raise ValueError(
            "must be sqlite:///FILE or an MLflow server's http address, without a password (MLflow reads that from"
            " MLFLOW_TRACKING_PASSWORD)"
        )
    return registry


def sqlite_file(registry: str) -> Path | None:
    """The file of an SQLite registry, None for an MLflow server's address."""
    return Path(registry.removeprefix(SQLITE)) if registry.startswith(SQLITE) else None


def connect(registry: str) -> "MlflowClient":
    """A client of the registry: sqlite:///FILE, which is made if it is missing, or an MLflow server's address.

    Raises ImportError where MLflow is missing, and MlflowException.
    """
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=registry, registry_uri=registry)


def find_checkpoint(checkpoint: Path, registry: str, *, only_current: bool = False) -> Found:
    """Where `checkpoint` lies: a directory where it is, a model of the registry where that keeps it.

    What an MLflow server keeps, and what an address names (remote.py), is copied, once, to the cache. only_current:
    what has come from an address before is not good enough where that can't be asked now. Nothing is written to the
    registry. Raises CheckpointError when MLflow is not installed, when there is no such registry, version or alias,
    when its files are gone, when what an address names can't be had, and when the cache can't be written to.
    """
    if address := _ADDRESS.fullmatch(str(checkpoint)):
        from server.weights.remote import fetched

        return Found(*fetched(address["scheme"], address["rest"], cache_folder(), only_current=only_current))
    if not is_model_name(checkpoint):
        return Found(checkpoint, checkpoint.resolve().name)
    _require_registry(checkpoint, registry)
    try:
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise CheckpointError(
            checkpoint,
            f"needs MLflow, but the package {error.name} is not installed",
            "run `make pipeline`, or name a directory",
        ) from error
    try:
        client = connect(registry)
        version = _version(client, str(checkpoint))
        name = f"{version.name}/{version.version}"
        location = client.get_model_version_download_uri(version.name, version.version)
        if urlsplit(location).scheme in ("", "file"):
            directory = Path(url2pathname(urlsplit(location).path))
        else:
            directory = _copy(location, registry, f"{name} of {version.creation_timestamp}")
    except (MlflowException, OSError) as error:
        raise CheckpointError(
            checkpoint, f"can't be had from {registry}: {error}", "register it with `pokegen register`"
        ) from error
    if not directory.is_dir():
        raise CheckpointError(
            checkpoint, f"its files are gone from {directory}", "put them back, or register it anew"
        )
    return Found(directory, name)


def _require_registry(checkpoint: Path, registry: str) -> None:
    """MLflow would make a database where there is none."""
    file = sqlite_file(registry)
    if file is None:
        return
    try:
        database = sqlite3.connect(f"file:{quote(str(file.resolve()))}?mode=ro", uri=True)
        try:
            database.execute("SELECT 1 FROM registered_models LIMIT 1")
        finally:
            database.close()
    except sqlite3.Error as error:
        raise CheckpointError(
            checkpoint,
            f"{file} is no registry ({error})",
            "set POKEGEN_REGISTRY to the one that `pokegen register` wrote to",
        ) from error


def _version(client: "MlflowClient", model: str) -> "ModelVersion":
    match = _MODEL.fullmatch(model)
    assert match  # noqa: S101 - is_model_name has looked
    if match["alias"]:
        return client.get_model_version_by_alias(match["name"], match["alias"])
    return client.get_model_version(match["name"], match["version"])


def _copy(location: str, registry: str, version: str) -> Path:
    """The folder that a remote version was copied to; a version never changes."""
    from mlflow.artifacts import download_artifacts

    cache = cache_folder()
    target = cache / hashlib.sha256(f"{registry} {location} {version}".encode()).hexdigest()[:16]
    if not target.exists():
        with writing_to(cache):
            cache.mkdir(parents=True, exist_ok=True)
            folder = tempfile.TemporaryDirectory(dir=cache)
        with folder as draft:
            copy = Path(download_artifacts(artifact_uri=location, dst_path=draft, tracking_uri=registry))
            for path in (*copy.rglob("*"), copy):
                flush(path)
            try:
                copy.rename(target)
            except OSError:
                if not target.is_dir():  # another process may have been quicker, with the same files
                    raise
    return target
