"""The targets in Python: each takes a fuzzer's bytes, and raises BreachError where a reader does what none may.

A checkpoint is served, or refused by a CheckpointError of one line; nothing else is raised, and it costs little.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import google_crc32c
import numpy as np

from server.api.card import page
from server.engine.detokenizer import Detokenizer, StopString
from server.engine.kv_blocks import blocks_for
from server.engine.native import NativeCore, _core
from server.engine.native.packed_file import HEADER, MAGIC, Arena, packed_arena
from server.engine.native.packing import layout_of, pack
from server.weights import Checkpoint, CheckpointError, open_checkpoint
from server.weights.card import CARD, read_card
from server.weights.layout import tensor_shapes
from server.weights.table import read_table
from server.weights.wire import fields
from tests.cards import CARD as SOUND_CARD
from tests.fuzz import damage, originals
from tests.fuzz.bounds import bounded, require, require_one_line
from tests.fuzz.choices import Choices
from tests.tables import sealed

TEXT = "Ash and Pikachu were walking."


def checkpoint(data: bytes) -> None:
    """A checkpoint with up to three damages, most of which keep its files' formats."""
    choices = Choices(data)
    kind = choices.pick(originals.FORMATS)
    with damage.checkpoint(kind) as directory:
        damage.damage_checkpoint(directory, kind, choices)
        _serve(directory)


def file(data: bytes) -> None:
    """A checkpoint of which one file is the fuzzer's own."""
    choices = Choices(data)
    kind = choices.pick(originals.FORMATS)
    name = choices.pick(sorted(originals.files_of(kind)))
    whole = choices.yes()  # whether the checksums, or the header's size, are made right
    content = choices.rest()
    if whole and name.endswith(".index"):
        content = sealed(content)
    elif whole and name.endswith(".safetensors"):
        header = content[: content.rfind(b"}") + 1]
        content = damage.with_header(header, content[len(header) :])
    with damage.checkpoint(kind) as directory:
        damage.rewrite(directory / name, content)
        _serve(directory)


def _serve(directory: Path) -> None:
    """All that a service does with a checkpoint."""
    with bounded():
        try:
            with open_checkpoint(directory) as opened:
                _read(opened)
                for precision in ("int8", "float32"):
                    _compute(opened, precision)
        except CheckpointError as error:
            require_one_line(error, directory)


def _read(opened: Checkpoint) -> None:
    for name, shape in tensor_shapes(opened.hparams).items():
        tensor = opened.tensor(name)
        require(
            tensor.shape == shape and bool(np.isfinite(tensor).all()), f"{name} is not as it is said to be"
        )
    opened.stamp()
    opened.digest()


def _compute(opened: Checkpoint, precision: str) -> None:
    hparams = opened.hparams
    tokens = opened.tokenizer.encode_prompt(TEXT)[: hparams.n_ctx]
    require(all(0 <= token < hparams.n_vocab for token in tokens), "a token is not in the vocabulary")
    blocks = list(range(blocks_for(hparams.n_ctx)))
    core = NativeCore(opened, precision, len(blocks), 1, "auto")
    last = core.all_logits(tokens, 0, blocks)[-1]
    for temperature, top_k, top_p in ((0.0, 0, 0.0), (0.7, 40, 0.0), (1.0, 0, 0.9), (10.0, 0, 0.0)):
        for token in _core.draw(last, temperature, top_k, top_p, 1, 0, 0, 4, "auto"):
            if token == _core.NOT_FINITE:
                require(not np.isfinite(last).all(), "finite logits are said not to be")
            else:
                require(0 <= token < hparams.n_vocab, f"token {token} was drawn from {hparams.n_vocab}")
                opened.tokenizer.decode([token])


