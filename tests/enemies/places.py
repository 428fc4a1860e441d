"""Requests that bring every kind of answer the service has, by status: for what must hold of all of them."""

from typing import NamedTuple

from tests.enemies.wire import head

CLOSE = b"Connection: close"
JSON = b"Content-Type: application/json"
PAGE = b"Accept: text/html"


class Place(NamedTuple):
    """What it is, the request, and the status of the answer."""

    name: str
    request: bytes
    status: int


def get(name: str, target: bytes, status: int, *fields: bytes) -> Place:
    return Place(name, head(b"GET", target, CLOSE, *fields), status)


def post(name: str, target: bytes, status: int, body: bytes = b"{}", *fields: bytes) -> Place:
    framing = [b"Content-Length: %d" % len(body), CLOSE, *(fields or [JSON])]
    return Place(name, head(b"POST", target, *framing) + body, status)


# With the checkpoint of conftest.py, whose card is damaged.
PLACES = [
    get("the site", b"/", 200),
    get("a file", b"/style.css", 200),
    get("a script", b"/js/main.js", 200, b"Accept-Encoding: gzip"),
    get("a picture", b"/favicon.svg", 200),
    get("robots.txt", b"/robots.txt", 200),
    get("a part of a file", b"/style.css", 200, b"Range: bytes=0-9"),
    get("an episode", b"/generate?length=1", 200),
    get("an episode as a page", b"/generate?length=1", 200, PAGE),
    get("a stream", b"/generate?length=1&stream=true", 200),
    post("a posted episode", b"/generate", 200),
    get("pkm-ep-generator", b"/?sample=Ash", 200),
    post("gpt-2-cloud-run", b"/", 200, b'{"length": 1}'),
    get("opengpt2", b"/text-generate", 200),
    get("models", b"/v1/models", 200),
    get("alive", b"/healthz", 200),
    get("ready", b"/readyz", 200),
    get("apidocs", b"/apidocs/", 200),
    get("a file of apidocs", b"/apidocs/swagger-ui.css", 200),
    get("the OpenAPI document", b"/openapi.json", 200),
    Place("a preflight", head(b"OPTIONS", b"/generate", CLOSE, b"Origin: https://a.example"), 200),
    Place("HEAD", head(b"HEAD", b"/", CLOSE), 200),
    get("a folder without its slash", b"/js", 301),
    get("a file that has not changed", b"/style.css", 304, b"If-None-Match: *"),
    get("apidocs without its slash", b"/apidocs", 308),
    get("an address that is none", b"/%zz", 400),
    get("two hosts", b"/", 400, b"Host: two"),
    get("a query that is no UTF-8", b"/generate?prefix=%ff", 400),
    post("a body that is no JSON", b"/generate", 400, b"{"),
    post("the same below /v1", b"/v1/completions", 400, b"{"),
    get("a folder", b"/js/", 403),
    get("JSONP", b"/?sample=Ash&callback=f", 403),
    get("nowhere", b"/none", 404),
    get("nowhere below /v1", b"/v1/none", 404),
    get("no such model", b"/v1/models/none", 404),
    get("nowhere below apidocs", b"/apidocs/none", 404),
    get("a card that is not there", b"/model", 404, PAGE),
    post("POST to a file", b"/robots.txt", 405),
    get("GET where POST is", b"/v1/completions", 405),
    Place("TRACE", head(b"TRACE", b"/generate", CLOSE), 405),
    get("a card as a film", b"/model", 406, b"Accept: video/mp4"),
    get("a file that has changed", b"/style.css", 412, b'If-Match: "x"'),
    post("too large", b"/generate", 413, b" " * 65537),
    post("too large below /v1", b"/v1/completions", 413, b" " * 65537),
    get("an address too long", b"/" + b"a" * 17_000, 414),
    post("a form", b"/generate", 415, b"a=b", b"Content-Type: application/x-www-form-urlencoded"),
    get("behind a file's end", b"/style.css", 200, b"Range: bytes=9999999-"),
    get("a wrong field", b"/generate?length=0", 422),
    get("a wrong field on a page", b"/generate?length=0", 422, PAGE),
    get("fields too large", b"/", 431, b"X: " + b"a" * 17_000),
    get("a damaged card", b"/model", 500, b"Accept: application/json"),
]
# Where nginx finds no application behind it.
ALONE = [
    get("the site alone", b"/", 200),
    get("no application", b"/generate", 502),
    get("no application below /v1", b"/v1/models", 502),
]
