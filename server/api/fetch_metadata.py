"""Pages of other sites may not spend this machine's time: by default nobody may embed it, or post to it unseen.

The browser's rule of one origin keeps them from reading answers, but not from asking: an <img> whose address is
/generate?length=1000 on a much-read page would have each of its readers ask for a text. Browsers say where a request
comes from (https://www.w3.org/TR/fetch-metadata/) wherever the page has TLS or is this machine's own.
"""

from collections.abc import Collection, Sequence
from http import HTTPStatus

from flask import Flask, request

from server.api.problems import ProblemError
from server.settings import ALL_ORIGINS


def register(app: Flask, origins: Sequence[str], blueprints: Collection[str]) -> None:
    """Refuse, at all addresses of these blueprints, what pages of other sites ask for; not those of `origins`.

    Links that a person follows lead here from everywhere.
    """
    if ALL_ORIGINS in origins:
        return

    @app.before_request
    def refuse() -> None:
        if request.blueprint not in blueprints or request.headers.get("Sec-Fetch-Site") != "cross-site":
            return
        is_link = (request.method, request.headers.get("Sec-Fetch-Dest")) == ("GET", "document")
        if not is_link and request.headers.get("Origin") not in origins:
            raise ProblemError(
                HTTPStatus.FORBIDDEN,
                "A page of another site asked for this, and POKEGEN_CORS_ORIGINS does not name that site.",
            )
