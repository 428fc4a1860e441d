"""Logs as JSON lines on standard error, each with the id of the request that it belongs to."""

import logging
import sys
import time

from flask import Flask, Response, g, has_request_context, request
from pythonjsonlogger.json import JsonFormatter

access = logging.getLogger("server.access")


class _RequestIdFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = g.get("request_id") if has_request_context() else None
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
    """Write one line for every request that `app` answers. What the reader typed stays out of it."""

    @app.before_request
    def start_clock() -> None:
        g.started = time.monotonic()

    @app.after_request
    def write_line(response: Response) -> Response:
        access.info(
            "%s %s %d",
            request.method,
            request.path,
            response.status_code,
            extra={
                "method": request.method,
                "path": request.path,
                "status": response.status_code,
                "bytes": response.calculate_content_length(),
                "duration_ms": round(1000 * (time.monotonic() - g.started), 1),
                "remote": request.remote_addr,
            },
        )
        return response
