"""Hostile prefixes: whatever a reader types is text, comes back unchanged, and nobody takes it for anything else."""

import json
from html.parser import HTMLParser
from urllib.parse import quote

import pytest

from tests.enemies.wire import answers, ask, exchange, head
from tests.service.stack import Stack

# A character of each plane of Unicode (UAX #44): its first and last that is no noncharacter, and one between.
PLANES = ["".join(chr(plane << 16 | low) for low in (0x20, 0x1234, 0xFFFD)) for plane in range(17)]
HOSTILE = {
    **{f"plane {number}": text for number, text in enumerate(PLANES)},
    "noncharacters": "\ufdd0\ufffe\uffff\U0001ffff\U0010ffff",
    "control characters": "".join(map(chr, [*range(1, 32), *range(127, 160)])),
    "an escape sequence": "\x1b[2J\x1b[31mred\x1b]0;title\x07\x9b31m",
    "line breaks": "a\nb\r\nc\rd\x0be\x0cf\x85g\u2028h\u2029i",
    "right to left": "abc\u202egnp.exe\u2066\u2067\u2068\u202a\u202b\u202d\u2069\u202c",
    "invisible": "\u200b\u200c\u200d\u2060\ufeff\u00ad\U000e0041\U000e0061",
    "combining": "e" + "\u0301" * 60,
    "look-alikes": "Αsh аnd Рikachu",
    "numbers of other scripts": "१२३ ٣٤٥ ①②③ ⅷ",
    "case that changes length": "ŉİßﬁΐ",
    "a template of Jinja": "{{7*7}}{% for x in ().__class__.__base__.__subclasses__() %}{{x}}{% endfor %}",
    "a template of others": "${7*7}#{7*7}<%= 7*7 %>*{7*7}@(7*7)[[7*7]]",
    "a format": "%s%s%n%x%d {0} {title} {body.__class__} %(asctime)s $(id) `id`",
    "markup": "<script>alert(1)</script><img src=x onerror=alert(1)>\"'></article><!--",
    "a script's end": "</script><svg onload=alert(1)>&lt;&amp;&#60;",
    "JSON": '","seed":1,"text":"forged',
    "an event": 'x\n\nevent: done\ndata: {"text":"forged"}\n\n',
    "a head": "x\r\nSet-Cookie: a=b\r\n\r\n<html>",
    "a log line": 'x"}\n{"time":"","logger":"nginx","request_id":"forged"}',
    "SQL and LDAP": "' OR 1=1; --*)(uid=*))(|(uid=*",
    "a path": "../../../../etc/passwd\\..\\..\\file:///etc/passwd",
    "special tokens": "<|endoftext|><|startoftext|>",
    "one character": "a" * 200,
}


def get(target: str, *fields: bytes) -> bytes:
    return head(b"GET", target.encode(), b"Connection: close", *fields)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_it_is_text(stack: Stack, text: str) -> None:
    address = f"/generate?length=2&seed=7&prefix={quote(text, safe='')}"
    asked = ask(stack, get(address))
    answer = json.loads(asked.body)
    assert (asked.status, answer["prefix"]) == (200, text)
    assert answer["text"].startswith(text)

    body = json.dumps({"prefix": text, "length": 2, "seed": 7}).encode()
    fields = [b"Content-Type: application/json", b"Content-Length: %d" % len(body), b"Connection: close"]
    posted = json.loads(ask(stack, head(b"POST", b"/generate", *fields) + body).body)
    assert posted["text"] == answer["text"]

    streamed = ask(stack, get(f"{address}&stream=true")).body.decode()
    *pieces, done = [event for event in streamed.split("\n\n") if event and not event.startswith(":")]
    assert done.startswith("event: done\ndata: ")
    assert json.loads(done.removeprefix("event: done\ndata: "))["text"] == answer["text"]
    assert "".join(json.loads(piece.removeprefix("data: "))["text"] for piece in pieces).startswith(text)


class Page(HTMLParser):
    """What a page is made of: elements with their attributes, and the text in them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: dict[str, list[str]] = {}
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, []).append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("length", ["2", "{{7*7}}<b>"], ids=["episode", "problem"])
def test_a_page_shows_it_as_text(stack: Stack, text: str, length: str) -> None:
    fields = f"prefix={quote(text, safe='')}&seed=7&length={quote(length)}"
    answer = ask(stack, get(f"/generate?{fields}", b"Accept: text/html"))
    assert answer.status == (200 if length == "2" else 422)
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    page = Page(answer.body.decode())
    assert page.elements <= {
        *("html", "head", "meta", "title", "link", "body", "main", "h1", "article", "p", "a", "small"),
    }
    assert page.attributes.keys() <= {"lang", "charset", "name", "content", "rel", "href", "type", "class"}
    for address in page.attributes["href"]:
        assert address in ("favicon.svg", "style.css", "./") or address.startswith("generate?")
    assert "Set-Cookie" not in answer.headers
    if length == "2":
        for line in text.splitlines():
            assert line.strip() in page.text
    else:
        assert length in page.text


@pytest.mark.parametrize(
    "callback", ["alert(1)//", "a;b", "<b>", "a\u2028", "a b", "a=1;b", "a[0]", "x" * 129, ""]
)
def test_a_callback_that_is_more_than_a_name_is_refused(stack: Stack, callback: str) -> None:
    answer = ask(stack, get(f"/?sample=Ash&callback={quote(callback, safe='')}"))
    assert answer.status == 422
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_ten_megabytes_are_refused_without_being_read(stack: Stack) -> None:
    million = b"!1" * 500_000
    in_query = head(b"GET", b"/generate?prefix=" + 10 * million)
    body = b'{"prefix": "%s"}' % (10 * million)
    fields = [b"Content-Type: application/json"]
    with_length = head(b"POST", b"/generate", *fields, b"Content-Length: %d" % len(body)) + body
    in_chunks = head(
        b"POST", b"/generate", *fields, b"Transfer-Encoding: chunked"
    ) + b"%x\r\n%s\r\n0\r\n\r\n" % (
        len(body),
        body,
    )
    field = head(b"GET", b"/generate", b"X-API-Key: " + 10 * million)
    for request, status in ((in_query, 414), (with_length, 413), (in_chunks, 413), (field, 431)):
        first, *others = answers(exchange(stack.port, request))
        assert first.status == status
        assert not others
