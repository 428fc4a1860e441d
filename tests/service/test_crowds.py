"""More than the service can do: who is let in, who is told to come back, and that one address is not all.

nginx is told that this machine is a proxy, so a request here may come from any address.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import requests

from tests.service.stack import Stack, at_rest, direct_session, metrics, running, wait_until
from tests.service.test_nginx import assert_problem

AT_ONCE, RATE = 4, 5
PATIENT = {
    "POKEGEN_MAX_RUNNING": "1",
    "POKEGEN_MAX_WAITING": "18",
    "POKEGEN_THREADS": "20",
    "POKEGEN_MAX_WAIT": "3600",
    "POKEGEN_REQUEST_TIMEOUT": "3600",
}
LONG = "/generate?length=900&temperature=0&stream=true"  # greedily, it goes round in circles to the end


@pytest.fixture(scope="module")
def stack(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Small, and in no hurry."""
    variables = PATIENT | {
        "POKEGEN_MAX_SAMPLES": "2",
        "POKEGEN_ADDRESS_AT_ONCE": str(AT_ONCE),
        "POKEGEN_ADDRESS_RATE": str(RATE),
        "POKEGEN_TRUSTED_PROXIES": "127.0.0.1",
    }
    with running(Stack(tmp_path_factory.mktemp("crowds") / "log", environment | variables)) as stack:
        yield stack


class Crowd:
    """Readers who stay until its end."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._open = ExitStack()

    def ask(self, address: str, path: str = LONG) -> requests.Response:
        """Ask from an address, and read no further than the head."""
        session = self._open.enter_context(direct_session())
        headers = {"X-Forwarded-For": address}
        answer = session.get(self._stack.url + path, headers=headers, stream=True, timeout=60)
        return self._open.enter_context(answer)

    def leave(self) -> None:
        self._open.close()
        wait_until(lambda: at_rest(self._stack.http), within=60, what="those who left to be forgotten")


@contextmanager
def crowd_before(stack: Stack) -> Iterator[Crowd]:
    crowd = Crowd(stack)
    try:
        yield crowd
    finally:
        crowd.leave()


@pytest.fixture
def crowd(stack: Stack) -> Iterator[Crowd]:
    with crowd_before(stack) as crowd:
        yield crowd


@pytest.fixture
def speed(stack: Stack) -> float:
    """How many tokens a second a text has that is alone, on this machine."""
    timing = stack.get("/generate?length=100&temperature=0").json()["timing"]
    return float(timing["tokens_per_s"])


def test_no_more_are_begun_than_keep_their_pace_and_who_would_wait_is_told_at_once(
    environment: dict[str, str], tmp_path: Path, speed: float
) -> None:
    hasty = {"POKEGEN_PACE": f"{speed / 10:.3f}", "POKEGEN_MAX_WAIT": "1"}
    with running(Stack(tmp_path / "log", environment | hasty)) as stack, crowd_before(stack) as crowd:
        answers, limits = [], []
        for _ in range(60):
            answers.append(crowd.ask("192.0.2.1"))
            limits.append(metrics(stack.http)["pokegen_batch_limit"])
        let_in, refused = ([a for a in answers if a.status_code == status] for status in (200, 503))
        assert len(let_in) + len(refused) == 60
        assert 2 <= len(let_in) <= 50
        for answer in refused:
            assert "too many are waiting" in answer.json()["detail"]
            assert 1 <= int(answer.headers["Retry-After"]) <= 120
        seen = metrics(stack.http)
        # The limit moves with the speed, and who runs goes on.
        assert seen["pokegen_samples_running"] <= 2 * max(limits) + 8
        assert seen["pokegen_requests_refused_total"] == len(refused)


def test_one_address_has_so_many_texts_at_once_and_leaves_room_for_others(crowd: Crowd) -> None:
    with ThreadPoolExecutor(AT_ONCE + 2) as pool:  # at once, or the first has ended when the last comes
        answers = list(pool.map(crowd.ask, ["198.51.100.1"] * (AT_ONCE + 2)))
    assert sorted(answer.status_code for answer in answers) == [200] * AT_ONCE + [429] * 2
    for answer in answers:
        if answer.status_code == 429:
            assert "You may have 4 texts at once" in answer.json()["detail"]
    assert crowd.ask("198.51.100.2").status_code == 200

    def has_its_places_again() -> bool:
        crowd.leave()
        return all(crowd.ask("198.51.100.1").status_code == 200 for _ in range(AT_ONCE))

    wait_until(has_its_places_again, within=30, what="the places of those who left to be free")


@pytest.mark.parametrize(
    ("address", "neighbours"),
    [("198.51.100.3", 422), ("::ffff:198.51.100.4", 422), ("2001:db8:0:3::1", 429), ("2001:db8::1", 429)],
)
def test_an_address_that_asks_too_often_is_told_so_by_nginx(
    stack: Stack, crowd: Crowd, address: str, neighbours: int
) -> None:
    def ask(address: str, times: int, path: str = "/generate?length=0") -> list[requests.Response]:
        """A wrong question, which costs nothing but is counted. Five at once: five a second would not be too often."""
        with ThreadPoolExecutor(5) as pool:
            return list(pool.map(lambda _: crowd.ask(address, path), range(times)))

    answers = ask(address, 40)
    assert {answer.status_code for answer in answers} == {422, 429}
    for refused in (answer for answer in answers if answer.status_code == 429):
        assert refused.headers["Retry-After"] == "2"
        assert_problem(refused, 429)
        assert "Your address asks for more than 5 texts a second" in refused.json()["detail"]
    neighbour = address[:-1] + "9"
    statuses = {answer.status_code for answer in ask(neighbour, 5)}
    assert (429 in statuses) == (neighbours == 429), "in IPv6, it is the same network's"
    assert 429 in {answer.status_code for answer in ask(address, 10, "/v1/completions")}
    for path in ("/", "/healthz", "/v1/models"):
        [answer] = ask(address, 1, path)
        assert answer.status_code == 200, "only texts are counted"


def test_a_crowd_beyond_the_threads_is_told_by_nginx_and_the_service_still_says_that_it_lives(
    stack: Stack, crowd: Crowd
) -> None:
    with ThreadPoolExecutor(16) as pool:  # at once, or the first have ended when the last comes
        answers = list(pool.map(crowd.ask, [f"192.0.2.{number}" for number in range(16)]))
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(refused) == 4, "8 threads of 20 are kept free"
    for answer in refused:
        assert_problem(answer, 503)
        assert "far too many ask at once" in answer.json()["detail"]
        assert int(answer.headers["Retry-After"]) in (5, 10, 15, 20, 30)
    assert stack.get("/healthz").status_code == 200
    crowd.leave()
    assert stack.get("/generate?length=1").status_code == 200
