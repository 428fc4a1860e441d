"""What has a seed is written once, as long as it is asked for and the checkpoint stays."""

from collections.abc import Callable

from flask.testing import FlaskClient
from flask_openapi3 import OpenAPI

from server.api.kept import Kept
from server.api.schemas import GenerateAnswer, TimingRecord, Usage
from server.serving import Serving

TIMING = TimingRecord(queue_s=0, first_token_s=0, total_s=0, tokens_per_s=0)
USAGE = Usage(prompt_tokens=1, completion_tokens=1, total_tokens=2)


def answer(text: str) -> GenerateAnswer:
    return GenerateAnswer(
        text=text, samples=[], prefix="", seed=1, usage=USAGE, model="", fingerprint="", timing=TIMING
    )


def test_what_was_asked_for_last_is_kept() -> None:
    kept = Kept(most=2)
    for name in ("a", "b"):
        kept.keep(name, answer(name))
    assert kept.find("a") == answer("a")
    kept.keep("c", answer("c"))
    assert kept.find("b") is None
    assert (kept.find("a"), kept.find("c")) == (answer("a"), answer("c"))


def test_what_is_kept_has_so_many_bytes_at_most() -> None:
    size = len(answer("é" * 1000).model_dump_json().encode())
    kept = Kept(most=1000, most_bytes=20 * size)
    for _ in range(2):  # what is there counts once
        for name in range(20):
            kept.keep(str(name), answer("é" * 1000))
    assert all(kept.find(str(name)) for name in range(20))
    for name in range(20, 25):
        kept.keep(str(name), answer("é" * 1000))
    assert [name for name in range(25) if kept.find(str(name))] == [*range(5, 25)]


def test_one_that_takes_too_large_a_part_drives_no_other_out() -> None:
    kept = Kept(most=1000, most_bytes=16_000)
    kept.keep("a", answer("a"))
    kept.keep("long", answer("long" * 250))
    assert kept.find("long") is None
    assert kept.find("a") == answer("a")


def test_what_has_no_name_is_not_kept() -> None:
    kept = Kept(most=2)
    kept.keep(None, answer("a"))
    assert kept.find(None) is None


def written(app: OpenAPI) -> int:
    serving: Serving = app.extensions["serving"]
    return serving.statistics().ended["length"]


def test_all_that_a_text_depends_on_makes_another(make_app: Callable[..., OpenAPI]) -> None:
    app = make_app(length=5, keep=100, address_at_once=0)
    client: FlaskClient = app.test_client()
    before = written(app)
    asked = [
        "seed=1",
        "seed=2",
        "seed=1&length=6",
        "seed=1&temperature=0.5",
        "seed=1&top_k=3",
        "seed=1&top_p=0.5",
        "seed=1&nsamples=2",
        "seed=1&truncate=x",
        "seed=1&include_prefix=false",
        "seed=1&whole_sentences=false",
        "seed=1&prefix=Brock",
    ]
    tags = [client.get(f"/generate?{query}").headers["ETag"] for query in asked]
    assert len(set(tags)) == len(asked)
    made = written(app) - before
    assert [client.get(f"/generate?{query}").headers["ETag"] for query in asked] == tags
    assert written(app) == before + made


def test_defaults_and_other_ways_to_ask_make_no_other(make_app: Callable[..., OpenAPI]) -> None:
    app = make_app(length=5, keep=100, opening="Ash", address_at_once=0)
    client: FlaskClient = app.test_client()
    first = client.get("/generate?seed=1")
    before = written(app)
    for query in ("prefix=Ash&seed=1", "seed=1&length=5", "prefix=%20&seed=1&temperature=0.2"):
        again = client.get(f"/generate?{query}")
        assert (again.data, again.headers["ETag"]) == (first.data, first.headers["ETag"])
    posted = client.post("/generate", json={"seed": 1})
    assert posted.json == first.json
    streamed = client.get("/generate?seed=1&stream=true")
    assert streamed.text.count("data: ") == 2
    assert written(app) == before


def test_who_has_it_is_told_so_without_a_text(make_app: Callable[..., OpenAPI]) -> None:
    app = make_app(length=5, keep=100)
    client: FlaskClient = app.test_client()
    tag = client.get("/generate?seed=1").headers["ETag"]
    anew = make_app(length=5, keep=100)  # which has written nothing yet
    before = written(anew)
    answered = anew.test_client().get("/generate?seed=1", headers={"If-None-Match": tag})
    assert (answered.status_code, answered.data, answered.headers["ETag"]) == (304, b"", tag)
    page = anew.test_client().get("/generate?seed=1", headers={"If-None-Match": tag, "Accept": "text/html"})
    assert page.status_code == 200, "another form of it"
    assert written(anew) == before + 1


def test_a_post_is_answered_whatever_its_reader_has(make_app: Callable[..., OpenAPI]) -> None:
    app = make_app(length=5, keep=100)
    client: FlaskClient = app.test_client()
    first = client.get("/generate?seed=1")
    before = written(app)
    for tag in (first.headers["ETag"], "*"):
        posted = client.post("/generate", json={"seed": 1}, headers={"If-None-Match": tag})
        assert (posted.status_code, posted.data) == (200, first.data), (
            "RFC 9110, section 13.1.2: 304 is for GET"
        )
        assert posted.headers["Cache-Control"] == "no-store"
        assert "ETag" not in posted.headers
    assert written(app) == before, "what is kept serves both"


def test_a_star_is_known_only_where_the_answer_is_kept(make_app: Callable[..., OpenAPI]) -> None:
    app = make_app(length=5, keep=100)
    client: FlaskClient = app.test_client()
    star = {"If-None-Match": "*"}
    refused = client.get("/generate", query_string={"seed": 1, "prefix": " a" * 1000}, headers=star)
    assert refused.status_code == 422
    first = client.get("/generate?seed=1", headers=star)
    assert first.status_code == 200
    again = client.get("/generate?seed=1", headers=star)
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]


def test_nothing_is_kept_where_that_is_off(make_app: Callable[..., OpenAPI]) -> None:
    app = make_app(length=5, keep=0)
    client: FlaskClient = app.test_client()
    before = written(app)
    for _ in range(2):
        answer = client.get("/generate?seed=1")
        assert answer.headers["Cache-Control"] == "no-store"
        assert "ETag" not in answer.headers
    assert written(app) == before + 2
