"""What POST /v1/completions takes and answers: OpenAI's names, ranges and defaults."""

import json
from typing import Annotated, Any, Literal, Self, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from server.api.event_stream import documented, event, json_text
from server.api.problems import field_problem
from server.api.schemas import Fields, Usage
from server.engine import MAX_LOGPROBS


def _said_as(sentence: str) -> WrapValidator:
    """One sentence instead of one for each type that the value might have had."""

    def validate(value: object, validate: ValidatorFunctionWrapHandler) -> object:
        try:
            return validate(value)
        except ValidationError:
            raise PydanticCustomError("union", "Input should be {sentence}", {"sentence": sentence}) from None

    return WrapValidator(validate)


def _neutral(value: object) -> object:
    if value:
        raise PydanticCustomError(
            "neutral", "This service has nothing of the kind and takes its neutral value only: leave it out"
        )
    return value


NEUTRAL = AfterValidator(_neutral)

Prompt = (
    str
    | Annotated[list[str], Field(min_length=1)]
    | Annotated[list[int], Field(min_length=1)]
    | Annotated[list[Annotated[list[int], Field(min_length=1)]], Field(min_length=1)]
)
StopString = Annotated[str, Field(min_length=1)]


def _allow_null(schema: dict[str, Any]) -> None:
    for name, parameter in schema["properties"].items():
        if parameter.get("default") is not None:
            schema["properties"][name] = {"anyOf": [parameter, {"type": "null"}]}


