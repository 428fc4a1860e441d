"""Checkpoints elsewhere: https://HOST/PATH, s3://BUCKET/PATH and hf://OWNER/NAME, fetched into a cache.

At an https or s3 address is a folder whose SHA256SUMS (what `sha256sum *` prints there) says which files belong to the
checkpoint. Hugging Face's Hub says so itself: https://huggingface.co/docs/hub/api. S3 is asked without a signature, at
AWS_ENDPOINT_URL where that is set, else at Amazon's of AWS_REGION; a private Hub repository takes HF_TOKEN. The
checksums prove as much as the way that they come on, so that is https; http is for servers on this machine.
"""

import fcntl
import hashlib
import ipaddress
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar
from urllib.parse import quote, urlsplit

import requests

from server.weights.cache import writing_to
from server.weights.errors import CheckpointError
from server.weights.fetch import TIMEOUT, describe, fetch, new_session
from server.weights.files import flush

logger = logging.getLogger(__name__)

SUMS = "SHA256SUMS"
HUB = "https://huggingface.co"
PAUSE = 1.0  # seconds before a request is repeated, at first
LARGEST_LISTING = 1 << 20  # bytes
PIECE = 1 << 16  # bytes that are read at once of a listing

_HUB_NAME = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_SUM = re.compile(r"(?P<sum>[0-9a-f]{64}) [ *](?:\./)?(?P<name>[\w.-]+)")
_SECRET = re.compile(r"^[^/]*@|[?#]")  # in an address without its scheme: who asks, or a signature

# What a checkpoint may consist of, of all that is in a Hub repository.
_HUB_FILES = re.compile(
    r"config\.json|model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json"
    r"|tokenizer\.json|tokenizer_config\.json|vocab\.json|merges\.txt|encoder\.json|vocab\.bpe"
    r"|README\.md|card\.json|curve\.svg"
)

_T = TypeVar("_T")


@dataclass(frozen=True)
class File:
    """A file of the checkpoint. algorithm: how its checksum is made: sha256, or git's way of naming what it keeps."""

    url: str
    algorithm: str
    checksum: str


