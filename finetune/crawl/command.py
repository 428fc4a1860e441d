"""`pokegen crawl`: episode summaries from a wiki, with what attribution and licence ask to be kept."""

import itertools
import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import click
from tqdm import tqdm

from finetune.console import FOLDER, FiniteRange
from finetune.crawl.plot import NoPlotError, read_plot
from finetune.crawl.polite import PoliteSession
from finetune.crawl.wiki import Cache, MissingPageError, Page, UnusablePageError, Wiki
from finetune.files import whole
from server.commands.console import Interrupted, examples

EPISODES, SKIPPED = "episodes.jsonl", "skipped.jsonl"
GAP = 5  # codes without a page, in a row, after which a series has ended
MISSING = "no such page"


@dataclass(frozen=True)
class Episode:
    """A line of episodes.jsonl: the plot in plain paragraphs, and where it is from."""

    code: str
    title: str
    text: str
    source: str
    revision: int
    licence: str


@dataclass(frozen=True)
class Skipped:
    """A line of skipped.jsonl."""

    code: str
    title: str
    reason: str


@dataclass
class Crawl:
    """What came of a crawl: pages were `fetched` or already `cached`."""

    episodes: list[Episode] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    fetched: int = 0
    cached: int = 0


def _site(_context: click.Context, _parameter: click.Parameter, url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or not parts.path.endswith("/"):
        raise click.BadParameter(
            f"{url!r} is not the folder that holds the wiki's api.php: give it whole, as https://wiki.example/w/"
        )
    return url


def _series(_context: click.Context, _parameter: click.Parameter, prefixes: Sequence[str]) -> Sequence[str]:
    for prefix in prefixes:
        if not re.fullmatch("[A-Za-z]+", prefix):
            raise click.BadParameter(f"{prefix!r} is not made of letters alone: give the EP of EP001")
    return list(dict.fromkeys(prefixes))


def _contact(_context: click.Context, _parameter: click.Parameter, contact: str) -> str:
    if not re.fullmatch(r"[!-~]+@[!-~]+|https?://[!-~]+", contact):
        raise click.BadParameter(
            f"{contact!r} is no way to reach you: give your mail address or the https:// address of a page about you"
        )
    return contact


@click.command(
    "crawl",
    context_settings={"show_default": True},
    epilog=examples(
        ("every episode of the first series", "pokegen crawl --contact you@example.org --out run/crawl"),
        (
            "ten episodes of another one",
            "pokegen crawl --contact you@example.org --series AG --last 10 --out run/crawl",
        ),
    ),
)
@click.option("--out", required=True, type=FOLDER, help="The folder to write to.")
@click.option(
    "--contact",
    required=True,
    callback=_contact,
    help="Your mail or web address: the wiki's owners see it with every request.",
)
@click.option(
    "--site",
    default="https://bulbapedia.bulbagarden.net/w/",
    callback=_site,
    help="The wiki: the folder that holds its api.php.",
)
@click.option(
    "--series",
    multiple=True,
    default=["EP"],
    callback=_series,
    help="The letters of the episodes' codes: EP, AG, DP, BW, XY, SM, JN, HZ. May be given several times.",
)
@click.option("--first", type=click.IntRange(min=1), default=1, help="The first episode of each series.")
@click.option(
    "--last",
    type=click.IntRange(min=0),
    default=0,
    help=f"The last one; 0: until {GAP} codes in a row are missing.",
)
@click.option(
    "--section",
    "sections",
    multiple=True,
    default=["Plot", "Synopsis"],
    help="The section to take. Given several times: the first that the page has.",
)
@click.option("--delay", type=FiniteRange(min=0), default=2.0, help="Seconds between two requests.")
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=5,
    help="How often to ask again when the server has a problem.",
)
@click.option(
    "--pause",
    type=FiniteRange(min=0),
    default=5.0,
    help="Seconds to wait before asking again; doubles each time.",
)
def command(
    out: Path,
    contact: str,
    site: str,
    series: Sequence[str],
    first: int,
    last: int,
    sections: Sequence[str],
    **politeness: Any,  # noqa: ANN401
) -> None:
    """Fetch episode summaries from a wiki like Bulbapedia, through its API and as its robots.txt allows.

    Writes episodes.jsonl (code, title, text, source, revision, licence) and skipped.jsonl (code, title, reason) into
    the folder --out. Pages are kept in its folder cache: the same command goes on where it was interrupted and never
    asks for a page twice; delete the folder to fetch newer revisions.
    """
    if last and last < first:
        raise click.BadParameter(
            f"{last} is before --first {first}: give 0 or a later one", param_hint="--last"
        )
    session = PoliteSession(contact, say=partial(tqdm.write, file=sys.stderr), **politeness)
    place = urlsplit(site)
    cache = Cache(out / "cache" / quote(place.netloc + place.path, safe=""))  # a host may have several wikis
    try:
        result = crawl(Wiki(site, session), cache, series, first, last, sections)
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted: {cache.count()} pages are kept in {cache.folder}; the same command goes on from there"
        ) from None
    write_lines(out / EPISODES, result.episodes)
    write_lines(out / SKIPPED, result.skipped)
    click.echo(
        f"{out}: {len(result.episodes)} episodes, {len(result.skipped)} skipped;"
        f" {result.fetched} pages fetched, {result.cached} already in the cache"
    )


