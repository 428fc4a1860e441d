"""What /generate does not take: each refusal is a problem document that names the field, its limit and the fix."""

import time
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import example, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from server.api.problems import MAX_ERRORS
from server.api.schemas import GenerateQuery
from server.api.well_formed import MAX_DEPTH
from server.weights import Checkpoint
from tests.events import read_events


def problem(response: TestResponse, status: int) -> dict[str, Any]:
    """The problem document that this answer must be."""
    assert response.content_type == "application/problem+json", response.text
    document: dict[str, Any] = response.get_json()
    assert set(document) == {"type", "title", "status", "detail", "errors", "request_id"}
    assert response.status_code == document["status"] == status, document
    assert document["request_id"] == response.headers["X-Request-ID"]
    assert "Traceback" not in response.text
    assert len(response.data) < 8192, "an answer stays short, however long the request was"
    return document


def post(client: FlaskClient, body: str | bytes) -> TestResponse:
    return client.post("/generate", data=body, content_type="application/json")


# Field, a value that is just allowed, one that is just not, and what the sentence must say of the limit.
LIMITS = [
    ("length", 1, 0, "greater than or equal to 1"),
    ("length", 65536, 65537, "less than or equal to 65536"),
    ("temperature", 0, -0.001, "greater than or equal to 0"),
    ("temperature", 10, 10.001, "less than or equal to 10"),
    ("top_k", 0, -1, "greater than or equal to 0"),
    ("top_k", 1_000_000, 1_000_001, "less than or equal to 1000000"),
    ("top_p", 0, -1e-9, "greater than or equal to 0"),
    ("top_p", 1, 1.0001, "less than or equal to 1"),
    ("nsamples", 1, 0, "greater than or equal to 1"),
    ("nsamples", 8, 9, "at most 8"),
    ("seed", 0, -1, "greater than or equal to 0"),
    ("seed", 2**32 - 1, 2**32, "less than or equal to 4294967295"),
    ("truncate", "x", "", "at least 1 character"),
]


@pytest.mark.parametrize(("field", "allowed", "refused", "limit"), LIMITS)
def test_both_sides_of_every_limit(
    client: FlaskClient, field: str, allowed: object, refused: object, limit: str
) -> None:
    assert client.post("/generate", json={"length": 1, field: allowed}).status_code == 200
    for response in (
        client.post("/generate", json={field: refused}),
        client.get("/generate", query_string={field: refused}),
    ):
        document = problem(response, 422)
        [error] = document["errors"]
        assert error["field"] == field
        assert limit in error["detail"]
        assert f"it is {refused}" in error["detail"].replace("'", "")
        assert document["detail"] == f"{field}: {error['detail']}"


WRONG_TYPES: list[tuple[str, list[object]]] = [
    ("length", ["5", 5.5, True, [5], {"a": 5}, 10**300]),
    ("temperature", ["hot", "1", False, []]),
    ("prefix", [7, None, ["Ash"], {"text": "Ash"}, True]),
    ("nsamples", [None, "2", 1.5]),
    ("seed", [1.5, "7", True]),
    ("truncate", [7, ["."], {}]),
    ("include_prefix", ["true", 1, None]),
    ("whole_sentences", ["no", 0]),
]


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in WRONG_TYPES for value in values]
)
def test_json_of_a_wrong_type(client: FlaskClient, field: str, value: object) -> None:
    [error] = problem(client.post("/generate", json={field: value}), 422)["errors"]
    assert error["field"] == field
    assert error["detail"].startswith(("Input should be", "Unable to parse input string"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("length", "five"),
        ("length", "1.5"),
        ("length", "0x10"),
        ("length", ""),
        ("seed", "1e3"),
        ("top_p", "nan"),
        ("temperature", "inf"),
        ("temperature", "-Infinity"),
        ("temperature", "1e999"),
        ("temperature", "0,7"),
        ("include_prefix", "maybe"),
        ("seed", "9" * 5000),
        ("nsamples", "9" * 4300),
    ],
)
def test_query_values_of_a_wrong_type(client: FlaskClient, field: str, value: str) -> None:
    [error] = problem(client.get("/generate", query_string={field: value}), 422)["errors"]
    assert error["field"] == field


