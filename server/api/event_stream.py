"""Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html, section 9.2.5."""

from collections.abc import Generator
from typing import Any

from flask import Response, current_app, g, stream_with_context

from server.engine import Engine

EVENT_STREAM = "text/event-stream"

# While a text grows. A piece every 50 ms is as fast as anybody reads, and to wake hundreds of readers for every token
# would cost more than the tokens do: all of them together are woken so many times a second at most.
PAUSE_SECONDS = 0.05
PIECES_A_SECOND = 2000
# While nothing comes: often enough to see the queue move, and that the connection lives.
IDLE_SECONDS = 0.5

HEARTBEAT = ":\n\n"  # a comment, which readers skip


def pause_seconds(engine: Engine) -> float:
    """How long a reader is left alone between two pieces, for as many as read at present."""
    return max(PAUSE_SECONDS, engine.running / PIECES_A_SECOND)


def event(data: str, name: str | None = None) -> str:
    """One event; `data` must be one line, as JSON is."""
    return f"event: {name}\ndata: {data}\n\n" if name else f"data: {data}\n\n"


def event_stream(events: Generator[str]) -> Response:
    """Answer with events as they come. What is raised among them becomes the last: `event: error`, and the problem.

    A reader who leaves closes the generator.
    """
    g.is_streaming = True

    def body() -> Generator[str]:
        try:
            yield from events
        except Exception as error:
            refusal = current_app.make_response(current_app.handle_user_exception(error))
            yield event(refusal.get_data(as_text=True).strip(), "error")

    return Response(
        stream_with_context(body()),
        mimetype=EVENT_STREAM,
        # For nginx: pass on at once what comes, and do not collect it.
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def is_streaming() -> bool:
    """Whether this request is answered with events: an error is one of them then, and no page."""
    return bool(g.get("is_streaming"))


def documented(*events: tuple[str, dict[str, Any]], example: str) -> dict[str, Any]:
    """What the OpenAPI document says of an answer: the events' names, each with the schema of its `data`.

    OpenAPI 3.1 has no words for a stream, so the schema is of each event, as 3.2's `itemSchema` will be.
    """
    schemas = [
        {
            "type": "object",
            "properties": {"event": {"const": name}, "data": data},
            "required": ["event", "data"],
        }
        for name, data in events
    ]
    schema = {"title": "Event", "description": "Each event, as EventSource tells it.", "anyOf": schemas}
    return {EVENT_STREAM: {"schema": schema, "example": example}}


def json_text(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a text that is JSON of this schema."""
    return {"type": "string", "contentMediaType": "application/json", "contentSchema": schema}
