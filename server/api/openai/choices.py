"""Choices as they grow: text, and beside it the lists of its tokens."""

import codecs
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from server.api.openai.schemas import Choice, CompletionRequest, FinishReason, Logprobs
from server.engine import Generation, Sample, TokenLogprobs
from server.weights import Tokenizer
from server.weights.tokenizer import END_OF_TEXT


@dataclass(frozen=True)
class Prompt:
    """A prompt as text, and as the tokens that the model is given.

    n_hidden: how many of the first tokens are not the reader's: the `<|endoftext|>` in front of a text.
    """

    text: str
    tokens: list[int]
    n_hidden: int

    @classmethod
    def of(cls, asked: str | list[int], tokenizer: Tokenizer) -> Self:
        """What a reader asked for. Its tokens must be in the vocabulary."""
        if not isinstance(asked, str):
            return cls(tokenizer.decode(asked), asked, 0)
        if asked == END_OF_TEXT:  # OpenAI's own default, by which it means a new document
            asked = ""
        tokens = tokenizer.encode_prompt(asked)
        return cls(asked, tokens, int(tokens[0] == tokenizer.end_of_text))  # which no text has for a token


class TokenLister:
    """Appends tokens to lists, with the characters at which they begin, the first at `offset`."""

    def __init__(self, token_bytes: Sequence[bytes], offset: int) -> None:
        self.offset = offset
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def append(self, lists: Logprobs, token: int, scored: TokenLogprobs | None) -> None:
        """Append a token; `scored` is None for the first of all, which nothing foretells."""
        raw = self._token_bytes[token]
        if raw and not 0x80 <= raw[0] < 0xC0:  # what was a part of a character so far is none, but one U+FFFD
            self.offset += len(self._decoder.decode(b"", final=True))
        lists.tokens.append(self._text(token))
        lists.text_offset.append(self.offset)
        lists.token_logprobs.append(scored.logprob if scored else None)
        if lists.top_logprobs is not None:
            lists.top_logprobs.append(self._likeliest(scored) if scored else None)
        self.offset += len(self._decoder.decode(raw))

    def _likeliest(self, scored: TokenLogprobs) -> dict[str, float]:
        found: dict[str, float] = {}
        for token, logprob in (*scored.likeliest, (scored.token, scored.logprob)):
            found.setdefault(self._text(token), logprob)
        return found

    def _text(self, token: int) -> str:
        raw = self._token_bytes[token]
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


class GrowingChoice:
    """One choice, told in pieces or at once."""

    def __init__(
        self,
        index: int,
        asked: CompletionRequest,
        prompt: Prompt,
        generation: Generation,
        sample: Sample,
        tokenizer: Tokenizer,
    ) -> None:
        self._index = index
        self._asked = asked
        self._prompt = prompt
        self._generation = generation
        self._sample = sample
        self._tokenizer = tokenizer
        self._echoes = asked.echo  # until the prompt has been told
        self._told = 0  # characters of the sample's text
        self._listed = 0  # tokens of the sample
        self._lister = TokenLister(tokenizer.token_bytes, len(prompt.text))
        self._ended = False

    def news(self, text: str) -> Iterator[Choice]:
        """The next piece of the text, which may be empty; and the end, as soon as the sample has ended."""
        if self._ended:  # and the end has told this text
            return
        if text and self._asked.max_tokens > 0:
            self._told += len(text)
            yield self._tell(text, until=len(self._prompt.text) + self._told)
        if self._sample.done and self._sample.finish_reason != "cancelled":
            self._ended = True
            yield self.rest()

    def rest(self) -> Choice:
        """What has not been told yet, all if there was no piece, when the sample is done."""
        if self._asked.max_tokens == 0:  # the engine makes one token at least; nobody is told
            return self._tell("", until=-math.inf, finish_reason="length")
        text = self._sample.text
        # Where a stop string has cut the text, the tokens behind the cut are left away.
        until = len(self._prompt.text) + len(text) if self._is_cut() else math.inf
        reason: FinishReason = "stop" if self._sample.finish_reason == "stop" else "length"
        return self._tell(text[self._told :], until, reason)

    def _is_cut(self) -> bool:
        ended_by_itself = self._sample.logprobs[-1:] and (
            self._sample.logprobs[-1].token == self._tokenizer.end_of_text
        )
        return self._sample.finish_reason == "stop" and not ended_by_itself

    def _tell(self, text: str, until: float, finish_reason: FinishReason | None = None) -> Choice:
        """The text, and the tokens that begin in front of character `until` and were not listed yet."""
        echo, self._echoes = self._echoes, False
        lists = None
        if self._asked.logprobs is not None:
            lists = Logprobs(top_logprobs=[] if self._asked.logprobs else None)
            if echo:
                self._list_prompt(lists)
            scores = self._sample.logprobs
            while self._listed < len(scores) and self._lister.offset < until:
                self._lister.append(lists, scores[self._listed].token, scores[self._listed])
                self._listed += 1
        if echo:
            text = self._prompt.text + text
        return Choice(text=text, index=self._index, logprobs=lists, finish_reason=finish_reason)

    def _list_prompt(self, lists: Logprobs) -> None:
        lister = TokenLister(self._tokenizer.token_bytes, 0)
        scores = [None, *self._generation.prompt_logprobs][self._prompt.n_hidden :]
        for token, scored in zip(self._prompt.tokens[self._prompt.n_hidden :], scores, strict=True):
            lister.append(lists, token, scored)
