"""/generate for a browser without JavaScript: a page in place of JSON, errors too."""

import re
from html import unescape
from urllib.parse import parse_qs, urlsplit

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from server.engine import SamplingParams
from tests.unit.api.conftest import Small

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"}


def page(response: TestResponse, status: int = 200) -> str:
    """The page that this answer must be: escaped, without any script or style of its own."""
    assert (response.status_code, response.content_type) == (status, "text/html; charset=utf-8")
    assert response.headers["Cache-Control"] == "no-store"
    assert not re.search(r"<script|<style|\sstyle=|\son\w+=|https?:", response.text)
    assert response.text.count("<h1>") == 1
    assert '<a href="./">' in response.text
    return response.text


def links(text: str) -> list[dict[str, list[str]]]:
    """The fields of each link to /generate."""
    found = [urlsplit(unescape(address)) for address in re.findall('href="(generate[^"]*)"', text)]
    assert [address.path for address in found] == ["generate"] * len(found)
    return [parse_qs(address.query, strict_parsing=True) for address in found]


def test_it_is_the_same_text_in_paragraphs(client: FlaskClient) -> None:
    query = "/generate?prefix=Ash+was%0A%0Athere&length=20&seed=7"
    text = client.get(query).get_json()["text"]
    shown = page(client.get(query, headers=BROWSER))
    paragraphs = [
        unescape(paragraph) for paragraph in re.findall("<p>(.*?)</p>", shown.split("<article>")[1])
    ]
    assert paragraphs[:2] == ["Ash was", [line for line in text.splitlines() if line.strip()][1]]
    assert "<title>Ash was there</title>" in shown
    assert "<h1>Ash was there</h1>" in shown


def test_its_links_bring_back_the_same_text_or_another(client: FlaskClient) -> None:
    first = page(client.get("/generate?prefix=Ash+%26+Misty&length=20", headers=BROWSER))
    same, other = links(first)
    assert same == other | {"seed": same["seed"]}
    assert other == {"prefix": ["Ash & Misty"], "length": ["20"]}
    again = page(client.get("/generate", query_string=same, headers=BROWSER))
    assert re.findall("<article>.*</article>", again, re.DOTALL) == re.findall(
        "<article>.*</article>", first, re.DOTALL
    )
    assert links(again) == [same, other]


def test_each_sample_is_an_article(client: FlaskClient) -> None:
    assert page(client.get("/generate?nsamples=3&length=2", headers=BROWSER)).count("<article>") == 3


def test_what_the_reader_typed_is_text(client: FlaskClient) -> None:
    hostile = """</title></h1><script>alert("1")</script><img src=x onerror='alert(1)'>"""
    response = client.get("/generate", query_string={"prefix": hostile, "length": 1}, headers=BROWSER)
    assert "<script" not in response.text
    assert "<img" not in response.text
    assert "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;" in response.text
    assert links(response.text)[0]["prefix"] == [hostile]
    refused = client.get("/generate", query_string={hostile: 1, "length": hostile}, headers=BROWSER)
    assert refused.status_code == 422
    assert "<script" not in refused.text


def test_a_long_opening_is_shortened_as_title(client: FlaskClient) -> None:
    shown = page(client.get("/generate", query_string={"prefix": "A " * 60, "length": 1}, headers=BROWSER))
    [title] = re.findall("<h1>(.*)</h1>", shown)
    assert len(title) == 80
    assert title.endswith("…")


def test_a_mistake_is_said_on_a_page(client: FlaskClient) -> None:
    shown = page(client.get("/generate?length=0", headers=BROWSER), 422)
    said = client.get("/generate?length=0").get_json()["detail"]
    assert said in unescape(shown)
    assert "tries again" not in shown
    page(client.get("/generate?prefix=%ff", headers=BROWSER), 400)
    page(client.get("/generate?prefix=a&prefix=b", headers=BROWSER), 400)


def test_a_busy_service_is_asked_again_by_the_page_itself(small: Small) -> None:
    small.core.open.clear()
    running = small.engine.submit("Ash", SamplingParams(length=2))
    busy = small.client.get("/generate?length=1", headers=BROWSER)
    shown = page(busy, 503)
    assert busy.headers["Refresh"] == busy.headers["Retry-After"]
    assert f"tries again by itself in {busy.headers['Refresh']} seconds" in shown
    small.core.open.set()
    running.result(timeout=30)


def test_a_text_that_took_too_long_is_not_asked_for_again(small: Small) -> None:
    small.settings.request_timeout = 0.2
    small.core.open.clear()
    slow = small.client.get("/generate?length=50", headers=BROWSER)
    shown = page(slow, 503)
    assert "not done within 0.2 s" in shown
    assert "Refresh" not in slow.headers
    assert "tries again" not in shown


@pytest.mark.parametrize(
    "accept",
    [None, "*/*", "application/json", "text/*;q=0.5, application/json", "text/event-stream", "image/png"],
)
def test_programs_get_what_they_always_got(client: FlaskClient, accept: str | None) -> None:
    headers = {} if accept is None else {"Accept": accept}
    for query in ("length=1", "length=0"):
        assert client.get(f"/generate?{query}", headers=headers, buffered=True).mimetype != "text/html"


def test_a_browser_that_asks_for_a_stream_gets_one(client: FlaskClient) -> None:
    stream = client.get("/generate?length=1&stream=true", headers=BROWSER, buffered=True)
    assert stream.mimetype == "text/event-stream"
    refused = client.get("/generate?length=0&stream=true", headers=BROWSER)
    assert refused.mimetype == "application/problem+json"


def test_a_post_is_a_programs(client: FlaskClient) -> None:
    assert client.post("/generate", json={"length": 1}, headers=BROWSER).mimetype == "application/json"


@pytest.mark.parametrize("accept", ["text/html", "*/*", "text/event-stream"])
@pytest.mark.parametrize("query", ["length=1", "length=0"])
def test_caches_are_told_that_the_accept_header_chooses(client: FlaskClient, accept: str, query: str) -> None:
    answer = client.get(f"/generate?{query}", headers={"Accept": accept}, buffered=True)
    assert answer.headers["Vary"] == "Accept"