def crawl(
    wiki: Wiki, cache: Cache, series: Sequence[str], first: int, last: int, sections: Sequence[str]
) -> Crawl:
    """The episodes `first` to `last` (0: the latest) of each of `series`, in that order.

    Raises ValueError when a series has none of them, OSError as `Wiki` does; what was fetched stays in the cache.
    """
    result = Crawl()
    codes_of: dict[int, str] = {}  # page_id -> the code that led to it first
    total = len(series) * (last - first + 1) if last else None
    with tqdm(total=total, desc="crawl", unit="page", disable=None) as progress:
        for prefix in series:
            exists = False
            without_page = 0
            for number in range(first, last + 1) if last else itertools.count(first):
                code = f"{prefix}{number:03}"
                page = cache.load(code)
                result.cached += page is not None
                try:
                    if page is None:
                        page = wiki.page(code)
                        cache.save(page)
                        result.fetched += 1
                    if codes_of.setdefault(page.page_id, code) != code:
                        raise UnusablePageError(f"the same article as {codes_of[page.page_id]}")
                    result.episodes.append(_episode(page, wiki, cache, sections))
                except MissingPageError:
                    result.skipped.append(Skipped(code, code, MISSING))
                except (NoPlotError, UnusablePageError) as reason:
                    result.skipped.append(Skipped(code, page.title if page else code, str(reason)))
                progress.update()
                exists = exists or page is not None or result.skipped[-1].reason != MISSING
                without_page = 0 if page else without_page + 1
                if not last and without_page == GAP:  # these are no gap in the series but its end
                    result.skipped[-GAP:] = [s for s in result.skipped[-GAP:] if s.reason != MISSING]
                    break
            if not exists:
                raise ValueError(
                    f"{wiki.url} has no page {prefix}{first:03} and none after it:"
                    " correct --series, --first or --site"
                )
    return result


def _episode(page: Page, wiki: Wiki, cache: Cache, sections: Sequence[str]) -> Episode:
    """Raises NoPlotError as `read_plot` does. What the wiki says of the page's templates is kept with the page."""

    def expand(wikitext: str) -> str:
        if wikitext not in page.expanded:
            page.expanded[wikitext] = wiki.expand(page.title, wikitext)
            cache.save(page)
        return page.expanded[wikitext]

    text = read_plot(page.wikitext, sections, expand)
    return Episode(page.code, page.title, text, page.source, page.revision, page.licence)


def write_lines(file: Path, rows: Iterable[Episode | Skipped]) -> None:
    """Write a JSON object a line; the file is written whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole(file) as out:
        for row in rows:
            out.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")
