"""Checkpoints elsewhere: https://HOST/PATH, s3://BUCKET/PATH and hf://OWNER/NAME, fetched into the user's cache.

At an https or s3 address is a folder whose SHA256SUMS (what `sha256sum *` prints there) says which files belong to the
checkpoint. Hugging Face's Hub says so itself: https://huggingface.co/docs/hub/api. S3 is asked without a signature, at
AWS_ENDPOINT_URL where that is set, else at Amazon's of AWS_REGION; a private Hub repository takes HF_TOKEN.
"""

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import requests

from server.weights.errors import CheckpointError
from server.weights.fetch import TIMEOUT, describe, fetch, new_session

SUMS = "SHA256SUMS"
HUB = "https://huggingface.co"
PAUSE = 1.0  # seconds before a request is repeated, at first
LARGEST_LISTING = 1 << 20  # bytes

_HUB_NAME = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_SUM = re.compile(r"(?P<sum>[0-9a-f]{64}) [ *](?:\./)?(?P<name>[\w.-]+)")

# What a checkpoint may consist of, of all that is in a Hub repository.
_HUB_FILES = re.compile(
    r"config\.json|model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json|tokenizer\.json|vocab\.json|merges\.txt"
    r"|README\.md|card\.json|curve\.svg"
)


@dataclass(frozen=True)
class File:
    """A file of the checkpoint. algorithm: how its checksum is made: sha256, or git's way of naming what it keeps."""

    url: str
    algorithm: str
    checksum: str


def fetched(scheme: str, rest: str, cache: Path) -> tuple[Path, str]:
    """Where the files of scheme://rest lie, once they have come, and the checkpoint's name.

    cache: the folder that keeps them. What is there and whole is not fetched again, what broke off is gone on with, and
    what was there before under the same address is removed. Raises CheckpointError.
    """
    address = f"{scheme}://{rest}"
    try:
        with new_session(PAUSE) as session:
            if scheme == "hf":
                files, name = _hub_files(session, rest)
            else:
                files, name = _summed_files(session, _folder_url(scheme, rest))
            return _bring(session, files, cache / _short_digest(address)), name
    except requests.RequestException as error:
        raise CheckpointError(
            address, f"can't be had: {error}", "check the address and the network"
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(address, f"can't be had: {error}", "check the address and its files") from error


def _folder_url(scheme: str, rest: str) -> str:
    rest = rest.rstrip("/")
    if scheme != "s3":
        return f"{scheme}://{rest}"
    region = os.environ.get("AWS_REGION", "us-east-1")
    endpoint = os.environ.get("AWS_ENDPOINT_URL", f"https://s3.{region}.amazonaws.com")
    return f"{endpoint.rstrip('/')}/{rest}"


def _get(session: requests.Session, url: str) -> bytes:
    with session.get(url, timeout=TIMEOUT, stream=True) as response:
        response.raise_for_status()
        listing = response.raw.read(LARGEST_LISTING + 1, decode_content=True)
    if len(listing) > LARGEST_LISTING:
        raise ValueError(f"{url} has more than {LARGEST_LISTING:,} bytes")
    return bytes(listing)


def _summed_files(session: requests.Session, url: str) -> tuple[dict[str, File], str]:
    files = {}
    for line in _get(session, f"{url}/{SUMS}").decode("utf-8", "replace").splitlines():
        match = _SUM.fullmatch(line.strip())
        if not match or match["name"] in (".", ".."):
            raise ValueError(f"{url}/{SUMS} has a line that `sha256sum *` does not print: {line[:80]!r}")
        if match["name"] != SUMS:
            files[match["name"]] = File(f"{url}/{quote(match['name'])}", "sha256", match["sum"])
    return files, PurePosixPath(url).name


def _hub_files(session: requests.Session, name: str) -> tuple[dict[str, File], str]:
    match = _HUB_NAME.fullmatch(name.rstrip("/"))
    if not match:
        raise ValueError("a model of the Hub is hf://OWNER/NAME or hf://OWNER/NAME@REVISION")
    if token := os.environ.get("HF_TOKEN"):
        session.headers["Authorization"] = f"Bearer {token}"
    hub = os.environ.get("HF_ENDPOINT", HUB).rstrip("/")
    repository, revision = match["repository"], quote(match["revision"] or "main", safe="")
    response = session.get(
        f"{hub}/api/models/{repository}/revision/{revision}", params={"blobs": "true"}, timeout=TIMEOUT
    )
    response.raise_for_status()
    said = response.json()
    files = {}
    for entry in said["siblings"]:
        path = entry["rfilename"]
        if _HUB_FILES.fullmatch(path):
            url = f"{hub}/{repository}/resolve/{said['sha']}/{path}"
            large = entry.get("lfs")
            files[path] = File(url, "sha256", large["sha256"]) if large else File(url, "git", entry["blobId"])
    return files, repository.partition("/")[2]


def _bring(session: requests.Session, files: Mapping[str, File], folder: Path) -> Path:
    """The files, below `folder`, by what they are: another listing is another place."""
    if not files:
        raise ValueError("no file is named there")
    place = folder / _short_digest(repr(sorted((name, file.checksum) for name, file in files.items())))
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if not place.exists():
            draft = place.with_suffix(".part")
            draft.mkdir(exist_ok=True)
            for name, file in files.items():
                _bring_one(session, file, draft / name)
            draft.rename(place)
        for other in folder.iterdir():
            if other.is_dir() and other != place:
                shutil.rmtree(other, ignore_errors=True)
    return place


def _bring_one(session: requests.Session, file: File, path: Path) -> None:
    if path.exists():
        return  # it was checked when it got its name
    part = fetch(session, describe(session, file.url), path, PAUSE)
    if _checksum(part, file.algorithm) != file.checksum:
        part.unlink()
        raise ValueError(f"{file.url} has not the checksum that is named for it: what came was removed")
    part.rename(path)


def _checksum(file: Path, algorithm: str) -> str:
    if algorithm == "sha256":
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    content = file.read_bytes()  # git keeps no large files here
    blob = b"blob %d\0%b" % (len(content), content)
    return hashlib.sha1(blob, usedforsecurity=False).hexdigest()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two services that share a cache fetch one after the other."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _short_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
