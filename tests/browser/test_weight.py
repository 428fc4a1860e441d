"""What the page costs: little to load, nothing from elsewhere, and nothing on it jumps."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Response

from tests.browser.studio import Studio
from tests.service.stack import ROOT, Stack

SITE = ROOT / "nginx/site"
KB = 1000


def test_the_page_weighs_less_than_60_kb_and_comes_from_here_alone(
    open_page: Callable[..., Page], service: Stack
) -> None:
    page = open_page()
    complaints: list[str] = []
    answers: list[Response] = []
    page.on("console", lambda said: complaints.append(said.text))
    page.on("response", lambda answer: answers.append(answer))
    Studio(page, service.url).open()
    page.wait_for_load_state("networkidle")
    assert all(answer.ok and answer.url.startswith(service.url) for answer in answers)
    assert (
        sum(len(answer.body()) for answer in answers) < 60 * KB
    )  # as it lies on the disk; gzip sends a third
    assert {answer.headers["content-security-policy"].split(";")[0] for answer in answers} == {
        "default-src 'self'"
    }
    assert not complaints  # a breach of that policy would be one
    loaded = {answer.url.removeprefix(f"{service.url}/") for answer in answers}
    assert {f"js/{file.name}" for file in SITE.glob("js/*.js")} <= loaded  # no file without a use


@pytest.mark.parametrize("viewport", [(1280, 800), (390, 780)])
def test_nothing_on_the_page_shifts(
    open_page: Callable[..., Page], service: Stack, viewport: tuple[int, int]
) -> None:
    page = open_page(viewport={"width": viewport[0], "height": viewport[1]})
    page.add_init_script(
        """
        window.shifts = [];
        new PerformanceObserver((list) => shifts.push(...list.getEntries().map(({ value, sources }) =>
          [value, ...sources.map(({ node }) => node?.id || node?.className || node?.nodeName)].join(" ")
        ))).observe({ type: "layout-shift", buffered: true });
        """
    )
    # Nobody has pressed a key or a button: whatever moves now, moves by itself.
    studio = Studio(page, service.url).open("/?prefix=Pikachu+is+missing&seed=3&length=256&temperature=0.7")
    studio.reaches("done")
    page.evaluate("new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)))")
    assert page.evaluate("shifts") == []


def test_the_scripts_contain_no_sentence() -> None:
    # Words stand in index.html: another domain's page needs no change of code.
    for script in SITE.glob("js/*.js"):
        code = re.sub(r"^\s*(//|/?\*).*$|//.*$", "", script.read_text(), flags=re.MULTILINE)
        assert not re.findall(r"""["'`][A-Z][a-z']+(?: [a-z']+)+""", code), script.name
