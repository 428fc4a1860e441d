"""The report as a page and as a document: whole, by itself, and seen in a real Chromium."""

import base64
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from click.testing import CliRunner
from playwright.sync_api import Browser

from loadtest.report import __main__ as main
from loadtest.report.comparison import Price, settings
from loadtest.report.markdown import BEGIN, END, replace_figures, write_docs
from loadtest.report.plots import DARK, QUANTITIES, compared
from loadtest.report.runs import read_run
from loadtest.report.tables import Table, number, rate, seconds
from tests.unit.loadtest.made_runs import pokegen, request, seed_design, write_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of one checkpoint in one box: all shapes, and the seed design."""
    directory = tmp_path_factory.mktemp("loadtest")
    ours = [pokegen(directory, "124M", "t2.medium", shape) for shape in ("ramp", "spike", "soak")]
    return [*ours, seed_design(directory, "124M", "t2.medium")]


@pytest.fixture(scope="module")
def page(runs: list[Path]) -> Path:
    """As the command writes it; a directory that is none is among the runs."""
    out = runs[0].parent / "report.html"
    nothing = runs[0].parent / "nothing"
    nothing.mkdir()
    done = CliRunner().invoke(main.command, [*map(str, runs), str(nothing), "--out", str(out)])
    assert (done.exit_code, done.stdout) == (0, f"{out}: 4 runs\n")
    assert f"left out: {nothing / 'run.json'} cannot be read" in done.stderr
    return out


def tree_of(page: Path) -> ElementTree.Element:
    """As an XML parser sees it, once what HTML leaves open is closed. ParseError where it is not well-formed."""
    text = page.read_text().replace("<!doctype html>", "")
    return ElementTree.fromstring(re.sub(r"<((?:meta|img)\b[^>]*)>", r"<\1/>", text))  # noqa: S314


def plots_of(page: Path) -> list[tuple[str, str]]:
    """Alternative text and SVG of each."""
    images = [image.attrib for image in tree_of(page).iter("img")]
    return [
        (image["alt"], base64.b64decode(image["src"].partition("base64,")[2]).decode()) for image in images
    ]


def test_the_page_needs_nothing_else(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r"https?:|//\w|url\(|@import|<(script|link|iframe|object|embed)\b", text)
    assert all(each.startswith("data:image/svg+xml;base64,") for each in re.findall(r'src="([^"]*)', text))
    for _, svg in plots_of(page):
        names = set(re.findall(r"https?://[^\"']*", svg))
        assert names <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # of namespaces
        assert not re.search(r'href="(?!#)|<(script|image)\b|@import', svg)


def test_the_page_is_well_formed(page: Path) -> None:
    """And its names are there once, its links lead somewhere, its tables' rows are as long as their heads."""
    tree = tree_of(page)
    names = [element.attrib["id"] for element in tree.iter() if "id" in element.attrib]
    assert len(names) == len(set(names))
    assert {link.attrib["href"].removeprefix("#") for link in tree.iter("a")} <= set(names)
    for table in tree.iter("table"):
        assert len({len(row) for row in table.iter("tr")}) == 1


def test_every_plot_has_a_text_follows_the_readers_colours_and_is_small(page: Path) -> None:
    drawn = plots_of(page)
    assert len(drawn) == 13
    for text, svg in drawn:
        assert re.search(r"\d", text)
        ElementTree.fromstring(svg)  # noqa: S314
        assert "prefers-color-scheme: dark" in svg
        assert len(svg) < 60_000
        # Whatever is drawn in a colour of its own has one in the dark, too, or is seen on both.
        colours = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", svg)) - {"#000000"}
        assert colours <= DARK.keys() | {"#88ccee", "#e69f00", "#f0e442", "#d55e01"}


def test_the_page_says_what_was_found(page: Path) -> None:
    text = " ".join("".join(tree_of(page).itertext()).split())
    assert "128 to 0" in text  # readers
    assert "The knee: 128 readers. With 192," in text
    assert "Nobody was content: with 1 reader, p95 to the first token was" in text
    assert "were refused, after" in text
    assert "504 Gateway Time-out" in text
    assert "The kernel killed 6 processes for want of memory." in text
    assert "100% of them with Retry-After" in text
    assert "POKEGEN_MAX_WAIT=5 python -m loadtest ramp" in text
    assert "nothing/run.json cannot be read" in text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_people_can_read_it(page: Path, browser: Browser, scheme: str) -> None:
    """On a phone as well, in both colour schemes; axe finds nothing that keeps anybody from it."""
    shown = browser.new_page(color_scheme=scheme, viewport={"width": 390, "height": 800})  # type: ignore[arg-type]
    shown.goto(page.as_uri())
    faults = Axe().run(shown).response["violations"]
    assert not [(fault["id"], fault["nodes"][0]["html"]) for fault in faults]
    assert shown.evaluate("document.documentElement.scrollWidth") == 390
    assert shown.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    ink, paper = shown.evaluate(
        "(({color, backgroundColor: b}) => [color, b])(getComputedStyle(document.body))"
    )
    assert (ink, paper) == {
        "light": ("rgb(36, 41, 47)", "rgb(255, 255, 255)"),
        "dark": ("rgb(230, 237, 243)", "rgb(13, 17, 23)"),
    }[scheme]
    shown.close()


