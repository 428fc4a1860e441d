"""Clients of three older services: each asks as it always did and gets what it always got."""

import json
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient
from flask_openapi3 import OpenAPI

from server.api.compat import CloudRunFields
from server.api.schemas import GenerateQuery
from server.weights import Checkpoint
from tests.unit.api.conftest import Small
from tests.unit.api.test_refusals import problem

# --- pkm-ep-generator --------------------------------------------------------------------------------------------


def test_sample_is_the_beginning_of_sample_text(client: FlaskClient) -> None:
    answer = client.get("/?sample=Ash+was")
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert answer.headers["Cache-Control"] == "no-store"
    assert set(answer.get_json()) == {"sample_text"}
    assert answer.get_json()["sample_text"].startswith("Ash was")


def test_an_empty_sample_gets_the_opening(client: FlaskClient) -> None:
    assert client.get("/?sample=").get_json()["sample_text"].startswith("Ash and Misty")


def test_jsonp_is_a_script_where_every_site_may_read(make_app: Callable[..., OpenAPI]) -> None:
    client = make_app(cors_origins="*").test_client()
    answer = client.get("/?callback=jQuery34_1.show&sample=Pok%C3%A9mon%0A&_=1700000000000")  # as jQuery asks
    assert (answer.status_code, answer.content_type) == (200, "text/javascript; charset=utf-8")
    function, _, rest = answer.text.partition("(")
    assert function == "jQuery34_1.show"
    assert answer.data.isascii(), "so that it is the same script in every encoding"
    assert json.loads(rest.removesuffix(");"))["sample_text"].startswith("Pokémon\n")


@pytest.mark.parametrize("origins", ["none", "https://fan.example"])
def test_jsonp_would_pass_by_the_list_of_sites(make_app: Callable[..., OpenAPI], origins: str) -> None:
    client = make_app(cors_origins=origins).test_client()
    document = problem(client.get("/?sample=Ash&callback=show"), 403)
    assert document["errors"][0]["field"] == "callback"
    assert "POKEGEN_CORS_ORIGINS" in document["detail"]


@pytest.mark.parametrize(
    "callback", ["", "alert(1)//", "a.", "1a", "a b", "é", "x" * 129, "a\n", "</script>"]
)
def test_a_callback_is_a_name(client: FlaskClient, callback: str) -> None:
    document = problem(client.get("/", query_string={"sample": "Ash", "callback": callback}), 422)
    assert document["errors"][0]["field"] == "callback"


def test_a_sample_that_is_too_long_is_named_as_the_client_knows_it(client: FlaskClient) -> None:
    document = problem(client.get("/?sample=" + "!1" * 2000), 422)
    assert document["errors"][0]["field"] == "sample"
    assert "tokens long and may be" in document["detail"]


# --- gpt-2-cloud-run ---------------------------------------------------------------------------------------------


def test_its_fields_do_what_they_do_at_generate(client: FlaskClient) -> None:
    fields = {"prefix": "Ash was", "length": 12, "temperature": 0, "top_k": 5, "top_p": 0.9, "truncate": "?"}
    for include_prefix in ("True", "false"):
        asked = fields | {"include_prefix": include_prefix}
        whole = client.get("/generate", query_string=asked | {"whole_sentences": "false"}).get_json()["text"]
        answer = client.get("/", query_string=asked)
        assert (answer.status_code, answer.content_type) == (200, "application/json")
        assert answer.get_json() == {"text": whole}


def test_by_default_it_writes_until_the_model_is_full(
    client: FlaskClient, tiny_checkpoint: Checkpoint
) -> None:
    greedy = client.get("/?temperature=0").get_json()["text"]
    fields = {"temperature": 0, "length": 65536, "whole_sentences": "false"}
    assert greedy == client.get("/generate", query_string=fields).get_json()["text"]
    assert CloudRunFields().length == 1023
    assert CloudRunFields().temperature == 0.7
    assert CloudRunFields().top_k == CloudRunFields().top_p == 0


