"""The page as its reader uses it."""

import re
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Locator, Page

from tests.service.stack import direct_session

SERIOUS = ("serious", "critical")
PATIENCE = 60  # seconds for what comes soon: the machine may be slow, and have other things to do


class Studio:
    """The page at `url`, such as http://127.0.0.1:40001."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url

    def open(self, path: str = "/") -> Self:
        self.page.goto(self.url + path)
        return self

    def write(self, opening: str, length: int = 256, temperature: float = 0.7) -> Self:
        """Fill the form and send it."""
        self.page.get_by_label("How does the episode begin?").fill(opening)
        self.page.get_by_label("How long").fill(str(length))
        self.page.get_by_label("How wild").fill(str(temperature))
        self.press("Write the episode")
        return self

    def link(self, opening: str, **fields: object) -> Self:
        """Open the link to an episode: the same one each time, as far as its fields go."""
        return self.open("/?" + urlencode({"prefix": opening, "seed": 3, "temperature": 0.7} | fields))

    def press(self, button: str) -> None:
        self.button(button).click()

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def reaches(self, *states: str, within: float = PATIENCE) -> Self:
        """Wait until the page is in one of these states."""
        wanted = ",".join(f'body[data-state="{state}"]' for state in states)
        self.page.locator(wanted).wait_for(timeout=within * 1000)
        return self

    def text(self) -> str:
        """The paragraphs of the episode, a line each."""
        return "\n".join(self.page.locator("#episode p").all_text_contents())

    def says(self) -> str:
        """The sentence about what is going on."""
        return self.page.locator("#status").inner_text()

    def fields(self) -> dict[str, str]:
        """Those in the page's address."""
        return dict(parse_qsl(urlsplit(self.page.url).query))

    def answer(self) -> dict[str, Any]:
        """What the service itself answers to the fields in the page's address."""
        with direct_session() as session:
            answer: dict[str, Any] = session.get(
                f"{self.url}/generate?{urlencode(self.fields())}", timeout=60
            ).json()
        return answer


def lines(text: str) -> str:
    """A text as `Studio.text` gives it."""
    return re.sub(r"\n+", "\n", text)


def violations(page: Page, within: str = "html") -> list[str]:
    """What axe finds on the page, or in the part that the selector `within` names, that is serious or critical."""
    found = Axe().run(page, within).response["violations"]
    return [
        f"{violation['id']}: {node['html']}"
        for violation in found
        if violation["impact"] in SERIOUS
        for node in violation["nodes"]
    ]
