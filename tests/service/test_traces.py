"""Traces, as a collector gets them from the real service: by OTLP over HTTP."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from flask import Flask, Response, g
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from server.api import traces
from tests.service.stack import Stack, at_rest, direct_session, free_ports, leave_when, running, wait_until
from tests.service.test_process import SLOW

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
SECRET = "Ditto keeps it to itself"


class Collector:
    """What has been received. url: where."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.services: set[str] = set()
        self.spans: list[Span] = []

    def take(self, sent: ExportTraceServiceRequest) -> None:
        for of_resource in sent.resource_spans:
            self.services |= {
                attribute.value.string_value
                for attribute in of_resource.resource.attributes
                if attribute.key == "service.name"
            }
            for of_scope in of_resource.scope_spans:
                self.spans.extend(of_scope.spans)


@contextmanager
def collecting() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.take(ExportTraceServiceRequest.FromString(body))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Nothing: the test looks at the spans."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


def traced(new_stack: Callable[..., Stack], endpoint: str, **settings: str) -> Stack:
    return new_stack(
        POKEGEN_TRACES="1",
        **{"POKEGEN_ENGINE": "int8"} | settings,
        OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
        OTEL_BSP_SCHEDULE_DELAY="100",
        no_proxy="127.0.0.1",
    )


def attributes(span: Span) -> dict[str, str | bool | int | float]:
    values = {attribute.key: attribute.value for attribute in span.attributes}
    return {key: getattr(value, value.WhichOneof("value") or "") for key, value in values.items()}


@pytest.mark.parametrize("stream", ["true", "false"])
def test_a_request_is_a_span_of_its_callers_trace_and_its_text_has_three(
    new_stack: Callable[..., Stack], stream: str
) -> None:
    query = f"/generate?length=20&nsamples=2&temperature=0&prefix={SECRET}&stream={stream}"
    with (
        collecting() as collector,
        running(traced(new_stack, collector.url, POKEGEN_TRUSTED_PROXIES="127.0.0.1")) as stack,
    ):
        answer = stack.get(query, headers={"traceparent": f"00-{TRACE}-{CALLER}-01"})
        assert answer.status_code == 200
        wait_until(lambda: len(collector.spans) >= 4, within=60, what="four spans")
    spans = {span.name: span for span in collector.spans}
    assert spans.keys() == {"GET /generate", "queue", "prompt", "writing"}, "the probes have none"
    assert collector.services == {"pokegen"}
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    request = spans["GET /generate"]
    assert request.parent_span_id.hex() == CALLER
    assert request.kind == Span.SPAN_KIND_SERVER
    known = attributes(request)
    assert known["http.response.status_code"] == 200
    assert known["http.route"] == "/generate"
    assert known["pokegen.request_id"] == answer.headers["X-Request-ID"]
    parts = [spans["queue"], spans["prompt"], spans["writing"]]
    assert {part.parent_span_id for part in parts} == {request.span_id}
    times = [request.start_time_unix_nano, *(part.end_time_unix_nano for part in parts)]
    assert times == sorted(times)
    assert [part.start_time_unix_nano for part in parts[1:]] == times[1:3]
    assert attributes(parts[2])["pokegen.completion_tokens"] == 40
    assert [attributes(part)["pokegen.cancelled"] for part in parts] == [False] * 3
    assert "Ditto" not in str(collector.spans)


def test_a_text_whose_reader_left_was_cancelled(new_stack: Callable[..., Stack]) -> None:
    numpy = {"POKEGEN_ENGINE": "numpy"}  # it takes seconds
    with collecting() as collector, running(traced(new_stack, collector.url, **numpy)) as stack:
        leave_when(stack.url, SLOW, lambda: not at_rest(stack.http), what="the text to be begun")
        wait_until(lambda: len(collector.spans) >= 3, within=60, what="the request's span and its text's")
    told = [attributes(span) for span in collector.spans]
    assert {span["pokegen.cancelled"] for span in told if "pokegen.completion_tokens" in span} == {True}


def test_strangers_choose_no_trace(new_stack: Callable[..., Stack]) -> None:
    with collecting() as collector, running(traced(new_stack, collector.url)) as stack:
        stranger = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
        assert stack.get("/generate?length=1", headers=stranger).status_code == 200
        wait_until(lambda: len(collector.spans) >= 4, within=60, what="four spans")
    assert TRACE not in {span.trace_id.hex() for span in collector.spans}


def test_what_the_service_fails_at_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Flask(__name__)

    @app.before_request
    def name() -> None:
        g.request_id = "1"

    @app.get("/<int:status>")
    def end(status: int) -> Response:
        return Response(status=status)

    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        traces.register(app)
        for status in (200, 422, 500, 503):
            app.test_client().get(f"/{status}", buffered=True)
        app.extensions["tracer"].span_processor.shutdown()  # what is left is sent
    codes = {attributes(span)["http.response.status_code"]: span.status.code for span in collector.spans}
    unset, error = Status.STATUS_CODE_UNSET, Status.STATUS_CODE_ERROR
    assert codes == {200: unset, 422: unset, 500: error, 503: error}


@pytest.mark.parametrize(
    ("variable", "value", "service"),
    [
        ("OTEL_SERVICE_NAME", "", "pokegen"),
        ("OTEL_SERVICE_NAME", "episodes", "episodes"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=ours,zone=1", "ours"),
    ],
)
def test_opentelemetrys_variables_name_the_service(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, service: str
) -> None:
    monkeypatch.setenv(variable, value)
    app = Flask(__name__)
    traces.register(app)
    assert app.extensions["tracer"].resource.attributes["service.name"] == service
    app.extensions["tracer"].span_processor.shutdown()


def test_a_collector_that_is_not_there_holds_nobody_up(new_stack: Callable[..., Stack]) -> None:
    [nobody] = free_ports(1)
    with running(traced(new_stack, f"http://127.0.0.1:{nobody}")) as stack, direct_session() as session:
        for _ in range(20):
            answer = session.get(stack.url + "/generate?length=1", timeout=2)
            assert answer.status_code == 200
        stack.stop(within=20)
