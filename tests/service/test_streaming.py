"""Streams and departures through the real nginx and uWSGI."""

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.events import texts
from tests.service.stack import Stack, at_rest, leave_early, metrics, running, wait_until

READERS = 100


@pytest.fixture(scope="module")
def native_stack(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service with the C++ core in which most of the readers have to wait."""
    settings = {"POKEGEN_ENGINE": "int8", "POKEGEN_MAX_RUNNING": "16", "POKEGEN_MAX_WAITING": "128"}
    with running(Stack(tmp_path_factory.mktemp("stack") / "log", environment | settings)) as stack:
        yield stack


def test_a_stream_comes_as_it_is_written(native_stack: Stack) -> None:
    query = "/generate?length=900&seed=7&whole_sentences=false"
    *pieces, (ended, done) = [
        (time.monotonic(), event) for event in native_stack.stream(f"{query}&stream=true")
    ]
    assert done.name == "done"
    assert len(pieces) > 3
    assert ended - pieces[0][0] > 0.2 * done.data["timing"]["total_s"], "the first did not wait for the last"
    assert texts(event for _, event in pieces)[0] == done.data["text"]
    assert native_stack.get(query).json()["text"] == done.data["text"]


def visit(stack: Stack, seed: int) -> None:
    """Ask for a long text, streamed or not, by nginx or the plain port, and leave after a moment."""
    chance = random.Random(seed)
    stream = chance.choice(["true", "false"])
    leave_early(
        chance.choice([stack.url, stack.http]),
        f"/generate?stream={stream}&length=900&seed={seed}",
        after=chance.uniform(0.01, 1),
    )


def sum_of(metrics: dict[str, float], name: str) -> float:
    return sum(value for key, value in metrics.items() if key.startswith(name))


def test_who_leaves_frees_the_place_within_a_second(native_stack: Stack) -> None:
    before = metrics(native_stack.http)
    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(visit, [native_stack] * READERS, range(READERS)))

    def ended() -> float:
        now = metrics(native_stack.http)
        return sum_of(now, "pokegen_samples_ended_total") - sum_of(before, "pokegen_samples_ended_total")

    # Who has left before the application took the request is still to come, and all the same counted.
    wait_until(
        lambda: ended() == READERS and at_rest(native_stack.http), within=1, what="every place to be free"
    )
    left = 'pokegen_samples_ended_total{reason="cancelled"}'
    assert metrics(native_stack.http)[left] - before[left] > READERS / 2
    assert ended() == READERS
    assert native_stack.get("/generate?length=5").status_code == 200