def test_every_wrong_field_is_named(client: FlaskClient) -> None:
    document = problem(client.get("/generate?length=0&top_p=2&colour=red"), 422)
    assert [error["field"] for error in document["errors"]] == ["length", "top_p", "colour"]


def test_an_unknown_field_gets_a_hint(client: FlaskClient) -> None:
    [error] = problem(client.get("/generate?lenght=5"), 422)["errors"]
    assert error["field"] == "lenght"
    assert "Did you mean length?" in error["detail"]
    assert all(field in error["detail"] for field in GenerateQuery.model_fields)


def test_thousands_of_unknown_fields_get_a_short_answer_at_once(client: FlaskClient) -> None:
    body = "{" + ",".join(f'"a{i}":0' for i in range(5000)) + "}"
    started = time.thread_time()
    document = problem(post(client, body), 422)
    assert time.thread_time() - started < 1
    assert len(document["errors"]) == MAX_ERRORS
    assert document["detail"].endswith("and 4990 more")


def test_a_long_field_name_is_not_repeated_whole(client: FlaskClient) -> None:
    [error] = problem(client.post("/generate", json={"a" * 50_000: 1}), 422)["errors"]
    assert len(error["field"]) == 60
    problem(post(client, '{"%s\\u0000": 1}' % ("a" * 50_000)), 400)
    problem(post(client, '{"%s": 1, "%s": 2}' % (("a" * 30_000,) * 2)), 400)


def test_a_prefix_too_long_for_n_ctx_is_told_the_token_counts(
    client: FlaskClient, tiny_checkpoint: Checkpoint
) -> None:
    n_ctx = tiny_checkpoint.hparams.n_ctx
    prefix = " a" * n_ctx
    tokens = len(tiny_checkpoint.tokenizer.encode_prompt(prefix))
    [error] = problem(client.post("/generate", json={"prefix": prefix}), 422)["errors"]
    assert error["field"] == "prefix"
    assert f"{tokens} tokens long and may be {n_ctx - 1} at most" in error["detail"]
    assert f"n_ctx {n_ctx}" in error["detail"]


def test_the_longest_prefix_that_fits_gets_one_token(
    client: FlaskClient, tiny_checkpoint: Checkpoint
) -> None:
    tokenizer, n_ctx = tiny_checkpoint.tokenizer, tiny_checkpoint.hparams.n_ctx
    repeats = n_ctx
    while len(tokenizer.encode_prompt("!a" * repeats)) > n_ctx - 1:
        repeats -= 1
    answer = client.post("/generate", json={"prefix": "!a" * repeats}).get_json()
    assert answer["usage"]["total_tokens"] == n_ctx


@pytest.mark.parametrize(
    ("query", "field"),
    [
        (b"prefix=a&prefix=b", "prefix"),
        (b"seed=1&length=1&seed=1", "seed"),
        (b"prefix=%00", "prefix"),
        (b"prefix=a\0b", "prefix"),
        (b"%00=1", "\0"),
    ],
)
def test_queries_that_are_not_well_formed(client: FlaskClient, query: bytes, field: str) -> None:
    response = client.get("/generate", environ_overrides={"QUERY_STRING": query.decode("latin-1")})
    assert [error["field"] for error in problem(response, 400)["errors"]] == [field]


@pytest.mark.parametrize(
    "query", [b"prefix=%FF", b"prefix=\xe9", b"%ff=1", b"prefix=%ED%A0%80", b"prefix=%C3"]
)
def test_queries_that_are_not_utf8(client: FlaskClient, query: bytes) -> None:
    response = client.get("/generate", environ_overrides={"QUERY_STRING": query.decode("latin-1")})
    assert "not UTF-8" in problem(response, 400)["detail"]


