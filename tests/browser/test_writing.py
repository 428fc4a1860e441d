"""An episode, from its opening to the link that brings it back."""

import re
from collections.abc import Callable
from itertools import pairwise

import pytest
from playwright.sync_api import Page, expect

from tests.browser.studio import Studio, lines
from tests.service.stack import Stack, at_rest, wait_until

OPENING = "It is raining in Goldenrod City"


def test_an_episode_is_written(studio: Studio) -> None:
    studio.write(OPENING).reaches("done")
    assert studio.page.locator("#episode mark").inner_text() == OPENING
    assert studio.text() == lines(studio.answer()["text"])
    assert studio.page.title() == f"{OPENING} · Pokegen"


def test_the_reader_is_told_how_fast_it_went(studio: Studio) -> None:
    studio.write(OPENING, length=32).reaches("done")
    assert studio.says().startswith("The end. 32 tokens in ")


def test_an_empty_form_takes_the_opening_that_it_shows(studio: Studio) -> None:
    studio.write("").reaches("done")
    assert studio.text().startswith("Ash and Pikachu were ")


@pytest.mark.parametrize("length", ["32", "480"])
def test_length_and_temperature_are_the_readers(studio: Studio, length: str) -> None:
    studio.write(OPENING, length=int(length), temperature=0).reaches("done")
    assert studio.fields() | {"seed": ""} == {
        "prefix": OPENING,
        "length": length,
        "temperature": "0",
        "seed": "",
    }
    first = studio.text()
    studio.press("Another take")
    studio.reaches("done")
    assert studio.text() == first  # at temperature 0 the seed changes nothing


def test_the_text_grows_while_it_is_written(slow_studio: Studio) -> None:
    slow_studio.write(OPENING).reaches("writing")
    seen = []
    for _ in range(5):
        seen.append(slow_studio.text())
        slow_studio.page.wait_for_timeout(200)
    assert slow_studio.page.locator("#episode[aria-busy=true]").is_visible()
    for earlier, later in pairwise(seen):
        assert later.startswith(earlier)
    assert len(set(seen)) == 5
    assert re.search(r"words a second: \d", slow_studio.says())


def test_stop_frees_the_place_and_go_on_writes_the_rest(slow_studio: Studio, slow_service: Stack) -> None:
    slow_studio.write(OPENING, length=128).reaches("writing")
    slow_studio.page.wait_for_timeout(300)
    slow_studio.press("Stop")
    wait_until(lambda: at_rest(slow_service.http), within=1, what="the place to be free")
    kept = slow_studio.reaches("stopped").text()
    slow_studio.page.wait_for_timeout(300)
    assert slow_studio.text() == kept

    slow_studio.press("Go on")
    slow_studio.reaches("done")
    assert slow_studio.text().startswith(kept)
    assert slow_studio.text() == lines(slow_studio.answer()["text"])


def test_another_take_is_another_episode_that_begins_alike(studio: Studio) -> None:
    studio.write(OPENING).reaches("done")
    first, fields = studio.text(), studio.fields()
    studio.press("Another take")
    studio.reaches("done")
    assert studio.text() != first
    assert studio.text().startswith(OPENING)
    assert studio.fields() | {"seed": ""} == fields | {"seed": ""}


def test_the_link_brings_the_very_same_episode_back_in_another_browser(
    open_page: Callable[..., Page], service: Stack
) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    studio = Studio(page, service.url).open()
    studio.write('Pikachu & Misty say: "100% é ü 日本"', temperature=1.1).reaches("done")
    page.get_by_role("link", name="Copy link").click()
    expect(page.get_by_role("link", name="Copied")).to_be_visible()
    copied: str = page.evaluate("navigator.clipboard.readText()")
    assert copied == studio.page.url

    other = Studio(open_page(reduced_motion="reduce"), service.url)
    other.page.goto(copied)
    other.reaches("done")
    assert other.text() == studio.text()
    assert other.page.get_by_label("How wild").input_value() == "1.1"
    assert other.page.locator("#card").inner_html() == studio.page.locator("#card").inner_html()


def test_where_the_clipboard_is_closed_the_link_says_where_it_is(
    open_page: Callable[..., Page], service: Stack
) -> None:
    page = open_page()
    page.add_init_script(
        "Object.defineProperty(navigator, 'clipboard', { value: undefined })"
    )  # as without TLS
    studio = Studio(page, service.url).open().write(OPENING, length=32).reaches("done")
    page.get_by_role("link", name="Copy link").click()
    expect(page.get_by_role("link", name="It is the page’s address")).to_be_visible()
    assert page.locator("#link").get_attribute("href") == page.url
    assert studio.url in page.url


def test_a_link_without_a_seed_fills_the_form_and_writes_nothing(studio: Studio) -> None:
    studio.open("/?prefix=Misty+finds+an+egg&length=96")
    assert studio.page.get_by_label("How does the episode begin?").input_value() == "Misty finds an egg"
    assert studio.page.get_by_label("How long").input_value() == "96"
    studio.reaches("idle")


def test_back_brings_the_episode_before(studio: Studio) -> None:
    studio.write(OPENING, length=32).reaches("done")
    first, take = studio.text(), studio.fields()["seed"]
    studio.write("Misty finds an egg", length=32).reaches("done")
    studio.page.go_back()
    expect(studio.page.locator("#take")).to_have_text(take)
    studio.reaches("done")
    assert studio.text() == first


def test_every_opening_worth_trying_is_one_click(studio: Studio) -> None:
    openings = studio.page.locator("[data-example]").all_text_contents()
    assert len(openings) >= 5
    for opening in openings:
        studio.page.get_by_role("link", name=opening, exact=True).click()
        assert studio.fields()["prefix"] == opening
        studio.reaches("done")
        studio.open()


def test_the_title_is_made_from_the_opening_as_it_is_typed(studio: Studio) -> None:
    title = studio.page.get_by_role("heading", level=2).and_(studio.page.locator("#title"))
    opening = studio.page.get_by_label("How does the episode begin?")
    opening.fill("Ash and Pikachu were")
    expect(title).to_have_text("Ash and Pikachu")
    opening.fill("Snow. And then there was more of it")
    expect(title).to_have_text("Snow")
    opening.fill("x" * 500)
    expect(title).to_have_text("x" * 36)
