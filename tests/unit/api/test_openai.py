"""/v1/completions and /v1/models: what each parameter does, and what the answer holds."""

from typing import Any

import pytest
from flask.testing import FlaskClient
from flask_openapi3 import OpenAPI

from server.api.openai.choices import TokenLister
from server.api.openai.models import fingerprint
from server.api.openai.schemas import Logprobs
from server.engine import MAX_SEED, TokenLogprobs
from server.weights import Checkpoint

PROMPT = "Ash and Pokémon 🔥"


def ask(client: FlaskClient, **parameters: object) -> dict[str, Any]:
    """POST /v1/completions with seed 7 unless told otherwise; must succeed."""
    response = client.post(
        "/v1/completions", json={"model": "tiny", "prompt": PROMPT, "seed": 7, **parameters}
    )
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.get_json()
    return answer


def texts(answer: dict[str, Any]) -> list[str]:
    return [choice["text"] for choice in answer["choices"]]


def text(client: FlaskClient, **parameters: object) -> str:
    [only] = texts(ask(client, **parameters))
    return only


# --- The answer --------------------------------------------------------------------------------------------------


def test_the_answer_has_exactly_these_members(client: FlaskClient, tiny_checkpoint: Checkpoint) -> None:
    answer = ask(client, n=2, max_tokens=6)
    read = len(tiny_checkpoint.tokenizer.encode_prompt(PROMPT))
    made = answer["usage"]["completion_tokens"]
    assert answer["id"].startswith("cmpl-")
    assert answer["system_fingerprint"].startswith("fp_")
    assert 1.7e9 < answer["created"] < 2**33
    assert {name: answer[name] for name in ("object", "model", "usage")} == {
        "object": "text_completion",
        "model": "tiny",
        "usage": {"prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made},
    }
    assert set(answer) == {"id", "object", "created", "model", "system_fingerprint", "choices", "usage"}
    assert [set(choice) for choice in answer["choices"]] == [
        {"text", "index", "logprobs", "finish_reason"}
    ] * 2
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    assert {choice["finish_reason"] for choice in answer["choices"]} <= {"stop", "length"}


def test_answers_are_not_kept_by_caches_and_each_has_its_id(client: FlaskClient) -> None:
    answers = [client.post("/v1/completions", json={"model": "tiny", "max_tokens": 1}) for _ in range(2)]
    assert {answer.headers["Cache-Control"] for answer in answers} == {"no-store"}
    assert len({answer.get_json()["id"] for answer in answers}) == 2


def test_it_is_the_text_of_generate(client: FlaskClient) -> None:
    """With OpenAI's defaults: temperature 1, no top_k, no top_p, 16 tokens; and without the service's opening."""
    fields = {"prefix": PROMPT, "seed": 7, "length": 16, "temperature": 1, "top_k": 0, "nsamples": 2}
    plain = client.post(
        "/generate", json={**fields, "include_prefix": False, "whole_sentences": False}
    ).get_json()
    assert texts(ask(client, n=2)) == [sample["text"] for sample in plain["samples"]]


def test_an_empty_prompt_begins_a_document(client: FlaskClient, tiny_checkpoint: Checkpoint) -> None:
    begun = text(client, prompt=[tiny_checkpoint.tokenizer.end_of_text])
    assert text(client, prompt="") == text(client, prompt=None) == begun
    usage = ask(client, prompt="")["usage"]
    for prompt in ("<|endoftext|>", ["<|endoftext|>"]):  # OpenAI's own default
        assert texts(ask(client, prompt=prompt)) == [begun]
        assert ask(client, prompt=prompt)["usage"] == usage
    assert text(client, prompt="<|endoftext|>a", echo=True).startswith("<|endoftext|>a"), "only characters"
    response = client.post("/v1/completions", json={"model": "tiny", "seed": 7})
    assert texts(response.get_json()) == [begun]


def test_null_stands_for_the_default(client: FlaskClient) -> None:
    names = ["max_tokens", "n", "best_of", "stop", "stream", "stream_options", "echo", "logprobs", "suffix"]
    names += ["temperature", "top_p", "top_k", "user", "presence_penalty", "frequency_penalty", "logit_bias"]
    assert text(client, **dict.fromkeys(names)) == text(client)


def test_neutral_values_and_the_user_change_nothing(client: FlaskClient) -> None:
    neutral = {"presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "suffix": "", "best_of": 2}
    assert texts(ask(client, n=2, user="reader 1", **neutral)) == texts(ask(client, n=2))


# --- Parameters --------------------------------------------------------------------------------------------------


def test_tokens_are_a_prompt_as_they_are(client: FlaskClient, tiny_checkpoint: Checkpoint) -> None:
    tokens = tiny_checkpoint.tokenizer.encode_prompt(PROMPT)
    assert text(client, prompt=tokens) == text(client)
    assert text(client, prompt=tokens[1:]) != text(client), "the document's beginning is left away"


def test_several_prompts_have_their_choices_one_behind_the_other(client: FlaskClient) -> None:
    first, second = (texts(ask(client, prompt=prompt, n=2)) for prompt in (PROMPT, "Misty"))
    answer = ask(client, prompt=[PROMPT, "Misty"], n=2)
    assert texts(answer) == first + second
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    tokens = [[5, 6], [7]]
    assert texts(ask(client, prompt=tokens)) == [text(client, prompt=one) for one in tokens]
    usages = [ask(client, prompt=one)["usage"] for one in tokens]
    total = ask(client, prompt=tokens)["usage"]
    assert total == {name: sum(usage[name] for usage in usages) for name in total}


def test_max_tokens_counts_new_tokens_and_is_16_by_default(client: FlaskClient) -> None:
    answer = ask(client, max_tokens=5)
    assert (answer["usage"]["completion_tokens"], answer["choices"][0]["finish_reason"]) == (5, "length")
    assert ask(client)["usage"]["completion_tokens"] == 16


def test_stop_ends_the_text_in_front_of_it(client: FlaskClient) -> None:
    whole = text(client, max_tokens=40)
    stop = whole[10:13]
    cut = whole[: whole.index(stop)]
    for stops in (stop, [stop], ["never there", stop]):
        [choice] = ask(client, max_tokens=40, stop=stops)["choices"]
        assert (choice["text"], choice["finish_reason"]) == (cut, "stop")
    assert text(client, max_tokens=40, stop=[]) == whole


def test_a_seed_decides_the_text_and_is_folded_into_32_bits(client: FlaskClient) -> None:
    assert text(client, seed=1) == text(client, seed=1) != text(client, seed=2)
    assert text(client, seed=2**32 + 1) == text(client, seed=1)
    assert text(client, seed=-1) == text(client, seed=2**64 - 1) == text(client, seed=MAX_SEED)
    assert text(client, seed=-(2**63)) == text(client, seed=0)


def test_without_a_seed_texts_differ(client: FlaskClient) -> None:
    assert len({text(client, seed=None) for _ in range(3)}) == 3


def test_temperature_top_p_and_top_k(client: FlaskClient) -> None:
    greedy = text(client, temperature=0)
    assert text(client, temperature=0, seed=8) == greedy
    assert text(client, top_k=1) == greedy
    assert text(client, top_p=0) == greedy, "for OpenAI 0 is the smallest nucleus, and not none"
    assert text(client, top_p=1, top_k=0) == text(client) != greedy
    assert text(client, top_p=0.5) not in (greedy, text(client))


def test_echo_begins_with_the_prompt(client: FlaskClient, tiny_checkpoint: Checkpoint) -> None:
    rest = text(client)
    assert text(client, echo=True) == PROMPT + rest
    tokens = tiny_checkpoint.tokenizer.encode("Ash")
    assert text(client, prompt=tokens, echo=True) == "Ash" + text(client, prompt=tokens)
    begin = tiny_checkpoint.tokenizer.end_of_text
    assert text(client, prompt=[begin, *tokens], echo=True).startswith("<|endoftext|>Ash")


def test_echo_alone_with_max_tokens_0(client: FlaskClient) -> None:
    answer = ask(client, echo=True, max_tokens=0, n=2)
    assert texts(answer) == [PROMPT, PROMPT]
    assert [choice["finish_reason"] for choice in answer["choices"]] == ["length"] * 2
    assert answer["usage"]["completion_tokens"] == 0


# --- Log-probabilities -------------------------------------------------------------------------------------------


def lists(client: FlaskClient, **parameters: object) -> tuple[str, dict[str, Any]]:
    """The text of the only choice, and its lists, which must fit together."""
    [choice] = ask(client, **parameters)["choices"]
    listed = choice["logprobs"]
    assert set(listed) == {"tokens", "token_logprobs", "top_logprobs", "text_offset"}
    n = len(listed["tokens"])
    assert len(listed["token_logprobs"]) == len(listed["text_offset"]) == n
    if listed["top_logprobs"] is not None:
        assert len(listed["top_logprobs"]) == n
    return choice["text"], listed


def joined(tokens: list[str]) -> str:
    """The text that tokens make; those that are parts of a character say their bytes."""
    return b"".join(map(bytes_of, tokens)).decode("utf-8", "replace")


def bytes_of(token: str) -> bytes:
    if token.startswith("bytes:"):
        return bytes.fromhex(token.removeprefix("bytes:").replace("\\x", ""))
    return token.encode()


def test_without_logprobs_there_are_none(client: FlaskClient) -> None:
    assert ask(client)["choices"][0]["logprobs"] is None


def test_the_tokens_are_the_text_and_stand_where_it_says(client: FlaskClient) -> None:
    """From the beginning of the prompt, echoed or not."""
    whole, listed = lists(client, logprobs=1, echo=True)
    assert joined(listed["tokens"]).removesuffix("\ufffd") == whole
    rest, listed_rest = lists(client, logprobs=1)
    n = len(listed_rest["tokens"])
    assert n == 16
    assert PROMPT + rest == whole
    assert listed_rest == {name: values[-n:] for name, values in listed.items()}
    assert listed["text_offset"][0] == 0
    assert listed_rest["text_offset"][0] == len(PROMPT)
    for token, at in zip(listed["tokens"], listed["text_offset"], strict=True):
        assert token.startswith("bytes:") or whole.startswith(token, at)


def test_parts_of_a_character_are_listed_as_bytes(client: FlaskClient, tiny_checkpoint: Checkpoint) -> None:
    _, listed = lists(client, prompt="a🔥b", logprobs=0, echo=True, max_tokens=0)
    assert listed["tokens"] == ["a", r"bytes:\xf0", r"bytes:\x9f", r"bytes:\x94", r"bytes:\xa5", "b"]
    assert listed["text_offset"] == [0, 1, 1, 1, 1, 2]


def test_the_likeliest_and_the_token_itself(client: FlaskClient) -> None:
    _, listed = lists(client, logprobs=3)
    for token, logprob, likeliest in zip(
        listed["tokens"], listed["token_logprobs"], listed["top_logprobs"], strict=True
    ):
        assert 3 <= len(likeliest) <= 4
        assert likeliest[token] == logprob <= max(likeliest.values()) < 0
    _, greedy = lists(client, logprobs=1, temperature=0)
    for token, likeliest in zip(greedy["tokens"], greedy["top_logprobs"], strict=True):
        assert list(likeliest) == [token]
    assert lists(client, logprobs=0)[1]["top_logprobs"] is None


def test_they_are_the_models_own_whatever_the_temperature(
    client: FlaskClient, tiny_checkpoint: Checkpoint
) -> None:
    """So a text is scored alike when it is made and when it is a prompt."""
    prompt = tiny_checkpoint.tokenizer.encode(PROMPT)
    _, made = lists(client, prompt=prompt, logprobs=2, echo=True, temperature=0)
    token_of = {raw: token for token, raw in enumerate(tiny_checkpoint.tokenizer.token_bytes)}
    tokens = [token_of[bytes_of(token)] for token in made["tokens"]]
    assert tokens[: len(prompt)] == prompt
    _, scored = lists(client, prompt=tokens, logprobs=2, echo=True, max_tokens=0, temperature=2)
    assert scored["tokens"] == made["tokens"]
    assert scored["token_logprobs"][0] is made["token_logprobs"][0] is None
    assert scored["token_logprobs"][1:] == pytest.approx(made["token_logprobs"][1:], abs=0.2)


def test_a_prompt_is_scored_token_by_token(client: FlaskClient, tiny_checkpoint: Checkpoint) -> None:
    """As evaluation harnesses do: the tokens of context and continuation, one more token asked for, or none."""
    tokens = tiny_checkpoint.tokenizer.encode(PROMPT)
    _, alone = lists(client, prompt=tokens, logprobs=1, echo=True, max_tokens=0)
    _, one_more = lists(client, prompt=tokens, logprobs=1, echo=True, max_tokens=1)
    assert len(alone["tokens"]) == len(tokens)
    assert {name: values[:-1] for name, values in one_more.items()} == alone
    assert alone["token_logprobs"][0] is alone["top_logprobs"][0] is None, "nothing foretells the first"
    assert all(logprob < 0 for logprob in alone["token_logprobs"][1:])
    _, text_prompt = lists(client, logprobs=1, echo=True, max_tokens=0)
    assert text_prompt["tokens"] == alone["tokens"], "what the service puts in front of a text is not listed"
    assert text_prompt["token_logprobs"][0] < 0


def test_all_choices_of_a_prompt_echo_the_same(client: FlaskClient) -> None:
    choices = ask(client, prompt=PROMPT * 12, n=3, logprobs=2, echo=True, max_tokens=0)["choices"]
    assert choices[0]["logprobs"] == choices[1]["logprobs"] == choices[2]["logprobs"]
    assert len(choices[0]["logprobs"]["tokens"]) > 128


def test_where_a_stop_string_cuts_the_tokens_behind_are_left_away(client: FlaskClient) -> None:
    whole, listed = lists(client, logprobs=1, max_tokens=40)
    stop = whole[10:13]
    cut, listed_cut = lists(client, logprobs=1, max_tokens=40, stop=stop)
    n = sum(at < len(PROMPT) + len(cut) for at in listed["text_offset"])
    assert 0 < n < len(listed["tokens"])
    assert listed_cut == {name: values[:n] for name, values in listed.items()}


def test_the_end_of_the_text_is_listed_behind_it(client: FlaskClient) -> None:
    """As the token that was drawn; the text does not have it, so the usage does not count it."""
    answers = [ask(client, n=8, max_tokens=60, logprobs=0, seed=i, temperature=2) for i in range(40)]
    n_ended = 0
    for answer in answers:
        ended = [choice for choice in answer["choices"] if choice["finish_reason"] == "stop"]
        for choice in ended:
            assert choice["logprobs"]["tokens"][-1] == "<|endoftext|>"
            assert joined(choice["logprobs"]["tokens"][:-1]).startswith(choice["text"])
        listed = sum(len(choice["logprobs"]["tokens"]) for choice in answer["choices"])
        assert answer["usage"]["completion_tokens"] == listed - len(ended)
        n_ended += len(ended)
    assert n_ended, "of 320 texts one at least ends"


def test_what_begins_a_text_prompt_is_counted_and_not_listed(client: FlaskClient) -> None:
    answer = ask(client, logprobs=0, echo=True, max_tokens=0)
    [choice] = answer["choices"]
    assert answer["usage"]["prompt_tokens"] == len(choice["logprobs"]["tokens"]) + 1


def test_two_tokens_of_one_text_are_the_likelier_one() -> None:
    lister, lists = TokenLister([b"a", b"", b""], 0), Logprobs(top_logprobs=[])
    lister.append(lists, 0, TokenLogprobs(0, -1.0, [(1, -0.5), (2, -0.7)]))
    assert lists.top_logprobs == [{"": -0.5, "a": -1.0}]


# --- Models ------------------------------------------------------------------------------------------------------


def test_the_one_model_is_listed_and_found(client: FlaskClient) -> None:
    listed = client.get("/v1/models").get_json()
    [model] = listed["data"]
    assert listed == {"object": "list", "data": [model]}
    assert set(model) == {"id", "object", "created", "owned_by"}
    assert (model["id"], model["object"], model["owned_by"]) == ("tiny", "model", "pokegen")
    assert client.get("/v1/models/tiny").get_json() == model


def test_the_fingerprint_is_of_all_that_a_text_depends_on(
    client: FlaskClient, tiny_checkpoint: Checkpoint
) -> None:
    identity = tiny_checkpoint.identity()
    expected = fingerprint(identity, "int8", "auto")
    assert ask(client)["system_fingerprint"] == expected
    assert fingerprint(identity, "float32", "auto") != expected
    assert len({fingerprint(identity, "int8", isa) for isa in ("portable", "avx2")}) == 2


def test_the_openapi_document_names_every_parameter(app: OpenAPI) -> None:
    document = app.api_doc
    body = document["paths"]["/v1/completions"]["post"]["requestBody"]["content"]["application/json"]
    name = body["schema"]["$ref"].rpartition("/")[2]
    schema = document["components"]["schemas"][name]
    assert schema["required"] == ["model"]
    assert {"prompt", "max_tokens", "stream_options", "top_k", "suffix"} < set(schema["properties"])
    assert {"/v1/models", "/v1/models/{model}"} < set(document["paths"])
