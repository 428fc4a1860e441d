"""One file over HTTP, whole or not at all: resumed where a connection or a run broke off, and checked."""

import base64
import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.util import Retry

from server.weights.files import flush

TIMEOUT = (10, 60)  # seconds to connect, and between two pieces of an answer
TRIES = 5  # without getting any further

_PIECE = 1 << 16  # what a broken connection loses at most


@dataclass(frozen=True)
class Remote:
    """What a server says of a file: its size in bytes, and its strong ETag and MD5 where it has them."""

    url: str
    size: int
    etag: str | None
    md5: bytes | None


class _ChangedError(Exception):
    """The file on the server is no longer the one that was described."""


def new_session(pause: float) -> requests.Session:
    """A session that tries again what a server can't answer at the moment, after `pause`, 2 `pause`, ... seconds.

    However long the server asks to wait for: who starts or reloads would hang for hours.
    """
    retry = Retry(
        total=TRIES - 1,
        backoff_factor=pause / 2,
        status_forcelist=(429, 500, 502, 503, 504),
        raise_on_status=False,
        respect_retry_after_header=False,
    )
    session = requests.Session()
    session.headers["Accept-Encoding"] = "identity"  # sizes, ranges and checksums are of the file itself
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


def describe(session: requests.Session, url: str) -> Remote:
    """Ask for a file's size and marks. Raises OSError, saying what to do, when there is no sound answer to that."""
    try:
        response = session.head(url, allow_redirects=True, timeout=TIMEOUT)
        response.raise_for_status()
    except requests.RequestException as error:
        raise OSError(f"{url}: {_plainly(error)}") from error
    if "Content-Length" not in response.headers:
        raise OSError(f"{url}: the server does not say how large it is: check the address")
    md5 = response.headers.get("Content-MD5")
    try:
        return Remote(
            url,
            int(response.headers["Content-Length"]),
            _strong_etag(response),
            base64.b64decode(md5) if md5 else None,
        )
    except ValueError as error:
        raise OSError(
            f"{url}: the server's Content-Length or Content-MD5 is none ({error}): check the address"
        ) from error


def is_whole(file: Path, remote: Remote) -> bool:
    """Whether `file` is there with the size and, where the server gives one, the MD5 of `remote`."""
    if not file.is_file() or file.stat().st_size != remote.size:
        return False
    if remote.md5 is None:
        return True
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).digest() == remote.md5


def part_of(file: Path, remote: Remote) -> Path:
    """Where `remote` is collected until it is whole: another place for each version of it."""
    version = hashlib.sha256(repr(remote).encode()).hexdigest()[:8]
    return file.with_name(f"{file.name}.{version}.part")


def fetch(session: requests.Session, remote: Remote, file: Path, pause: float) -> Path:
    """Bring `remote` into a file beside `file`, going on with what is there of it, and return that file's path.

    It has the right size and checksum, and is on the disk. Raises OSError when no more of it comes, ValueError for a
    wrong checksum; both say what to do.
    """
    furthest = failures = 0
    with tqdm(total=remote.size, desc=file.name, unit="B", unit_scale=True, disable=None) as progress:
        while not is_complete(part := part_of(file, remote), remote):
            _remove_other_parts(file, part)
            try:
                _receive(session, remote, part, progress)
                continue
            except _ChangedError:
                problem = "the file on the server changes all the time"
                remote = describe(session, remote.url)
                progress.reset(remote.size)
            except (
                requests.ConnectionError,
                requests.exceptions.ChunkedEncodingError,
                requests.Timeout,
            ) as error:
                problem = _plainly(error)
            except requests.RequestException as error:
                raise OSError(f"{remote.url}: {_plainly(error)}") from error
            reached = part.stat().st_size if part.exists() else 0
            failures = 0 if reached > furthest else failures + 1
            furthest = max(furthest, reached)
            if failures == TRIES:
                raise OSError(f"{remote.url}: {problem}; {furthest:,} of {remote.size:,} bytes have come")
            time.sleep(pause * 2**failures)
    if not is_whole(part, remote):
        part.unlink()
        raise ValueError(
            f"{remote.url}: what came has not the size and MD5 that the server gives: removed, fetch it again"
        )
    flush(part)
    return part


def is_complete(part: Path, remote: Remote) -> bool:
    """Whether all bytes of `remote` have come, whatever they are."""
    return part.exists() and part.stat().st_size >= remote.size


def _strong_etag(response: requests.Response) -> str | None:
    """The answer's ETag, if two files with the same one are the same bytes.

    A weak one is no use in If-Range (RFC 9110, 13.1.5).
    """
    etag = response.headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else None


def _remove_other_parts(file: Path, part: Path) -> None:
    """Remove what had come of other versions."""
    for other in file.parent.glob(f"{file.name}.*.part"):
        if other != part:
            other.unlink()


def _receive(session: requests.Session, remote: Remote, part: Path, progress: "tqdm[NoReturn]") -> None:
    """Append to `part` what it lacks, or write it anew if it can't be gone on with.

    Raises _ChangedError, or RequestException when less comes than was promised.
    """
    start = 0
    headers = {}
    if remote.etag and part.exists():
        start = part.stat().st_size
        headers = {"Range": f"bytes={start}-", "If-Range": remote.etag}
    with session.get(remote.url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        response.raise_for_status()
        if response.status_code == requests.codes.partial_content:
            if response.headers.get("Content-Range") != f"bytes {start}-{remote.size - 1}/{remote.size}":
                raise _ChangedError
        elif remote.etag and _strong_etag(response) not in (None, remote.etag):
            raise _ChangedError
        else:
            start = 0  # this server sends nothing but the whole
        progress.update(start - progress.n)
        with part.open("ab" if start else "wb") as out:
            for piece in response.iter_content(_PIECE):
                progress.update(out.write(piece))
    if not is_complete(part, remote):
        raise requests.ConnectionError("the answer ends too early")


def _plainly(error: requests.RequestException) -> str:
    """What went wrong, and what to do about it."""
    match error:
        case requests.HTTPError(response=requests.Response(status_code=404)):
            return "it is not there (404): check the address"
        case requests.HTTPError(response=requests.Response() as response):
            return f"the server answers {response.status_code} {response.reason}: try again later"
        case requests.exceptions.ProxyError():
            return "the proxy does not let it through: check HTTPS_PROXY, HTTP_PROXY and NO_PROXY"
        case requests.exceptions.SSLError():
            return f"its certificate is not trusted ({error}): name the right ones in REQUESTS_CA_BUNDLE"
        case requests.Timeout():
            return f"no answer within {TIMEOUT[0]} s to connect or {TIMEOUT[1]} s to read: check the network"
        case requests.ConnectionError() if "NameResolutionError" in repr(error):
            return (
                "the server's name can't be resolved: check the network, DNS, and HTTPS_PROXY if you need one"
            )
        case requests.ConnectionError() | requests.exceptions.ChunkedEncodingError():
            return "the connection fails or breaks: check the network and the address, and try again; it goes on there"
        case _:
            return f"it can't be asked for: {error}"