BODIES_THAT_ARE_NOT_JSON = [
    b"",
    b" ",
    b"{",
    b"}",
    b"{]",
    b'{"prefix"}',
    b'{"prefix":}',
    b'{"prefix": "Ash",}',
    b"{'prefix': 'Ash'}",
    b'{prefix: "Ash"}',
    b'{"prefix": "Ash"} x',
    b'{"prefix": "a\nb"}',
    b'{"prefix": "\\x"}',
    b'{"prefix": "\\ud8"}',
    b'{"length": 01}',
    b'{"length": +1}',
    b'{"length": 1.}',
    b'{"length": 0x1}',
    b'{"temperature": NaN}',
    b'{"temperature": Infinity}',
    b'{"temperature": -Infinity}',
    b'{"prefix": undefined}',
    b'\xef\xbb\xbf{"prefix": "Ash"}',
    b"prefix=Ash",
    b"<prefix>Ash</prefix>",
    b'// a comment\n{"prefix": "Ash"}',
    b'{"seed": ' + b"9" * 5000 + b"}",
]


@pytest.mark.parametrize("body", BODIES_THAT_ARE_NOT_JSON)
def test_bodies_that_are_not_json(client: FlaskClient, body: bytes) -> None:
    detail = problem(post(client, body), 400)["detail"]
    assert detail.startswith("The body is not JSON: ")
    assert "sys." not in detail, "what Python would change is no advice to a reader"


@pytest.mark.parametrize("body", ["null", "true", "7", '"prefix"', "[]", '[{"prefix": "Ash"}]'])
def test_bodies_that_are_json_but_no_object(client: FlaskClient, body: str) -> None:
    assert "must be a JSON object" in problem(post(client, body), 400)["detail"]


@pytest.mark.parametrize(
    "body",
    [b'{"prefix": "\xff"}', b'{"prefix": "\xed\xa0\x80"}', '{"prefix": "Ash"}'.encode("utf-16"), b"\x80"],
)
def test_bodies_that_are_not_utf8(client: FlaskClient, body: bytes) -> None:
    assert "not UTF-8 at byte" in problem(post(client, body), 400)["detail"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (r'{"prefix": "\u0000"}', "prefix"),
        (r'{"prefix": "\ud800"}', "prefix"),
        (r'{"prefix": "\udc00\ud800"}', "prefix"),
        (r'{"truncate": "\ud83d"}', "truncate"),
        (r'{"prefix": ["\ud800"]}', "prefix"),
        (r'{"prefix": {"a": {"\ud800": 1}}}', "prefix"),
        (r'{"\ud800": 1}', "?"),
    ],
)
def test_json_strings_that_are_no_text(client: FlaskClient, body: str, field: str) -> None:
    assert [error["field"] for error in problem(post(client, body), 400)["errors"]] == [field]


def test_a_pair_of_surrogates_is_one_character(client: FlaskClient) -> None:
    answer = post(client, r'{"prefix": "\ud83d\udd25", "length": 1}').get_json()
    assert answer["prefix"] == "🔥"


def test_a_key_twice(client: FlaskClient) -> None:
    detail = problem(post(client, '{"seed": 1, "length": 1, "seed": 2}'), 400)["detail"]
    assert "'seed' is given more than once" in detail


def test_many_keys_of_which_the_last_is_there_twice_are_refused_at_once(client: FlaskClient) -> None:
    body = "{" + ",".join(f'"{i}":0' for i in range(7000)) + ',"6999":1}'
    started = time.thread_time()
    assert "'6999'" in problem(post(client, body), 400)["detail"]
    assert time.thread_time() - started < 0.2, "the time grows with the number of keys, not with its square"


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 2, 500, *range(940, 1010, 3), 9000])
def test_deep_nesting(client: FlaskClient, opening: str, closing: str, depth: int) -> None:
    body = f'{{"prefix": {opening * depth}1{closing * depth}}}'
    assert "nested too deeply" in problem(post(client, body), 400)["detail"]