def test_a_run_of_nothing_but_one_request_is_reported(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one", requests=[request(20)], seconds=None)
    (run / "box.csv").unlink()
    done = CliRunner().invoke(main.command, [str(run), "--out", str(tmp_path / "report.html")])
    assert done.exit_code == 0, done.output
    text = (tmp_path / "report.html").read_text()
    assert "It was interrupted" in text
    assert "box.csv cannot be read" in text


@pytest.mark.parametrize("shape", ["ramp", "steady", "spike", "soak"])
@pytest.mark.parametrize("lacking", ["readers.csv", "box.csv"])
def test_a_run_of_which_half_is_missing_is_reported(tmp_path: Path, shape: str, lacking: str) -> None:
    rows = [request(at, readers=2) for at in range(0, 200, 5)]
    box = [{"at": at, "rss_mb": 200} for at in range(200)]
    stages = [(0.0, 2, ""), (60.0, 9, ""), (120.0, 2, "")]
    run = write_run(tmp_path, about={"shape": shape}, requests=rows, box=box, stages=stages, seconds=None)
    (run / lacking).write_text("")
    out = tmp_path / "report.html"
    done = CliRunner().invoke(main.command, [str(run), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert f"{lacking} is empty" in out.read_text()


def test_where_no_run_can_be_reported_the_command_says_why(tmp_path: Path) -> None:
    done = CliRunner().invoke(main.command, [str(tmp_path)])
    assert done.exit_code == 1
    assert "run.json cannot be read (No such file or directory): name a directory" in done.stderr
    assert "none of the directories can be reported" in done.stderr


def test_where_there_is_no_run_at_all_the_command_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main.command, [])
    assert done.exit_code == 2
    assert "run/loadtest has no runs: measure first" in done.stderr


def test_the_document_gets_its_figures_between_the_markers(tmp_path: Path, runs: list[Path]) -> None:
    document = tmp_path / "load.md"
    document.write_text(f"before\n\n{BEGIN}\n\nold\n\n{END}\n\nafter\n")
    (tmp_path / "load").mkdir()
    (tmp_path / "load/old.svg").write_text("")
    found, _ = settings(map(read_run, runs))
    write_docs(document, found, Price())
    text = document.read_text()
    assert text.startswith(f"before\n\n{BEGIN}\n\n### In short\n")
    assert text.endswith(f"{END}\n\nafter\n")
    assert "old" not in text
    pictures = re.findall(r"^!\[[^\]]+\]\((load/[^)]+)\)$", text, re.MULTILINE)
    assert {tmp_path / picture for picture in pictures} == set((tmp_path / "load").iterdir())
    assert len(pictures) == 5
    written = {picture: (tmp_path / picture).read_bytes() for picture in pictures}
    write_docs(document, found, Price())
    assert document.read_text() == text
    assert {picture: (tmp_path / picture).read_bytes() for picture in pictures} == written


@pytest.mark.parametrize("document", ["", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}"])
def test_a_document_without_its_markers_is_left_alone(document: str) -> None:
    with pytest.raises(ValueError, match="it must have the lines"):
        replace_figures(document, "figures")


def test_docs_load_md_has_its_markers() -> None:
    assert replace_figures(main.DOCUMENT.read_text(), "new").count("new") >= 1


def test_nothing_measured_is_no_plot() -> None:
    assert compared([], QUANTITIES[0]) is None


def test_numbers_as_they_are_shown() -> None:
    told = [seconds(each) for each in (None, 0.0012, 0.0949, 0.9994, 0.9996, 9.994, 9.996, 60)]
    assert told == ["–", "1.2 ms", "95 ms", "999 ms", "1.00 s", "9.99 s", "10 s", "60 s"]
    assert [rate(each) for each in (None, 0.0, 1.234, 99.94, 1234.5)] == ["–", "0", "1.23", "99.9", "1,234"]
    assert number(1234.5, ",.1f", " MiB") == "1,234.5 MiB"


def test_a_table_as_markdown() -> None:
    assert Table("What it is.", ["a", "b"], [["x|y", "1"], ["two\nlines", "2"]]).markdown() == (
        "| a | b |\n| --- | ---: |\n| x\\|y | 1 |\n| two lines | 2 |\n\nWhat it is.\n"
    )
