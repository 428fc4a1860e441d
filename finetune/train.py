"""Train a GPT-2 on rows of tokens: Muon for the matrices, AdamW for the rest, bfloat16 arithmetic on a CPU.

The state of a run is one file, replaced whole, and every random number is keyed by (seed, step): a run that was killed
goes on from its last save and ends with the weights of a run that was not.
"""

import array
import copy
import csv
import dataclasses
import hashlib
import itertools
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch.nn import functional
from tqdm import tqdm
from transformers import GPT2Config, GPT2LMHeadModel

from finetune.vocabulary import END_OF_TEXT

IGNORED = -100  # a target that does not count

Document = list[int]  # tokens
Source = tuple[Sequence[Document], int]  # documents, and how many rows of a batch are theirs
Point = dict[str, float]  # of a training curve
Description = dict[str, float | str]  # of a run: see `describe`


@dataclass(frozen=True)
class Plan:
    """How one phase of training goes."""

    steps: int
    batch: int  # rows a step
    learning_rate: float  # on the plateau between warm-up and cool-down
    warmup: int  # steps, the first: the rate grows from zero
    cooldown: int  # steps, the last: the rate falls to zero
    seed: int
    dropout: float = 0.1
    weight_decay: float = 0.1
    averaging: float = 0.99  # how much of the running average of the weights survives a step
    clip: float = 1.0  # the gradient's norm at most
    every: int = 100  # steps between evaluations, each of which saves the run
    patience: int = 5  # evaluations without improvement that end the run
    keep: str = (
        "best"  # which averaged weights are kept: those that did best on the held-out texts, or the "last"
    )

    def rate(self, step: int) -> float:
        """The learning rate at `step`, which counts from 0."""
        factor = min(1.0, (step + 1) / max(1, self.warmup), (self.steps - step) / max(1, self.cooldown))
        return self.learning_rate * factor


def new_model(
    n_vocab: int, n_ctx: int, n_embd: int, n_head: int, n_layer: int, plan: Plan
) -> GPT2LMHeadModel:
    """A model with fresh weights.

    Attention has no dropout: it would cost PyTorch's fused kernel. Raises ValueError unless n_head divides n_embd.
    """
    torch.manual_seed(plan.seed)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=n_vocab,
            n_positions=n_ctx,
            n_embd=n_embd,
            n_head=n_head,
            n_layer=n_layer,
            resid_pdrop=plan.dropout,
            embd_pdrop=plan.dropout,
            attn_pdrop=0.0,
            bos_token_id=n_vocab - 1,
            eos_token_id=n_vocab - 1,
        )
    )


def end_of_text(tokenizer: Tokenizer) -> int:
    """The id of `<|endoftext|>`. Raises ValueError when the vocabulary lacks it."""
    end = tokenizer.token_to_id(END_OF_TEXT)
    if end is None:
        raise ValueError(
            f"the vocabulary has no {END_OF_TEXT}: make one with `python -m finetune vocabulary`"
        )
    return end


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Document]:
    """Every text as `<|endoftext|>text<|endoftext|>`."""
    end = end_of_text(tokenizer)
    encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    return [[end, *encoding.ids, end] for encoding in encodings]


def rows(documents: Sequence[Document], n_ctx: int, seed: str) -> Iterator[list[int]]:
    """Endless rows of n_ctx + 1 tokens, each starting where a document starts, in a new order every epoch.

    Neighbours share a delimiter. A document that the row's end cuts off begins the next row, so that all of it is seen,
    up to n_ctx + 1 tokens.
    """
    row: list[int] = []
    for epoch in itertools.count():
        order = list(range(len(documents)))
        random.Random(f"{seed}/{epoch}").shuffle(order)  # noqa: S311 - nothing secret
        for number in order:
            document = documents[number]
            if row and len(row) + len(document) - 1 > n_ctx + 1:
                yield (row + document[1:])[: n_ctx + 1]
                row = []
            row += document[1:] if row else document
            if len(row) > n_ctx:
                yield row[: n_ctx + 1]
                row = []