def fetched(scheme: str, rest: str, cache: Path, *, only_current: bool = False) -> tuple[Path, str]:
    """Where the files of scheme://rest lie, once they have come, and the checkpoint's name.

    cache: the folder that keeps them. What is there and whole is not fetched again, what broke off is gone on with, and
    what was there before under the same address is removed. Where nobody says which files lie there now, what has come
    before is taken, and the log says so; not with `only_current`. Raises CheckpointError.
    """
    if _SECRET.search(rest):
        raise CheckpointError(
            f"{scheme}://...",
            "has a user's name, a password or a query in it, and addresses are shown in messages",
            "leave that out: HF_TOKEN, and for servers the file that NETRC names, are the places for it",
        )
    address = f"{scheme}://{rest}"
    folder = cache / _short_digest(address)
    name = rest.partition("@")[0] if scheme == "hf" else rest
    try:
        base = _base(scheme, rest)
        with _session(base) as session:
            try:
                files = _hub_files(session, base, rest) if scheme == "hf" else _summed_files(session, base)
                if not files:
                    raise ValueError("no file is named there")
            except (requests.RequestException, ValueError) as error:
                place = None if only_current else _newest(folder)
                if not place:
                    raise
                logger.warning("%s can't be had (%s): what has come before is taken", address, error)
            else:
                with writing_to(cache):
                    place = _bring(session, files, folder)
    except requests.RequestException as error:
        raise CheckpointError(
            address, f"can't be had: {error}", "check the address and the network"
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(address, f"can't be had: {error}", "check the address and its files") from error
    return place, PurePosixPath(name).name


def _base(scheme: str, rest: str) -> str:
    """The folder's URL, or the Hub's. Raises ValueError where nobody should be asked there."""
    if scheme == "hf":
        return _require_safe(os.environ.get("HF_ENDPOINT") or HUB, "HF_ENDPOINT").rstrip("/")
    if scheme != "s3":
        return _require_safe(f"{scheme}://{rest}", "the address").rstrip("/")
    region = os.environ.get("AWS_REGION") or "us-east-1"
    endpoint = os.environ.get("AWS_ENDPOINT_URL") or f"https://s3.{region}.amazonaws.com"
    return f"{_require_safe(endpoint, 'AWS_ENDPOINT_URL').rstrip('/')}/{rest}"


def _require_safe(url: str, what: str) -> str:
    """`url` itself. Raises ValueError, which calls it `what` and does not repeat it."""
    scheme, _, rest = url.partition("://")
    if _SECRET.search(rest):
        raise ValueError(f"{what} may have no user's name, password or query in it, as messages show it")
    if scheme != "https" and not (scheme == "http" and _is_this_machine(urlsplit(url).hostname or "")):
        raise ValueError(
            f"{what} must begin with https://: over http:// anybody on the way could change files and checksums"
        )
    return url


def _session(base: str) -> requests.Session:
    """One that asks `base`, and whom that sends it to: from https nowhere but to https."""
    session = new_session(PAUSE)
    if base.startswith("https://"):
        del session.adapters["http://"]
    return session


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _get(session: requests.Session, url: str) -> bytes:
    """A listing. Raises RequestException, also where it breaks off, and ValueError where it is too long."""
    listing = b""
    with session.get(url, timeout=TIMEOUT, stream=True) as response:
        response.raise_for_status()
        for piece in response.iter_content(PIECE):
            listing += piece
            if len(listing) > LARGEST_LISTING:
                raise ValueError(f"{url} has more than {LARGEST_LISTING:,} bytes")
    return listing


def _summed_files(session: requests.Session, url: str) -> dict[str, File]:
    files = {}
    for line in _get(session, f"{url}/{SUMS}").decode("utf-8", "replace").splitlines():
        match = _SUM.fullmatch(line.strip())
        if not match or match["name"] in (".", ".."):
            raise ValueError(f"{url}/{SUMS} has a line that `sha256sum *` does not print: {line[:80]!r}")
        if match["name"] != SUMS:
            files[match["name"]] = File(f"{url}/{quote(match['name'])}", "sha256", match["sum"])
    return files


def _hub_files(session: requests.Session, hub: str, name: str) -> dict[str, File]:
    match = _HUB_NAME.fullmatch(name)
    if not match:
        raise ValueError("a model of the Hub is hf://OWNER/NAME or hf://OWNER/NAME@REVISION")
    if token := os.environ.get("HF_TOKEN"):
        session.headers["Authorization"] = f"Bearer {token}"
    repository, revision = match["repository"], quote(match["revision"] or "main", safe="")
    listing = _get(session, f"{hub}/api/models/{repository}/revision/{revision}?blobs=true")
    try:
        said = json.loads(listing)
    except RecursionError:
        raise ValueError("the Hub's answer is nested too deeply") from None
    commit = _field(said, "sha", str)
    files = {}
    for entry in _field(said, "siblings", list):
        path = _field(entry, "rfilename", str)
        if _HUB_FILES.fullmatch(path):
            url = f"{hub}/{repository}/resolve/{commit}/{path}"
            if entry.get("lfs"):
                files[path] = File(url, "sha256", _field(entry["lfs"], "sha256", str))
            else:
                files[path] = File(url, "git", _field(entry, "blobId", str))
    return files


def _field(said: object, name: str, kind: type[_T]) -> _T:
    """What the Hub says as `name`. Raises ValueError where it says nothing of that kind."""
    value = said.get(name) if isinstance(said, dict) else None
    if not isinstance(value, kind):
        raise ValueError(f"the Hub's answer has no {name}")
    return value


def _newest(folder: Path) -> Path | None:
    """The files that were brought below `folder` last, if there are any: `_bring` names none before they are whole."""
    places = [place for place in folder.glob("*") if place.is_dir() and not place.suffix]
    return max(places, key=lambda place: place.stat().st_ctime_ns, default=None)


def _bring(session: requests.Session, files: Mapping[str, File], folder: Path) -> Path:
    """The files, below `folder`, by what they are: another listing is another place."""
    place = folder / _short_digest(repr(sorted((name, file.checksum) for name, file in files.items())))
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if not place.exists():
            draft = place.with_suffix(".part")
            draft.mkdir(exist_ok=True)
            for name, file in files.items():
                _bring_one(session, file, draft / name)
            flush(draft)
            draft.rename(place)
        for other in folder.iterdir():
            if other.is_dir() and other != place:
                # What is half removed must not pass for whole, nor stand in the way of what is removed next.
                gone = other if other.suffix else other.rename(folder / f"{other.name}-{time.time_ns()}.gone")
                shutil.rmtree(gone, ignore_errors=True)
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
