"""Cross-origin requests (the Fetch standard's CORS protocol): which other sites' scripts may read answers.

Nothing here is secret and no request carries cookies; the list says whose pages may spend this machine's time.
"""

import re
from collections.abc import Sequence

from flask import Flask, Response
from flask_cors import CORS

from server.settings import ALL_ORIGINS


def register(app: Flask, origins: Sequence[str]) -> None:
    """Let scripts of these origins read every answer of `app`, errors too; ("*",) is everybody, () is nobody."""
    if not origins:
        return
    everybody = ALL_ORIGINS in origins
    CORS(
        app,
        # flask-cors would take an IPv6 address in its brackets for a pattern.
        origins=ALL_ORIGINS if everybody else [re.compile(re.escape(origin) + r"\Z") for origin in origins],
        methods=["GET", "HEAD", "POST"],
        expose_headers=["Retry-After", "X-Request-ID"],
        max_age=7200,  # the longest that Chromium keeps the answer to a preflight
        send_wildcard=everybody,
        always_send=everybody,
        vary_header=False,
    )
    if not everybody:

        @app.after_request
        def vary(response: Response) -> Response:
            """Each answer depends on who asked, also the one that says nothing of origins: caches must know."""
            response.vary.add("Origin")
            return response
