"""POST /v1/completions: texts that go on from prompts, whole or as they are written."""

import secrets
import time
import uuid
from collections.abc import Generator, Iterator
from functools import partial
from http import HTTPStatus
from typing import Any

from flask import Response, current_app
from flask_openapi3 import APIBlueprint
from pydantic import BaseModel

from server.api.departures import cancel_if_reader_leaves, require_reader
from server.api.event_stream import HEARTBEAT, IDLE_SECONDS, event, event_stream, pause_seconds
from server.api.openai.choices import GrowingChoice, Prompt
from server.api.openai.errors import ErrorAnswer
from server.api.openai.models import TAG, require_served
from server.api.openai.schemas import Choice, Completion, CompletionRequest
from server.api.problems import FieldError, ProblemError, field_problem, shortened
from server.api.schemas import Usage
from server.api.shares import take_share
from server.api.traces import follow
from server.engine import (
    MAX_SEED,
    Engine,
    Generation,
    PromptTooLongError,
    SamplingParams,
)
from server.serving import Served, get_serving
from server.settings import Settings

blueprint = APIBlueprint("openai_completions", __name__, abp_tags=[TAG])

RESPONSES: dict[str | int | HTTPStatus, type[BaseModel] | dict[Any, Any] | None] = {
    HTTPStatus.OK: Completion,
    HTTPStatus.BAD_REQUEST: ErrorAnswer,
    HTTPStatus.FORBIDDEN: ErrorAnswer,
    HTTPStatus.NOT_FOUND: ErrorAnswer,
    HTTPStatus.LENGTH_REQUIRED: ErrorAnswer,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ErrorAnswer,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: ErrorAnswer,
    HTTPStatus.TOO_MANY_REQUESTS: ErrorAnswer,
    HTTPStatus.INTERNAL_SERVER_ERROR: ErrorAnswer,
    HTTPStatus.SERVICE_UNAVAILABLE: ErrorAnswer,
}


@blueprint.post(
    "/v1/completions",
    operation_id="complete",
    summary="Continue prompts, as OpenAI's API",
    responses=RESPONSES,
)
def complete(body: CompletionRequest) -> Response:
    """Go on from each prompt, n times. With `stream`, the chunks are `data:` lines, and the last is `data: [DONE]`."""
    serving = get_serving()
    _require_few(body)
    take_share(len(body.prompts) * body.n)
    served, prompts, generations = serving.ask(partial(_begin, body))
    engine = served.engine
    choices = [
        [
            GrowingChoice(number * body.n + i, body, prompt, generation, sample, engine.tokenizer)
            for i, sample in enumerate(generation.samples)
        ]
        for number, (prompt, generation) in enumerate(zip(prompts, generations, strict=True))
    ]
    answer = Completion(
        id=f"cmpl-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=served.model,
        system_fingerprint=served.fingerprint,
        choices=[],
    )
    if body.stream:
        return event_stream(_events(body, answer, generations, choices, engine))
    for generation in generations:
        generation.result()
    require_reader(*generations)
    answer.choices = [choice.rest() for of_prompt in choices for choice in of_prompt]
    answer.usage = _usage(body, generations)
    return Response(
        answer.model_dump_json() + "\n", mimetype="application/json", headers={"Cache-Control": "no-store"}
    )


def _require_few(asked: CompletionRequest) -> None:
    most = current_app.extensions["settings"].max_samples
    if asked.n > most:
        raise field_problem("n", f"Input should be at most {most}; it is {shortened(str(asked.n))}")
    if len(asked.prompts) * asked.n > most:
        raise field_problem(
            "prompt",
            f"There may be at most {most} choices; {len(asked.prompts)} prompts with n {asked.n} are more",
        )


def _begin(asked: CompletionRequest, served: Served) -> tuple[Served, list[Prompt], list[Generation]]:
    require_served(asked.model, served)
    prompts = _prompts(asked, served.engine)
    return served, prompts, _submit(asked, prompts, served.engine)