class Parameters(BaseModel):
    """Parameters of JSON's types. Each that has a default may be null, which stands for it."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=_allow_null)

    @model_validator(mode="before")
    @classmethod
    def _null_is_the_default(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        optional = {name for name, field in cls.model_fields.items() if not field.is_required()}
        return {name: value for name, value in data.items() if value is not None or name not in optional}


# One request and its answer, for the OpenAPI document.
_ASKED = {"model": "run1", "prompt": "Ash and Pikachu were", "max_tokens": 10, "temperature": 0.2, "seed": 1}
_ANSWER = {
    "id": "cmpl-eecc8dc02ad048369781cba75502ccd7",
    "object": "text_completion",
    "created": 1795262902,
    "model": "run1",
    "system_fingerprint": "fp_fd4275ea68",
    "choices": [
        {
            "text": " in a castle near Canalave City,",
            "index": 0,
            "logprobs": None,
            "finish_reason": "length",
        }
    ],
    "usage": {"prompt_tokens": 5, "completion_tokens": 10, "total_tokens": 15},
}


class StreamOptions(Parameters):
    """How to stream."""

    include_usage: Annotated[bool, Field(description="Send `usage` in a last chunk that has no choice.")] = (
        False
    )
    include_obfuscation: Annotated[bool, Field(description="Accepted, and not looked at.")] = False


class CompletionRequest(Fields, Parameters):
    """OpenAI's parameters, and top_k."""

    model_config = ConfigDict(openapi_extra={"example": _ASKED})  # type: ignore[typeddict-unknown-key]

    model: Annotated[str, Field(description="The model's name, which GET /v1/models tells.")]
    prompt: Annotated[
        Prompt,
        _said_as(
            "a text, a list of texts, a list of tokens, or a list of lists of tokens; and no list empty"
        ),
        Field(
            description="A text or a list of tokens, or several of them. The empty text, or `<|endoftext|>` alone:"
            " a new document."
        ),
    ] = ""
    max_tokens: Annotated[
        int, Field(ge=0, le=65536, description="The most new tokens; 0 only with echo. n_ctx may lower it.")
    ] = 16
    n: Annotated[int, Field(ge=1, description="How many choices for each prompt.")] = 1
    best_of: Annotated[int | None, Field(ge=1, description="Only what n is.")] = None
    stop: Annotated[
        StopString | Annotated[list[StopString], Field(max_length=4)] | None,
        _said_as("a text or a list of up to 4 texts, none of them empty"),
        Field(description="A text, or up to 4, in front of whose first appearance the choice ends."),
    ] = None
    stream: Annotated[bool, Field(description="Send the choices as server-sent events as they grow.")] = False
    stream_options: StreamOptions | None = None
    echo: Annotated[bool, Field(description="Begin each choice with its prompt.")] = False
    logprobs: Annotated[
        int | None,
        Field(
            ge=0,
            le=MAX_LOGPROBS,
            description="List the tokens with their log-probabilities, and so many of the likeliest in each place."
            " They are the model's own: temperature, top_p and top_k do not change them.",
        ),
    ] = None
    seed: Annotated[
        int | None,
        Field(
            ge=-(2**63),
            lt=2**64,
            description="The same seed and parameters give the same text; its remainder by 2**32 counts.",
        ),
    ] = None
    temperature: Annotated[
        float, Field(ge=0, le=2, description="Higher is wilder; 0 takes the likeliest token.")
    ] = 1
    top_p: Annotated[
        float, Field(ge=0, le=1, description="Draw among the likeliest tokens that reach this probability.")
    ] = 1
    top_k: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description="Draw among the k likeliest tokens; 0 is no limit. Not with top_p below 1. Not OpenAI's.",
        ),
    ] = 0
    user: Annotated[str, Field(description="Accepted, and not looked at.")] = ""
    presence_penalty: Annotated[float, NEUTRAL, Field(json_schema_extra={"const": 0})] = 0
    frequency_penalty: Annotated[float, NEUTRAL, Field(json_schema_extra={"const": 0})] = 0
    logit_bias: Annotated[dict[str, float] | None, NEUTRAL, Field(json_schema_extra={"maxProperties": 0})] = (
        None
    )
    suffix: Annotated[str, NEUTRAL, Field(json_schema_extra={"const": ""})] = ""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for field, holds, sentence in (
            ("best_of", self.best_of in (None, self.n), f"It must be what n is, {self.n}: leave it out"),
            ("max_tokens", self.max_tokens > 0 or self.echo, "It may be 0 only with echo"),
            ("stream_options", self.stream or not self.stream_options, "It is allowed only with stream"),
            ("top_k", self.top_k == 0 or self.top_p == 1, "It is allowed only where top_p is 1"),
        ):
            if not holds:
                raise field_problem(field, sentence)
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts one by one."""
        if isinstance(self.prompt, str) or isinstance(self.prompt[0], int):
            return [self.prompt]
        return cast(list[str | list[int]], self.prompt)

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class Logprobs(BaseModel):
    r"""A choice's tokens, in lists of equal length. The first token of an echoed prompt has no log-probability.

    tokens: each as text; `bytes:\xf0\x9f` where it is only a part of a character. text_offset: the character at which
    it begins, counted from the beginning of the prompt. top_logprobs: the likeliest tokens there, and the token itself.
    """

    text_offset: list[int] = []
    token_logprobs: list[float | None] = []
    tokens: list[str] = []
    top_logprobs: list[dict[str, float] | None] | None = None


FinishReason = Literal["stop", "length"]


class Choice(BaseModel):
    """A text, or in a stream some new text of it."""

    text: str
    index: int
    logprobs: Logprobs | None
    finish_reason: Annotated[
        FinishReason | None,
        Field(description="stop: the model or a stop string ended the text. null: in a stream, it goes on."),
    ]


class Completion(BaseModel):
    """The answer, or a part of it in a stream. The choices of the first prompt come first."""

    model_config = ConfigDict(
        openapi_extra={  # type: ignore[typeddict-unknown-key]
            "example": _ANSWER,
            "content": documented(
                ("message", json_text({"$ref": "#/components/schemas/Completion"})),
                ("message", {"const": "[DONE]"}),
                ("error", json_text({"$ref": "#/components/schemas/ErrorAnswer"})),
                example=event(json.dumps(_ANSWER)) + event("[DONE]"),
            ),
        }
    )

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[Choice]
    usage: Usage | None = None
