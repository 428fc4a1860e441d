"""What a reader sees when it does not go smoothly: a line, a full house, a server that dies, no network, a mistake."""

import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import SLOW
from tests.browser.studio import PATIENCE, Studio, lines
from tests.service.stack import Stack, at_rest, metrics, running, wait_until

OPENING = "In the old lighthouse lives"


@contextmanager
def others(stack: Stack, count: int) -> Iterator[Callable[[], None]]:
    """So many readers ask for texts that take long, and all of them leave when what this gives is called."""
    # Too wild to come to an end by itself, and with this seed it never does.
    path = "/generate?length=1000&temperature=10&top_k=0&seed=1&stream=true"
    with ExitStack() as connections:
        for _ in range(count):
            connection = connections.enter_context(socket.create_connection(("127.0.0.1", stack.port)))
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())

        def present() -> float:
            now = metrics(stack.http)
            return now["pokegen_samples_running"] + now["pokegen_samples_waiting"]

        wait_until(lambda: present() == count, within=PATIENCE, what="the others to have a place")
        yield connections.close


def test_whoever_waits_in_line_sees_it_and_gets_there(slow_studio: Studio, slow_service: Stack) -> None:
    with others(slow_service, 1) as leave:
        slow_studio.write(OPENING, length=32).reaches("next")
        assert re.fullmatch(r"You are next, in about \d+ s\.", slow_studio.says())
        leave()
        slow_studio.reaches("done")
    assert slow_studio.text() == lines(slow_studio.answer()["text"])


def test_a_full_house_is_asked_again_when_it_says(slow_studio: Studio, slow_service: Stack) -> None:
    clock = slow_studio.page.clock
    clock.install()  # so that a countdown takes no time
    slow_studio.page.evaluate(
        """() => {
          window.said = [];
          const status = document.querySelector("#status");
          const listen = () => document.body.dataset.state === "busy" && said.push(status.textContent);
          new MutationObserver(listen).observe(status, { childList: true, subtree: true });
        }"""
    )
    with others(slow_service, 2) as leave:
        slow_studio.write(OPENING, length=32).reaches("busy")
        leave()
        wait_until(lambda: at_rest(slow_service.http), within=PATIENCE, what="the places to be free")
        clock.run_for(130_000)  # it says two minutes at most
        slow_studio.reaches("done")
    said = slow_studio.page.evaluate("said")
    assert said == [
        f"Every seat is taken. Asking again in {seconds} s." for seconds in range(len(said), 0, -1)
    ]
    assert slow_studio.text() == lines(slow_studio.answer()["text"])


def test_whoever_is_tired_of_waiting_stops(slow_studio: Studio, slow_service: Stack) -> None:
    clock = slow_studio.page.clock
    clock.install()
    with others(slow_service, 2):
        slow_studio.write(OPENING).reaches("busy")
        slow_studio.press("Stop")
        slow_studio.reaches("stopped")
        asked: list[str] = []
        slow_studio.page.on("request", lambda request: asked.append(request.url))
        clock.run_for(60_000)
        assert slow_studio.says() == "Stopped. What was written stays."
        assert not asked


def test_a_server_that_dies_takes_no_text_with_it(open_page: Callable[..., Page], tmp_path: Path) -> None:
    with running(Stack(tmp_path / "log", SLOW)) as stack:
        studio = Studio(open_page(), stack.url).open().link(OPENING, length=192).reaches("writing")
        wait_until(lambda: len(studio.text()) > 2 * len(OPENING), within=PATIENCE, what="some text")
        [worker] = stack.workers("uwsgi")
        os.kill(worker, signal.SIGKILL)
        kept = studio.reaches("broken").text()
        assert studio.button("Another take").is_visible()

        wait_until(lambda: stack.get("/readyz").ok, within=PATIENCE, what="another worker")
        studio.press("Go on")
        studio.reaches("done")
        assert studio.text().startswith(kept)
        assert studio.text() == lines(studio.answer()["text"])

        stack.stop()
        studio.press("Another take")
        studio.reaches("unreachable")
        assert studio.says().startswith("The server does not answer. Asking again in ")
        studio.press("Stop")


def test_a_server_that_gives_up_in_the_middle_says_why(
    open_page: Callable[..., Page], tmp_path: Path
) -> None:
    impatient = SLOW | {"POKEGEN_REQUEST_TIMEOUT": "1.5"}
    with running(Stack(tmp_path / "log", impatient)) as stack:
        studio = Studio(open_page(), stack.url).link(OPENING, length=1000, temperature=10, top_k=0)
        studio.reaches("failed")
        assert re.fullmatch(
            r"That did not work\. The text was not done within 1\.5 s\. .* request_id \w+", studio.says()
        )
        assert len(studio.text()) > len(OPENING)
        expect(studio.button("Go on")).to_be_hidden()  # it would be given up again
        expect(studio.button("Another take")).to_be_visible()


def test_where_keys_are_wanted_it_says_so(open_page: Callable[..., Page], tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[alice]\nsha256 = "{"0" * 64}"\n')
    keys.chmod(0o600)
    with running(Stack(tmp_path / "log", {"POKEGEN_API_KEYS": str(keys)})) as stack:
        studio = Studio(open_page(), stack.url).open().write(OPENING, length=32).reaches("failed")
        assert "This service wants an API key" in studio.says()


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
    opening.fill("Ash and Pikachu")
    expect(studio.page.locator("#prefix-error")).to_be_hidden()
    expect(opening).not_to_have_attribute("aria-invalid", "true")
    studio.press("Write the episode")
    studio.reaches("done")


@pytest.mark.parametrize("opening", ["ピカチュウ" * 700, "Ash and Pikachu " * 250], ids=["414", "422"])
def test_an_opening_that_is_too_long_is_said_to_be(studio: Studio, opening: str) -> None:
    studio.write(opening).reaches("refused")
    expect(studio.page.get_by_label("How does the episode begin?")).to_have_accessible_description(
        "The model can’t read an opening as long as this: shorten it."
    )


def test_a_link_with_a_mistake_says_what_is_wrong(studio: Studio) -> None:
    studio.open("/?prefix=Ash&seed=1&length=0&temperature=99").reaches("refused")
    for name, sentence in (
        ("How long", "The link asks for a length that there is not: choose one here."),
        ("How wild", "The link asks for what there is not: choose here how wild it gets."),
    ):
        expect(studio.page.get_by_label(name)).to_have_accessible_description(sentence)
    for damaged in ("seed=many", "seed=1&top_k=some"):
        studio.open(f"/?prefix=Ash&{damaged}").reaches("damaged")
        assert studio.says() == "This link is damaged. Write an episode of your own?"


def test_a_link_to_a_length_of_millions_makes_no_page_of_that_height(studio: Studio) -> None:
    studio.open("/?prefix=Ash&seed=1&length=9000000").reaches("refused")
    assert studio.page.evaluate("document.scrollingElement.scrollHeight") < 5000
