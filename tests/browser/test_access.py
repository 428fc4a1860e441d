"""The page for everybody: whatever they see, hear or type with, on a phone, and without scripts."""

import re
from collections.abc import Callable
from typing import Literal

import pytest
from playwright.sync_api import Page, expect

from tests.browser.studio import Studio, violations
from tests.service.stack import Stack

OPENING = "Misty finds an egg"
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


def test_axe_finds_nothing_serious_in_any_state(studio: Studio) -> None:
    page = studio.page

    def check(state: str, within: str) -> None:
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            assert violations(page, within) == [], (state, scheme)

    studio.write("Ash and Pikachu " * 200).reaches("refused")
    check("refused", "#desk")
    studio.write(OPENING, length=32).reaches("done")
    check("done", "html")
    states: list[str] = page.evaluate(
        "[...document.querySelector('#states').content.children].map((sentence) => sentence.dataset.state)"
    )
    assert len(states) > 10
    for state in states:
        # The page's own module brings the page into the state: its sentence, its buttons, its style.
        page.evaluate(f"import('/js/status.js').then(({{ report }}) => report('{state}', {{ seconds: 3 }}))")
        studio.reaches(state)
        assert violations(page, ".slate") == [], state  # which has its own colours in both schemes


def test_all_of_it_works_with_a_keyboard_alone(slow_studio: Studio) -> None:
    page = slow_studio.page
    keyboard = page.keyboard

    def tab_to(name: str) -> None:
        for _ in range(30):
            keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent").strip() == name:
                return
        raise AssertionError(f"no Tab leads to {name}")

    keyboard.press("Tab")
    expect(page.get_by_label("How does the episode begin?")).to_be_focused()
    keyboard.type(OPENING)
    keyboard.press("Tab")
    for _ in range(2):
        keyboard.press("ArrowRight")
    keyboard.press("Shift+Tab")
    keyboard.press("Enter")
    slow_studio.reaches("writing")
    assert slow_studio.fields()["length"] == "448"
    tab_to("Stop")
    keyboard.press("Enter")
    slow_studio.reaches("stopped")
    expect(slow_studio.button("Go on")).to_be_focused()  # the button that was pressed is gone
    keyboard.press("Enter")
    slow_studio.reaches("writing")
    keyboard.press("Escape")
    slow_studio.reaches("stopped")
    tab_to("Another take")


def test_no_button_turns_into_another_under_the_finger(slow_studio: Studio) -> None:
    slow_studio.link(OPENING, length=128).reaches("writing")  # long enough to be seen
    slow_studio.button("Stop").focus()
    slow_studio.reaches("done")
    expect(slow_studio.page.locator("#episode")).to_be_focused()


def test_a_screen_reader_hears_the_states_and_the_text_once_at_the_end(slow_studio: Studio) -> None:
    page = slow_studio.page
    assert page.locator("[aria-live], [role=status], [role=log], [role=alert]").count() == 1
    page.evaluate(
        """() => {
          window.heard = [];
          const spoken = document.querySelector("[role=status]");
          new MutationObserver(() => heard.push(spoken.textContent.trim())).observe(spoken, { childList: true });
        }"""
    )
    slow_studio.write(OPENING, length=96).reaches("done")
    *states, end = [said for said in page.evaluate("heard") if said]
    assert states == ["Writing …"]
    assert end.split() == f"The end. {slow_studio.text()}".split()
    assert page.locator("#episode").get_attribute("aria-busy") == "false"


def test_a_slider_says_what_its_place_means(studio: Studio) -> None:
    how_wild = studio.page.get_by_label("How wild")
    how_wild.fill("0")
    expect(how_wild).to_have_attribute("aria-valuetext", "by the book")
    how_wild.fill("1.4")
    expect(how_wild).to_have_attribute("aria-valuetext", "a fever dream")
    expect(studio.page.get_by_label("How long")).to_have_attribute("aria-valuetext", "about 290 words")


def test_nothing_moves_for_those_who_want_no_motion(
    open_page: Callable[..., Page], slow_service: Stack
) -> None:
    studio = Studio(open_page(reduced_motion="reduce"), slow_service.url).open()
    studio.write(OPENING, length=480).reaches("writing")
    assert studio.page.evaluate("document.getAnimations().length") == 0


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_shows_all_of_it_without_scrolling_sideways(
    open_page: Callable[..., Page], service: Stack, width: int
) -> None:
    page = open_page(viewport={"width": width, "height": 780}, has_touch=True, is_mobile=True)
    studio = Studio(page, service.url).open()

    def overhang() -> int:
        # Not innerWidth: a phone zooms out until all of it is in view, and that grows with it.
        over: int = page.evaluate(f"document.scrollingElement.scrollWidth - {width}")
        return over

    assert overhang() <= 0
    page.get_by_label("How does the episode begin?").fill("A" * 200)  # one long word
    page.get_by_role("button", name="Write the episode").tap()
    expect(page.get_by_label("How does the episode begin?")).not_to_be_focused()  # its keyboard goes away
    studio.reaches("done")
    assert overhang() <= 0
    for name in ("Another take", "Copy link"):
        box = page.locator(".controls").get_by_text(name).bounding_box()
        assert box
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    page.evaluate(
        """import('/js/status.js').then(({ report }) =>
          report('failed', { detail: 'The engine failed on this request.', request_id: 'f'.repeat(32) }))"""
    )
    studio.reaches("failed")
    assert overhang() <= 0


def test_the_page_is_readable_in_letters_of_twice_the_size(
    open_page: Callable[..., Page], service: Stack
) -> None:
    page = open_page(viewport={"width": 640, "height": 480})  # 1280 by 960 at 200 %
    studio = Studio(page, service.url).open().write(OPENING, length=32).reaches("done")
    assert page.evaluate("document.scrollingElement.scrollWidth - innerWidth") <= 0
    assert studio.button("Another take").is_visible()


def test_without_scripts_the_form_brings_a_page_with_the_episode(
    open_page: Callable[..., Page], service: Stack
) -> None:
    page = open_page(java_script_enabled=False)
    page.goto(service.url)
    assert page.locator(".controls button:visible").count() == 0  # no button that does nothing
    page.get_by_label("How does the episode begin?").fill(OPENING)
    page.get_by_role("button", name="Write the episode").click()
    article = page.locator("article")
    expect(article).to_contain_text(OPENING)
    assert len(article.inner_text()) > 200
    seeded = re.search(r"seed=\d+", page.content())
    assert seeded  # the way back to the very same episode


def test_without_scripts_an_opening_worth_trying_is_a_link(
    open_page: Callable[..., Page], service: Stack
) -> None:
    page = open_page(java_script_enabled=False)
    page.goto(service.url)
    page.get_by_role("link", name="Pikachu is missing").click()
    expect(page.locator("article")).to_contain_text("Pikachu is missing")
