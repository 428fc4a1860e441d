"""What a reader sees when it does not go smoothly: a line, a full house, a server that dies, no network, a mistake."""

import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser.conftest import SLOW
from tests.browser.studio import Studio, lines
from tests.service.stack import Stack, leave_early, metrics, running, wait_until

OPENING = "In the old lighthouse lives"


@contextmanager
def others(stack: Stack, count: int, leave_after: float) -> Iterator[None]:
    """So many readers ask for texts that take seconds, and all of them leave in the middle."""
    path = (
        "/generate?length=120&temperature=10&top_k=0&stream=true"  # too wild ever to come to an end by itself
    )
    readers = [
        threading.Thread(target=leave_early, args=(stack.url, path, leave_after)) for _ in range(count)
    ]
    for reader in readers:
        reader.start()

    def present() -> float:
        now = metrics(stack.http)
        return now["pokegen_samples_running"] + now["pokegen_samples_waiting"]

    wait_until(lambda: present() == count, within=5, what="the others to have a place")
    yield
    for reader in readers:
        reader.join()


def test_whoever_waits_in_line_sees_it_and_gets_there(slow_studio: Studio, slow_service: Stack) -> None:
    with others(slow_service, 1, leave_after=2):
        slow_studio.write(OPENING, length=32).reaches("next")
        assert re.fullmatch(r"You are next, in about \d+ s\.", slow_studio.says())
        slow_studio.reaches("done")
    assert slow_studio.text() == lines(slow_studio.answer()["text"])


def test_a_full_house_is_asked_again_when_it_says(slow_studio: Studio, slow_service: Stack) -> None:
    with others(slow_service, 2, leave_after=2):
        slow_studio.write(OPENING, length=32).reaches("busy")
        assert slow_studio.says().startswith("Every seat is taken. Asking again in ")
        seconds = slow_studio.page.locator("#status [data-slot=seconds]")
        first = int(seconds.inner_text())
        expect(seconds).to_have_text(str(first - 1))
        slow_studio.reaches("done", within=first + 20)
    assert slow_studio.text() == lines(slow_studio.answer()["text"])


def test_whoever_is_tired_of_waiting_stops(slow_studio: Studio, slow_service: Stack) -> None:
    with others(slow_service, 2, leave_after=2):
        slow_studio.write(OPENING).reaches("busy")
        slow_studio.press("Stop")
        slow_studio.reaches("stopped")
    slow_studio.page.wait_for_timeout(300)
    assert slow_studio.says() == "Stopped. What was written stays."


def test_a_server_that_dies_takes_no_text_with_it(open_page: Callable[..., Page], tmp_path: Path) -> None:
    with running(Stack(tmp_path / "log", SLOW)) as stack:
        studio = Studio(open_page(), stack.url).open().write(OPENING, length=160).reaches("writing")
        studio.page.wait_for_timeout(500)
        [worker] = stack.workers("uwsgi")
        os.kill(worker, signal.SIGKILL)
        kept = studio.reaches("broken").text()
        assert len(kept) > len(OPENING)
        assert studio.button("Another take").is_visible()

        studio.press("Go on")  # uWSGI starts another worker meanwhile
        studio.reaches("done", within=40)
        assert studio.text().startswith(kept)
        assert studio.text() == lines(studio.answer()["text"])

        stack.stop()
        studio.press("Another take")
        studio.reaches("unreachable")
        assert studio.says().startswith("The server does not answer. Asking again in ")
        studio.press("Stop")


def test_without_a_network_it_waits_for_one(studio: Studio) -> None:
    studio.page.context.set_offline(True)
    studio.write(OPENING, length=32).reaches("offline")
    assert studio.says() == "You are offline. It goes on as soon as you are back."
    studio.page.context.set_offline(False)
    studio.reaches("done")


def test_a_mistake_is_shown_at_its_field(studio: Studio) -> None:
    studio.write("Ash and Pikachu " * 200).reaches("refused")
    opening = studio.page.get_by_label("How does the episode begin?")
    expect(opening).to_be_focused()
    expect(opening).to_have_attribute("aria-invalid", "true")
    expect(opening).to_have_accessible_description(re.compile("tokens long and may be .* at most"))
    opening.fill("Ash and Pikachu")
    expect(studio.page.locator("#prefix-error")).to_be_hidden()
    expect(opening).not_to_have_attribute("aria-invalid", "true")
    studio.press("Write the episode")
    studio.reaches("done")


def test_a_link_with_a_mistake_says_what_is_wrong(studio: Studio) -> None:
    studio.open("/?prefix=Ash&seed=1&length=0&temperature=99").reaches("refused")
    assert "greater than or equal to 1" in studio.page.locator("#length-error").inner_text()
    assert "less than or equal to 10" in studio.page.locator("#temperature-error").inner_text()
    studio.open("/?prefix=Ash&seed=many").reaches("failed")
    assert "seed: Input should be a valid integer" in studio.says()
