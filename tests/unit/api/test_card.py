"""GET /model: the card as JSON and as a page; and a model that is served whatever its card looks like."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from flask_openapi3 import OpenAPI

from server.api.card import page
from server.app import create_app
from server.settings import Settings
from server.weights import Checkpoint
from server.weights.card import LARGEST, Card
from tests.cards import CARD, write_card

HTML, JSON = "text/html", "application/json"


@pytest.fixture
def checkpoint(tiny_checkpoint: Checkpoint, tmp_path: Path) -> Path:
    """A checkpoint of the test's own, without a card."""
    return Path(shutil.copytree(tiny_checkpoint.directory, tmp_path / "run9"))


@pytest.fixture(scope="module")
def carded(tiny_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    """A service whose model has a card."""
    directory = tmp_path_factory.mktemp("carded") / "run9"
    shutil.copytree(tiny_checkpoint.directory, directory)
    write_card(directory)
    app = create_app(Settings(checkpoint=directory))
    yield app.test_client()
    app.extensions["serving"].close()


def test_it_is_the_card_as_json(carded: FlaskClient) -> None:
    answer = carded.get("/model")
    assert (answer.status_code, answer.content_type) == (200, JSON)
    assert answer.get_json() == CARD
    Card.model_validate(answer.get_json())


def test_it_is_the_card_as_a_page(carded: FlaskClient) -> None:
    answer = carded.get("/model", headers={"Accept": HTML})
    assert (answer.status_code, answer.content_type) == (200, "text/html; charset=utf-8")
    assert "<title>run9: Jokes</title>" in answer.text
    assert "<h1>run9: Jokes</h1>" in answer.text
    assert "license: mit" not in answer.text
    assert '<td class="right">1.7</td>' in answer.text
    assert "style=" not in answer.text
    assert '<img src="model/curve.svg" alt="Loss" />' in answer.text


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("text/*", HTML),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", HTML),  # a browser
        ("text/html;q=0.5, application/json;q=0.6", JSON),
        ("text/html;q=0.6, application/json;q=0.5", HTML),
        ("application/json;q=0, */*", HTML),
        ("text/html;q=0.1, */*", JSON),
        ("image/png, application/json;q=0.1", JSON),
    ],
)
def test_the_accept_header_chooses(carded: FlaskClient, accept: str | None, form: str) -> None:
    answer = carded.get("/model", headers={} if accept is None else {"Accept": accept})
    assert answer.mimetype == form
    assert answer.headers["Vary"] == "Accept"


@pytest.mark.parametrize("accept", ["image/png", "application/json;q=0, text/html;q=0", "nonsense"])
def test_what_it_cannot_be_is_406(carded: FlaskClient, accept: str) -> None:
    answer = carded.get("/model", headers={"Accept": accept})
    assert (answer.status_code, answer.content_type) == (406, "application/problem+json")
    assert HTML in answer.get_json()["detail"]


@pytest.mark.parametrize("path", ["/model", "/model/curve.svg"])
def test_it_is_sent_again_only_when_it_changed(carded: FlaskClient, path: str) -> None:
    first = carded.get(path)
    assert first.headers["Cache-Control"] == "no-cache"
    tag = first.headers["ETag"]
    for sent in (tag, f"W/{tag}", f'"other", {tag}', "*"):  # nginx makes it weak when it compresses
        again = carded.get(path, headers={"If-None-Match": sent})
        assert (again.status_code, again.data) == (304, b"")
        assert again.headers["ETag"] == tag
    assert carded.get(path, headers={"If-None-Match": '"other"'}).data == first.data


def test_the_two_forms_have_tags_of_their_own(carded: FlaskClient) -> None:
    tags = {carded.get("/model", headers={"Accept": form}).headers["ETag"] for form in (JSON, HTML)}
    assert len(tags) == 2


@pytest.mark.parametrize("path", ["/model", "/model/curve.svg"])
def test_head_gets_the_header_alone_and_other_methods_are_refused(carded: FlaskClient, path: str) -> None:
    head, get = carded.head(path), carded.get(path)
    assert (head.status_code, head.data) == (200, b"")
    assert head.headers["Content-Length"] == str(len(get.data))
    assert head.headers["ETag"] == get.headers["ETag"]
    for method in (carded.post, carded.put, carded.delete):
        refused = method(path)
        assert (refused.status_code, refused.content_type) == (405, "application/problem+json")
        assert {"GET", "HEAD"} <= set(refused.headers["Allow"].split(", "))


