"""The tokenizer's own promises, and the vocabularies that are refused."""

import ctypes
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.weights import CheckpointError, Tokenizer, open_checkpoint
from server.weights.vocabulary import read_pair, read_tokenizer_json
from tests.checkpoints import END_OF_TEXT, TINY, learn_vocabulary, write_transformers, write_vocabulary

IDS, MERGES = learn_vocabulary(TINY.n_vocab)


def make(*, add_bos: bool = False, n_vocab: int = TINY.n_vocab) -> Tokenizer:
    return Tokenizer(IDS, MERGES, n_vocab=n_vocab, special={}, add_bos=add_bos)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back(text: str) -> None:
    tokenizer = make()
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert b"".join(tokenizer.token_bytes[token] for token in tokenizer.encode(text)) == text.encode()


def test_a_reader_cannot_end_the_document() -> None:
    tokenizer = make()
    assert tokenizer.token_bytes[tokenizer.end_of_text] == END_OF_TEXT.encode()
    assert tokenizer.end_of_text not in tokenizer.encode(f"An end.{END_OF_TEXT}A beginning.")


def test_a_prompt_is_never_empty() -> None:
    tokenizer = make()
    assert tokenizer.encode_prompt("") == [tokenizer.end_of_text]
    assert tokenizer.encode_prompt("Ash") == tokenizer.encode("Ash")


def test_a_checkpoint_may_want_every_document_to_begin_with_the_delimiter() -> None:
    tokenizer = make(add_bos=True)
    assert tokenizer.encode_prompt("") == [tokenizer.end_of_text]
    assert tokenizer.encode_prompt("Ash") == [tokenizer.end_of_text, *tokenizer.encode("Ash")]
    assert tokenizer.encode("Ash") == make().encode("Ash")


def test_half_a_character_decodes_to_the_replacement_character() -> None:
    tokenizer = make()
    first_half = tokenizer.encode("é")[0]
    assert tokenizer.decode([first_half]) == "\ufffd"


def test_half_a_surrogate_pair_is_no_text() -> None:
    with pytest.raises(UnicodeEncodeError):
        make().encode("Ash \ud83d")


def test_a_model_may_have_more_rows_than_there_are_tokens() -> None:
    tokenizer = make(n_vocab=320)
    assert len(tokenizer.token_bytes) == tokenizer.n_vocab == 320
    assert tokenizer.token_bytes[319] == b""
    assert tokenizer.decode([319]) == ""


Content = dict[str, object]


def drop(token: str) -> Callable[[Content], object]:
    return lambda ids: ids.pop(token)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (drop(END_OF_TEXT), r"has no token <\|endoftext\|>, the delimiter"),
        (drop("!"), "has no token '!' for byte 0x21: not a byte-level vocabulary"),
        (drop("".join(MERGES[0])), "has no token '.*', which the merge of '.*' and '.*' needs"),
        (lambda ids: ids.update(a=281), "'a' has id 281, outside the model's 0 to 280"),
        (lambda ids: ids.update(a=-1), "'a' has id -1, outside"),
        (lambda ids: ids.update(a="1"), "'a' has id '1', outside"),
        (lambda ids: ids.update(a=True), "'a' has id True, outside"),
        (lambda ids: ids.update(a=ids["b"]), "has 280 tokens but 279 different ids"),
        (
            lambda ids: ids.update({"<ポ>": 280}),
            "token '<ポ>' has the character 'ポ', which stands for no byte",
        ),
        (lambda ids: ids.update({"<\ud800>": 280}), r"token '<\\ud800>' has the character '\\ud800', which"),
        (lambda ids: ids.update(Zubat=1), "vocab.bpe: has no merge that makes encoder.json's token 'Zubat'"),
    ],
)
def test_a_vocabulary_that_contradicts_itself(
    tmp_path: Path, change: Callable[[Content], object], expected: str
) -> None:
    write_vocabulary(tmp_path, TINY.n_vocab)
    ids = json.loads((tmp_path / "encoder.json").read_text(encoding="utf-8"))
    change(ids)
    (tmp_path / "encoder.json").write_text(json.dumps(ids), encoding="utf-8")
    with pytest.raises(CheckpointError, match=expected):
        read_pair(tmp_path, "encoder.json", "vocab.bpe", TINY.n_vocab + 1)


def test_a_list_of_merges_that_was_cut_between_two_lines(tmp_path: Path) -> None:
    write_vocabulary(tmp_path, TINY.n_vocab)
    lines = (tmp_path / "vocab.bpe").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "vocab.bpe").write_text("".join(lines[:-1]), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"vocab\.bpe: has no merge that makes encoder\.json's token"):
        read_pair(tmp_path, "encoder.json", "vocab.bpe", TINY.n_vocab)