def batches(sources: Sequence[Source], n_ctx: int, seed: int) -> Iterator[torch.Tensor]:
    """Endless batches [B, n_ctx + 1] with a fixed number of rows from every source."""
    streams = [(rows(documents, n_ctx, f"{seed}/{i}"), count) for i, (documents, count) in enumerate(sources)]
    while True:
        yield torch.tensor([row for stream, count in streams for row in itertools.islice(stream, count)])


def cross_entropy(model: GPT2LMHeadModel, tokens: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
    """In nats, of every token of [B, T + 1] but the first, given those before it; IGNORED ones do not count."""
    inputs, targets = tokens[:, :-1].clamp(min=0), tokens[:, 1:]
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(input_ids=inputs, use_cache=False).logits
    return functional.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED, reduction=reduction
    )


@torch.no_grad()
def bits_per_byte(
    model: GPT2LMHeadModel, tokenizer: Tokenizer, texts: Sequence[str], batch: int = 16
) -> float:
    """What the texts cost, their end included, by the UTF-8 byte; what exceeds the model's context is left out."""
    model.train(False)
    documents = sorted(
        (document[: model.config.n_positions + 1] for document in encode(tokenizer, texts)), key=len
    )
    nats = 0.0
    for start in range(0, len(documents), batch):
        part = [torch.tensor(document) for document in documents[start : start + batch]]
        tokens = torch.nn.utils.rnn.pad_sequence(part, batch_first=True, padding_value=IGNORED)
        nats += cross_entropy(model, tokens, reduction="sum").item()
    return nats / math.log(2) / sum(len(text.encode()) for text in texts)


