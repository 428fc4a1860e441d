"""GET and POST /generate: an episode that begins with the reader's prefix, whole or as it is written."""

import secrets
from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus

from flask import Response, current_app, request
from flask_openapi3 import APIBlueprint, Tag

from server.api import page
from server.api.departures import cancel_if_reader_leaves, require_reader
from server.api.event_stream import EVENT_STREAM, HEARTBEAT, IDLE_SECONDS, event, event_stream, pause_seconds
from server.api.problems import IN_BODY, IN_QUERY, field_problem
from server.api.schemas import (
    GenerateAnswer,
    GenerateBody,
    GenerateQuery,
    PieceRecord,
    SampleRecord,
    TimingRecord,
    Usage,
    WaitingRecord,
)
from server.api.sentences import until_last_sentence_end
from server.api.shares import take_share
from server.engine import MAX_SEED, Generation, PromptTooLongError, Sample, SamplingParams, Timing
from server.serving import Served, get_serving
from server.settings import Settings

blueprint = APIBlueprint("generate", __name__, abp_tags=[Tag(name="Episodes")])


@blueprint.get(
    page.PATH,
    operation_id="generate",
    summary="Write an episode",
    responses={HTTPStatus.OK: GenerateAnswer} | IN_QUERY,
)
def generate_from_query(query: GenerateQuery) -> Response:
    """Write an episode; the fields are in the query string. A browser gets a page."""
    if page.is_wanted():
        answer = write(query)
        return page.episode(answer.prefix, [sample.text for sample in answer.samples], answer.seed)
    return _generate(query)


@blueprint.post(
    page.PATH,
    operation_id="generateFromBody",
    summary="Write an episode",
    responses={HTTPStatus.OK: GenerateAnswer} | IN_BODY,
)
def generate_from_body(body: GenerateBody) -> Response:
    """Write an episode; the fields are a JSON object."""
    return _generate(body)


def write(asked: GenerateQuery, prefix_field: str = "prefix") -> GenerateAnswer:
    """The whole answer. Raises as Engine.submit and Generation.result do, ProblemError, and ReaderLeftError.

    prefix_field: what the reader knows the prefix as, for the error when it is too long.
    """
    begun = _begin(asked, prefix_field)
    begun.generation.result()
    require_reader(begun.generation)
    return _answer(begun, asked)


def _generate(asked: GenerateQuery) -> Response:
    if asked.stream or request.accept_mimetypes.best_match([page.JSON, EVENT_STREAM]) == EVENT_STREAM:
        return event_stream(_events(_begin(asked), asked))
    body = write(asked).model_dump_json() + "\n"
    return Response(body, mimetype=page.JSON, headers={"Cache-Control": "no-store"})


@dataclass(frozen=True)
class _Begun:
    """A generation, which ends when its reader leaves, the prefix that it goes on from, and the checkpoint that does."""

    generation: Generation
    prefix: str
    served: Served


def _begin(asked: GenerateQuery, prefix_field: str = "prefix") -> _Begun:
    settings: Settings = current_app.extensions["settings"]
    if asked.nsamples > settings.max_samples:
        raise field_problem(
            "nsamples", f"Input should be at most {settings.max_samples}; it is {asked.nsamples}"
        )

    take_share(asked.nsamples)
    prefix = asked.prefix if asked.prefix.strip() else settings.opening
    params = _sampling_params(asked, settings)

    def submit(served: Served) -> _Begun:
        return _Begun(served.engine.submit(prefix, params, settings.request_timeout), prefix, served)

    try:
        begun = get_serving().ask(submit)
    except PromptTooLongError as error:
        raise field_problem(
            prefix_field,
            f"It is {error.tokens} tokens long and may be {error.limit} at most"
            f" (n_ctx {error.limit + 1}, one of them for the answer); shorten it",
        ) from None
    cancel_if_reader_leaves(begun.generation)
    return begun


def _events(begun: _Begun, asked: GenerateQuery) -> Generator[str]:
    """The texts piece by piece, the place in the queue until they begin, and the whole answer at the end."""
    generation, engine = begun.generation, begun.served.engine
    unsaid_prefix = [begun.prefix if asked.include_prefix else ""] * asked.nsamples
    left_away = {"sample"} if asked.nsamples == 1 else None
    for piece in generation.stream(idle=IDLE_SECONDS, pause=partial(pause_seconds, engine)):
        if piece:
            record = PieceRecord(text=unsaid_prefix[piece.sample] + piece.text, sample=piece.sample)
            unsaid_prefix[piece.sample] = ""
            yield event(record.model_dump_json(exclude=left_away))
        elif place := engine.place_in_queue(generation):
            waiting = WaitingRecord(ahead=place.ahead, seconds=round(place.seconds, 1))
            yield event(waiting.model_dump_json(), "waiting")
        else:
            yield HEARTBEAT
    require_reader(generation)
    yield event(_answer(begun, asked).model_dump_json(), "done")


def _sampling_params(asked: GenerateQuery, settings: Settings) -> SamplingParams:
    return SamplingParams(
        length=settings.length if asked.length is None else asked.length,
        temperature=settings.temperature if asked.temperature is None else asked.temperature,
        top_k=settings.top_k if asked.top_k is None else asked.top_k,
        top_p=settings.top_p if asked.top_p is None else asked.top_p,
        nsamples=asked.nsamples,
        seed=secrets.randbelow(MAX_SEED + 1) if asked.seed is None else asked.seed,
        stop=(asked.truncate,) if asked.truncate else (),
    )


def _answer(begun: _Begun, asked: GenerateQuery) -> GenerateAnswer:
    generation, prefix = begun.generation, begun.prefix
    samples = [_record(sample, prefix, asked) for sample in generation.samples]
    made = sum(sample.tokens for sample in samples)
    return GenerateAnswer(
        text=samples[0].text,
        samples=samples,
        prefix=prefix,
        seed=generation.params.seed,
        usage=Usage(
            prompt_tokens=generation.prompt_tokens,
            completion_tokens=made,
            total_tokens=generation.prompt_tokens + made,
        ),
        model=begun.served.model,
        fingerprint=begun.served.fingerprint,
        timing=_timing(generation.timing, made),
    )


def _record(sample: Sample, prefix: str, asked: GenerateQuery) -> SampleRecord:
    text = sample.text
    if asked.whole_sentences and sample.finish_reason == "length":
        text = until_last_sentence_end(text)
    if asked.include_prefix:
        text = prefix + text
    return SampleRecord(text=text, finish_reason=sample.finish_reason, tokens=len(sample.tokens))


def _timing(timing: Timing, tokens: int) -> TimingRecord:
    return TimingRecord(
        queue_s=round(timing.started - timing.submitted, 4),
        first_token_s=round(timing.first_token - timing.submitted, 4),
        total_s=round(timing.finished - timing.submitted, 4),
        tokens_per_s=round(tokens / max(timing.finished - timing.started, 1e-6), 1),
    )