def test_the_picture_may_draw_and_nothing_else(carded: FlaskClient) -> None:
    answer = carded.get("/model/curve.svg")
    assert (answer.status_code, answer.mimetype) == (200, "image/svg+xml")
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_html_in_a_card_is_text() -> None:
    hostile = "# A\n<script>alert(1)</script>\n\n<img src=x onerror=alert(1)> [x](javascript:alert(1)) <b>loud</b>\n"
    shown = page(hostile)
    assert "<script" not in shown
    assert "<img" not in shown
    assert "<b>" not in shown
    assert 'href="javascript' not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    assert "<title>&lt;i&gt; &amp; co</title>" in page("# <i> & co")


@pytest.mark.parametrize("front", ["---\na: b\n---\n", "\ufeff---\na: b\n---\n", "\n---\na: '---'\n---\n\n"])
def test_the_metadata_is_not_shown(front: str) -> None:
    assert "a: " not in page(front + "# Title\n\ntext")
    assert "<h1>Title</h1>" in page(front + "# Title\n\ntext")
    assert "<hr />" in page("# Title\n\n---\n\ntext")


def test_a_checkpoint_without_a_card_says_how_to_write_one(client: FlaskClient) -> None:
    for path, accept, name in [
        ("/model", JSON, "card.json"),
        ("/model", HTML, "README.md"),
        ("/model/curve.svg", "*/*", "curve.svg"),
    ]:
        answer = client.get(path, headers={"Accept": accept})
        assert (answer.status_code, answer.content_type) == (404, "application/problem+json")
        assert name in answer.get_json()["detail"]
        assert "`pokegen " in answer.get_json()["detail"]


BROKEN = {
    "not JSON": ("card.json", b'{"name": '),
    "no object": ("card.json", b"[]"),
    "a field missing": ("card.json", b'{"name": "run9"}'),
    "deep": ("card.json", b"[" * 100_000),
    "half a surrogate pair": ("card.json", b'{"name": "\\ud800"}'),
    "JSON not UTF-8": ("card.json", json.dumps(CARD).encode().replace(b"run9", b"r\xe9n9")),
    "JSON huge": ("card.json", json.dumps(CARD).encode() + b" " * LARGEST),
    "not UTF-8": ("README.md", b"# Pok\xe9mon"),
    "huge": ("README.md", b"# A\n" * LARGEST),
    "picture huge": ("curve.svg", b"<svg/>" * LARGEST),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_card_harms_nothing_else(
    name: str, checkpoint: Path, make_app: Callable[..., OpenAPI], capsys: pytest.CaptureFixture[str]
) -> None:
    write_card(checkpoint)
    broken, content = BROKEN[name]
    (checkpoint / broken).write_bytes(content)
    client = make_app(checkpoint=checkpoint).test_client()
    [line] = [
        line for line in map(json.loads, capsys.readouterr().err.splitlines()) if line["level"] == "ERROR"
    ]
    assert str(checkpoint / broken) in line["message"]
    forms = {
        "card.json": client.get("/model"),
        "README.md": client.get("/model", headers={"Accept": HTML}),
        "curve.svg": client.get("/model/curve.svg"),
    }
    answer = forms.pop(broken)
    assert (answer.status_code, answer.content_type) == (500, "application/problem+json")
    assert broken in answer.get_json()["detail"]
    assert str(checkpoint) not in answer.text
    assert {other.status_code for other in forms.values()} == {200}
    assert client.get("/generate?length=1").status_code == 200


def test_a_card_that_is_a_folder_or_a_pipe_harms_nothing(
    checkpoint: Path, make_app: Callable[..., OpenAPI]
) -> None:
    (checkpoint / "card.json").mkdir()
    os.mkfifo(checkpoint / "README.md")
    client = make_app(checkpoint=checkpoint).test_client()
    assert client.get("/model").status_code == 500
    assert client.get("/model", headers={"Accept": HTML}).status_code == 500
    assert client.get("/readyz").status_code == 200


def test_the_openapi_document_has_both_forms(app: OpenAPI) -> None:
    operation = app.api_doc["paths"]["/model"]["get"]
    assert set(operation["responses"]["200"]["content"]) == {JSON, HTML}
    assert {"404", "406", "500"} <= set(operation["responses"])
    schema = app.api_doc["components"]["schemas"]["CardAnswer"]
    assert set(schema["properties"]) == set(Card.model_fields)
    assert "/model/curve.svg" in app.api_doc["paths"]
