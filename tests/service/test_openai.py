"""The official `openai` client, unchanged, through the real nginx and uWSGI."""

import asyncio
import os
import re
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from openai import (
    APIError,
    APIStatusError,
    AsyncOpenAI,
    BadRequestError,
    DefaultAsyncHttpxClient,
    DefaultHttpxClient,
    InternalServerError,
    NotFoundError,
    OpenAI,
)
from openai.types import Completion

from tests.service.stack import Stack, at_rest, direct_session, metrics, running, wait_until

PROMPT = "Ash and Pokémon 🔥"


def client_of(stack: Stack, max_retries: int = 0) -> OpenAI:
    """A client that takes no proxy between the test and this machine, whatever the environment says."""
    return OpenAI(
        base_url=f"{stack.url}/v1",
        api_key="any",
        max_retries=max_retries,
        http_client=DefaultHttpxClient(trust_env=False),
    )


@pytest.fixture(scope="module")
def native_stack(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running service that computes with the C++ core."""
    with running(
        Stack(tmp_path_factory.mktemp("stack") / "log", environment | {"POKEGEN_ENGINE": "int8"})
    ) as stack:
        yield stack


@pytest.fixture
def client(native_stack: Stack) -> Iterator[OpenAI]:
    with client_of(native_stack) as client:
        yield client


@pytest.fixture
def model(client: OpenAI) -> str:
    [model] = client.models.list()
    return model.id


def texts(completion: Completion) -> list[str]:
    return [choice.text for choice in completion.choices]


def test_models(client: OpenAI, model: str, native_stack: Stack) -> None:
    assert model == native_stack.get("/generate?length=1").json()["model"]
    found = client.models.retrieve(model)
    assert (found.id, found.object, found.owned_by) == (model, "model", "pokegen")
    with pytest.raises(NotFoundError, match=f"this service has '{model}'"):
        client.models.retrieve("gpt-4")


def test_a_completion(client: OpenAI, model: str, native_stack: Stack) -> None:
    """Is the text that /generate makes of the same seed."""
    completion = client.completions.create(model=model, prompt=PROMPT, max_tokens=40, temperature=0.7, seed=7)
    [choice] = completion.choices
    fields: dict[str, Any] = {"prefix": PROMPT, "length": 40, "temperature": 0.7, "top_k": 0, "seed": 7}
    with direct_session() as session:
        plain = session.post(
            f"{native_stack.url}/generate", json=fields | {"include_prefix": False, "whole_sentences": False}
        ).json()
    assert choice.text == plain["text"]
    assert choice.finish_reason == plain["samples"][0]["finish_reason"]
    assert completion.usage
    assert completion.usage.model_dump(exclude_none=True) == plain["usage"]
    assert completion.object == "text_completion"
    assert completion.system_fingerprint
    assert completion._request_id, "which the log has too"


def test_a_seed_gives_the_same_text_twice(client: OpenAI, model: str) -> None:
    first, again, other = (
        client.completions.create(model=model, prompt=PROMPT, seed=seed) for seed in (2**63 - 1, 2**63 - 1, 5)
    )
    assert texts(first) == texts(again) != texts(other)
    assert first.system_fingerprint == again.system_fingerprint


def test_three_choices_and_several_prompts(client: OpenAI, model: str) -> None:
    three = client.completions.create(model=model, prompt=PROMPT, n=3, seed=7)
    assert len(set(texts(three))) == 3
    assert [choice.index for choice in three.choices] == [0, 1, 2]
    two = client.completions.create(model=model, prompt=[PROMPT, "Misty"], n=3, seed=7)
    assert texts(two)[:3] == texts(three)
    tokens = client.completions.create(model=model, prompt=[[5, 6, 7], [8]], n=2, seed=7)
    assert texts(tokens)[:2] == texts(client.completions.create(model=model, prompt=[5, 6, 7], n=2, seed=7))


def test_stop(client: OpenAI, model: str) -> None:
    [whole] = texts(client.completions.create(model=model, prompt=PROMPT, max_tokens=40, seed=7))
    stop = whole[20:23]
    cut = client.completions.create(
        model=model, prompt=PROMPT, max_tokens=40, seed=7, stop=["never there", stop]
    )
    [choice] = cut.choices
    assert (choice.finish_reason, whole.startswith(choice.text + stop)) == ("stop", True)


def test_logprobs_and_echo(client: OpenAI, model: str) -> None:
    completion = client.completions.create(
        model=model, prompt=PROMPT, max_tokens=5, seed=7, logprobs=5, echo=True
    )
    [choice] = completion.choices
    lists = choice.logprobs
    assert lists
    assert lists.tokens
    assert lists.token_logprobs
    assert lists.top_logprobs
    assert lists.text_offset
    assert choice.text.startswith(PROMPT)
    assert len(lists.tokens) == len(lists.token_logprobs) == len(lists.top_logprobs) == len(lists.text_offset)
    assert lists.token_logprobs[0] is None, "nothing foretells the first"
    assert all(logprob < 0 for logprob in lists.token_logprobs[1:])
    assert all(5 <= len(likeliest) <= 6 for likeliest in lists.top_logprobs[1:])
    scored = client.completions.create(model=model, prompt=PROMPT, max_tokens=0, logprobs=5, echo=True)
    assert scored.choices[0].text == PROMPT
    assert scored.choices[0].logprobs
    assert scored.choices[0].logprobs.tokens == lists.tokens[:-5]
    assert scored.choices[0].logprobs.token_logprobs == lists.token_logprobs[:-5]


def test_a_stream(client: OpenAI, model: str) -> None:
    whole = client.completions.create(model=model, prompt=PROMPT, n=3, max_tokens=200, seed=7)
    joined = {0: "", 1: "", 2: ""}
    reasons = {}
    usage = None
    with client.completions.create(
        model=model,
        prompt=PROMPT,
        n=3,
        max_tokens=200,
        seed=7,
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        for chunk in stream:
            usage = chunk.usage
            for choice in chunk.choices:
                joined[choice.index] += choice.text
                reasons[choice.index] = choice.finish_reason
    assert list(joined.values()) == texts(whole)
    assert list(reasons.values()) == [choice.finish_reason for choice in whole.choices]
    assert usage == whole.usage


def test_the_asynchronous_client(native_stack: Stack, model: str) -> None:
    async def ask() -> tuple[str, str]:
        async with AsyncOpenAI(
            base_url=f"{native_stack.url}/v1",
            api_key="any",
            http_client=DefaultAsyncHttpxClient(trust_env=False),
        ) as client:
            whole = await client.completions.create(model=model, prompt=PROMPT, seed=7)
            pieces = await client.completions.create(model=model, prompt=PROMPT, seed=7, stream=True)
            return whole.choices[0].text, "".join([chunk.choices[0].text async for chunk in pieces])

    with ThreadPoolExecutor(1) as pool:  # in this thread the browser of other tests keeps a loop of its own
        whole, joined = pool.submit(lambda: asyncio.run(ask())).result()
    assert whole == joined


# --- What goes wrong ---------------------------------------------------------------------------------------------


def test_a_wrong_parameter(client: OpenAI, model: str) -> None:
    with pytest.raises(
        BadRequestError, match="temperature: Input should be less than or equal to 2"
    ) as found:
        client.completions.create(model=model, prompt=PROMPT, temperature=3)
    assert (found.value.param, found.value.type, found.value.code) == (
        "temperature",
        "invalid_request_error",
        None,
    )
    assert found.value.request_id
    with pytest.raises(BadRequestError, match=r"presence_penalty: .* leave it out"):
        client.completions.create(model=model, prompt=PROMPT, presence_penalty=1)
    with pytest.raises(BadRequestError, match=r"Did you mean max_tokens\?"):
        client.completions.create(model=model, prompt=PROMPT, extra_body={"max_token": 5})
    with pytest.raises(BadRequestError, match="tokens long and may be 1023 at most") as too_long:
        client.completions.create(model=model, prompt=[5] * 1024)
    assert too_long.value.code == "context_length_exceeded"


def test_top_k_is_an_extra(client: OpenAI, model: str) -> None:
    greedy = client.completions.create(model=model, prompt=PROMPT, temperature=0)
    top_k = client.completions.create(model=model, prompt=PROMPT, extra_body={"top_k": 1})
    assert texts(top_k) == texts(greedy)


def test_an_unknown_model(client: OpenAI) -> None:
    with pytest.raises(NotFoundError, match="'davinci' does not exist") as found:
        client.completions.create(model="davinci", prompt=PROMPT)
    assert found.value.code == "model_not_found"


def test_an_unknown_path(client: OpenAI, model: str) -> None:
    with pytest.raises(NotFoundError, match="completions at /v1/completions"):
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Ash"}])


def test_who_leaves_in_the_middle_frees_the_place(client: OpenAI, model: str, native_stack: Stack) -> None:
    cancelled = 'pokegen_samples_ended_total{reason="cancelled"}'
    before = metrics(native_stack.http)[cancelled]
    stream = client.completions.create(
        model=model, prompt=[PROMPT] * 2, n=4, max_tokens=1000, seed=7, stream=True
    )
    next(iter(stream))
    stream.close()
    wait_until(lambda: at_rest(native_stack.http), within=1, what="the places of who has left")
    assert metrics(native_stack.http)[cancelled] > before


def test_busy_is_retried_when_the_service_says(
    new_stack: Callable[..., Stack], caplog: pytest.LogCaptureFixture
) -> None:
    """There is one place and no queue, and somebody has it."""
    with running(
        new_stack(POKEGEN_MAX_RUNNING="1", POKEGEN_MAX_WAITING="0", POKEGEN_MAX_SAMPLES="1")
    ) as stack:
        impatient, patient = client_of(stack), client_of(stack, max_retries=5)
        [model] = impatient.models.list()

        def ask(client: OpenAI) -> Completion:
            return client.completions.create(model=model.id, prompt=PROMPT, max_tokens=5, seed=7)

        alone = ask(impatient)
        holder = impatient.completions.create(
            model=model.id, prompt="Misty", max_tokens=600, seed=1, stream=True
        )
        next(iter(holder))
        with pytest.raises(InternalServerError, match="too many are waiting") as busy:
            ask(impatient)
        assert busy.value.status_code == 503
        assert 1 <= int(busy.value.response.headers["Retry-After"]) <= 120
        caplog.clear()
        with caplog.at_level("INFO", logger="openai"):
            assert texts(ask(patient)) == texts(alone)
        waits = [
            float(found[1])
            for record in caplog.records
            if (found := re.match(r"Retrying request in ([\d.]+) seconds", record.getMessage()))
        ]
        assert waits
        assert all(wait >= 1 and wait.is_integer() for wait in waits), (
            "the service's, and not the client's own"
        )
        holder.close()


def test_what_fails_in_the_middle_of_a_stream_is_raised(new_stack: Callable[..., Stack]) -> None:
    with running(new_stack(POKEGEN_REQUEST_TIMEOUT="2")) as stack:
        client = client_of(stack)
        [model] = client.models.list()
        stream = client.completions.create(
            model=model.id, prompt=PROMPT, n=8, max_tokens=1000, seed=1, stream=True
        )
        with pytest.raises(APIError, match="not done within 2 s"):
            for _ in stream:
                pass


def test_what_nginx_itself_refuses_has_the_same_shape(new_stack: Callable[..., Stack]) -> None:
    with running(new_stack()) as stack:
        client = client_of(stack)
        with pytest.raises(APIStatusError, match="The body may have 65536 bytes at most") as too_large:
            client.completions.create(model="any", prompt="a" * 65536)
        assert (too_large.value.status_code, too_large.value.type) == (413, "invalid_request_error")
        with ThreadPoolExecutor() as pool:
            model = client.models.list().data[0].id
            slow = pool.submit(client.completions.create, model=model, prompt="Ash", max_tokens=900, n=8)
            wait_until(lambda: not at_rest(stack.http), within=10, what="the text to begin")
            [worker] = stack.workers("uwsgi")
            os.kill(worker, signal.SIGKILL)
            with pytest.raises(InternalServerError, match="The text generator did not answer") as gone:
                slow.result()
        assert (gone.value.status_code, gone.value.type) == (502, "server_error")
        assert gone.value.response.headers["Retry-After"] == "5"
