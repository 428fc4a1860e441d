"""Pages for people: what all have in common, and what a browser without JavaScript gets from GET /generate.

They hold no script and no style of their own (nginx's policy allows none) but the site's style.css.
"""

import html
from http import HTTPStatus
from urllib.parse import urlencode

from flask import Flask, Response, request

from server.api.event_stream import EVENT_STREAM, is_streaming

JSON, HTML = "application/json", "text/html"

PATH = "/generate"

_SKELETON = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <title>{title}</title>
  <link rel="icon" href="favicon.svg" type="image/svg+xml">
  <link rel="stylesheet" href="style.css">
</head>
<body>
  <main class="{kind}">
{body}  </main>
</body>
</html>
"""

_BACK = '    <p><a href="./">Back to the start</a></p>\n'


def skeleton(title: str, body: str, kind: str) -> str:
    """A page at the top level of the site. `title` is text, `body` HTML; `kind` is a class for the style sheet."""
    return _SKELETON.format(title=html.escape(title), body=body, kind=kind)


def register(app: Flask) -> None:
    """Tell caches that what `app` answers at /generate depends on the Accept header."""

    @app.after_request
    def vary(response: Response) -> Response:
        if request.path == PATH:
            response.vary.add("Accept")
        return response


def form() -> str:
    """The media type that Accept prefers of those that /generate has.

    A page is for a browser's GET that shows the answer itself: who says `stream` is a program, whatever its Accept.
    """
    forms = [JSON, EVENT_STREAM]
    # The query's characters: nobody has looked at them yet.
    if request.method == "GET" and b"stream=" not in request.query_string:
        forms.append(HTML)
    return request.accept_mimetypes.best_match(forms, JSON)


def is_wanted() -> bool:
    """Whether this is a GET /generate whose answer, or error, is to be a page. Within a stream nothing is."""
    return request.path == PATH and not is_streaming() and form() == HTML


def episode(prefix: str, texts: list[str], seed: int) -> Response:
    """The texts, with links to the very same ones again and to others from the same fields."""
    fields = dict(request.args)
    same = fields | {"seed": str(seed)}
    others = {field: value for field, value in fields.items() if field != "seed"}
    opening = " ".join(prefix.split())
    opening = opening if len(opening) <= 80 else f"{opening[:79]}…"
    body = f"    <h1>{html.escape(opening)}</h1>\n"
    for text in texts:
        body += f"    <article>{_paragraphs(text)}</article>\n"
    body += f"    <p>{_link(same, 'The same again')}: this address brings it back. {_link(others, 'Another one')}</p>\n"
    return _respond(skeleton(opening, body + _BACK, "episode"))


def problem(
    status: HTTPStatus, detail: str, request_id: str, headers: dict[str, str], tries_again: bool
) -> Response:
    """What went wrong and what to do about it; `tries_again`: by itself, after the Retry-After among `headers`."""
    title = "That did not work"
    body = f"    <h1>{title}</h1>\n    {_paragraphs(detail)}\n"
    if tries_again:
        seconds = headers["Retry-After"]
        headers = headers | {"Refresh": seconds}
        body += f"    <p>This page tries again by itself in {seconds} seconds.</p>\n"
    body += f"    <p><small>request_id {request_id}</small></p>\n"
    return _respond(skeleton(title, body + _BACK, "problem"), status, headers)


def _paragraphs(text: str) -> str:
    """All in one line, for the style sheet lets an article keep its line breaks."""
    return "".join(f"<p>{html.escape(line)}</p>" for line in text.splitlines() if line.strip())


def _link(fields: dict[str, str], words: str) -> str:
    return f'<a href="{html.escape(f"generate?{urlencode(fields)}")}">{words}</a>'


def _respond(
    page: str, status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None
) -> Response:
    return Response(page, status, {"Cache-Control": "no-store"} | (headers or {}), mimetype=HTML)
