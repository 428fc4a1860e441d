"""Two services behind the page: the one that is shipped, and one that is slow and soon full."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.studio import PATIENCE, Studio
from tests.service.stack import Stack, at_rest, running, wait_until

expect.set_options(timeout=PATIENCE * 1000)

# The NumPy engine writes some 70 tokens a second here: slow enough to see what happens in the middle.
SLOW = {
    "POKEGEN_ENGINE": "numpy",
    "POKEGEN_MAX_RUNNING": "1",
    "POKEGEN_MAX_WAITING": "1",
    "POKEGEN_MAX_WAIT": "60",
    "POKEGEN_KEEP": "0",  # every text is written
    "POKEGEN_MAX_SAMPLES": "1",
    "POKEGEN_OPENING": "Snow falls on Cerulean City",
}


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The shipped checkpoint, with every setting at its default."""
    with running(Stack(tmp_path_factory.mktemp("service") / "log", {})) as stack:
        yield stack


@pytest.fixture(scope="session")
def slow_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One sample runs, one waits, and the others are sent away."""
    with running(Stack(tmp_path_factory.mktemp("slow") / "log", SLOW)) as stack:
        yield stack


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens pages, each in a browser context of its own; what fails in a script fails the test."""
    faults: list[str] = []
    contexts = []

    def open_page(**options: Any) -> Page:  # noqa: ANN401
        context = browser.new_context(**options)
        context.set_default_timeout(PATIENCE * 1000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not faults


@pytest.fixture
def studio(open_page: Callable[..., Page], service: Stack) -> Studio:
    """The page of the shipped service, which shows texts at once to a reader who wants no motion."""
    return Studio(open_page(reduced_motion="reduce"), service.url).open()


@pytest.fixture
def slow_studio(open_page: Callable[..., Page], slow_service: Stack) -> Studio:
    """The page of the slow service, which has forgotten those who read before."""
    wait_until(lambda: at_rest(slow_service.http), within=PATIENCE, what="the places to be free")
    return Studio(open_page(), slow_service.url).open()