@pytest.mark.parametrize("line", ["a", "a b c", " a b"])
def test_a_line_that_is_no_merge(tmp_path: Path, line: str) -> None:
    write_vocabulary(tmp_path, TINY.n_vocab)
    content = (tmp_path / "vocab.bpe").read_text(encoding="utf-8")
    (tmp_path / "vocab.bpe").write_text(content + line + "\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match=rf"line 25 is '{line}' and not two tokens"):
        read_pair(tmp_path, "encoder.json", "vocab.bpe", TINY.n_vocab)


def test_line_ends_of_windows(tmp_path: Path) -> None:
    write_vocabulary(tmp_path, TINY.n_vocab)
    content = (tmp_path / "vocab.bpe").read_bytes()
    (tmp_path / "vocab.bpe").write_bytes(content.replace(b"\n", b"\r\n"))
    tokenizer = read_pair(tmp_path, "encoder.json", "vocab.bpe", TINY.n_vocab)
    assert tokenizer.encode("Ash and the others") == make().encode("Ash and the others")


@pytest.mark.parametrize(
    ("config", "begins"),
    [
        ({}, False),
        ({"add_bos_token": False}, False),
        ({"add_bos_token": True}, True),
        ({"add_bos_token": True, "bos_token": END_OF_TEXT}, True),
        ({"add_bos_token": True, "bos_token": {"content": END_OF_TEXT, "lstrip": False}}, True),
    ],
)
def test_tokenizer_config_asks_for_the_delimiter(tmp_path: Path, config: Content, begins: bool) -> None:
    write_vocabulary(tmp_path, TINY.n_vocab)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer = read_pair(tmp_path, "encoder.json", "vocab.bpe", TINY.n_vocab)
    assert (tokenizer.encode_prompt("Ash")[0] == tokenizer.end_of_text) == begins


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"add_bos_token": True, "bos_token": "<s>"}, r"the first token is '<s>' and not <\|endoftext\|>"),
        ({"add_prefix_space": True}, "add_prefix_space is not false"),
    ],
)
def test_a_tokenizer_config_that_is_refused(tmp_path: Path, config: Content, expected: str) -> None:
    write_vocabulary(tmp_path, TINY.n_vocab)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(CheckpointError, match=expected):
        read_pair(tmp_path, "encoder.json", "vocab.bpe", TINY.n_vocab)


def section(content: Content, name: str) -> Content:
    value = content[name]
    assert isinstance(value, dict)
    return value


def added(**fields: object) -> Callable[[Content], object]:
    return lambda content: content.update(
        added_tokens=[{"id": 279, "content": END_OF_TEXT, "special": True} | fields]
    )


TEMPLATE: Content = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}]}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda content: content.update(normalizer={"type": "Lowercase"}), "normalizer is .* and not None"),
        (lambda content: content.update(pre_tokenizer=None), "pre_tokenizer is None and not a JSON object"),
        (lambda content: section(content, "pre_tokenizer").update(type="Whitespace"), "type is 'Whitespace'"),
        (lambda content: section(content, "pre_tokenizer").update(add_prefix_space=True), "space is True"),
        (lambda content: section(content, "pre_tokenizer").update(use_regex=False), "use_regex is False"),
        (lambda content: section(content, "model").update(type="WordPiece"), "model.type is 'WordPiece'"),
        (lambda content: section(content, "model").update(dropout=0.1), "model.dropout is 0.1"),
        (lambda content: section(content, "model").update(ignore_merges=True), "model.ignore_merges is True"),
        (
            lambda content: section(content, "model").update(vocab=[]),
            r"model.vocab is \[\] and not a JSON object",
        ),
        (
            lambda content: section(content, "model").update(merges=None),
            "model.merges is None and not a list",
        ),
        (
            lambda content: section(content, "model").update(merges=["a"]),
            "model.merges has 'a', not two tokens",
        ),
        (lambda content: section(content, "model").update(merges=[["a", 1]]), r"model.merges has \['a', 1\]"),
        (added(special=False), "is not special"),
        (added(content=None), "an added token is called None"),
        (added(id=280), "has id 280, outside the model's 0 to 279"),
        (added(id=None), "has id None, outside"),
        (lambda content: content.update(added_tokens=7), "added_tokens is 7 and not a list"),
        (lambda content: content.update(post_processor=TEMPLATE), "the first token is '<s>' and not"),
    ],
)
def test_a_tokenizer_json_of_another_kind(
    hugging_face: Path, change: Callable[[Content], object], expected: str
) -> None:
    content = json.loads((hugging_face / "tokenizer.json").read_text(encoding="utf-8"))
    change(content)
    (hugging_face / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(hugging_face)
    assert re.search(expected, str(caught.value))


def test_merges_as_tokenizers_wrote_them_until_version_0_20(hugging_face: Path) -> None:
    path = hugging_face / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
    del content["model"]["type"]  # which OpenAI's own has not
    path.write_text(json.dumps(content), encoding="utf-8")
    assert read_tokenizer_json(hugging_face, TINY.n_vocab).encode("Ash and the others") == make().encode(
        "Ash and the others"
    )


def test_other_special_tokens_stand_for_their_own_spelling(hugging_face: Path) -> None:
    path = hugging_face / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["added_tokens"].append({"id": 285, "content": "<the é pad>", "special": True})
    path.write_text(json.dumps(content), encoding="utf-8")
    tokenizer = read_tokenizer_json(hugging_face, 300)
    assert tokenizer.token_bytes[285] == "<the é pad>".encode()
    assert 285 not in tokenizer.encode("<the é pad>")

    content["added_tokens"][-1]["content"] = "\ud800"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(CheckpointError, match="surrogates not allowed"):
        read_tokenizer_json(hugging_face, 300)


def test_transformers_saves_the_delimiter_as_a_template(tmp_path: Path) -> None:
    write_transformers(tmp_path, TINY, add_bos=True)
    tokenizer = read_tokenizer_json(tmp_path, TINY.n_vocab)
    assert tokenizer.encode_prompt("Ash")[0] == tokenizer.end_of_text


class MallInfo(ctypes.Structure):
    """What glibc's mallinfo2 answers; the eighth field is the number of bytes in use."""

    _fields_ = (("fields", ctypes.c_size_t * 10),)


def test_it_keeps_no_words() -> None:
    # `tokenizers` would keep 10,000 of them for every thread and checkpoint, until the thread ends: here 13 MB.
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = MallInfo
    tokenizer = make()
    before = mallinfo2().fields[7]
    for number in range(2000):
        tokenizer.encode("".join("abcdefghij"[int(digit)] for digit in f"{number:04}") * 50)
    assert mallinfo2().fields[7] - before < 1_000_000
