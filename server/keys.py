"""API keys: the file that POKEGEN_API_KEYS names, in TOML, a table an entry.

    [alice]             # her name, which the log has
    sha256 = "c0ff..."  # of the key that `pokegen key alice` made; the key itself is nowhere
    at_once = 8         # samples that run or wait
    per_minute = 120    # requests

    [anonymous]         # whoever sends no key, each address by itself; without this entry they are refused
    at_once = 4
    per_minute = 30

A plain SHA-256 will do: a key is 32 random bytes, so that nobody can try all of them, as could be done with a password.
"""

import hashlib
import re
import secrets
import stat
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from server.settings import NO_KEYS, Settings, SettingsError, variable

ANONYMOUS = "anonymous"
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # a key of TOML's that needs no quotes
LARGEST = 2**20  # bytes of the file; an entry has some 120

_PREFIX = "pokegen-"  # by which a scanner for secrets knows a key


class Limits(BaseModel):
    """How much somebody may ask for: samples that run or wait, and requests in any 60 seconds."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    at_once: Annotated[int, Field(ge=1, le=10_000)] = 8
    per_minute: Annotated[int, Field(ge=1, le=10_000)] = 120


class Entry(Limits):
    """A key's SHA-256, in hexadecimal digits, and its limits."""

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class Keys:
    """All entries of the file by their names, and what is allowed without a key: None is nothing."""

    entries: dict[str, Entry]
    anonymous: Limits | None


def new_key() -> str:
    """A key that nobody has."""
    return _PREFIX + secrets.token_urlsafe(32)


def digest(key: str) -> str:
    """What the file has of a key."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


def read_keys(settings: Settings) -> Keys | None:
    """The file of POKEGEN_API_KEYS; None where keys are off. Raises SettingsError, which never repeats the file."""
    if settings.api_keys == NO_KEYS:
        return None
    path = Path(settings.api_keys)
    tables = _read(path)
    entries, anonymous = {}, None
    for name, table in tables.items():
        if not NAME.fullmatch(name):
            raise _error(path, f"{name!r:.80} is no name: up to 64 letters, digits, - and _")
        if not isinstance(table, dict):
            raise _error(path, f"{name} stands outside of any entry: put it below its entry's [name]")
        try:
            if name == ANONYMOUS:
                anonymous = Limits.model_validate(table)
            else:
                entries[name] = Entry.model_validate(table)
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            raise _error(path, f"[{name}] {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    owners: dict[str, str] = {}
    for name, entry in entries.items():
        if (other := owners.setdefault(entry.sha256, name)) != name:
            raise _error(
                path, f"[{other}] and [{name}] have the same key: make another with `pokegen key {name}`"
            )
    if not tables:
        raise _error(path, "has no entry, so that everybody would be refused: `pokegen key NAME` makes one")
    return Keys(entries, anonymous)


def _read(path: Path) -> dict[str, object]:
    try:
        if not path.is_file():  # what is no file may block (a pipe) or never end (a device)
            raise _error(
                path, "is not a file" if path.exists() else "is not there: `pokegen key NAME` makes an entry"
            )
        mode = path.stat().st_mode
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise _error(path, f"may be written to by others than its owner: chmod go-w {path}")
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
    except OSError as error:
        raise _error(path, f"can't be read: {error.strerror}") from None
    if len(raw) > LARGEST:
        raise _error(path, f"has more than {LARGEST} bytes")
    try:
        return tomllib.loads(raw.decode())
    except UnicodeDecodeError as error:
        raise _error(path, f"is not UTF-8 at byte {error.start}") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise _error(path, f"is not TOML: {error}") from None


def _error(path: Path, problem: str) -> SettingsError:
    return SettingsError(f"{variable('api_keys')}: {path}: {problem}")
