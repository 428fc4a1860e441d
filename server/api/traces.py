"""Traces by OpenTelemetry: of each request, and of each of its texts the queue, the prompt and the writing.

Off unless POKEGEN_TRACES is on. Where they go, and how many, OpenTelemetry's own variables say, such as
OTEL_EXPORTER_OTLP_ENDPOINT (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables). What
brings a `traceparent` is a part of that trace (https://www.w3.org/TR/trace-context). What readers type is in none.
"""

import time
from math import isinf
from typing import TYPE_CHECKING

from flask import Flask, Response, after_this_request, current_app, g, request

from server.engine import Generation

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

UNTRACED = {"/healthz", "/readyz", "/metrics"}  # asked every few seconds, for ever


def register(app: Flask) -> None:
    """Trace what is asked of `app`. The packages that this takes are there, or the settings would not be."""
    from opentelemetry import propagate
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import SpanKind, StatusCode

    resource = Resource.create()
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):  # nobody has said another
        resource = resource.merge(Resource({SERVICE_NAME: "pokegen"}))
    provider = TracerProvider(resource=resource)  # it sends what is left when the process ends
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    app.extensions["tracer"] = tracer = provider.get_tracer("pokegen")

    @app.before_request
    def begin() -> None:
        if request.path in UNTRACED:
            return
        route = request.url_rule.rule if request.url_rule else None
        attributes = {"http.request.method": request.method, "url.path": request.path}
        attributes |= {"http.route": route} if route else {}
        g.span = tracer.start_span(
            f"{request.method} {route}" if route else request.method,
            context=propagate.extract(request.headers),
            kind=SpanKind.SERVER,
            attributes=attributes | {"pokegen.request_id": g.request_id},
        )

    @app.after_request
    def end_when_sent(response: Response) -> Response:
        span: Span | None = g.pop("span", None)
        if span:
            span.set_attribute("http.response.status_code", response.status_code)
            if response.status_code >= 500:
                span.set_status(StatusCode.ERROR)
            response.call_on_close(span.end)
        return response


def follow(generation: Generation) -> None:
    """Let the trace of this request, if it has one, tell how the generation went: when the answer has been sent."""
    span: Span | None = g.get("span")
    if span is None:
        return
    tracer: Tracer = current_app.extensions["tracer"]

    @after_this_request
    def tell_when_sent(response: Response) -> Response:
        response.call_on_close(lambda: _tell(tracer, span, generation))
        return response


def _tell(tracer: "Tracer", parent: "Span", generation: Generation) -> None:
    """A span for each part of the text's time; the last may have been cut short."""
    from opentelemetry.trace import set_span_in_context

    now = time.monotonic()
    since_1970 = time.time() - now
    timing = generation.timing
    attributes = {
        "pokegen.prompt_tokens": generation.prompt_tokens,
        "pokegen.completion_tokens": sum(len(sample.tokens) for sample in generation.samples),
        "pokegen.cancelled": generation.cancelled,
    }
    began = timing.submitted
    for name, ended in [
        ("queue", timing.started),
        ("prompt", timing.first_token),
        ("writing", timing.finished),
    ]:
        span = tracer.start_span(
            name,
            context=set_span_in_context(parent),
            start_time=round((since_1970 + began) * 1e9),
            attributes=attributes,
        )
        span.end(round((since_1970 + min(ended, now)) * 1e9))
        if isinf(ended):
            return
        began = ended
