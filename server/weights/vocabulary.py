"""The tokenizer's files: GPT-2's pair (ids, and merges) under either of its names, and tokenizer.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from server.weights.errors import COPY_AGAIN, CheckpointError
from server.weights.files import as_object, read_object, read_text
from server.weights.tokenizer import END_OF_TEXT, Tokenizer

_ANOTHER_KIND = "only GPT-2's byte-level BPE can be served"


def read_pair(directory: Path, encoder: str, merges: str, n_vocab: int) -> Tokenizer:
    """The tokenizer of a JSON file of ids and a text file of merges. Raises CheckpointError if malformed."""
    vocabulary = read_object(directory / encoder)
    pairs = _read_merges(directory / merges)
    # A list cut off between two lines would still read well: its last tokens would never be made.
    made = {left + right for left, right in pairs}
    for token in vocabulary:
        if len(token) > 1 and token not in made and not (token.startswith("<") and token.endswith(">")):
            raise CheckpointError(
                directory / merges, f"has no merge that makes {encoder}'s token {token!r:.80}", COPY_AGAIN
            )
    return _make(directory / encoder, vocabulary, pairs, n_vocab, {}, _add_bos_token(directory))


def _read_merges(path: Path) -> list[tuple[str, str]]:
    """A merge a line, two tokens each, after a line `#version: 0.2`."""
    pairs = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        pair = line.split(" ")
        if len(pair) != 2:
            raise CheckpointError(path, f"line {number} is {line!r:.80} and not two tokens", COPY_AGAIN)
        pairs.append((pair[0], pair[1]))
    return pairs


def read_tokenizer_json(directory: Path, n_vocab: int) -> Tokenizer:
    """The tokenizer of Hugging Face's tokenizer.json. Raises CheckpointError when it is of another kind."""
    path = directory / "tokenizer.json"
    content = read_object(path)
    model = as_object(content.get("model"), "model", path)
    splitter = as_object(content.get("pre_tokenizer"), "pre_tokenizer", path)
    for name, value, expected in (
        ("normalizer", content.get("normalizer"), None),
        ("pre_tokenizer.type", splitter.get("type"), "ByteLevel"),
        ("pre_tokenizer.add_prefix_space", splitter.get("add_prefix_space", True), False),
        ("pre_tokenizer.use_regex", splitter.get("use_regex", True), True),
        ("model.type", model.get("type", "BPE"), "BPE"),
        ("model.dropout", model.get("dropout") or None, None),
        ("model.continuing_subword_prefix", model.get("continuing_subword_prefix") or None, None),
        ("model.end_of_word_suffix", model.get("end_of_word_suffix") or None, None),
        ("model.ignore_merges", model.get("ignore_merges", False), False),
    ):
        if value != expected:
            raise CheckpointError(path, f"{name} is {value!r:.80} and not {expected!r}", _ANOTHER_KIND)
    pairs = []
    for merge in _list(model.get("merges"), "model.merges", path):
        pair = merge.split(" ") if isinstance(merge, str) else merge  # a string until tokenizers 0.20
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(token, str) for token in pair):
            raise CheckpointError(path, f"model.merges has {merge!r:.80}, not two tokens", COPY_AGAIN)
        pairs.append((pair[0], pair[1]))
    vocabulary = as_object(model.get("vocab"), "model.vocab", path)
    special = _special_tokens(content, path)
    add_bos = _add_bos_token(directory) or _begins_with_end_of_text(content, path)
    return _make(path, vocabulary, pairs, n_vocab, special, add_bos)


def _special_tokens(content: Mapping[str, object], path: Path) -> dict[str, object]:
    special = {}
    for entry in _list(content.get("added_tokens", []), "added_tokens", path):
        token = as_object(entry, "an added token", path)
        name = token.get("content")
        if not isinstance(name, str):
            raise CheckpointError(path, f"an added token is called {name!r:.80}", COPY_AGAIN)
        if token.get("special") is not True:
            raise CheckpointError(path, f"added token {name!r:.80} is not special", _ANOTHER_KIND)
        special[name] = token.get("id")
    return special


def _begins_with_end_of_text(content: Mapping[str, object], path: Path) -> bool:
    """Whether the post-processor puts `<|endoftext|>` first: so transformers 5 saves `add_bos_token`."""
    processor = content.get("post_processor")
    if not isinstance(processor, dict) or processor.get("type") != "TemplateProcessing":
        return False
    template = _list(processor.get("single"), "post_processor.single", path)
    first = as_object(template[0] if template else None, "post_processor.single[0]", path)
    if "SpecialToken" not in first:
        return False
    token = as_object(first["SpecialToken"], "SpecialToken", path).get("id")
    _check_bos(token, path)
    return True


def _add_bos_token(directory: Path) -> bool:
    """Whether tokenizer_config.json, if there is one, asks for `<|endoftext|>` before every prompt."""
    path = directory / "tokenizer_config.json"
    if not path.exists():
        return False
    config = read_object(path)
    if config.get("add_prefix_space"):
        raise CheckpointError(path, "add_prefix_space is not false", _ANOTHER_KIND)
    if not config.get("add_bos_token"):
        return False
    bos = config.get("bos_token", END_OF_TEXT)
    _check_bos(bos.get("content") if isinstance(bos, dict) else bos, path)
    return True


def _check_bos(token: object, path: Path) -> None:
    if token != END_OF_TEXT:
        raise CheckpointError(path, f"the first token is {token!r:.80} and not {END_OF_TEXT}", _ANOTHER_KIND)


def _list(value: object, name: str, path: Path) -> list[object]:
    if not isinstance(value, list):
        raise CheckpointError(path, f"{name} is {value!r:.40} and not a list", COPY_AGAIN)
    return value


def _make(
    path: Path,
    vocabulary: Mapping[str, object],
    merges: list[tuple[str, str]],
    n_vocab: int,
    special: Mapping[str, object],
    add_bos: bool,
) -> Tokenizer:
    try:
        return Tokenizer(
            cast(Mapping[str, int], vocabulary),  # the tokenizer checks every id
            merges,
            n_vocab=n_vocab,
            special=cast(Mapping[str, int], special),
            add_bos=add_bos,
        )
    except ValueError as error:
        raise CheckpointError(
            path, str(error), "take the vocabulary from where the weights were trained"
        ) from error
