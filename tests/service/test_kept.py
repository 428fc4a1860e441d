"""A permalink is written once, however many open it, until another checkpoint answers."""

import hashlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import pytest

from loadtest.permalink import FORMS
from server.api.kept import FRESH_SECONDS
from tests.checkpoints import write_transformers
from tests.conftest import TINY
from tests.events import texts
from tests.service.stack import (
    Stack,
    at_rest,
    direct_session,
    leave_early,
    leave_when,
    metrics,
    running,
    wait_until,
)
from tests.service.test_process import SLOW

OPENED = 10_000
LINK = "/generate?prefix=Ash&length=30&seed={seed}"
PAGE = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
KEYS = f"""
[alice]
sha256 = "{hashlib.sha256(b"secret").hexdigest()}"

[anonymous]
at_once = 4
per_minute = 30
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    write_transformers(tmp_path / "served", TINY, seed=1)
    return tmp_path / "served"


@pytest.fixture
def make_stack(directory: Path, tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    contexts = []

    def make(**variables: str) -> Stack:
        stack = Stack(tmp_path / "log", {"POKEGEN_CHECKPOINT": str(directory)} | variables)
        contexts.append(running(stack))
        return contexts[-1].__enter__()

    yield make
    for context in contexts:
        context.__exit__(None, None, None)


@pytest.fixture
def stack(make_stack: Callable[..., Stack]) -> Stack:
    return make_stack()


def written(stack: Stack) -> float:
    """How many texts have been, whatever ended them."""
    said = metrics(stack.http)
    return sum(count for name, count in said.items() if name.startswith("pokegen_samples_ended_total"))


def answered(stack: Stack) -> float:
    """How many requests for texts the application has answered itself."""
    said = metrics(stack.http)
    return sum(
        count
        for name, count in said.items()
        if name.startswith("pokegen_http_requests_total{") and 'path="/generate"' in name
    )


def test_a_permalink_opened_10000_times_is_written_once(stack: Stack) -> None:
    before = written(stack)
    link = LINK.format(seed=1)

    def open_often(times: int) -> set[bytes]:
        connection = HTTPConnection("127.0.0.1", stack.port, timeout=60)
        answers = set()
        for _ in range(times):
            connection.request("GET", link)
            response = connection.getresponse()
            assert response.status == 200
            answers.add(response.read())
        connection.close()
        return answers

    with ThreadPoolExecutor(20) as pool:  # the first twenty at once
        answers = set.union(*pool.map(open_often, [OPENED // 20] * 20))
    assert len(answers) == 1
    assert written(stack) == before + 1


def test_an_answer_that_the_reader_has_is_not_sent_again(stack: Stack) -> None:
    link = LINK.format(seed=2)
    before = written(stack)
    for url in (stack.url, stack.http):
        with direct_session() as session:
            first = session.get(url + link, timeout=20)
            assert first.headers["Cache-Control"] == "public, max-age=0, s-maxage=10"
            assert first.headers["ETag"].startswith('W/"')
            again = session.get(url + link, headers={"If-None-Match": first.headers["ETag"]}, timeout=20)
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["ETag"] == first.headers["ETag"]
            other = session.get(url + link, headers={"If-None-Match": '"another"'}, timeout=20)
            assert (other.status_code, other.content) == (200, first.content)
    assert written(stack) == before + 1


def test_what_is_to_be_kept_is_finished_though_its_reader_leaves(stack: Stack) -> None:
    before = written(stack)
    leave_early(stack.url, LINK.format(seed=3), after=0)
    wait_until(lambda: written(stack) == before + 1, within=10, what="the text")
    assert stack.get(LINK.format(seed=3)).status_code == 200
    assert written(stack) == before + 1


def test_each_form_is_kept_by_itself(stack: Stack) -> None:
    link = LINK.format(seed=3)
    before = written(stack)
    for _ in range(2):
        assert stack.get(link).headers["Content-Type"] == "application/json"
        assert stack.get(link, headers=PAGE).headers["Content-Type"] == "text/html; charset=utf-8"
        assert stack.get(link, headers={"Accept": "application/json"}).json()["seed"] == 3
        program = {"Accept": "application/json, text/html;q=0.5"}
        assert stack.get(link, headers=program).headers["Content-Type"] == "application/json"
        json_in_a_page = {"Accept": "text/html, application/json;q=2"}
        assert stack.get(link, headers=json_in_a_page).status_code == 200
    assert stack.get(link).headers["ETag"] != stack.get(link, headers=PAGE).headers["ETag"]
    assert written(stack) == before + 1


def test_whoever_asks_first_chooses_the_form_for_nobody_else(stack: Stack) -> None:
    for seed, accept in enumerate(
        [
            "text/html,application/JSON",
            "text/html,text/event-stream",
            "text/html,text/*",
            "text/html,Application/*",
            "text/html, application/json;q=2",
            "text/html,*/*",
            "TEXT/HTML",
            "*/*;q=0.1",
            "Application/Json",
        ]
    ):
        link, asked = LINK.format(seed=100 + seed), {"Accept": accept}
        with direct_session() as session:
            by_the_application = session.get(stack.http + link, headers=asked, timeout=20)
        form = by_the_application.headers["Content-Type"]
        assert [stack.get(link, headers=asked).headers["Content-Type"] for _ in range(2)] == [form] * 2, (
            accept
        )
        assert stack.get(link, headers=PAGE).headers["Content-Type"] == "text/html; charset=utf-8", accept
        assert stack.get(link).headers["Content-Type"] == "application/json", accept


def test_nginx_keeps_it_for_browsers_and_for_programs(stack: Stack) -> None:
    chromium = (
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,"
        "application/signed-exchange;v=b3;q=0.7"
    )
    for seed, accept in enumerate([*FORMS.values(), chromium, "text/html", "*/*"]):
        before = answered(stack)
        for _ in range(2):
            assert stack.get(LINK.format(seed=200 + seed), headers={"Accept": accept}).status_code == 200
        assert answered(stack) == before + 1, accept


@pytest.mark.parametrize(
    "headers",
    [
        {"Accept": "image/png"},
        {"Accept": "image/png", "Authorization": "json"},
        {"Authorization": "Bearer any"},
        {"X-API-Key": "any"},
        {"Authorization": "application/json seed=1"},
    ],
)
def test_who_brings_something_else_is_answered_by_the_application(
    stack: Stack, headers: dict[str, str]
) -> None:
    before = answered(stack)
    for _ in range(2):
        assert stack.get(LINK.format(seed=7), headers=headers).status_code == 200
    assert answered(stack) == before + 2


def test_a_stream_of_what_was_written_before_is_all_there_at_once(stack: Stack) -> None:
    link = LINK.format(seed=4) + "&stream=true&whole_sentences=false"
    before = written(stack)
    first, second = list(stack.stream(link)), list(stack.stream(link))
    assert len(second) == 2
    done = first[-1]
    assert (second[-1].name, second[-1].data) == (done.name, done.data)
    assert texts(second[:-1]) == texts(first[:-1])
    assert written(stack) == before + 1


def test_without_a_seed_each_is_another_and_nobody_waits_for_another(stack: Stack) -> None:
    before = written(stack)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: stack.get("/generate?prefix=Ash&length=30"), range(8)))
    assert {answer.headers["Cache-Control"] for answer in answers} == {"no-store"}
    assert not any("ETag" in answer.headers for answer in answers)
    assert len({answer.json()["seed"] for answer in answers}) == 8
    assert written(stack) == before + 8


def test_errors_are_not_kept(stack: Stack) -> None:
    for _ in range(2):
        answer = stack.get("/generate?seed=1&length=0")
        assert (answer.status_code, answer.headers["Cache-Control"]) == (422, "no-store")


def test_another_checkpoint_writes_it_anew_for_the_first_who_opens_it(stack: Stack, directory: Path) -> None:
    link, of_a_crowd = LINK.format(seed=5), LINK.format(seed=6)
    old, olds = stack.get(link).json(), stack.get(of_a_crowd).json()
    write_transformers(directory, TINY, seed=2)
    assert stack.reload().returncode == 0
    time.sleep(FRESH_SECONDS + 2)
    new = stack.get(link).json()
    assert new["fingerprint"] != old["fingerprint"]
    assert new["text"] != old["text"]

    before = written(stack)
    with ThreadPoolExecutor(8) as pool:
        news = list(pool.map(lambda _: stack.get(of_a_crowd).json(), range(8)))
    assert written(stack) == before + 1, "one of them has it written"
    assert {answer["text"] for answer in news} - {olds["text"]} == {stack.get(of_a_crowd).json()["text"]}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    file = tmp_path / "keys.toml"
    file.write_text(KEYS)
    file.chmod(0o600)
    return file


def test_where_keys_are_asked_for_no_text_is_finished_for_nobody(
    make_stack: Callable[..., Stack], environment: dict[str, str], keys: Path
) -> None:
    stack = make_stack(**environment | {"POKEGEN_API_KEYS": str(keys), "POKEGEN_KEEP": "1000"})
    leave_when(stack.url, f"{SLOW}&seed=7", lambda: not at_rest(stack.http), what="the text to be begun")
    wait_until(lambda: at_rest(stack.http), within=1, what="the place of who has left")
    assert metrics(stack.http)['pokegen_samples_ended_total{reason="cancelled"}'] == 1


def test_where_keys_are_asked_for_nobody_gets_past_them(make_stack: Callable[..., Stack], keys: Path) -> None:
    keys.write_text(KEYS.partition("[anonymous]")[0])
    stack = make_stack(POKEGEN_API_KEYS=str(keys))
    link = LINK.format(seed=6)
    answer = stack.get(link, headers={"Authorization": "Bearer secret"})
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "private, max-age=0")
    assert stack.get(link).status_code == 401
    assert stack.get(link, headers={"X-API-Key": "wrong"}).status_code == 401
