"""The model card beside the weights: what a model is, what it may be used for, and what was measured of it.

`pokegen card` writes it twice: README.md in the ecosystem's format, for people and for model hubs, and card.json, the
same content for programs. The picture of the training curve is a file of its own.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from server.weights.errors import CheckpointError
from server.weights.files import read_bytes

CARD = "card.json"
README = "README.md"
CURVE = "curve.svg"

# Of each of the three files: ten times what a card with ten samples has.
LARGEST = 512 << 10

Prose = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Licence(BaseModel):
    """A licence: `id` as on model hubs (`other` where they have none for it), and what it says in short."""

    model_config = ConfigDict(extra="forbid")

    id: Prose
    name: Prose | None = None
    link: Prose | None = None
    terms: Prose


class Data(BaseModel):
    """Texts that the model was trained on."""

    model_config = ConfigDict(extra="forbid")

    name: Prose
    description: Prose
    source: Prose
    licence: Prose


class CardFields(BaseModel):
    """What a person has to say about a model: no figures in here, for those are measured."""

    model_config = ConfigDict(extra="forbid")

    title: Annotated[Prose, Field(description="The card's heading, on one line.")]
    summary: Annotated[Prose, Field(description="What it is.")]
    language: Annotated[list[Prose], Field(min_length=1, description="ISO 639-1 codes.")]
    licence: Licence
    tags: list[Prose] = []
    base_model: Annotated[Prose | None, Field(description="Where it began, if not from nothing.")] = None
    data: Annotated[list[Data], Field(min_length=1)]
    intended_use: Prose
    out_of_scope_use: Prose
    caveats: Annotated[list[Prose], Field(min_length=1)]
    how_it_was_made: Prose


class Sample(BaseModel):
    """The first text that a seed gave for a prefix; nobody picked it."""

    prefix: str
    text: Annotated[str, Field(description="What the model wrote after the prefix.")]
    finish_reason: Annotated[
        str, Field(description="stop: the model ended it. length: `length` or n_ctx did.")
    ]


class Samples(BaseModel):
    """Texts, and how they were drawn."""

    seed: int
    length: int
    temperature: float
    top_k: int
    top_p: float
    texts: list[Sample]


class CurvePoint(BaseModel):
    """What was measured after `step` steps and `tokens` tokens of training; the loss in nats a token."""

    step: int
    tokens: int
    training_loss: float
    held_out_bits_per_byte: float


class Card(CardFields):
    """All of a card: what `card.json` holds."""

    # A newer writer's field, which this server doesn't know, is no reason not to show the others.
    model_config = ConfigDict(extra="ignore")

    name: Annotated[str, Field(description="The checkpoint's name.")]
    parameters: Annotated[int, Field(description="How many numbers the model consists of.")]
    hparams: Annotated[
        dict[str, int], Field(description="Its sizes: n_vocab, n_ctx, n_embd, n_head, n_layer.")
    ]
    training: Annotated[
        dict[str, Any], Field(description="Every choice about the training; empty if it is not known.")
    ]
    curve: list[CurvePoint]
    evaluation: Annotated[dict[str, Any], Field(description="What `pokegen evaluate` measured.")]
    samples: Samples


def read_card(directory: Path) -> Card:
    """The card of the checkpoint in `directory`.

    Raises CheckpointError when it is missing, larger than `LARGEST` or not what `pokegen card` writes.
    """
    file = directory / CARD
    try:
        return Card.model_validate_json(read_bytes(file, LARGEST))
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in found["loc"]) or "the file"
        raise CheckpointError(
            file, f"{where:.80}: {found['msg']:.200}", f"write it again with `pokegen card {directory}`"
        ) from error
