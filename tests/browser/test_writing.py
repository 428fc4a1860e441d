"""An episode, from its opening to the link that brings it back."""

import re
from collections.abc import Callable
from itertools import pairwise
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import SLOW
from tests.browser.studio import PATIENCE, Studio, lines
from tests.service.stack import Stack, at_rest, wait_until

OPENING = "It is raining in Goldenrod City"


def test_an_episode_is_written(studio: Studio) -> None:
    studio.write(OPENING).reaches("done")
    assert studio.page.locator("#episode mark").inner_text() == OPENING
    assert studio.text() == lines(studio.answer()["text"])
    assert studio.page.title() == f"{OPENING} · Pokegen"


def test_the_reader_is_told_how_fast_it_went(studio: Studio) -> None:
    studio.link(OPENING, length=32).reaches("done")
    assert studio.says().startswith("The end. 32 tokens in ")


def test_an_empty_form_takes_the_services_own_opening(slow_studio: Studio) -> None:
    own = SLOW["POKEGEN_OPENING"]
    for link in ("", "/?prefix=%20&seed=1&length=32"):
        if link:
            slow_studio.open(link)
        else:
            slow_studio.write("", length=32)
        slow_studio.reaches("done")
        assert slow_studio.page.locator("#episode mark").inner_text() == own
        assert slow_studio.page.title() == f"{own} · Pokegen"
        assert slow_studio.fields()["prefix"] == own
        assert slow_studio.page.locator("#shelf b").first.inner_text() == own


@pytest.mark.parametrize("length", ["32", "480"])
def test_length_and_temperature_are_the_readers(studio: Studio, length: str) -> None:
    studio.write(OPENING, length=int(length), temperature=0).reaches("done")
    assert studio.fields() | {"seed": ""} == {
        "prefix": OPENING,
        "length": length,
        "temperature": "0",
        "seed": "",
        "top_k": "40",
        "top_p": "0",
    }
    first = studio.text()
    studio.press("Another take")
    studio.reaches("done")
    assert studio.text() == first  # at temperature 0 the seed changes nothing


def test_the_text_grows_while_it_is_written(slow_studio: Studio) -> None:
    slow_studio.link(OPENING, length=256).reaches("writing")
    seen = [slow_studio.text()]
    for _ in range(4):
        wait_until(lambda: slow_studio.text() != seen[-1], within=PATIENCE, what="the text to grow")
        seen.append(slow_studio.text())
    assert slow_studio.page.locator("#episode[aria-busy=true]").is_visible()
    for earlier, later in pairwise(seen):
        assert later.startswith(earlier)
    assert re.search(r"words a second: \d", slow_studio.says())


def test_stop_frees_the_place_and_go_on_writes_the_rest(slow_studio: Studio, slow_service: Stack) -> None:
    slow_studio.link(OPENING, length=128).reaches("writing")
    slow_studio.press("Stop")
    kept = slow_studio.reaches("stopped").text()
    wait_until(lambda: at_rest(slow_service.http), within=1, what="the place to be free")
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
    studio.write("Misty finds an egg", length=64).reaches("done")
    studio.page.go_back()
    expect(studio.page.locator("#take")).to_have_text(take)
    studio.reaches("kept")  # the server was not asked again
    assert studio.text() == first
    assert studio.page.get_by_label("How does the episode begin?").input_value() == OPENING
    assert studio.page.get_by_label("How long").input_value() == "32"


def test_back_keeps_the_page_and_the_opening_that_is_being_typed(studio: Studio) -> None:
    page = studio.page
    opening = page.get_by_label("How does the episode begin?")
    page.evaluate("window.same = true")
    studio.write(OPENING, length=32).reaches("done")
    opening.fill("Misty fin")
    page.go_back()
    studio.reaches("idle")
    assert "Give it a first sentence" in studio.text()
    page.go_forward()
    studio.reaches("kept")
    expect(opening).to_have_value("Misty fin")
    page.evaluate("localStorage.clear()")
    page.go_back()
    studio.reaches("idle")
    page.go_forward()
    studio.reaches("done")  # it is not kept, so the server writes it again
    assert studio.text() == lines(studio.answer()["text"])
    assert page.evaluate("same")


def test_every_opening_worth_trying_is_one_click(studio: Studio) -> None:
    examples = studio.page.locator(".examples").get_by_role("link")
    assert examples.count() >= 5
    for example in examples.all():
        studio.page.get_by_label("How long").fill("32")
        example.click()
        expect(studio.page.locator("#episode mark")).to_have_text(example.inner_text())
        assert studio.fields()["prefix"] == example.inner_text()
    studio.reaches("done")


@pytest.mark.parametrize("link", ["Pikachu is missing", "Copy link", "Previously"])
def test_a_link_that_is_wanted_elsewhere_opens_there(studio: Studio, link: str) -> None:
    studio.link(OPENING, length=1).reaches("done")
    here = studio.page.url
    links = studio.page.get_by_role("link")
    wanted = studio.page.locator("#shelf a") if link == "Previously" else links.filter(has_text=link)
    with studio.page.context.expect_page() as elsewhere:
        wanted.click(modifiers=["ControlOrMeta"])
    assert elsewhere.value.url != "about:blank"
    studio.reaches("done")
    assert studio.page.url == here


def test_the_title_is_made_from_the_opening_as_it_is_typed(studio: Studio) -> None:
    title = studio.page.get_by_role("heading", level=2).and_(studio.page.locator("#title"))
    opening = studio.page.get_by_label("How does the episode begin?")
    opening.fill("Ash and Pikachu were")
    expect(title).to_have_text("Ash and Pikachu")
    opening.fill("Snow. And then there was more of it")
    expect(title).to_have_text("Snow")
    opening.fill("x" * 500)
    expect(title).to_have_text("x" * 36)


def test_the_episode_on_the_stage_keeps_its_title_while_the_next_is_typed(studio: Studio) -> None:
    studio.write(OPENING, length=32).reaches("done")
    take = studio.page.locator("#take").inner_text()
    studio.page.get_by_label("How does the episode begin?").fill("Misty finds an egg")
    expect(studio.page.locator("#title")).to_have_text(OPENING)
    expect(studio.page.locator("#take")).to_have_text(take)


def test_a_link_holds_all_that_makes_the_text(studio: Studio) -> None:
    studio.write(OPENING, length=64, temperature=1.4).reaches("done")
    first, fields = studio.text(), studio.fields()
    assert (fields["top_k"], fields["top_p"]) == ("40", "0")  # whatever the service's own settings are
    studio.open(f"/?{urlencode(fields | {'top_k': '1'})}").reaches("done")
    assert studio.text() != first
    assert studio.text() == lines(studio.answer()["text"])
    assert studio.fields()["top_k"] == "1"
