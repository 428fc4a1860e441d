"""Logs as JSON lines on standard error, each with the id of the request that it belongs to."""

import logging
import sys
import time
from functools import partial

from flask import Flask, Response, g, has_request_context, request
from pythonjsonlogger.json import JsonFormatter

access = logging.getLogger("server.access")


class _RequestIdFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if has_request_context():
            record.request_id = g.get("request_id")
        return True


def configure_logging(level: str) -> None:
    """Send all log records of `level` and above to standard error, a JSON object a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_RequestIdFilter())
    handler.setFormatter(
        JsonFormatter(
            "%(asctime)s %(levelname)s %(name)s %(message)s %(request_id)s",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            datefmt="%Y-%m-%dT%H:%M:%S%z",
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)


def log_access(app: Flask) -> None:
    """Write one line for every request that `app` answers, when its answer is known or, streamed, has been sent.

    What the reader typed stays out of it, and so does an API key, but not its name.
    """

    @app.before_request
    def start_clock() -> None:
        g.started = time.monotonic()

    @app.after_request
    def write_line(response: Response) -> Response:
        line = partial(
            _write_line,
            request.method,
            request.path,
            request.remote_addr,
            g.request_id,
            g.started,
            g.get("key_name"),
        )
        if response.direct_passthrough:  # a file, which the server sends without telling when it is done
            line(response.status_code, response.content_length)
        elif response.is_streamed:  # its length and its end are not known yet, and asking would wait for them
            response.call_on_close(lambda: line(response.status_code, None))
        else:
            line(response.status_code, response.calculate_content_length())
        return response


def _write_line(
    method: str,
    path: str,
    remote: str | None,
    request_id: str,
    started: float,
    key_name: str | None,
    status: int,
    length: int | None,
) -> None:
    access.info(
        "%s %s %d",
        method,
        path,
        status,
        extra={
            "request_id": request_id,
            "method": method,
            "path": path,
            "status": status,
            "bytes": length,
            "duration_ms": round(1000 * (time.monotonic() - started), 1),
            "remote": remote,
        }
        | ({"key": key_name} if key_name else {}),
    )
