"""The last few episodes stay in the browser, where it allows that, until the reader forgets them."""

import json
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser.studio import Studio
from tests.service.stack import Stack

OPENINGS = ["Pikachu is missing", "Misty finds an egg", "It is raining"]


def write_all(studio: Studio) -> list[str]:
    """An episode each, oldest first; their texts."""
    texts = []
    for opening in OPENINGS:
        studio.write(opening, length=32).reaches("done")
        texts.append(studio.text())
    return texts


def test_they_are_there_after_a_reload_and_open_without_a_server(studio: Studio) -> None:
    page = studio.page
    assert not page.locator("#shelf").is_visible()
    texts = write_all(studio)
    studio.open()
    assert page.locator("#shelf b").all_text_contents() == OPENINGS[::-1]
    page.context.set_offline(True)
    page.locator("#shelf").get_by_role("link", name=OPENINGS[0]).click()
    studio.reaches("kept")
    assert studio.text() == texts[0]
    assert studio.fields()["prefix"] == OPENINGS[0]
    assert page.get_by_label("How long").input_value() == "32"
    expect(page.locator("#episode")).to_be_focused()


def test_one_can_be_forgotten_and_all_of_them(studio: Studio) -> None:
    write_all(studio)
    shelf = studio.page.locator("#shelf")
    studio.press(f"Forget {OPENINGS[1]}")
    assert shelf.locator("b").all_text_contents() == [OPENINGS[2], OPENINGS[0]]
    expect(studio.button(f"Forget {OPENINGS[0]}")).to_be_focused()  # it has taken its place
    studio.press("Forget them all")
    expect(shelf).to_be_hidden()
    assert studio.page.evaluate("localStorage.length") == 0


def test_six_are_kept_and_the_same_one_once(studio: Studio) -> None:
    for seed in range(8):
        studio.link("Ash", seed=seed, length=1).reaches("done")
    studio.link("Ash", seed=5, length=1).reaches("done")
    takes = studio.page.locator("#shelf [data-slot=seed]").all_text_contents()
    assert takes == ["5", "7", "6", "4", "3", "2"]


def test_a_browser_that_keeps_nothing_writes_all_the_same(
    open_page: Callable[..., Page], service: Stack
) -> None:
    page = open_page(reduced_motion="reduce")
    page.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('', 'SecurityError') } })"
    )
    studio = Studio(page, service.url).open().write(OPENINGS[0], length=32).reaches("done")
    assert studio.text().startswith(OPENINGS[0])
    expect(page.locator("#shelf")).to_be_hidden()


def test_what_is_kept_but_broken_does_no_harm(studio: Studio) -> None:
    fields = dict.fromkeys(("prefix", "seed", "length", "temperature", "top_k", "top_p"), "1")
    mistyped = [json.dumps([{"text": "Ash", "fields": fields | {name: 1}}]) for name in fields]
    for broken in ("{", "[null]", '[{"fields": 1}]', "7", '[{"text": "Ash", "fields": {}}]', *mistyped):
        studio.page.evaluate("(text) => localStorage.setItem('pokegen.episodes', text)", broken)
        studio.open().reaches("idle")
        expect(studio.page.locator("#shelf")).to_be_hidden()
    studio.write(OPENINGS[0], length=32).reaches("done")
    assert studio.page.locator("#shelf li").count() == 1