def _prompts(asked: CompletionRequest, engine: Engine) -> list[Prompt]:
    n_vocab = engine.hparams.n_vocab
    for prompt in asked.prompts:
        if not isinstance(prompt, str) and not all(0 <= token < n_vocab for token in prompt):
            raise field_problem("prompt", f"Tokens are numbers from 0 to {n_vocab - 1}")
    return [Prompt.of(prompt, engine.tokenizer) for prompt in asked.prompts]


def _submit(asked: CompletionRequest, prompts: list[Prompt], engine: Engine) -> list[Generation]:
    """All prompts' generations, which end with the answer."""
    settings: Settings = current_app.extensions["settings"]
    params = _sampling_params(asked)
    try:
        generations = engine.submit_all(
            [prompt.tokens for prompt in prompts], params, settings.request_timeout
        )
    except PromptTooLongError as error:
        detail = (
            f"It is {error.tokens} tokens long and may be {error.limit} at most"
            f" (n_ctx {engine.hparams.n_ctx}, one of them for the answer); shorten it"
        )
        raise ProblemError(
            HTTPStatus.BAD_REQUEST,
            f"prompt: {detail}",
            [FieldError(field="prompt", detail=detail)],
            code="context_length_exceeded",
        ) from None
    for generation in generations:
        cancel_if_reader_leaves(generation)
        follow(generation)  # afterwards, for a text that nobody took is cancelled then
    return generations


def _sampling_params(asked: CompletionRequest) -> SamplingParams:
    return SamplingParams(
        length=max(asked.max_tokens, 1),
        temperature=asked.temperature,
        top_k=asked.top_k,
        # For the engine 1 would be a limit, which top_k yields to, and 0 is none.
        top_p=0.0 if asked.top_p == 1 else max(asked.top_p, 1e-9),
        nsamples=asked.n,
        seed=secrets.randbelow(MAX_SEED + 1) if asked.seed is None else asked.seed % (MAX_SEED + 1),
        stop=asked.stops,
        logprobs=asked.logprobs,
        prompt_logprobs=asked.echo and asked.logprobs is not None,
    )


def _events(
    asked: CompletionRequest,
    answer: Completion,
    generations: list[Generation],
    choices: list[list[GrowingChoice]],
    engine: Engine,
) -> Generator[str]:
    """The answer in chunks: pieces of all choices side by side, of each what ended it, and the usage."""
    with_usage = asked.stream_options is not None and asked.stream_options.include_usage

    def chunk(*told: Choice, usage: Usage | None = None) -> str:
        part = answer.model_copy(update={"choices": list(told), "usage": usage})
        return event(part.model_dump_json(exclude=None if with_usage else {"usage"}))

    streams = [generation.stream(idle=0) for generation in generations]

    def news() -> Iterator[str]:
        """What has come since the last time, of every prompt; waits for nothing."""
        for stream, of_prompt in zip(streams, choices, strict=True):
            text = dict.fromkeys(range(asked.n), "")
            for piece in stream:
                if piece is None:
                    break
                text[piece.sample] += piece.text
            for number, choice in enumerate(of_prompt):
                yield from (chunk(told) for told in choice.news(text[number]))

    # Prompts begin in their order: while one waits, those behind it do. So the first that has not ended is the one to
    # wait for, and its pace is everybody's.
    for generation in generations:
        for beat in generation.stream(idle=IDLE_SECONDS, pause=partial(pause_seconds, engine)):
            yield from news()
            if beat is None:
                yield HEARTBEAT
        yield from news()
    require_reader(*generations)
    if with_usage:
        yield chunk(usage=_usage(asked, generations))
    yield event("[DONE]")


def _usage(asked: CompletionRequest, generations: list[Generation]) -> Usage:
    read = sum(generation.prompt_tokens for generation in generations)
    made = sum(len(sample.tokens) for generation in generations for sample in generation.samples)
    if asked.max_tokens == 0:
        made = 0
    return Usage(prompt_tokens=read, completion_tokens=made, total_tokens=read + made)
