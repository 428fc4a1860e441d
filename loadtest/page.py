"""`python -m loadtest.page`: what a reader of the page feels, alone and while others' episodes are being written.

A real Chromium opens the page of a running service and has episodes written. From its own clocks come the time to the
first paint, how far anything shifted, the time from the press of the button to the first word on the screen, and the
time from frame to frame while the text grows: at 60 frames a second 17 ms, and jank from 50 ms on (a long task in
https://www.w3.org/TR/longtasks-1/).
"""

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection
from statistics import median, quantiles
from urllib.parse import urlsplit

import click
from playwright.sync_api import Browser, Page
from tqdm import tqdm

from loadtest.chromium import chromium

JANK = 50.0  # ms from one frame to the next
OPENING = "It is raining in Goldenrod City"

OBSERVERS = """
window.shift = 0;
window.frames = [];
window.firstWord = null;
new PerformanceObserver((list) => list.getEntries().forEach(({ value }) => (shift += value)))
  .observe({ type: "layout-shift", buffered: true });
addEventListener("DOMContentLoaded", () => {
  let pressed, last;
  document.addEventListener("submit", () => {
    pressed = performance.now();
    firstWord = null;
    last = null;
  }, { capture: true });
  const frame = (now) => {
    const writing = document.body.dataset.state === "writing";
    if (writing && last) frames.push(now - last);
    last = writing ? now : null;
    // The frame after the one that wrote it: now it is on the screen.
    if (pressed && document.querySelector("#episode mark")?.textContent) {
      firstWord = now - pressed;
      pressed = null;
    }
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
});
"""


@dataclass
class Figures:
    """Of all the visits: milliseconds, and how far things shifted in the worst of them (0 is not at all)."""

    first_paints: list[float] = field(default_factory=list)
    first_words: list[float] = field(default_factory=list)
    frames: list[float] = field(default_factory=list)
    shift: float = 0.0

    def add(self, page: Page) -> None:
        """What the page has measured."""
        [paint] = page.evaluate(
            "performance.getEntriesByName('first-contentful-paint').map((e) => e.startTime)"
        )
        self.first_paints.append(paint)
        self.first_words.append(page.evaluate("firstWord"))
        self.frames.extend(page.evaluate("frames"))
        self.shift = max(self.shift, page.evaluate("shift"))

    def lines(self) -> Iterator[tuple[str, str]]:
        """A name and a value each."""
        percentiles = quantiles(self.frames, n=100)
        janky = sum(frame >= JANK for frame in self.frames)
        yield "first paint", f"{median(self.first_paints):.0f} ms, at most {max(self.first_paints):.0f}"
        yield "first word", f"{median(self.first_words):.0f} ms, at most {max(self.first_words):.0f}"
        yield (
            "frames",
            (
                f"{len(self.frames)}; median {percentiles[49]:.1f} ms, 99th percentile {percentiles[98]:.1f},"
                f" longest {max(self.frames):.0f}; {janky} of {JANK:.0f} ms or more"
            ),
        )
        yield "layout shift", f"{self.shift:g}"


def visit(browser: Browser, url: str, figures: Figures) -> None:
    """Open the page as for the first time, and have an episode written."""
    page = browser.new_page()
    page.add_init_script(OBSERVERS)
    page.goto(url)
    page.locator("#prefix").fill(OPENING)
    page.locator("form button").click()
    page.locator("body[data-state=done]").wait_for(timeout=120_000)
    figures.add(page)
    page.close()


@contextmanager
def streaming(url: str, readers: int) -> Iterator[list[int]]:
    """So many readers whose episodes are being written, one after the other; the list gets the length of each piece.

    Raises click.ClickException at the end if one of them was refused, for then they were fewer.
    """
    address = urlsplit(url)
    pieces: list[int] = []
    over = threading.Event()

    def read() -> None:
        with closing(HTTPConnection(address.hostname or "", address.port, timeout=120)) as connection:
            while not over.is_set():
                seed = random.randrange(2**32)  # noqa: S311 a seed is no secret
                connection.request("GET", f"/generate?length=480&temperature=1&stream=true&seed={seed}")
                response = connection.getresponse()
                if response.status != HTTPStatus.OK:
                    problem = response.read().decode(errors="replace").strip()
                    raise click.ClickException(f"another reader was refused: {response.status} {problem}")
                while (line := response.readline()) and not over.is_set():
                    if line.startswith(b"data:"):
                        pieces.append(len(line))

    with ThreadPoolExecutor(max(1, readers)) as pool:
        others = [pool.submit(read) for _ in range(readers)]
        try:
            yield pieces
        finally:
            over.set()
    for other in others:
        other.result()


@click.command(context_settings={"show_default": True})
@click.option("--url", default="http://127.0.0.1:8080", help="The running service.")
@click.option(
    "--readers", type=click.IntRange(min=0), default=30, help="How many others read at the same time."
)
@click.option(
    "--visits",
    type=click.IntRange(min=1),
    default=10,
    help="How often the page is opened, alone and among them.",
)
def main(url: str, readers: int, visits: int) -> None:
    """Measure the page: first paint, first word, frames and layout shift."""
    with chromium() as browser:
        visit(browser, url, Figures())  # the browser itself has to warm up
        for others in dict.fromkeys((0, readers)):
            figures = Figures()
            with streaming(url, others) as pieces:
                time.sleep(1 if others else 0)
                began, before = time.monotonic(), len(pieces)
                for _ in tqdm(range(visits), unit="visit", leave=False):
                    visit(browser, url, figures)
                rate = (len(pieces) - before) / (time.monotonic() - began)
            click.echo(f"among {others} other readers" if others else "alone")
            for name, value in figures.lines():
                click.echo(f"  {name:13} {value}")
            if others:
                click.echo(f"  others        {rate / others:.1f} pieces a second each")


if __name__ == "__main__":
    main()
