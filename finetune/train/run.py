"""A training run in its folder: it saves itself, measures itself, and goes on after a kill as if nothing had been.

The folder holds `run.json`, which names the newest `state-STEP/` (the trainer's) and the kept `weights-STEP.npz`, and
is replaced last and whole; `curve.csv` and `curve.svg`; and `samples/`.
"""

import array
import dataclasses
import itertools
import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from tqdm import tqdm

from finetune import vocabulary
from finetune.files import alone_in, digest, replace
from finetune.train.curve import Point, write_curve
from finetune.train.plan import Plan, Trainer
from finetune.train.rows import Source, batches, encode, end_of_text, windows
from finetune.weights import Weights, weights_digest
from server.weights import HParams

RUN_FILE = "run.json"

Description = dict[str, float | str]

UNLESS_CHOSEN: Description = {
    field.name: field.default
    for field in dataclasses.fields(Plan)
    if field.default is not dataclasses.MISSING
}


@dataclass(frozen=True)
class Task:
    """What is trained on what: everything that a run's result depends on, its trainer and processor excepted.

    `sources` are training documents with the rows of a batch that are theirs; `held_out` are texts; `weights` are those
    that the run starts from.
    """

    plan: Plan
    hparams: HParams
    weights: Weights
    tokenizer: Tokenizer
    sources: Sequence[Source]
    held_out: Sequence[str]
    trainer: str

    def describe(self) -> Description:
        """Every choice, and a hash of everything given, by which a run is known again."""
        return {
            "trainer": self.trainer,
            **dataclasses.asdict(self.plan),
            **dataclasses.asdict(self.hparams),
            "vocabulary": digest([self.tokenizer.to_str().encode()]),
            "training texts": digest(
                array.array("I", [count, *document]).tobytes()
                for documents, count in self.sources
                for document in documents
            ),
            "held-out texts": digest(text.encode() for text in self.held_out),
            "initial weights": weights_digest(self.hparams, self.weights.__getitem__),
        }


@dataclass
class Progress:
    """How far a run has come: what `run.json` holds."""

    description: Description
    step: int = 0
    losses: list[float] = field(default_factory=list)  # of the steps since the last evaluation
    curve: list[Point] = field(default_factory=list)
    state: str | None = None  # the folder of the trainer's state at `step`
    kept: str | None = None  # the file of the weights that are kept
    kept_step: int = 0


class Run:
    """A run and its folder."""

    def __init__(self, folder: Path, task: Task, trainer: Trainer) -> None:
        """Go on from what the folder holds, or begin.

        Raises ValueError, before anything is written, when the folder holds another run.
        """
        self.folder, self.task, self.plan, self.trainer = folder, task, task.plan, trainer
        self.progress = self._read_progress(task.describe())
        if self.progress.state:
            trainer.restore(folder / self.progress.state)
        vocabulary.write(task.tokenizer, folder)

    def _read_progress(self, description: Description) -> Progress:
        if not (self.folder / RUN_FILE).exists():
            return Progress(description)
        progress = read_progress(self.folder)
        # A run that was begun before there was such a choice.
        begun = UNLESS_CHOSEN | progress.description
        differences = [
            f"{name} {begun.get(name)} and not {value}"
            for name, value in description.items()
            if begun.get(name) != value
        ]
        if differences:
            raise ValueError(
                f"{self.folder} holds another run, with {', '.join(differences)}:"
                " give the same options again, choose another --run-name, or start over with --restore-from fresh"
            )
        return progress

    @property
    def finished(self) -> bool:
        """Whether the plan has come to its end, or to the end of its patience."""
        measured = [point.held_out_bits_per_byte for point in self.progress.curve]
        before, last = measured[: -self.plan.patience], measured[-self.plan.patience :]
        return self.progress.step >= self.plan.steps or (bool(before) and min(last) >= min(before))

    def advance(self, step_batches: list[np.ndarray]) -> float:
        """One step; its loss in nats a token."""
        loss = self.trainer.advance(step_batches, self.progress.step)
        self._require_finite("the loss", loss)
        self.progress.step += 1
        self.progress.losses.append(loss)
        return loss

    def _require_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise ValueError(
                f"{what} is {value} at step {self.progress.step}: start over with --restore-from fresh and a lower"
                f" --learning-rate than {self.plan.learning_rate}"
            )

    def evaluate(self) -> Point:
        """Add a point to the curve, and keep the averaged weights if they are what the plan wants kept."""
        now, plan = self.progress, self.plan
        measured = bits_per_byte(self.trainer, self.task)
        self._require_finite("held-out bits per byte", measured)
        point = Point(
            step=now.step,
            tokens=now.step * plan.accumulate_gradients * plan.batch_size * self.task.hparams.n_ctx,
            training_loss=round(sum(now.losses) / len(now.losses), 4),
            held_out_bits_per_byte=round(measured, 4),
        )
        now.curve.append(point)
        now.losses = []
        if plan.keep == "last" or point.held_out_bits_per_byte == min(
            other.held_out_bits_per_byte for other in now.curve
        ):
            now.kept, now.kept_step = f"weights-{now.step}.npz", now.step
            np.savez(self.folder / now.kept, **self.trainer.average())  # type: ignore[arg-type]
        write_curve(self.folder, now.curve)
        return point

    def save(self) -> None:
        """Write the state. `run.json` goes last: a kill before it repeats the steps since the last save."""
        state = self.folder / f"state-{self.progress.step}"
        shutil.rmtree(state, ignore_errors=True)
        state.mkdir()
        self.trainer.save(state)
        self.progress.state = state.name
        os.sync()  # after a power cut, what run.json names is on the disk
        replace(self.folder / RUN_FILE, json.dumps(dataclasses.asdict(self.progress), indent=1) + "\n")
        for other in [*self.folder.glob("state-*"), *self.folder.glob("weights-*.npz")]:
            if other.name not in (self.progress.state, self.progress.kept):
                _remove(other)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def train(
    folder: Path,
    task: Task,
    new_trainer: Callable[[Task], Trainer],
    sample: Callable[[Trainer], str] | None = None,
    *,
    fresh: bool = False,
) -> list[Point]:
    """Carry the task out in `folder`, going on from what it holds unless it is to be `fresh` (see Run); the curve.

    `sample` gives a text to be written to `samples/step-N.txt` at every save. Raises ValueError when the folder holds
    another run or another process is at work there, when the loss is no number any more, and what `new_trainer` raises.
    """
    trainer = new_trainer(task)  # what it refuses is refused before anything is written or removed
    with alone_in(folder):
        if fresh:
            for old in folder.iterdir():
                _remove(old)
        run = Run(folder, task, trainer)
        plan = task.plan
        stream = batches(task.sources, task.hparams.n_ctx, plan.seed)
        stream = itertools.islice(stream, run.progress.step * plan.accumulate_gradients, None)
        with tqdm(total=plan.steps, initial=run.progress.step, unit="step", desc=folder.name) as bar:
            while not run.finished:
                loss = run.advance([next(stream) for _ in range(plan.accumulate_gradients)])
                bar.update()
                bar.set_postfix(loss=f"{loss:.3f}")
                if run.progress.step % plan.save_every == 0 or run.progress.step == plan.steps:
                    bar.write(str(run.evaluate()))
                    if sample:
                        write_sample(folder, run.progress.step, sample(trainer))
                    run.save()
        return run.progress.curve


