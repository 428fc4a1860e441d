"""Byte-level BPE as in GPT-2: text to token ids and back."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from tokenizers import Tokenizer as BpeTokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

END_OF_TEXT = "<|endoftext|>"

DIGEST_SIZE = 32  # bytes

# GPT-2 writes each byte as one printable character: itself where it is one, else the next from U+0100 on.
# Source: bytes_to_unicode in github.com/openai/gpt-2, src/encoder.py.
_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(0x100) if byte not in _PRINTABLE]
_BYTE_OF = {chr(byte): byte for byte in _PRINTABLE} | {chr(0x100 + i): byte for i, byte in enumerate(_OTHERS)}


class Tokenizer:
    """The vocabulary of one checkpoint. Safe to use from many threads.

    Equal to GPT-2's encoder for every character up to Unicode 16, the version that `tokenizers` splits words by.

    n_vocab: the model's vocabulary size; every id is in [0, n_vocab)
    end_of_text: the id of `<|endoftext|>`
    token_bytes: the bytes that each id stands for, n_vocab of them; b"" for ids that no token has
    digest: of all that decides which ids a text has and which text they have, whatever files it was read from
    """

    n_vocab: int
    end_of_text: int
    token_bytes: Sequence[bytes]
    digest: str

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        *,
        n_vocab: int,
        special: Mapping[str, int],
        add_bos: bool,
    ) -> None:
        """A tokenizer of `vocabulary` (token in GPT-2's spelling of bytes -> id) and `merges` (best first).

        `special` are tokens that text never yields, in plain spelling; `add_bos` puts `<|endoftext|>` before
        every prompt. Raises ValueError when they contradict each other.
        """
        ids = {**vocabulary, **special}
        _check(vocabulary, merges, ids, n_vocab)
        token_bytes = [b""] * n_vocab
        for token, token_id in ids.items():
            token_bytes[token_id] = token.encode() if token in special else _bytes_of(token)
        self.n_vocab = n_vocab
        self.end_of_text = ids[END_OF_TEXT]
        self.token_bytes = tuple(token_bytes)
        self._add_bos = add_bos
        # Every id's bytes, and which of them text never yields; <|endoftext|> is no such token in the older files.
        silent = sorted(ids[token] for token in {*special, END_OF_TEXT})
        decisive = (self.token_bytes, silent, "\n".join(map(" ".join, merges)), self.end_of_text, add_bos)
        self.digest = hashlib.blake2b(repr(decisive).encode(), digest_size=DIGEST_SIZE).hexdigest()
        # Without its cache of words, which every thread has for itself, and never gives back: the service's hundreds of
        # threads would each keep up to 10,000 words, whatever their length.
        self._bpe = BpeTokenizer(BPE(vocab=dict(vocabulary), merges=list(merges), cache_capacity=0))
        self._bpe.pre_tokenizer = ByteLevel(add_prefix_space=False)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, in which `<|endoftext|>` is like any other text: a reader can't end a document.

        Raises UnicodeEncodeError, a ValueError, for half a surrogate pair, which no UTF-8 can say.
        """
        text.encode()
        return self._bpe.encode(text, add_special_tokens=False).ids

    def encode_prompt(self, text: str) -> list[int]:
        """What the model is fed for `text`; begins with `<|endoftext|>` if the checkpoint asks for it.

        Never empty: an empty text is `<|endoftext|>` alone. Raises as `encode` does.
        """
        bos = [self.end_of_text] if self._add_bos or not text else []
        return bos + self.encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, each in [0, n_vocab); what is not UTF-8 becomes U+FFFD, as in GPT-2's decoder."""
        return b"".join(self.token_bytes[token_id] for token_id in ids).decode("utf-8", errors="replace")


def _check(
    vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]], ids: Mapping[str, int], n_vocab: int
) -> None:
    if END_OF_TEXT not in ids:
        raise ValueError(f"has no token {END_OF_TEXT}, the delimiter of documents")
    for token, token_id in ids.items():
        if type(token_id) is not int or not 0 <= token_id < n_vocab:
            raise ValueError(
                f"token {token!r:.80} has id {token_id!r:.40}, outside the model's 0 to {n_vocab - 1}"
            )
    if len(set(ids.values())) < len(ids):
        raise ValueError(f"has {len(ids)} tokens but {len(set(ids.values()))} different ids")
    for character, byte in _BYTE_OF.items():
        if character not in vocabulary:
            raise ValueError(f"has no token {character!r} for byte {byte:#04x}: not a byte-level vocabulary")
    for left, right in merges:
        for token in (left, right, left + right):
            if token not in vocabulary:
                raise ValueError(
                    f"has no token {token!r:.80}, which the merge of {left!r:.80} and {right!r:.80} needs"
                )


def _bytes_of(token: str) -> bytes:
    """The bytes that a token in GPT-2's spelling stands for."""
    try:
        return bytes(_BYTE_OF[character] for character in token)
    except KeyError as error:
        raise ValueError(f"token {token!r:.80} has the character {error}, which stands for no byte") from None