def new_optimizers(model: GPT2LMHeadModel, plan: Plan) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, its steps scaled to AdamW's; AdamW for embeddings, biases and norms.

    Muon is Keller Jordan's (https://kellerjordan.github.io/posts/muon/), the scale that of arXiv:2502.16982.
    """
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and ".h." in name]
    embeddings = [p for name, p in model.named_parameters() if p.ndim == 2 and ".h." not in name]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    others: list[dict[str, Any]] = [{"params": embeddings}, {"params": vectors, "weight_decay": 0.0}]
    return [
        torch.optim.Muon(
            matrices, lr=plan.learning_rate, weight_decay=plan.weight_decay, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, lr=plan.learning_rate, betas=(0.9, 0.95), weight_decay=plan.weight_decay),
    ]


def digest(parts: Iterable[bytes]) -> str:
    """A short hash of the parts and of where each ends."""
    sha256 = hashlib.sha256()
    for part in parts:
        sha256.update(len(part).to_bytes(8) + part)
    return sha256.hexdigest()[:12]


def describe(
    model: GPT2LMHeadModel,
    plan: Plan,
    sources: Sequence[Source],
    tokenizer: Tokenizer,
    held_out: Sequence[str],
) -> Description:
    """All that a run's result depends on: the plan, the model's shape, and hashes of what it is given."""
    return {
        **dataclasses.asdict(plan),
        "n_ctx": model.config.n_positions,
        **{name: getattr(model.config, name) for name in ("n_embd", "n_head", "n_layer")},
        "vocabulary": digest([tokenizer.to_str().encode()]),
        "training texts": digest(
            array.array("I", [count, *document]).tobytes()
            for documents, count in sources
            for document in documents
        ),
        "held-out texts": digest(text.encode() for text in held_out),
        "initial weights": digest(value.numpy().tobytes() for value in model.state_dict().values()),
    }


class Run:
    """A training run and the folder it lives in, from which it goes on after a kill.

    The folder gets `config.json`, the model's shape; `state.pt`, all that the next step depends on, and the run's
    description; `kept.pt`, the averaged weights that are exported; and `curve.csv`.

    Raises ValueError, before anything is written, when the folder holds a run of another description.
    """

    def __init__(self, folder: Path, model: GPT2LMHeadModel, plan: Plan, description: Description) -> None:
        self.folder, self.model, self.plan, self.description = folder, model, plan, description
        self.average = copy.deepcopy(model)
        self.optimizers = new_optimizers(model, plan)
        self.step = 0
        self.curve: list[Point] = []
        if (folder / "state.pt").exists():
            self.load()
        folder.mkdir(parents=True, exist_ok=True)
        model.config.save_pretrained(folder)

    def load(self) -> None:
        """Go back to the last save. Raises ValueError when it is another run's."""
        state = torch.load(self.folder / "state.pt")
        saved = state.get("description", self.description)  # the first states had none
        differences = [
            f"{name} {saved.get(name)} and not {value}"
            for name, value in self.description.items()
            if saved.get(name) != value
        ]
        if differences:
            raise ValueError(
                f"{self.folder} holds another run, with {', '.join(differences)}:"
                " name another folder with --run, or delete this one"
            )
        self.step, self.curve = state["step"], state["curve"]
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    def save(self) -> None:
        """Write the folder's files. The state goes last: a kill before it repeats the steps since the last save."""
        state = {
            "description": self.description,
            "step": self.step,
            "curve": self.curve,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        if self.plan.keep == "last" or self.measured[-1] == min(self.measured):
            replace(self.folder / "kept.pt", self.average.state_dict())
        with (self.folder / "curve.csv").open("w", newline="") as out:
            table = csv.DictWriter(out, self.curve[0].keys())
            table.writeheader()
            table.writerows(self.curve)
        replace(self.folder / "state.pt", state)

    @property
    def measured(self) -> list[float]:
        """Held-out bits per byte, one an evaluation."""
        return [point["held_out_bits_per_byte"] for point in self.curve]

    @property
    def finished(self) -> bool:
        """Whether the plan has come to its end, or to the end of its patience."""
        before, last = self.measured[: -self.plan.patience], self.measured[-self.plan.patience :]
        return self.step >= self.plan.steps or (bool(before) and min(last) >= min(before))

    def advance(self, tokens: torch.Tensor) -> float:
        """One step on a batch [B, T + 1]; returns its loss in nats a token."""
        torch.manual_seed(self.plan.seed * 1_000_003 + self.step)  # dropout's masks
        self.model.train()
        loss = cross_entropy(self.model, tokens)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.plan.clip)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.plan.rate(self.step)
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        # The average follows closely at first, while the weights still change a great deal.
        weight = max(1 - self.plan.averaging, 1 / (self.step + 1))
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(value, weight)
        return loss.item()


def replace(file: Path, value: object) -> None:
    """Save beside `file` and move it there, so that a kill leaves the old or the new one, whole."""
    draft = file.with_name(file.name + ".part")
    torch.save(value, draft)
    draft.replace(file)


def train(
    folder: Path,
    model: GPT2LMHeadModel,
    plan: Plan,
    sources: Sequence[Source],
    tokenizer: Tokenizer,
    held_out: Sequence[str],
) -> list[Point]:
    """Train `model` by `plan`, going on from what `folder` holds (see Run); returns the curve.

    Raises ValueError when that is another run's.
    """
    run = Run(folder, model, plan, describe(model, plan, sources, tokenizer, held_out))
    n_ctx = model.config.n_positions
    stream = itertools.islice(batches(sources, n_ctx, plan.seed), run.step, None)
    losses: list[float] = []
    with tqdm(total=plan.steps, initial=run.step, unit="step", desc=folder.name) as progress:
        while not run.finished:
            losses.append(run.advance(next(stream)))
            progress.update()
            progress.set_postfix(loss=f"{losses[-1]:.3f}")
            if run.step % plan.every == 0 or run.step == plan.steps:
                run.curve.append(
                    {
                        "step": run.step,
                        "tokens": run.step * plan.batch * n_ctx,
                        "training_loss": round(sum(losses) / len(losses), 4),
                        "held_out_bits_per_byte": round(bits_per_byte(run.average, tokenizer, held_out), 4),
                    }
                )
                losses.clear()
                run.save()
                progress.write(str(run.curve[-1]))
    return run.curve
