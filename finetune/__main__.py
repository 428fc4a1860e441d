"""`python -m finetune`: one command a step, from the corpus to a checkpoint with its card."""

import dataclasses
import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import click
import torch
from tqdm import tqdm

from finetune import card as model_card
from finetune import export as checkpoints
from finetune import vocabulary as bpe
from finetune.compose import compose as compose_episodes
from finetune.corpus import Episode, read_episodes, split
from finetune.train import Plan, encode, new_model
from finetune.train import train as train_model

RUN = Path("run/finetune")
FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
POSITIVE = click.IntRange(min=1)

corpus_option = click.option("--corpus", type=FOLDER, default=Path("corpus"), help="Episodes and beats.")
text_option = click.option("--text", type=FILE, default=RUN / "base.jsonl", help="The composed base text.")
vocabulary_option = click.option(
    "--vocabulary", type=FOLDER, default=RUN / "vocabulary", help="The vocabulary's folder."
)
seed_option = click.option("--seed", default=1, help="The same seed gives the same result.")
threads_option = click.option("--threads", type=POSITIVE, default=2, help="Threads to compute with.")


def run_option(phase: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The option `--run`, a folder named after the phase unless told otherwise."""
    return click.option("--run", type=FOLDER, default=RUN / phase, help="Where the run keeps its state.")


def plan_options(
    steps: int, learning_rate: float, warmup: int, cooldown: int, every: int, keep: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Options for what a `Plan` holds, with these defaults; the command receives them as `plan`."""
    options = [
        click.option("--steps", type=POSITIVE, default=steps, help="Steps of `batch` rows of n_ctx tokens."),
        click.option("--batch", type=click.IntRange(min=2), default=8, help="Rows a step."),
        click.option("--learning-rate", default=learning_rate, help="Between warm-up and cool-down."),
        click.option("--warmup", type=click.IntRange(min=0), default=warmup, help="Steps, the first."),
        click.option("--cooldown", type=click.IntRange(min=0), default=cooldown, help="Steps, the last."),
        click.option(
            "--dropout", type=click.FloatRange(0, 1, max_open=True), default=0.1, help="In training."
        ),
        click.option(
            "--every", type=POSITIVE, default=every, help="Steps between evaluations, each with a save."
        ),
        click.option(
            "--keep",
            type=click.Choice(["best", "last"]),
            default=keep,
            help="The weights that did best on the held-out episodes, or the last ones.",
        ),
        seed_option,
    ]
    names = {field.name for field in dataclasses.fields(Plan)}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def with_plan(**given: object) -> None:
            plan = Plan(**{name: cast(Any, given.pop(name)) for name in names & given.keys()})
            command(plan=plan, **given)

        for option in reversed(options):
            with_plan = option(with_plan)
        return with_plan

    return decorate


def texts(episodes: list[Episode]) -> list[str]:
    """What is trained on: a title would keep a prefix from being a text's beginning."""
    return [episode.text for episode in episodes]


def read_base_text(file: Path) -> list[str]:
    """What `compose` wrote. Raises FileNotFoundError when it has not."""
    if not file.exists():
        raise FileNotFoundError(f"{file} is missing: run `python -m finetune compose` first")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@click.group(context_settings={"show_default": True})
def main() -> None:
    """From the corpus to a checkpoint: compose, vocabulary, train, tune, export, card."""


@main.command()
@corpus_option
@text_option
@seed_option
@click.option("--count", type=POSITIVE, default=30_000, help="Episodes to compose.")
def compose(corpus: Path, text: Path, seed: int, count: int) -> None:
    """Compose base text from the beats: one JSON string a line."""
    text.parent.mkdir(parents=True, exist_ok=True)
    with text.open("w", encoding="utf-8") as out:
        for episode in tqdm(compose_episodes(corpus / "beats", seed, count), total=count, unit="episode"):
            out.write(json.dumps(episode, ensure_ascii=False) + "\n")


@main.command()
@corpus_option
@text_option
@vocabulary_option
@click.option("--size", type=click.IntRange(min=257), default=4096, help="Tokens, <|endoftext|> included.")
def vocabulary(corpus: Path, text: Path, vocabulary: Path, size: int) -> None:
    """Learn a vocabulary from the base text and the training episodes, in about equal parts."""
    episodes, _ = split(read_episodes(corpus / "episodes"))
    base = read_base_text(text)
    copies = max(1, sum(map(len, base)) // sum(map(len, texts(episodes))))
    bpe.write(bpe.learn(base + texts(episodes) * copies, size), vocabulary)


@main.command()
@corpus_option
@text_option
@vocabulary_option
@run_option("base")
@plan_options(steps=1620, learning_rate=4e-3, warmup=50, cooldown=320, every=40, keep="last")
@threads_option
@click.option("--n-ctx", type=POSITIVE, default=512, help="The model's longest text, in tokens.")
@click.option("--n-embd", type=POSITIVE, default=320, help="The model's width, a multiple of n_head.")
@click.option("--n-head", type=POSITIVE, default=5)
@click.option("--n-layer", type=POSITIVE, default=6)
def train(
    corpus: Path, text: Path, vocabulary: Path, run: Path, plan: Plan, threads: int, **shape: int
) -> None:
    """Train on base text and episodes, half of the rows each. Goes on where a killed run stopped."""
    torch.set_num_threads(threads)
    tokenizer = bpe.read(vocabulary)
    episodes, held_out = split(read_episodes(corpus / "episodes"))
    sources = [
        (encode(tokenizer, texts(episodes)), plan.batch - plan.batch // 2),
        (encode(tokenizer, read_base_text(text)), plan.batch // 2),
    ]
    model = new_model(n_vocab=tokenizer.get_vocab_size(), plan=plan, **shape)
    train_model(run, model, plan, sources, tokenizer, texts(held_out))


@main.command()
@corpus_option
@vocabulary_option
@click.option("--base", type=FOLDER, default=RUN / "base", help="The run to start from.")
@run_option("run1")
@plan_options(steps=300, learning_rate=2e-3, warmup=20, cooldown=280, every=50, keep="best")
@threads_option
def tune(corpus: Path, vocabulary: Path, base: Path, run: Path, plan: Plan, threads: int) -> None:
    """Fine-tune the result of `train` on the episodes alone. Goes on where a killed run stopped."""
    torch.set_num_threads(threads)
    tokenizer = bpe.read(vocabulary)
    episodes, held_out = split(read_episodes(corpus / "episodes"))
    sources = [(encode(tokenizer, texts(episodes)), plan.batch)]
    train_model(run, checkpoints.read_kept(base, plan.dropout), plan, sources, tokenizer, texts(held_out))


@main.command()
@vocabulary_option
@run_option("base")
@click.argument("checkpoint", type=FOLDER)
def export(vocabulary: Path, run: Path, checkpoint: Path) -> None:
    """Write the run's weights as the directory CHECKPOINT."""
    checkpoints.export(run, vocabulary, checkpoint)


@main.command()
@corpus_option
@run_option("base")
@seed_option
@threads_option
@click.argument("checkpoint", type=FOLDER)
def card(corpus: Path, run: Path, seed: int, threads: int, checkpoint: Path) -> None:
    """Write CHECKPOINT's model card, README.md, with the run's curve and samples that nobody picked."""
    torch.set_num_threads(threads)
    model_card.write(corpus, run, seed, checkpoint)


if __name__ == "__main__":
    try:
        main()
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"error: {error}")