def read_progress(folder: Path) -> Progress:
    """What `run.json` says.

    Raises FileNotFoundError when nothing was saved in `folder` yet, and ValueError when it is no JSON.
    """
    file = folder / RUN_FILE
    if not file.exists():
        raise FileNotFoundError(
            f"{file} is missing: nothing was saved there yet; train first, or name another run"
        )
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON ({error}): start over with --restore-from fresh") from error
    return Progress(**fields | {"curve": [Point(**point) for point in fields["curve"]]})


def read_kept(folder: Path) -> tuple[HParams, Weights]:
    """The weights that the run in `folder` kept. Raises FileNotFoundError when nothing was saved there yet."""
    progress = read_progress(folder)
    sizes = {field.name: int(progress.description[field.name]) for field in dataclasses.fields(HParams)}
    with np.load(folder / str(progress.kept)) as arrays:
        return HParams(**sizes), dict(arrays)


def bits_per_byte(trainer: Trainer, task: Task) -> float:
    """What the held-out texts cost the averaged weights, their ends included, by the UTF-8 byte."""
    documents = encode(task.tokenizer, task.held_out)
    nats = sum(trainer.nats(tokens) for tokens in windows(documents, task.hparams.n_ctx))
    return nats / math.log(2) / sum(len(text.encode()) for text in task.held_out)


def sampler(task: Task, prefix: str, length: int, count: int) -> Callable[[Trainer], str]:
    """Draws `count` texts that begin with `prefix`; number i by seed i, so that evaluations can be compared.

    Raises ValueError when the context has no room after the prefix.
    """
    tokenizer, n_ctx = task.tokenizer, task.hparams.n_ctx
    prompt = [end_of_text(tokenizer), *tokenizer.encode(prefix, add_special_tokens=False).ids]
    if len(prompt) >= n_ctx:
        raise ValueError(
            f"--sample-prefix is {len(prompt) - 1} tokens long, and n_ctx {n_ctx} leaves room for {n_ctx - 2} at most:"
            " shorten it"
        )

    def sample(trainer: Trainer) -> str:
        texts = (prefix + tokenizer.decode(trainer.sample(prompt, length, seed)) for seed in range(count))
        return "\n\n".join(f"======== SAMPLE {i} ========\n{text}" for i, text in enumerate(texts, start=1))

    return sample


def write_sample(folder: Path, step: int, text: str) -> None:
    """As `samples/step-N.txt`."""
    (folder / "samples").mkdir(exist_ok=True)
    (folder / "samples" / f"step-{step}.txt").write_text(text + "\n", encoding="utf-8")
