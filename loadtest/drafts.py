"""What speculative decoding would gain: `python -m loadtest.drafts --texts run/data/leads`.

A draft of the next k tokens, verified in one step of k + 1 rows, saves a step for each token that was guessed right.
The guess here is the likeliest token after the last five in the texts that the model was trained on, or after fewer
where those never stood there. What it would gain is how many tokens such a step makes, over what it costs compared with
a step of one row.
"""

import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from tqdm import tqdm

from finetune.console import FOLDER, aligned
from finetune.documents import read_documents
from server.engine import SamplingParams, create_engine, load_model
from server.engine.kv_blocks import blocks_for
from server.settings import SHIPPED_CHECKPOINT, Settings
from server.weights import Checkpoint, open_checkpoint

ORDER = 5
DRAFTS = (1, 2, 3, 4, 7)
READERS = 32
STEPS = 200  # of each height that is timed

Guess = Callable[[list[int]], int]


def learn(documents: list[list[int]]) -> Guess:
    """The likeliest next token after the last ORDER or fewer; -1 after what the documents do not have."""
    counts: list[dict[tuple[int, ...], Counter[int]]] = [defaultdict(Counter) for _ in range(ORDER + 1)]
    for document in tqdm(documents, "reading", unit="text", disable=None):
        for i, token in enumerate(document):
            for n in range(1, min(ORDER, i) + 1):
                counts[n][tuple(document[i - n : i])][token] += 1
    likeliest = [
        {context: found.most_common(1)[0][0] for context, found in order.items()} for order in counts
    ]

    def guess(tokens: list[int]) -> int:
        for n in range(min(ORDER, len(tokens)), 0, -1):
            if (token := likeliest[n].get(tuple(tokens[-n:]))) is not None:
                return token
        return -1

    return guess


def tokens_per_step(texts: list[list[int]], first: int, guess: Guess, drafts: int) -> float:
    """How many tokens a step makes that verifies `drafts` guesses; the texts' first `first` tokens are given."""
    steps = made = 0
    for text in texts:
        at = first
        while at < len(text):
            right = 0
            while right < drafts and at + right < len(text) and guess(text[: at + right]) == text[at + right]:
                right += 1
            at += right + 1
            made += right + 1
            steps += 1
    return made / steps


def step_seconds(checkpoint: Checkpoint, rows: int) -> float:
    """The median time of a step that verifies `rows` tokens of one sequence, half-way into its context."""
    blocks = list(range(blocks_for(checkpoint.hparams.n_ctx)))
    model = load_model(checkpoint, "int8", len(blocks))
    tokens = np.random.default_rng(0).integers(0, checkpoint.hparams.n_vocab, rows).tolist()
    seconds = []
    for _ in range(STEPS):
        start = time.perf_counter()
        model.all_logits(tokens, checkpoint.hparams.n_ctx // 2, blocks)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


@click.command()
@click.option("--checkpoint", "folder", type=FOLDER, default=SHIPPED_CHECKPOINT, help="The model.")
@click.option("--texts", type=FOLDER, multiple=True, required=True, help="A folder whose train.txt is read.")
def command(folder: Path, texts: tuple[Path, ...]) -> None:
    """Print what drafts from n-grams would gain for one reader."""
    fields: dict[str, Any] = {name: field.default for name, field in Settings.model_fields.items()}
    names = ("length", "temperature", "top_k", "top_p")
    with open_checkpoint(folder) as checkpoint:
        tokenizer = checkpoint.tokenizer
        guess = learn(
            [tokenizer.encode(text) for each in texts for text in read_documents(each / "train.txt")]
        )
        engine = create_engine(checkpoint, "int8", max_running=READERS, max_waiting=0)
        prompt = tokenizer.encode_prompt(fields["opening"])
        asked = [{name: fields[name] for name in names} | {"seed": seed} for seed in range(READERS)]
        drawn = [engine.submit(prompt, SamplingParams(**each)) for each in asked]
        written = [prompt + each.result()[0].tokens for each in drawn]
        engine.close()
        one = step_seconds(checkpoint, 1)
        rows = [("drafts a step", "tokens a step", "cost of a step", "gain")]
        for drafts in DRAFTS:
            made = tokens_per_step(written, len(prompt), guess, drafts)
            cost = step_seconds(checkpoint, drafts + 1) / one
            rows.append((f"{drafts}", f"{made:.2f}", f"{cost:.2f}", f"{made / cost:.2f}"))
    click.echo(aligned(rows))


if __name__ == "__main__":
    command()
