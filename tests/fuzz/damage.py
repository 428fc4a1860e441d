"""Damages of checkpoints: blind ones, of bytes, and those that keep a file's format and change what it says."""

import atexit
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from server.weights.layout import HParams, tensor_shapes
from server.weights.table import read_table
from server.weights.wire import fields
from tests.checkpoints import transformers_name
from tests.fuzz import originals
from tests.fuzz.choices import Choices
from tests.tables import block, entry, field, number, table

WEIGHTS = "model.safetensors"
LONGEST = 1 << 16  # bytes that a repetition amounts to
LARGEST = 1 << 20  # bytes of a file that is damaged again: one with a hole is not

# As they stand in JSON. The digits are more than Python converts.
_HOSTILE_JSON = (
    *("null", "true", "false", "0", "-1", "1", "2", "280", "2147483648", "9007199254740993"),
    *("9223372036854775807", "9223372036854775808", "18446744073709551616", "1" + "0" * 4000, "1" * 5000),
    *("-0.0", "1.5", "1e308", "1e999", "NaN", "Infinity", "-Infinity"),
    *('""', '"\\ud800"', '"\\u0000"', '"\\u001b[2J"', '"a\\nb"', '"../../etc/passwd"', '"é"', '"😀"'),
    *("[]", "{}", "[0]", "[[]]", '{"a":{}}', "[1152921504606846976]", "[-1,-1]", "[0,0,0,0,0,0,0,0,0]"),
)
_HOSTILE_FLOATS: tuple[float, ...] = (
    *(np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, 1e-38, 1.0),
    *(float(np.finfo(np.float32).max), float(np.finfo(np.float32).min), 1e30, -1e30),
)
_HOSTILE_NUMBERS = (0, 1, 2, 3, 2**7, 2**31 - 1, 2**31, 2**32, 2**60, 2**63 - 1, 2**63, 2**64 - 1)

# Hostile text goes into JSON through this, as `json` has no way to say it.
_RAW = "\ue000raw:"


@cache
def _folder() -> Path:
    """Where the damaged checkpoints of this process are: always the same place, so that messages are the same."""
    folder = Path(tempfile.gettempdir()) / f"pokegen-fuzz-{os.getpid()}"
    folder.mkdir()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@contextmanager
def checkpoint(kind: str) -> Iterator[Path]:
    """A sound checkpoint to be damaged; afterwards it is put right again."""
    directory = _folder() / kind
    files = originals.files_of(kind)
    directory.mkdir(exist_ok=True)
    for name, content in files.items():
        if not (directory / name).exists():
            (directory / name).write_bytes(content)
    # Files that the engine would write; that what is no file stays is part of what it promises.
    for precision in ("int8", "float32"):
        link = directory / f"pokegen-{precision}.packed"
        if not link.is_symlink():
            link.symlink_to(os.devnull)
    before = {path.name: _state(path) for path in directory.iterdir()}
    try:
        yield directory
    finally:
        for path in list(directory.iterdir()):
            if before.get(path.name) != _state(path):
                _remove(path)


def _state(path: Path) -> tuple[int, int, int]:
    stat = path.lstat()
    return stat.st_ino, stat.st_size, stat.st_ctime_ns


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def damage_checkpoint(directory: Path, kind: str, choices: Choices) -> None:
    """Up to three damages."""
    for _ in range(choices.between(1, 3)):
        name = choices.pick(sorted(originals.files_of(kind)))
        path = directory / name
        damages: list[Callable[[Path, Choices], None]] = [_damage_bytes, _replace]
        if not path.is_file() or path.stat().st_size > LARGEST:
            continue
        if path.suffix == ".json":
            damages += [_damage_json_file] * 4
        elif path.suffix == ".safetensors":
            damages += [_damage_header, _damage_header, _damage_payload, _damage_payload, _retell]
        elif path.suffix == ".index":
            damages += [_damage_index] * 4
        elif path.name.startswith("model-"):
            damages += [_damage_payload]
        else:
            damages += [_damage_lines] * 2
        with suppress(ValueError, RecursionError):  # of a file that a damage before has left no format
            choices.pick(damages)(path, choices)


