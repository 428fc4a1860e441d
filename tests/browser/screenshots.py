"""`scripts/screenshots`: the README's pictures of the page, taken from the shipped service.

The episodes come from links, seed and all, so that with the same checkpoint and processor the same pictures come out.
"""

import io
import tempfile
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlencode

from PIL import Image
from playwright.sync_api import Browser

from loadtest.chromium import chromium
from tests.browser.studio import Studio
from tests.service.stack import ROOT, Stack, running

PICTURES = ROOT / "docs/site"
COLOURS = 128  # as many as the page's flat drawings need; it makes the files a third as large


class Picture(NamedTuple):
    name: str
    width: int
    height: int
    scheme: Literal["light", "dark"]
    opening: str
    seed: int


PLAN = (
    Picture("desktop-light", 1280, 960, "light", "In the old lighthouse lives", 3),
    Picture("desktop-dark", 1280, 960, "dark", "Team Rocket have built a", 1),
    Picture("phone", 390, 844, "light", "The last train to Saffron City", 7),
)


def take(browser: Browser, url: str, picture: Picture) -> Path:
    """Open the picture's episode, wait for its end, and write the file."""
    page = browser.new_page(
        viewport={"width": picture.width, "height": picture.height},
        color_scheme=picture.scheme,
        reduced_motion="reduce",
    )
    fields = {"prefix": picture.opening, "seed": picture.seed, "length": 192, "temperature": 0.2}
    Studio(page, url).open(f"/?{urlencode(fields)}").reaches("done")
    page.locator("#stage").evaluate(
        "(stage) => stage.scrollIntoView()" if picture.width < 1000 else "() => scrollTo(0, 0)"
    )
    shot = Image.open(io.BytesIO(page.screenshot()))
    page.close()
    file = PICTURES / f"{picture.name}.png"
    shot.convert("RGB").quantize(COLOURS).save(file, optimize=True)
    return file


def main() -> None:
    """Start the service on a free port, take all pictures, and say how large they are."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as directory,
        running(Stack(Path(directory) / "log", {})) as stack,
        chromium() as browser,
    ):
        for picture in PLAN:
            file = take(browser, stack.url, picture)
            print(f"{file.relative_to(ROOT)}: {file.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
