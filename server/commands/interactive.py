"""`pokegen interactive`: prompts and what the model makes of them, as OpenAI's interactive_conditional_samples.py."""

import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import IO, Any

import click

from server.commands.console import examples, standard_input, standard_output, visible
from server.commands.history import History
from server.commands.options import Model, with_batch_size, with_model, with_sampling
from server.commands.samples import AHEAD, Wish, in_order
from server.engine import MAX_SEED, Engine, SamplingParams

PROMPT = "Model prompt >>> "

# What a command such as /length 100 changes: the fields of SamplingParams, with their type and their meaning.
FIELDS: dict[str, tuple[type[int] | type[float], str]] = {
    "length": (int, "new tokens at most"),
    "temperature": (float, "higher is wilder; 0 takes the likeliest token"),
    "top_k": (int, "draw among the k likeliest tokens; 0: no limit"),
    "top_p": (float, "draw among the likeliest tokens that reach this probability; 0: no limit"),
    "nsamples": (int, "texts for each prompt"),
    "seed": (int, "of the next text; each prompt has one more than the one before"),
}


class RefusedError(Exception):
    """What was typed can't be done; the message says why."""


class Conversation:
    """Takes what is typed and writes what comes of it.

    engine: has room for AHEAD times `batch_size` samples that wait.
    params: its `nsamples` are written for each prompt. Its seed is the first prompt's.
    """

    def __init__(self, engine: Engine, params: SamplingParams, batch_size: int, out: IO[str]) -> None:
        self._engine = engine
        self._params = params
        self._batch_size = batch_size
        self._out = out
        self._prompt = ""
        self._texts: list[str] = []  # of the last prompt; none before the first

    def answer(self, typed: str) -> None:
        """Continue a prompt or carry out a command. Raises RefusedError; EOFError where it is /quit."""
        if not typed.strip():
            raise RefusedError("Prompt should not be empty!")
        if not typed.startswith("/") or typed.startswith("//"):
            self._continue(typed.removeprefix("/"))
            return
        name, *values = typed.removeprefix("/").split() or [""]
        match name.replace("-", "_"), values:
            case "again", []:
                self._sample(1)
                self._continue(self._prompt)
            case "more", []:
                self._continue(self._prompt + self._sample(1), cut=True)
            case "more", [number] if number.isdecimal():
                self._continue(self._prompt + self._sample(int(number)), cut=True)
            case "help", []:
                self._help()
            case "quit", []:
                raise EOFError
            case field, [value] if field in FIELDS:
                self._set(field, value)
            case _:
                raise RefusedError(
                    f"{typed} is no command: /help lists them. // begins a prompt with a slash."
                )

    def _continue(self, prompt: str, cut: bool = False) -> None:
        """Write `nsamples` texts behind a prompt; one that is too long is refused, or cut at its beginning."""
        tokens, params, n_ctx = self._encode(prompt), self._params, self._engine.hparams.n_ctx
        if cut:
            tokens = tokens[-max(n_ctx - params.length, n_ctx // 2) :]
        if len(tokens) >= n_ctx:
            raise RefusedError(
                f"The prompt is {len(tokens)} tokens long and may be {n_ctx - 1} at most: shorten it."
            )
        self._params = replace(params, seed=(params.seed + 1) % (MAX_SEED + 1))
        self._prompt, self._texts = prompt, []
        wishes = [Wish(tokens, number) for number in range(params.nsamples)]
        samples = in_order(self._engine, wishes, replace(params, nsamples=1), self._batch_size)
        with closing(samples):
            for wish, generation in samples:
                self._say(f"{'=' * 40} SAMPLE {wish.number + 1} {'=' * 40}\n")
                try:
                    for piece in generation.stream():
                        if piece:
                            self._say(piece.text)
                finally:  # what was stopped can be gone on with, too
                    self._texts.append(generation.samples[0].text)
                    self._say("\n")
        self._say("=" * 80 + "\n")

    def _encode(self, prompt: str) -> list[int]:
        try:
            return self._engine.tokenizer.encode_prompt(prompt)
        except UnicodeEncodeError:
            raise RefusedError("The prompt is not UTF-8.") from None

    def _sample(self, number: int) -> str:
        """A text of the last prompt."""
        if not 1 <= number <= len(self._texts):
            raise RefusedError(
                f"The last prompt has {len(self._texts)} texts."
                if self._texts
                else "There is no text yet: type a prompt."
            )
        return self._texts[number - 1]

    def _set(self, field: str, value: str) -> None:
        kind, meaning = FIELDS[field]
        try:
            change: dict[str, Any] = {field: kind(value)}
        except ValueError:
            raise RefusedError(
                f"/{field} takes a number ({meaning}), such as /{field} {getattr(self._params, field)}"
            ) from None
        try:
            self._params = replace(self._params, **change)
        except ValueError as error:
            raise RefusedError(str(error)) from None

    def _help(self) -> None:
        rows = [
            ("/again", "another text for the last prompt"),
            ("/more", "go on with the last text; /more 2: with that of sample 2"),
            *((f"/{field} {getattr(self._params, field)}", FIELDS[field][1]) for field in FIELDS),
            ("/quit", "leave, as Ctrl-D does; Ctrl-C stops a text"),
            ("//...", "a prompt that begins with a slash"),
        ]
        self._say("".join(f"{typed:<20}{meaning}\n" for typed, meaning in rows))

    def _say(self, text: str) -> None:
        self._out.write(visible(text) if self._out.isatty() else text)
        self._out.flush()


def typed_lines() -> Iterator[str]:
    """What is typed at the terminal, with editing and a memory. Ctrl-C clears the line, Ctrl-D ends it.

    The prompt and the line break go to standard error where standard output is a file or a pipe, for the texts alone.
    """
    history = History()
    elsewhere = not sys.stdout.isatty()
    while True:
        if elsewhere:
            click.echo(PROMPT, nl=False, err=True)
        try:
            typed = input("" if elsewhere else PROMPT)
        except KeyboardInterrupt:
            click.echo(err=elsewhere)
            continue
        except EOFError:
            click.echo(err=elsewhere)
            return
        if typed.strip():
            history.add(typed)
        yield typed


@click.command(
    context_settings={"show_default": True},
    epilog=examples(
        ("a conversation with the shipped checkpoint", "pokegen interactive"),
        (
            "three texts for each prompt, the same ones every time",
            "pokegen interactive --nsamples 3 --seed 1",
        ),
        ("prompts from a pipe, one a line", 'echo "Ash and Pikachu were" | pokegen interactive --length 50'),
        (
            "OpenAI's model, by OpenAI's defaults",
            "pokegen interactive --model-name 124M --temperature 1 --top-p 1",
        ),
    ),
)
@click.option("--nsamples", type=click.IntRange(min=1), default=1, help="Texts for each prompt.")
@with_batch_size
@click.option(
    "--length",
    type=click.IntRange(min=1),
    show_default="half of n_ctx",
    help="New tokens at most; what does not fit into n_ctx is left away.",
)
@with_sampling
@with_model
@click.pass_context
def command(
    context: click.Context,
    /,
    model: Model,
    nsamples: int,
    batch_size: int,
    length: int | None,
    **sampling: Any,  # noqa: ANN401 - fields of SamplingParams
) -> None:
    """Continue what you type, and show the text while it grows.

    A prompt is a line; a paste may have several. /help lists what else can be typed: other lengths and temperatures,
    another text for the same prompt, more of the last one. The prompts are kept in
    $XDG_STATE_HOME/pokegen/prompts.jsonl (~/.local/state without it), and the arrow keys bring them back.

    Ctrl-C stops a text, Ctrl-D leaves. Where standard input is no terminal, each of its lines is a prompt, and the exit
    status is 1 if one of them was refused.
    """
    standard, out = standard_input(), standard_output()
    with_terminal = standard.isatty()
    lines = typed_lines() if with_terminal else (line.rstrip("\n") for line in standard)
    refused = False
    with model.running(batch_size, max_waiting=2 * AHEAD * batch_size) as engine:
        params = SamplingParams(length=length or engine.hparams.n_ctx // 2, nsamples=nsamples, **sampling)
        conversation = Conversation(engine, params, batch_size, out)
        for typed in lines:
            try:
                conversation.answer(typed)
            except RefusedError as error:
                refused = True
                click.echo(visible(str(error)), err=True)
            except KeyboardInterrupt:
                if not with_terminal:
                    raise
            except EOFError:
                break
    if refused and not with_terminal:
        context.exit(1)
