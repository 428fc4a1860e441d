"""A permalink is written once, however many open it, until another checkpoint answers."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.checkpoints import write_transformers
from tests.conftest import TINY
from tests.events import texts
from tests.service.stack import Stack, direct_session, leave_early, metrics, running, wait_until

OPENED = 10_000
LINK = "/generate?prefix=Ash&length=30&seed={seed}"
PAGE = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


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


def test_another_checkpoint_writes_it_anew(stack: Stack, directory: Path) -> None:
    link = LINK.format(seed=5)
    before = stack.get(link).json()
    write_transformers(directory, TINY, seed=2)
    assert stack.reload().returncode == 0
    wait_until(
        lambda: stack.get(link).json()["fingerprint"] != before["fingerprint"], within=30, what="the new text"
    )
    assert stack.get(link).json()["text"] != before["text"]


def test_where_keys_are_asked_for_nobody_gets_past_them(
    make_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[alice]\nsha256 = "{hashlib.sha256(b"secret").hexdigest()}"\n')
    keys.chmod(0o600)
    stack = make_stack(POKEGEN_API_KEYS=str(keys))
    link = LINK.format(seed=6)
    answer = stack.get(link, headers={"Authorization": "Bearer secret"})
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "private, max-age=0")
    assert stack.get(link).status_code == 401
    assert stack.get(link, headers={"X-API-Key": "wrong"}).status_code == 401