def rewrite(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)  # a new file, so that the state tells it from the sound one
    path.write_bytes(content)


def damage_bytes(content: bytes, choices: Choices) -> bytes:
    """Bytes cut, added, overwritten, taken out, or repeated."""
    at = choices.between(0, max(0, len(content) - 1))
    size = choices.between(0, 255)
    match choices.between(0, 6):
        case 0:
            return content[:at]
        case 1:
            return content + choices.chunk(size)
        case 2:
            changed = choices.chunk(1 + size % 8)
            return content[:at] + changed + content[at + len(changed) :]
        case 3:
            return content[:at] + content[at + size :]
        case 4:
            piece = content[at : at + 1 + size]
            return content[:at] + piece * (LONGEST // max(1, len(piece))) + content[at:]
        case 5:
            return content[:at] + choices.chunk(size) + content[at:]
        case _:
            return choices.chunk(1 + size % 2) * (LONGEST >> choices.between(0, 15))


def _damage_bytes(path: Path, choices: Choices) -> None:
    rewrite(path, damage_bytes(path.read_bytes(), choices))


def _replace(path: Path, choices: Choices) -> None:
    """Something else than the file, under its name."""
    content = path.read_bytes()
    text = content.decode("utf-8", errors="replace")
    path.unlink()
    match choices.between(0, 11):
        case 0:
            pass  # missing
        case 1:
            path.mkdir()
        case 2:
            os.mkfifo(path)
        case 3:
            path.symlink_to(path.name)
        case 4:
            path.symlink_to("nowhere")
        case 5:
            path.symlink_to("/dev/zero")
        case 6:
            path.symlink_to(choices.pick(sorted(other.name for other in path.parent.iterdir())))
        case 7:
            path.write_bytes(text.encode("utf-16"))
        case 8:
            path.write_bytes(text.encode("latin-1", errors="replace"))
        case 9:
            path.write_bytes(b"\xef\xbb\xbf" + content)
        case 10:
            path.touch()
        case _:
            path.write_bytes(content)
            os.truncate(path, len(content) + (1 << choices.between(0, 40)))  # a hole


def damage_json(value: Any, choices: Choices) -> bytes:  # noqa: ANN401 - whatever JSON may be
    """A JSON text of `value` with one of its parts changed."""
    path: list[Any] = []
    part = value
    while isinstance(part, dict | list) and part and (not path or choices.between(0, 3)):
        key = choices.pick(sorted(part) if isinstance(part, dict) else range(len(part)))
        path.append(key)
        if isinstance(part[key], dict | list):
            part[key] = part[key].copy()
        part = part[key]
    changed = _changed(part, choices)
    if not path:
        return _dump(changed)
    parent = value = value.copy()
    for key in path[:-1]:
        parent = parent[key]
    key = path[-1]
    match choices.between(0, 4):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, dict):
            parent[_hostile_text(choices)] = parent.pop(key)
        case 2 if isinstance(parent, dict):
            parent[f"{key}{_RAW}"] = changed  # the same key twice
        case _:
            parent[key] = changed
    return _dump(value)


def _changed(part: object, choices: Choices) -> object:
    match choices.between(0, 5):
        case 0:
            depth = choices.between(900, 1100) if choices.yes() else choices.between(1, 1 << 15)
            return f"{_RAW}{'[' * depth}{']' * depth}"
        case 1:
            return [part]
        case 2:
            return {"a": part}
        case 3 if isinstance(part, int):
            return part + choices.between(-3, 3)
        case 4 if isinstance(part, str):
            return part + _hostile_text(choices)
        case _:
            return _RAW + choices.pick(_HOSTILE_JSON)


def _hostile_text(choices: Choices) -> str:
    texts = ("", "\0", "\x1b[2J", "a\nb", "\ud800", "\u2028", "\u202e", "..", "x" * 2000, "😀", "\ufffd")
    return choices.pick(texts) if choices.yes() else choices.chunk(8).decode("latin-1")