def packed(data: bytes) -> None:
    """A damaged file of packed weights beside a sound checkpoint: the weights are those of the checkpoint.

    Unless whoever wrote the file knew them, and made a sum for others.
    """
    choices = Choices(data)
    with damage.checkpoint("transformers") as directory:
        path = directory / "pokegen-int8.packed"
        with open_checkpoint(directory) as opened:
            layout = layout_of(opened.hparams, "int8")
            path.unlink()

            def fill(arena: Arena) -> None:
                pack(opened, layout, arena)

            expected = packed_arena(opened, "int8", layout.size, fill)
            content = path.read_bytes()
            header, arena = json.loads(content[len(MAGIC) : HEADER].rstrip(b"\0")), content[HEADER:]
            forged = choices.yes()
            if forged:
                arena = damage.damage_bytes(arena, choices)[: layout.size].ljust(layout.size, b"\0")
                header["checksum"] = google_crc32c.value(arena)
            written = damage.damage_json(header, choices) if choices.yes() else json.dumps(header).encode()
            content = (MAGIC + written).ljust(HEADER, b"\0") + arena
            if choices.between(0, 3) == 0:
                content = damage.damage_bytes(content, choices)
            damage.rewrite(path, content)
            with bounded():
                first = packed_arena(opened, "int8", layout.size, fill)
                second = packed_arena(opened, "int8", layout.size, fill)
    for found in (first, second):
        require(found.size == layout.size, "the arena has another size")
        require(forged or np.array_equal(found, expected), "the weights are others")
    require(np.array_equal(first, second), "the weights are others at the second start")


def table(data: bytes) -> None:
    """TensorFlow's table and the messages in it, by themselves: a ValueError and nothing else."""
    choices = Choices(data)
    whole = choices.yes()
    content = choices.rest()
    with bounded():
        try:
            for _, message in read_table(sealed(content) if whole else content):
                list(fields(message))
        except ValueError:
            pass


def card(data: bytes) -> None:
    """A model card: one that can be shown as JSON, or a refusal."""
    choices = Choices(data)
    with damage.checkpoint("transformers") as directory:
        content = damage.damage_json(SOUND_CARD, choices) if choices.yes() else choices.rest()
        damage.rewrite(directory / CARD, content)
        with bounded():
            try:
                shown = read_card(directory).model_dump_json()
            except CheckpointError as error:
                require_one_line(error, directory)
                return
        json.loads(
            shown, parse_constant=lambda name: require(False, f"the card holds {name}, which is no JSON")
        )


def readme(data: bytes) -> None:
    """A model card's text, to be shown as a page."""
    with bounded():
        page(data.decode("utf-8", errors="replace")).encode()


def tokenizer(data: bytes) -> None:
    """Any text to tokens and back, and any tokens to text, at once and piece by piece."""
    choices = Choices(data)
    with (
        damage.checkpoint(choices.pick(originals.FORMATS)) as directory,
        open_checkpoint(directory) as opened,
    ):
        read = opened.tokenizer
    stop = [string for _ in range(choices.between(0, 2)) if (string := choices.chunk(2).decode("latin-1"))]
    as_text = choices.yes()
    content = choices.rest()
    with bounded():
        if as_text:
            text = (
                content.decode("utf-32-le", errors="replace")
                if stop
                else content.decode("utf-8", errors="replace")
            )
            ids = read.encode_prompt(text)
            require(read.decode(read.encode(text)) == text, f"{text!r} is another text behind its tokens")
        else:
            ids = [
                number % read.n_vocab
                for number in np.frombuffer(content[: len(content) & ~1], "<u2").tolist()
            ]
        require(all(0 <= token < read.n_vocab for token in ids), "a token is not in the vocabulary")
        _detokenize(read.token_bytes, ids, stop, read.decode(ids))


def _detokenize(token_bytes: Sequence[bytes], ids: list[int], stop: list[str], whole: str) -> None:
    detokenizer = Detokenizer(token_bytes, [StopString(text) for text in stop])
    settled = 0
    for token in ids:
        stopped = detokenizer.push(token)
        require(settled <= detokenizer.settled <= len(detokenizer.text), "text that was shown was taken back")
        settled = detokenizer.settled
        if stopped:
            break
    detokenizer.finish()
    require(whole.startswith(detokenizer.text), "piece by piece the text is another")
    require(not any(string in detokenizer.text for string in stop), "the text goes on behind a stop string")


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (checkpoint, file, packed, table, card, readme, tokenizer)
}
