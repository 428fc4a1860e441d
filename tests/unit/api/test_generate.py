"""/generate: what each field does, and what the answer holds."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from server.api.sentences import until_last_sentence_end
from server.engine import MAX_SEED
from server.weights import Checkpoint


def ask(client: FlaskClient, **fields: object) -> dict[str, Any]:
    """GET /generate with seed 7 unless told otherwise; must succeed."""
    response = client.get("/generate", query_string={"seed": 7, **fields})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.get_json()
    return answer


def test_the_answer_has_exactly_these_members(client: FlaskClient, tiny_checkpoint: Checkpoint) -> None:
    answer = ask(client, prefix="Ash was", length=6, nsamples=2)
    timing = answer.pop("timing")
    samples = answer.pop("samples")
    assert answer.pop("fingerprint").startswith("fp_")
    prompt = len(tiny_checkpoint.tokenizer.encode_prompt("Ash was"))
    made = sum(sample["tokens"] for sample in samples)
    assert answer == {
        "text": samples[0]["text"],
        "prefix": "Ash was",
        "seed": 7,
        "usage": {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made},
        "model": tiny_checkpoint.name,
    }
    assert [set(sample) for sample in samples] == [{"text", "finish_reason", "tokens"}] * 2
    assert set(timing) == {"queue_s", "first_token_s", "total_s", "tokens_per_s"}


def test_timings_are_in_order(client: FlaskClient) -> None:
    timing = ask(client, length=10)["timing"]
    assert 0 <= timing["queue_s"] <= timing["first_token_s"] <= timing["total_s"] < 10
    assert timing["tokens_per_s"] > 1


def test_answers_are_not_kept_by_caches(client: FlaskClient) -> None:
    response = client.get("/generate?length=1")
    assert response.content_type == "application/json"
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "prefix", ["Ash", "Pokémon 🔥", 'He said: "No!"\n', " Ash", "<|endoftext|>", "& + %"]
)
def test_the_text_begins_with_the_prefix(client: FlaskClient, prefix: str) -> None:
    answer = ask(client, prefix=prefix, length=3)
    assert answer["prefix"] == prefix
    assert answer["text"].startswith(prefix)


@pytest.mark.parametrize("prefix", ["", " ", "\n\t"])
def test_a_blank_prefix_gets_the_opening(client: FlaskClient, prefix: str) -> None:
    answer = ask(client, prefix=prefix, length=3)
    assert answer["prefix"] == "Ash and Misty"
    assert answer["text"].startswith("Ash and Misty")


def test_include_prefix_false_leaves_the_prefix_away(client: FlaskClient) -> None:
    whole = ask(client, prefix="Ash was", length=5)["text"]
    rest = ask(client, prefix="Ash was", length=5, include_prefix=False)["text"]
    assert whole == "Ash was" + rest


def test_length_counts_new_tokens(client: FlaskClient) -> None:
    sample = ask(client, length=5)["samples"][0]
    assert (sample["tokens"], sample["finish_reason"]) == (5, "length")


def test_length_is_the_settings_where_it_is_not_given(client: FlaskClient) -> None:
    assert ask(client)["samples"][0]["tokens"] == 20


def test_length_is_lowered_to_what_fits_into_n_ctx(client: FlaskClient, tiny_checkpoint: Checkpoint) -> None:
    n_ctx = tiny_checkpoint.hparams.n_ctx
    totals = [ask(client, length=65536, seed=seed)["usage"]["total_tokens"] for seed in range(8)]
    assert max(totals) == n_ctx, "at least one of eight texts runs until n_ctx is full"


def test_temperature_zero_is_greedy_whatever_the_seed(client: FlaskClient) -> None:
    assert ask(client, temperature=0, seed=1)["text"] == ask(client, temperature=0, seed=2)["text"]
    assert ask(client, temperature=1, seed=1)["text"] != ask(client, temperature=1, seed=2)["text"]


def test_top_k_1_is_greedy_and_0_is_no_limit(client: FlaskClient) -> None:
    greedy = ask(client, temperature=0)["text"]
    assert ask(client, top_k=1, temperature=1)["text"] == greedy
    assert ask(client, top_k=0, temperature=1)["text"] == ask(client, temperature=1)["text"] != greedy
    assert ask(client, top_k=1_000_000, temperature=1)["text"] == ask(client, temperature=1)["text"]


def test_a_small_top_p_is_greedy_and_0_is_no_limit(client: FlaskClient) -> None:
    greedy = ask(client, temperature=0)["text"]
    assert ask(client, top_p=1e-9, temperature=1)["text"] == greedy
    assert ask(client, top_p=0, temperature=1)["text"] == ask(client, temperature=1)["text"] != greedy


def test_samples_differ_and_each_is_the_same_whatever_nsamples_is(client: FlaskClient) -> None:
    four = [sample["text"] for sample in ask(client, nsamples=4)["samples"]]
    two = [sample["text"] for sample in ask(client, nsamples=2)["samples"]]
    assert len(set(four)) == 4
    assert four[:2] == two
    assert ask(client)["text"] == four[0]


def test_a_seed_gives_the_same_text_by_get_and_by_post(client: FlaskClient) -> None:
    fields = {"prefix": "Misty", "length": 12, "temperature": 1.1, "top_k": 50, "nsamples": 2, "seed": 99}
    by_get = ask(client, **fields)
    by_post = client.post("/generate", json=fields).get_json()
    assert {**by_get, "timing": None} == {**by_post, "timing": None}


def test_the_seed_of_an_unseeded_answer_reproduces_it(client: FlaskClient) -> None:
    first = client.get("/generate?length=12").get_json()
    again = client.get(f"/generate?length=12&seed={first['seed']}").get_json()
    assert 0 <= first["seed"] <= MAX_SEED
    assert again["text"] == first["text"]


def test_unseeded_answers_differ(client: FlaskClient) -> None:
    assert len({client.get("/generate?length=1").get_json()["seed"] for _ in range(5)}) == 5


def test_truncate_ends_the_text_in_front_of_its_first_appearance(client: FlaskClient) -> None:
    whole = ask(client, whole_sentences=False, include_prefix=False)["text"]
    string = whole[5:8]
    cut = ask(client, truncate=string, include_prefix=False)
    assert cut["text"] == whole[: whole.index(string)]
    assert cut["samples"][0]["finish_reason"] == "stop"


def test_truncate_looks_at_the_new_text_alone(client: FlaskClient) -> None:
    assert ask(client, prefix="Ash was", truncate="Ash", length=3)["text"].startswith("Ash was")


def test_a_text_cut_by_its_length_ends_with_its_last_whole_sentence(client: FlaskClient) -> None:
    fields = {"seed": 0, "temperature": 10, "length": 200, "nsamples": 8, "include_prefix": False}
    raw = [s["text"] for s in ask(client, **fields, whole_sentences=False)["samples"]]
    whole = [s["text"] for s in ask(client, **fields)["samples"]]
    assert whole == [until_last_sentence_end(text) for text in raw]
    assert whole != raw, "no text had a sentence's end in it: the test saw nothing"


def test_numbers_may_be_whole_where_a_fraction_is_meant(client: FlaskClient) -> None:
    assert client.post("/generate", json={"temperature": 1, "top_p": 1, "length": 1}).status_code == 200


def test_null_is_the_same_as_leaving_a_number_out(client: FlaskClient) -> None:
    fields = {"length": None, "temperature": None, "top_k": None, "top_p": None, "truncate": None}
    left_out = client.post("/generate", json={"seed": 7}).get_json()["text"]
    assert client.post("/generate", json={**fields, "seed": 7}).get_json()["text"] == left_out


def test_text_outside_of_ascii_is_written_as_it_is(client: FlaskClient) -> None:
    assert "Pokémon" in client.get("/generate?prefix=Pok%C3%A9mon&length=1").text


def test_head_is_refused_for_a_text_would_be_written_for_nobody(client: FlaskClient) -> None:
    response = client.head("/generate?length=1&seed=1")
    assert (response.status_code, response.data) == (405, b"")
    assert "GET" in response.headers["Allow"]