def _dump(value: object) -> bytes:
    text = json.dumps(value)
    quoted = json.dumps(_RAW)[1:-1]
    while (begin := text.find(f'"{quoted}')) >= 0:  # a raw value
        end = _end_of_string(text, begin)
        text = text[:begin] + json.loads(text[begin:end]).removeprefix(_RAW) + text[end:]
    return text.replace(quoted, "").encode("utf-8", errors="surrogatepass")


def _end_of_string(text: str, begin: int) -> int:
    end = begin + 1
    while text[end] != '"':
        end += 2 if text[end] == "\\" else 1
    return end + 1


def _damage_json_file(path: Path, choices: Choices) -> None:
    rewrite(path, damage_json(json.loads(path.read_bytes()), choices))


def _split(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and payload of a safetensors file. Raises ValueError or RecursionError where it has been damaged."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    if (
        not isinstance(header, dict)
        or not all(isinstance(value, dict) for value in header.values())
        or not header
    ):
        raise ValueError("not a header")
    return header, content[8 + size :]


def with_header(header: bytes, payload: bytes) -> bytes:
    """A safetensors file whose header has the size that is announced."""
    return len(header).to_bytes(8, "little") + header + payload


def _damage_header(path: Path, choices: Choices) -> None:
    content = path.read_bytes()
    header, payload = _split(content)
    if choices.between(0, 7) == 0:
        rewrite(path, choices.pick(_HOSTILE_NUMBERS).to_bytes(8, "little") + content[8:])
        return
    if choices.yes():
        name = choices.pick(sorted(header))
        key = choices.pick(("dtype", "shape", "data_offsets"))
        entry_of_tensor = {**header[name], key: f"{_RAW}{choices.pick(_HOSTILE_JSON)}"}
        if key == "data_offsets":
            begin = choices.between(0, len(payload))
            entry_of_tensor[key] = [begin, begin + choices.pick(_HOSTILE_NUMBERS)]
        elif key == "dtype":
            entry_of_tensor[key] = choices.pick(
                ("F16", "BF16", "F64", "I8", "", "\ud800", "\x1b[2J", "F" * 99)
            )
        changed = _dump({**header, name: entry_of_tensor})
    else:
        changed = damage_json(header, choices)
    rewrite(path, with_header(changed, payload))


def _damage_payload(path: Path, choices: Choices) -> None:
    """Numbers that no weights are, at one place or at all, behind a header if there is one."""
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little") if path.suffix == ".safetensors" else 0
    start = min(start, len(content))
    size = choices.pick((4, 2))
    with np.errstate(over="ignore"):
        raw = np.array(choices.pick(_HOSTILE_FLOATS)).astype("<f4" if size == 4 else "<f2").tobytes()
    places = (len(content) - start) // size
    first = choices.between(0, max(0, places - 1))
    count = choices.pick((1, 6, 280 * 6, places))
    end = min(start + (first + count) * size, len(content))
    begin = start + first * size
    content[begin:end] = (raw * count)[: max(0, end - begin)]
    rewrite(path, bytes(content))