def test_a_json_body_may_say_numbers_in_quotes_as_its_page_does(client: FlaskClient) -> None:
    fields = {"prefix": "Ash", "length": "5", "temperature": "0", "top_k": "40"}
    plain = client.post("/", json={"prefix": "Ash", "length": 5, "temperature": 0, "top_k": 40})
    assert plain.status_code == 200
    assert client.post("/", json=fields).get_json() == plain.get_json()


@pytest.mark.parametrize("media_type", ["application/x-www-form-urlencoded", "text/plain", "nonsense", None])
def test_its_body_is_json_whatever_it_says_it_is(client: FlaskClient, media_type: str | None) -> None:
    answer = client.post("/", data=b'{"prefix": "Ash", "length": 2}', content_type=media_type)
    assert answer.get_json()["text"].startswith("Ash")
    assert "not JSON" in problem(client.post("/", data=b"prefix=Ash", content_type=media_type), 400)["detail"]


def test_an_empty_truncate_is_none(client: FlaskClient) -> None:
    assert client.get("/?length=2&truncate=").status_code == 200


def test_its_limits_are_those_of_generate() -> None:
    ours, theirs = GenerateQuery.model_json_schema(), CloudRunFields.model_json_schema()
    for field in ("length", "temperature", "top_k", "top_p"):
        schema = theirs["properties"][field]
        limits = {name: schema[name] for name in ("minimum", "maximum")}
        assert limits.items() <= ours["properties"][field]["anyOf"][0].items()
        assert schema["description"] == ours["properties"][field]["description"]


# --- opengpt2 ----------------------------------------------------------------------------------------------------


def test_text_generate_answers_with_the_new_text_alone(
    client: FlaskClient, tiny_checkpoint: Checkpoint
) -> None:
    asked = {"input_text": "Ash was", "model_name": tiny_checkpoint.name}
    for answer in (
        client.get("/text-generate", query_string=asked),
        client.post("/text-generate", json=asked),
    ):
        assert (answer.status_code, answer.content_type) == (200, "text/plain; charset=utf-8")
        assert not answer.text.startswith("Ash was")


@pytest.mark.parametrize("query", ["", "?input_text=Ash", "?input_text=&model_name="])
def test_both_its_fields_may_be_left_out(client: FlaskClient, query: str) -> None:
    assert client.get(f"/text-generate{query}").status_code == 200


def test_another_model_is_an_error_that_names_the_one_there_is(
    client: FlaskClient, tiny_checkpoint: Checkpoint
) -> None:
    document = problem(client.get("/text-generate?input_text=Ash&model_name=1558M"), 422)
    assert document["errors"][0]["field"] == "model_name"
    assert f"is {tiny_checkpoint.name}; it is '1558M'" in document["detail"]


def test_an_input_text_that_is_too_long_is_named(client: FlaskClient) -> None:
    document = problem(client.post("/text-generate", json={"input_text": "!1" * 2000}), 422)
    assert document["errors"][0]["field"] == "input_text"


# --- All three ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("/?sample=Ash&temprature=1", "temprature"),
        ("/?prefix=Ash&seed=1", "seed"),
        ("/?nsamples=2", "nsamples"),
        ("/?sample=Ash&length=5", "length"),
        ("/?callback=f&prefix=Ash", "prefix"),
        ("/text-generate?input_text=Ash&length=5", "length"),
        ("/?length=0", "length"),
        ("/?temperature=hot", "temperature"),
    ],
)
def test_what_a_service_did_not_have_is_refused_by_name(client: FlaskClient, query: str, field: str) -> None:
    assert problem(client.get(query), 422)["errors"][0]["field"] == field


def test_without_fields_the_root_says_where_things_are(client: FlaskClient) -> None:
    for address in client.get("/").get_json().values():
        assert (
            client.get(address, query_string={"length": 1} if address == "/generate" else {}).status_code
            == 200
        )


@pytest.mark.parametrize("query", ["/?sample=Ash", "/?prefix=Ash", "/text-generate?input_text=Ash"])
def test_a_busy_service_says_when_to_come_back(small: Small, query: str) -> None:
    small.engine.close()
    answer = small.client.get(query)
    problem(answer, 503)
    assert answer.headers["Retry-After"]
