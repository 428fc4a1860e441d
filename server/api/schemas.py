"""What a reader may ask of /generate, and what the answer looks like."""

import json
from functools import cache
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator

from server.api.event_stream import HEARTBEAT, documented, event, json_text
from server.api.problems import from_validation_error
from server.engine import MAX_SEED, MAX_TEMPERATURE, FinishReason

# One request and its answer, for the OpenAPI document.
_ASKED = {"prefix": "Ash and Pikachu were", "length": 40, "seed": 1}
_TEXT = (
    "Ash and Pikachu were in a castle near Canalave City, and they are afraid of it. The ghost is a young Burmy, says"
    " Caspar, who works there."
)
_ANSWER = {
    "text": _TEXT,
    "samples": [{"text": _TEXT, "finish_reason": "length", "tokens": 40}],
    "prefix": "Ash and Pikachu were",
    "seed": 1,
    "usage": {"prompt_tokens": 5, "completion_tokens": 40, "total_tokens": 45},
    "model": "run1",
    "fingerprint": "fp_fd4275ea68",
    "timing": {"queue_s": 0.001, "first_token_s": 0.0054, "total_s": 0.034, "tokens_per_s": 1211.6},
}
_EVENTS = (
    event('{"ahead": 3, "seconds": 0.4}', "waiting")
    + event('{"text": "Ash and Pikachu were in a castle near Canalave City, and they are afraid"}')
    + event('{"text": " of it. The ghost is a young Burmy, says Caspar, who works there."}')
    + HEARTBEAT
    + event(json.dumps(_ANSWER), "done")
)


class Fields(BaseModel):
    """What a request may ask: nothing else, and ProblemError names what is wrong with each field."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @classmethod
    def model_json_schema(cls, *args: Any, **options: Any) -> dict[str, Any]:  # noqa: ANN401
        """As pydantic's. flask-openapi3 asks for it at every request, and without options: that one is made once."""
        return super().model_json_schema(*args, **options) if args or options else _json_schema(cls)

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, data: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:  # noqa: ANN401
        try:
            return validate(data)
        except ValidationError as error:
            raise from_validation_error(error, cls) from None


@cache
def _json_schema(fields: type[Fields]) -> dict[str, Any]:
    return super(Fields, fields).model_json_schema()


class GenerateQuery(Fields):
    """The fields of /generate under gpt-2-simple's names; None takes the service's default."""

    prefix: Annotated[
        str,
        Field(
            description="The beginning of the episode. Where it is empty, the service's own opening is taken.",
            json_schema_extra={"example": "Ash and Pikachu were"},
        ),
    ] = ""
    length: Annotated[
        int | None,
        Field(
            ge=1,
            le=65536,
            description="The most new tokens; what does not fit into n_ctx is left away.",
            json_schema_extra={"example": 40},
        ),
    ] = None
    temperature: Annotated[
        float | None,
        Field(ge=0, le=MAX_TEMPERATURE, description="Higher is wilder; 0 takes the likeliest token."),
    ] = None
    top_k: Annotated[
        int | None, Field(ge=0, le=1_000_000, description="Draw among the k likeliest tokens; 0 is no limit.")
    ] = None
    top_p: Annotated[
        float | None,
        Field(
            ge=0,
            le=1,
            description="Draw among the likeliest tokens that reach this probability; 0 is no limit.",
        ),
    ] = None
    nsamples: Annotated[int, Field(ge=1, description="How many different episodes.")] = 1
    seed: Annotated[
        int | None,
        Field(
            ge=0,
            le=MAX_SEED,
            description="The same seed and fields give the same text; random if unset.",
            json_schema_extra={"example": 7},
        ),
    ] = None
    truncate: Annotated[
        str | None,
        Field(min_length=1, description="End each text in front of the first appearance of this string."),
    ] = None
    include_prefix: Annotated[bool, Field(description="Begin each text with the prefix.")] = True
    whole_sentences: Annotated[
        bool,
        Field(description="Where `length` cuts a text off, end it at the end of its last whole sentence."),
    ] = True
    stream: Annotated[
        bool,
        Field(
            description="Answer with server-sent events while the text grows, and the record at its end. An EventSource"
            " has to call close() on `done` and on `error`: it would ask anew, for another text, when the answer ends."
        ),
    ] = False


class GenerateBody(GenerateQuery):
    """The same fields as a JSON object: here a number is a number and not its digits in quotes."""

    model_config = ConfigDict(strict=True, openapi_extra={"example": _ASKED})  # type: ignore[typeddict-unknown-key]


class SampleRecord(BaseModel):
    """One episode. `tokens` counts what was generated, also what whole_sentences then cut off."""

    text: str
    finish_reason: Annotated[
        FinishReason,
        Field(description="stop: the episode, or `truncate`, ended the text. length: `length` or n_ctx did."),
    ]
    tokens: int


class Usage(BaseModel):
    """Tokens read and made, all samples together."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TimingRecord(BaseModel):
    """Seconds from arrival in the engine to the turn, to the first token and to the end; and the speed."""

    queue_s: float
    first_token_s: float
    total_s: float
    tokens_per_s: Annotated[
        float, Field(description="completion_tokens over the time from the turn to the end.")
    ]


class PieceRecord(BaseModel):
    """Some new text of a sample."""

    text: str
    sample: Annotated[int, Field(description="Which one; left away where there is only one.")] = 0


class WaitingRecord(BaseModel):
    """The reader stands in line: behind so many samples, for about so many seconds."""

    ahead: int
    seconds: float


class GenerateAnswer(BaseModel):
    """The answer: `text` is the first sample's. Streamed, it is the data of the last event."""

    model_config = ConfigDict(
        openapi_extra={  # type: ignore[typeddict-unknown-key]
            "example": _ANSWER,
            "content": documented(
                ("message", json_text(PieceRecord.model_json_schema())),
                ("waiting", json_text(WaitingRecord.model_json_schema())),
                ("done", json_text({"$ref": "#/components/schemas/GenerateAnswer"})),
                ("error", json_text({"$ref": "#/components/schemas/ProblemDocument"})),
                example=_EVENTS,
            ),
        }
    )

    text: str
    samples: list[SampleRecord]
    prefix: str
    seed: int
    usage: Usage
    model: str
    fingerprint: str
    timing: TimingRecord