def _retell(path: Path, choices: Choices) -> None:
    """A checkpoint of other sizes and of any numbers, which agrees with itself."""
    n_head = choices.between(1, 4)
    hparams = HParams(
        n_vocab=choices.pick((280, 279, 281, 320)),
        n_ctx=choices.pick((1, 4, 17, 1 << 12)),
        n_embd=n_head * choices.between(1, 6),
        n_head=n_head,
        n_layer=choices.between(1, 3),
    )
    dtype = choices.pick(("F32", "F16", "BF16"))
    size = 4 if dtype == "F32" else 2
    random = np.random.default_rng(choices.between(0, 255))
    header, payload = {}, b""
    for name, shape in tensor_shapes(hparams).items():
        values = random.normal(0, 1, shape).astype(np.float32)
        scale = (
            np.float32(choices.pick((1.0, *_HOSTILE_FLOATS))) if choices.between(0, 3) == 0 else np.float32(1)
        )
        with np.errstate(all="ignore"):
            values = (values * 0 + scale) if choices.between(0, 7) == 0 else values * scale
            raw = values.astype("<f2") if dtype == "F16" else values
        encoded = (raw.view("<u4") >> 16).astype("<u2").tobytes() if dtype == "BF16" else raw.tobytes()
        offsets = [len(payload), len(payload) + int(np.prod(shape)) * size]
        header[transformers_name(name)] = {"dtype": dtype, "shape": list(shape), "data_offsets": offsets}
        payload += encoded
    rewrite(path, with_header(json.dumps(header).encode(), payload))
    config = path.parent / "config.json"
    if config.is_file():
        sizes = {
            "vocab_size": hparams.n_vocab,
            "n_positions": hparams.n_ctx,
            "n_embd": hparams.n_embd,
            "n_head": hparams.n_head,
            "n_layer": hparams.n_layer,
        }
        rewrite(config, json.dumps(originals_config() | sizes).encode())


def originals_config() -> dict[str, Any]:
    """The sound config.json of transformers."""
    config: dict[str, Any] = json.loads(originals.files_of("transformers")["config.json"])
    return config


def _damage_index(path: Path, choices: Choices) -> None:
    """An entry of TensorFlow's index changed, and all checksums right."""
    messages = dict(read_table(path.read_bytes()))
    key = choices.pick(sorted(messages))
    parts: list[tuple[int, int | bytes]] = list(fields(messages[key]))
    index = choices.between(0, max(0, len(parts) - 1))
    match choices.between(0, 5):
        case 0 if parts:
            del parts[index]
        case 1 if parts:
            parts.append(parts[index])
        case 2 if parts:
            parts[index] = (parts[index][0], choices.pick(_HOSTILE_NUMBERS))
        case 3:
            parts.append((choices.between(1, 8), choices.chunk(6)))
        case 4:
            sizes = [choices.pick(_HOSTILE_NUMBERS) for _ in range(choices.between(0, 10))]
            shape = b"".join(field(2, field(1, size)) for size in sizes)
            parts = [(2, shape) if part[0] == 2 else part for part in parts]
        case _:
            parts.append((choices.between(1, 8), choices.pick(_HOSTILE_NUMBERS)))
    messages[key] = b"".join(field(*part) for part in parts)
    if choices.between(0, 3) == 0:
        messages[key] = damage_bytes(messages[key], choices)[:LONGEST]
    if choices.between(0, 3) == 0:
        messages[choices.chunk(4)] = messages.pop(key)
    entries = [entry(0, name, message) for name, message in sorted(messages.items())]
    if choices.between(0, 7) == 0:
        entries.insert(choices.between(0, len(entries)), number(choices.pick(_HOSTILE_NUMBERS)) * 3)
    cut = choices.between(0, len(entries))
    blocks = [block(*part) for part in (entries[:cut], entries[cut:]) if part]
    rewrite(path, table(*blocks))


def _damage_lines(path: Path, choices: Choices) -> None:
    """Lines of a text taken out, doubled, swapped, or with other characters."""
    lines = path.read_bytes().split(b"\n")
    first, second = (choices.between(0, len(lines) - 1) for _ in range(2))
    match choices.between(0, 5):
        case 0:
            del lines[first]
        case 1:
            lines.insert(second, lines[first])
        case 2:
            lines[first], lines[second] = lines[second], lines[first]
        case 3:
            lines[first] += choices.pick((b" ", b"\r", b" x", b"\0", b"\x1b[2J", "\u2028".encode(), b"\xff"))
        case 4:
            lines[first] = choices.chunk(12)
        case _:
            lines[first] = choices.pick((b"", b" ", b"\t", b"#version")) * choices.pick((1, 2, 1 << 14))
    rewrite(path, b"\n".join(lines))
