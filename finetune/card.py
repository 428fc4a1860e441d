"""The model card beside the weights, filled in from the corpus, the runs and the checkpoint itself."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetune.corpus import read_episodes, split

TEMPLATE = "card.md.jinja"

PREFIXES = (
    "Ash and Misty are on a date when",
    "Ash wants to be the very best, and to reach this goal",
    "Pikachu is arrested for tax evasion.",
    "Ash and Pikachu were",
    "Team Rocket have a new plan:",
    "It is raining in Goldenrod City",
    "A letter arrives for Brock, and",
    "Every night something",
    "Dawn and Piplup have quarrelled, and",
    "",
)
TEMPERATURE = 0.8
TOP_P = 0.95
ROWS_OF_A_CURVE = 10


@dataclass(frozen=True)
class Curve:
    """What one phase measured: the points of its curve.csv, as it wrote them."""

    points: list[dict[str, str]]

    @property
    def best(self) -> dict[str, str]:
        """The point of the lowest held-out figure."""
        return min(self.points, key=lambda point: float(point["held_out_bits_per_byte"]))

    @property
    def shown(self) -> list[dict[str, str]]:
        """At most about ROWS_OF_A_CURVE points, evenly spaced, the last among them."""
        every = -(-len(self.points) // ROWS_OF_A_CURVE)
        return self.points[::-1][::every][::-1]


def read_curve(run: Path) -> Curve:
    """Raises FileNotFoundError when `run` has not been evaluated yet."""
    with (run / "curve.csv").open(newline="") as file:
        return Curve(list(csv.DictReader(file)))


def sample(checkpoint: Path, seed: int) -> list[tuple[str, str]]:
    """(prefix, continuation) for every one of PREFIXES: the first and only one that the seed gives."""
    model: Any = AutoModelForCausalLM.from_pretrained(checkpoint)
    tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint)
    samples = []
    for prefix in PREFIXES:
        torch.manual_seed(seed)
        text = model.generate(
            **tokenizer(prefix, return_tensors="pt"),
            do_sample=True,
            temperature=TEMPERATURE,
            top_p=TOP_P,
            top_k=0,
            max_length=model.config.n_positions,
        )[0]
        samples.append((prefix, tokenizer.decode(text, skip_special_tokens=True)[len(prefix) :].strip("\n")))
    return samples


def write(corpus: Path, run: Path, seed: int, checkpoint: Path) -> None:
    """Write `checkpoint`/README.md. Raises FileNotFoundError when the checkpoint or a run's curve is not there yet."""
    training, held_out = split(read_episodes(corpus / "episodes"))
    hparams = json.loads((checkpoint / "hparams.json").read_text())
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        autoescape=False,  # noqa: S701 - Markdown, from our own data
    )
    text = templates.get_template(TEMPLATE).render(
        name=checkpoint.name,
        hparams=hparams,
        parameters=model.num_parameters(),
        training=training,
        held_out=held_out,
        curve=read_curve(run),
        samples=sample(checkpoint, seed),
        seed=seed,
        temperature=TEMPERATURE,
        top_p=TOP_P,
    )
    (checkpoint / "README.md").write_text(text, encoding="utf-8")
