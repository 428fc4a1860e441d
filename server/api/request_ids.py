"""Every request has an id, which its answer and its log lines carry."""

import re
import uuid

from flask import Flask, Response, g, request

HEADER = "X-Request-ID"

# What may be taken over from a caller. nginx applies the same rule (nginx/nginx.conf).
_ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{1,64}")


def register(app: Flask) -> None:
    """Give each request of `app` the id that its caller sent, if it is a harmless one, or a new one."""

    @app.before_request
    def take_or_make() -> None:
        sent = request.headers.get(HEADER, "")
        g.request_id = sent if _ACCEPTABLE.fullmatch(sent) else uuid.uuid4().hex

    @app.after_request
    def put_on_answer(response: Response) -> Response:
        response.headers[HEADER] = g.request_id
        return response