@pytest.mark.parametrize(
    "content_type",
    [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "json"],
)
def test_other_content_types(client: FlaskClient, content_type: str | None) -> None:
    response = client.post("/generate", data=b'{"prefix": "Ash"}', content_type=content_type)
    assert "Content-Type: application/json" in problem(response, 415)["detail"]


def test_a_charset_behind_the_content_type_is_allowed(client: FlaskClient) -> None:
    response = client.post("/generate", data='{"length": 1}', content_type="Application/JSON; charset=UTF-8")
    assert response.status_code == 200


def test_a_post_with_a_query_string(client: FlaskClient) -> None:
    response = client.post("/generate?prefix=Ash", json={"length": 1})
    assert "not in the query string" in problem(response, 400)["detail"]


def test_a_body_without_length_where_the_server_does_not_put_chunks_together(client: FlaskClient) -> None:
    response = client.post(
        "/generate",
        data=b'{"length": 1}',
        content_type="application/json",
        headers={"Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": False},
    )
    assert "Content-Length" in problem(response, 411)["detail"]


def test_a_body_that_ends_early(client: FlaskClient) -> None:
    response = client.post(
        "/generate", data=b"{", content_type="application/json", environ_overrides={"CONTENT_LENGTH": "100"}
    )
    assert "ended before" in problem(response, 400)["detail"]


def test_a_body_too_large_is_told_the_limit(client: FlaskClient) -> None:
    response = client.post("/generate", json={"prefix": "a" * 65536})
    assert "65536 bytes at most" in problem(response, 413)["detail"]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "BREW"])
@pytest.mark.parametrize("path", ["/generate", "/healthz", "/readyz"])
def test_other_methods(client: FlaskClient, path: str, method: str) -> None:
    response = client.open(path, method=method)
    problem(response, 405)
    assert "GET" in response.headers["Allow"]


@pytest.mark.parametrize(
    "path", ["/nowhere", "/generate/", "/GENERATE", "/generate/x", "/../etc/passwd", "/%ff", "/static/x"]
)
def test_other_paths(client: FlaskClient, path: str) -> None:
    assert "/generate?prefix=" in problem(client.get(path), 404)["detail"]


# --- Anything at all ---------------------------------------------------------------------------------------------

FIELDS = st.one_of(st.sampled_from(sorted(GenerateQuery.model_fields)), st.text(max_size=8))
# A few tokens are enough: lengths that are allowed stay small.
NUMBERS = st.one_of(st.integers(-3, 3), st.integers(max_value=-1), st.integers(min_value=2**33), st.floats())
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=20))
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def is_answer_or_problem(response: TestResponse) -> None:
    if response.mimetype == "text/event-stream":
        *_, done = read_events(response.text.split("\n"))
        assert done.data["samples"]
    elif response.status_code == 200:
        assert response.get_json()["samples"]
    else:
        assert response.status_code in (400, 422)
        problem(response, response.status_code)


@example({"stream": True})
@settings(max_examples=150, deadline=None)
@given(st.dictionaries(FIELDS, JSON, max_size=5))
def test_any_json_object(client: FlaskClient, fields: dict[str, object]) -> None:
    is_answer_or_problem(client.post("/generate", json={"length": 1, **fields}))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60))
def test_any_body(client: FlaskClient, body: bytes) -> None:
    is_answer_or_problem(post(client, body))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(FIELDS, st.one_of(st.text(max_size=20), NUMBERS.map(str))), max_size=5))
def test_any_fields_in_the_query(client: FlaskClient, fields: list[tuple[str, str]]) -> None:
    has_length = any(field == "length" for field, _ in fields)
    is_answer_or_problem(
        client.get("/generate", query_string=fields if has_length else [("length", "1"), *fields])
    )


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60).filter(lambda raw: b"#" not in raw))
def test_any_query_string(client: FlaskClient, raw: bytes) -> None:
    is_answer_or_problem(
        client.get("/generate", environ_overrides={"QUERY_STRING": (b"length=1&" + raw).decode("latin-1")})
    )
