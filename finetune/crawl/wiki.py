"""A MediaWiki's pages through its API, and a folder that keeps what it answered."""

import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urljoin, urlsplit
from urllib.robotparser import RobotFileParser

import mwclient  # type: ignore[import-untyped]

from finetune.crawl.polite import AGENT, PoliteSession, read_robots
from finetune.files import replace

MAX_LAG = (
    5  # seconds that the wiki's database copies may lag behind: https://www.mediawiki.org/wiki/Manual:Maxlag
)


@dataclass(frozen=True)
class Page:
    """One revision of an article.

    code      the name that was asked for; `title` is the article's, after redirects
    source    the permanent URL of this revision
    licence   as the wiki states it
    expanded  wikitext -> the same without templates, as the wiki answered
    """

    code: str
    title: str
    page_id: int
    revision: int
    source: str
    licence: str
    wikitext: str
    expanded: dict[str, str] = field(default_factory=dict)


class MissingPageError(Exception):
    """The wiki has no page of that name."""


class UnusablePageError(Exception):
    """There is something of that name, but it can't or mustn't be read; the message says why."""


class Wiki:
    """The wiki whose api.php lies in the folder `url`, such as https://bulbapedia.bulbagarden.net/w/.

    Nothing is sent before the first question; then robots.txt comes first. Every method raises OSError when the
    wiki can't be reached, refuses, or its robots.txt forbids the API.
    """

    def __init__(self, url: str, session: PoliteSession) -> None:
        self.url = url
        self._session = session
        parts = urlsplit(url)
        self._site = mwclient.Site(
            parts.netloc,
            parts.path,
            scheme=parts.scheme,
            pool=session,
            max_retries=0,  # the session knows better when to ask again
            do_init=False,
            connection_options={"timeout": 60},
        )

    def page(self, name: str) -> Page:
        """The article called `name`, redirects followed. Raises MissingPageError and UnusablePageError."""
        self._require_allowed(name)
        answer = self._ask(
            "GET",
            "query",
            titles=name,
            redirects=1,
            prop="revisions",
            rvprop="ids|content",
            rvslots="main",
        )["query"]
        if "pages" not in answer:  # interwiki links and redirects in a circle have none
            raise UnusablePageError("its redirect leads to no page of this wiki")
        [page] = answer["pages"]
        if "revisions" not in page:
            if "redirects" in answer:
                raise UnusablePageError(f"its redirect leads to {page['title']}, which does not exist")
            raise MissingPageError
        title = page["title"]
        self._require_allowed(title)
        [revision] = page["revisions"]
        place = urlencode({"title": title.replace(" ", "_"), "oldid": revision["revid"]})
        return Page(
            code=name,
            title=title,
            page_id=page["pageid"],
            revision=revision["revid"],
            source=f"{self._server}{self._about['general']['script']}?{place}",
            licence=self._licence,
            wikitext=revision["slots"]["main"]["content"],
        )

    def expand(self, title: str, wikitext: str) -> str:
        """`wikitext` with every template replaced by what it stands for on the page `title`."""
        answer = self._ask("POST", "expandtemplates", title=title, text=wikitext, prop="wikitext")
        return str(answer["expandtemplates"]["wikitext"])

    @cached_property
    def _robots(self) -> RobotFileParser:
        robots = read_robots(self._session, self.url)
        api = urljoin(self.url, "api.php?action=query")
        if not robots.can_fetch(AGENT, api):
            raise OSError(
                f"the robots.txt of {self.url} forbids {AGENT} to read {api}: ask the wiki's owners to allow it"
            )
        return robots

    @cached_property
    def _about(self) -> dict[str, Any]:
        answer = self._ask("GET", "query", meta="siteinfo", siprop="general|rightsinfo")
        about: dict[str, Any] = answer["query"]
        return about

    @property
    def _server(self) -> str:
        return urljoin(self.url, str(self._about["general"]["server"]))  # it may lack the scheme

    @property
    def _licence(self) -> str:
        rights = self._about["rightsinfo"]
        if rights["text"] and rights["url"]:
            return f"{rights['text']} ({rights['url']})"
        return str(rights["text"] or rights["url"] or "not stated by the wiki")

    def _require_allowed(self, title: str) -> None:
        """That robots.txt lets us read the article itself, though we read it through the API."""
        robots = self._robots
        path = self._about["general"]["articlepath"].replace("$1", quote(title.replace(" ", "_")))
        if not robots.can_fetch(AGENT, self._server + path):
            raise UnusablePageError(f"robots.txt forbids {path}")

    def _ask(self, method: str, action: str, **parameters: object) -> dict[str, Any]:
        _ = self._robots  # the rules come before the first question
        try:
            answer: dict[str, Any] = self._site.api(
                action, method, formatversion=2, maxlag=MAX_LAG, **parameters
            )
        except mwclient.errors.APIError as error:
            raise OSError(f"{self.url}api.php refuses: {error.info} ({error.code})") from error
        except mwclient.errors.InvalidResponse as error:
            raise OSError(f"{self.url}api.php is no MediaWiki API: correct --site") from error
        return answer


class Cache:
    """A folder with one JSON file a page, each written whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, code: str) -> Page | None:
        """The page, if it was fetched before. Raises ValueError when its file is damaged."""
        file = self._file(code)
        try:
            return Page(**json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise ValueError(f"{file} is damaged: delete it, and the page is fetched again") from error

    def save(self, page: Page) -> None:
        """Keep the page as it is now."""
        self.folder.mkdir(parents=True, exist_ok=True)
        replace(self._file(page.code), json.dumps(asdict(page), ensure_ascii=False, indent=1))

    def count(self) -> int:
        """How many pages are kept."""
        return len(list(self.folder.glob("*.json")))

    def _file(self, code: str) -> Path:
        return self.folder / f"{code}.json"
