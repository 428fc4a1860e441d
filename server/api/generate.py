"""GET and POST /generate: an episode that begins with the reader's prefix, whole or as it is written."""

import secrets
from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus

from flask import Response, current_app
from flask_openapi3 import APIBlueprint, Tag

from server.api import kept, page
from server.api.departures import cancel_if_reader_leaves, require_reader
from server.api.event_stream import EVENT_STREAM, HEARTBEAT, IDLE_SECONDS, event, event_stream, pause_seconds
from server.api.problems import IN_BODY, IN_QUERY, field_problem, shortened
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
from server.api.traces import follow
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
    """Write an episode; the fields are in the query string. A browser gets a page.

    What has a seed has an ETag, and may be kept by whoever passes it on.
    """
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
    return _write(_question(asked), prefix_field)


def _generate(asked: GenerateQuery) -> Response:
    question = _question(asked)
    served = get_serving().current
    form = EVENT_STREAM if asked.stream else page.form()
    if form == EVENT_STREAM:
        known = kept.find(question.name(served))
        return event_stream(_repeated(known) if known else _events(_begin(question), question))
    if kept.is_known(question.name(served), form):
        return kept.say_whether_to_keep(Response(status=HTTPStatus.NOT_MODIFIED), question.name(served), form)
    answer = _write(question)
    if form == page.HTML:
        response = page.episode(answer.prefix, [sample.text for sample in answer.samples], answer.seed)
    else:
        response = Response(answer.model_dump_json() + "\n", mimetype=page.JSON)
    return kept.say_whether_to_keep(response, question.name(answer), form)


@dataclass(frozen=True)
class _Question:
    """What is asked for, with the settings' defaults in it."""

    asked: GenerateQuery
    prefix: str
    params: SamplingParams
    may_be_kept: bool  # not without a seed: each is another

    def name(self, by: Served | GenerateAnswer) -> str | None:
        """That of its answer, by the checkpoint that `by` names; None where it may not be kept."""
        if not self.may_be_kept:
            return None
        shape = self.asked.include_prefix, self.asked.whole_sentences
        return kept.name_of(by.model, by.fingerprint, self.prefix, self.params, shape)


@dataclass(frozen=True)
class _Begun:
    """A generation, which ends when its reader leaves, and the checkpoint that it is of."""

    generation: Generation
    served: Served


def _question(asked: GenerateQuery) -> _Question:
    settings: Settings = current_app.extensions["settings"]
    if asked.nsamples > settings.max_samples:
        raise field_problem(
            "nsamples",
            f"Input should be at most {settings.max_samples}; it is {shortened(str(asked.nsamples))}",
        )
    prefix = asked.prefix if asked.prefix.strip() else settings.opening
    may_be_kept = asked.seed is not None and settings.keep > 0
    return _Question(asked, prefix, _sampling_params(asked, settings), may_be_kept)


def _write(question: _Question, prefix_field: str = "prefix") -> GenerateAnswer:
    if known := kept.find(question.name(get_serving().current)):
        return known
    begun = _begin(question, prefix_field)
    begun.generation.result()
    require_reader(begun.generation)
    return _answer(begun, question)


def _begin(question: _Question, prefix_field: str = "prefix") -> _Begun:
    settings: Settings = current_app.extensions["settings"]

    def submit(served: Served) -> _Begun:
        generation = served.engine.submit(question.prefix, question.params, settings.request_timeout)
        return _Begun(generation, served)

    take_share(question.params.nsamples)
    try:
        begun = get_serving().ask(submit)
    except PromptTooLongError as error:
        raise field_problem(
            prefix_field,
            f"It is {error.tokens} tokens long and may be {error.limit} at most"
            f" (n_ctx {error.limit + 1}, one of them for the answer); shorten it",
        ) from None
    cancel_if_reader_leaves(begun.generation)
    follow(begun.generation)  # afterwards, for a text that nobody took is cancelled then
    return begun


def _events(begun: _Begun, question: _Question) -> Generator[str]:
    """The texts piece by piece, the place in the queue until they begin, and the whole answer at the end."""
    generation, engine, asked = begun.generation, begun.served.engine, question.asked
    unsaid_prefix = [question.prefix if asked.include_prefix else ""] * asked.nsamples
    for piece in generation.stream(idle=IDLE_SECONDS, pause=partial(pause_seconds, engine)):
        if piece:
            yield _piece(unsaid_prefix[piece.sample] + piece.text, piece.sample, asked.nsamples)
            unsaid_prefix[piece.sample] = ""
        elif place := engine.place_in_queue(generation):
            waiting = WaitingRecord(ahead=place.ahead, seconds=round(place.seconds, 1))
            yield event(waiting.model_dump_json(), "waiting")
        else:
            yield HEARTBEAT
    require_reader(generation)
    for number, prefix in enumerate(unsaid_prefix):
        if prefix:  # the text ended at once
            yield _piece(prefix, number, asked.nsamples)
    yield event(_answer(begun, question).model_dump_json(), "done")


def _repeated(answer: GenerateAnswer) -> Generator[str]:
    """The events of a text that was written before: it is all there at once."""
    for number, sample in enumerate(answer.samples):
        yield _piece(sample.text, number, len(answer.samples))
    yield event(answer.model_dump_json(), "done")


def _piece(text: str, sample: int, nsamples: int) -> str:
    left_away = {"sample"} if nsamples == 1 else None
    return event(PieceRecord(text=text, sample=sample).model_dump_json(exclude=left_away))


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


def _answer(begun: _Begun, question: _Question) -> GenerateAnswer:
    """What has been written, which is kept."""
    generation = begun.generation
    samples = [_record(sample, question) for sample in generation.samples]
    made = sum(sample.tokens for sample in samples)
    answer = GenerateAnswer(
        text=samples[0].text,
        samples=samples,
        prefix=question.prefix,
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
    kept.keep(question.name(answer), answer)
    return answer


def _record(sample: Sample, question: _Question) -> SampleRecord:
    text, asked = sample.text, question.asked
    if asked.whole_sentences and sample.finish_reason == "length":
        text = until_last_sentence_end(text)
    if asked.include_prefix:
        text = question.prefix + text
    return SampleRecord(text=text, finish_reason=sample.finish_reason, tokens=len(sample.tokens))


def _timing(timing: Timing, tokens: int) -> TimingRecord:
    return TimingRecord(
        queue_s=round(timing.started - timing.submitted, 4),
        first_token_s=round(timing.first_token - timing.submitted, 4),
        total_s=round(timing.finished - timing.submitted, 4),
        tokens_per_s=round(tokens / max(timing.finished - timing.started, 1e-6), 1),
    )
