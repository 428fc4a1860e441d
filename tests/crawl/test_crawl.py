"""`pokegen crawl` against a real MediaWiki, through a proxy that sees what the wiki's owners would see."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner, Result

from finetune.crawl.command import command
from tests.crawl.articles import NAMES, NOTICED, Episode
from tests.crawl.front import Answer, Front, drops, fails, lags
from tests.crawl.mediawiki import RIGHTS
from tests.service.stack import wait_until

Lines = list[dict[str, str]]


def arguments(wiki: Front, out: Path, *more: str, delay: float = 0, pause: float = 0.1) -> list[str]:
    polite = ["--contact", "reader@example.org", "--delay", str(delay), "--pause", str(pause)]
    return ["--out", str(out), "--site", f"{wiki.url}/w/", *polite, *more]


def crawl(wiki: Front, out: Path, *more: str, delay: float = 0, pause: float = 0.1) -> Result:
    return CliRunner().invoke(command, arguments(wiki, out, *more, delay=delay, pause=pause))


def lines(file: Path) -> Lines:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def reasons(out: Path) -> dict[str, str]:
    return {line["code"]: line["reason"] for line in lines(out / "skipped.jsonl")}


def pages_in(out: Path) -> set[str]:
    return {file.stem for file in out.glob("cache/*/*.json")}


@pytest.fixture(scope="module")
def thirty(running: Front, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a crawl from the first episode to the latest writes."""
    running.reset()
    out = tmp_path_factory.mktemp("thirty")
    done = crawl(running, out)
    assert done.exit_code == 0, done.output
    assert "30 episodes, 0 skipped; 30 pages fetched, 0 already in the cache" in done.output
    return out


@pytest.fixture(scope="module")
def awkward(running: Front, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a crawl of the awkward pages writes."""
    running.reset()
    out = tmp_path_factory.mktemp("awkward")
    done = crawl(running, out, "--series", "AG", "--last", "12")
    assert done.exit_code == 0, done.output
    return out


class TestThirtyPages:
    def test_every_plot_comes_out_in_its_own_words(self, thirty: Path, episodes: list[Episode]) -> None:
        found = [
            Episode(line["code"], line["title"], line["text"]) for line in lines(thirty / "episodes.jsonl")
        ]
        assert found == episodes

    def test_each_keeps_what_its_licence_asks_for(self, thirty: Path) -> None:
        for line in lines(thirty / "episodes.jsonl"):
            assert line["licence"] == f"{RIGHTS['wgRightsText']} ({RIGHTS['wgRightsUrl']})"
            assert line["source"].endswith(f"&oldid={line['revision']}")

    def test_the_source_is_the_revision_that_was_read(self, thirty: Path, episodes: list[Episode]) -> None:
        line = lines(thirty / "episodes.jsonl")[0]
        page = requests.get(line["source"], timeout=60).text
        assert episodes[0].title in page
        assert f'"wgRevisionId":{line["revision"]}' in page

    def test_the_series_ends_after_five_missing_codes(self, wiki: Front, thirty: Path) -> None:
        again = crawl(wiki, thirty)
        assert again.exit_code == 0, again.output
        assert wiki.titles == ["EP031", "EP032", "EP033", "EP034", "EP035"]
        assert reasons(thirty) == {}

    def test_nothing_is_asked_when_everything_is_there(self, wiki: Front, thirty: Path) -> None:
        before = (thirty / "episodes.jsonl").read_bytes()
        again = crawl(wiki, thirty, "--last", "30")
        assert "0 pages fetched, 30 already in the cache" in again.output
        assert wiki.seen == []
        assert (thirty / "episodes.jsonl").read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_crawl_goes_on_where_it_was(
    number: signal.Signals, wiki: Front, tmp_path: Path, episodes: list[Episode]
) -> None:
    crawler = [sys.executable, "-c", "from finetune.crawl.command import command; command()"]
    process = subprocess.Popen(
        [*crawler, *arguments(wiki, tmp_path, delay=0.02)], stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: len(pages_in(tmp_path)) >= 10, within=60, what="ten pages")
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    kept = pages_in(tmp_path)
    assert 10 <= len(kept) < 30
    assert not (tmp_path / "episodes.jsonl").exists()
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert f"interrupted: {len(kept)} pages are kept in" in said
        assert "the same command goes on from there" in said
    else:
        assert process.returncode == -signal.SIGKILL

    wiki.reset()
    resumed = crawl(wiki, tmp_path, "--last", "30")
    assert f"{30 - len(kept)} pages fetched, {len(kept)} already in the cache" in resumed.output
    assert wiki.titles == [e.code for e in episodes if e.code not in kept]
    assert [line["text"] for line in lines(tmp_path / "episodes.jsonl")] == [e.text for e in episodes]


def test_a_page_is_kept_before_its_templates_are_asked_for(wiki: Front, tmp_path: Path) -> None:
    """The second request for a page may fail; the first is not sent again."""
    wiki.troubles.extend([lambda given, pass_on: pass_on(given)] * 2)  # siteinfo, the page
    wiki.troubles.append(fails(503))
    failed = crawl(wiki, tmp_path, "--last", "1", "--retries", "0")
    assert isinstance(failed.exception, OSError)
    assert pages_in(tmp_path) == {"EP001"}
    wiki.reset()
    assert crawl(wiki, tmp_path, "--last", "1").exit_code == 0
    assert [seen.parameters["action"] for seen in wiki.api] == ["expandtemplates"]


class TestAwkwardPages:
    def test_what_is_no_episode_is_skipped_with_a_reason(self, awkward: Path) -> None:
        assert reasons(awkward) == {
            "AG001": "no section Plot or Synopsis",
            "AG003": "a disambiguation page",
            "AG006": "no such page",
            "AG007": "its redirect leads to no page of this wiki",
            "AG008": "its redirect leads to Never Written, which does not exist",
            "AG009": "the same article as AG002",
            "AG011": "its section Plot holds no words",
            "AG012": "no such page",
        }

    @pytest.mark.parametrize(
        ("code", "title", "text"),
        [
            pytest.param("AG002", "Twice Removed", "Two signs point to one road.", id="double redirect"),
            pytest.param("AG004", "Of Doubtful Quality", NOTICED, id="quality notices"),
            pytest.param("AG005", "Flabébé et la Pokémon フラベベ", NAMES, id="non-ASCII names"),
            pytest.param("AG010", "AG010", "An older layout.", id="synopsis"),
        ],
    )
    def test_what_is_one_is_read(self, awkward: Path, code: str, title: str, text: str) -> None:
        [line] = [line for line in lines(awkward / "episodes.jsonl") if line["code"] == code]
        assert (line["title"], line["text"]) == (title, text)

    def test_the_source_of_a_title_that_is_not_ascii_can_be_opened(self, awkward: Path) -> None:
        [line] = [line for line in lines(awkward / "episodes.jsonl") if line["code"] == "AG005"]
        assert line["source"].isascii()
        assert line["title"] in requests.get(line["source"], timeout=60).text

    def test_another_section_can_be_asked_for_without_fetching_the_page_again(
        self, wiki: Front, awkward: Path, tmp_path: Path
    ) -> None:
        out = shutil.copytree(awkward, tmp_path / "copy")
        again = crawl(wiki, out, "--series", "AG", "--first", "2", "--last", "2", "--section", "major events")
        assert again.exit_code == 0, again.output
        assert wiki.titles == []
        [line] = lines(out / "episodes.jsonl")
        assert line["text"] == "Nothing of what stands here belongs to the plot."


def test_several_series_are_written_together(wiki: Front, tmp_path: Path) -> None:
    options = [option for prefix in ("EP", "AG", "EP") for option in ("--series", prefix)]
    done = crawl(wiki, tmp_path, *options, "--first", "2", "--last", "2")
    assert done.exit_code == 0, done.output
    assert [line["code"] for line in lines(tmp_path / "episodes.jsonl")] == ["EP002", "AG002"]


@pytest.mark.parametrize(
    ("series", "asked"), [(["XX"], 5), (["EP", "XX"], 1 + 5 + 5)], ids=["alone", "beside another"]
)
def test_a_series_that_is_not_there_is_an_error(
    series: list[str], asked: int, wiki: Front, tmp_path: Path
) -> None:
    options = [option for prefix in series for option in ("--series", prefix)]
    done = crawl(wiki, tmp_path, *options, "--first", "30")
    assert isinstance(done.exception, ValueError)
    assert "has no page XX030 and none after it" in str(done.exception)
    assert len(wiki.titles) == asked


def test_another_wiki_of_the_same_host_is_not_read_from_the_cache(wiki: Front, tmp_path: Path) -> None:
    wiki.set_robots("User-agent: *", "Disallow: /de/")
    assert crawl(wiki, tmp_path, "--last", "1").exit_code == 0
    done = crawl(wiki, tmp_path, "--last", "1", "--site", f"{wiki.url}/de/w/")
    assert f"the robots.txt of {wiki.url}/de/w/ forbids" in str(done.exception)


class TestManners:
    """What the wiki's owners see."""

    def test_who_asks_and_that_a_lagging_database_comes_first(self, wiki: Front, tmp_path: Path) -> None:
        assert crawl(wiki, tmp_path, "--last", "1").exit_code == 0
        assert wiki.seen[0].path == "/robots.txt"
        for seen in wiki.seen:
            assert seen.user_agent.startswith("pokegen-crawl/")
            assert "(reader@example.org)" in seen.user_agent
        assert [seen.parameters["maxlag"] for seen in wiki.api] == ["5", "5", "5"]

    def test_the_delay_lies_between_any_two_requests(self, wiki: Front, tmp_path: Path) -> None:
        wiki.troubles.append(fails(500))
        assert crawl(wiki, tmp_path, "--last", "2", delay=0.3, pause=0).exit_code == 0
        assert len(wiki.gaps) == 6  # robots.txt, siteinfo twice, and two requests a page
        assert min(wiki.gaps) >= 0.29

    def test_a_longer_crawl_delay_of_robots_txt_counts(self, wiki: Front, tmp_path: Path) -> None:
        wiki.set_robots("User-agent: *", "Crawl-delay: 1", "Disallow: /w/Special:")
        assert crawl(wiki, tmp_path, "--series", "AG", "--first", "2", "--last", "2").exit_code == 0
        assert len(wiki.gaps) == 2
        assert min(wiki.gaps) >= 0.99

    @pytest.mark.parametrize("agent", ["*", "pokegen-crawl"])
    def test_a_forbidden_api_ends_the_crawl_before_it_begins(
        self, agent: str, wiki: Front, tmp_path: Path
    ) -> None:
        wiki.set_robots(f"User-agent: {agent}", "Disallow: /w/")
        done = crawl(wiki, tmp_path)
        assert isinstance(done.exception, OSError)
        assert "forbids pokegen-crawl to read" in str(done.exception)
        assert [seen.path for seen in wiki.seen] == ["/robots.txt"]

    def test_a_rule_for_others_does_not(self, wiki: Front, tmp_path: Path) -> None:
        wiki.set_robots("User-agent: another-crawler", "Disallow: /")
        assert crawl(wiki, tmp_path, "--last", "1").exit_code == 0

    def test_a_forbidden_article_is_skipped(
        self, wiki: Front, tmp_path: Path, episodes: list[Episode]
    ) -> None:
        """By its code, and then it isn't asked for at all; or by the title that the code leads to."""
        title = episodes[1].title.replace(" ", "_")
        wiki.set_robots("User-agent: *", "Disallow: /wiki/EP001", f"Disallow: /wiki/{title}")
        assert crawl(wiki, tmp_path, "--last", "3").exit_code == 0
        assert reasons(tmp_path) == {
            "EP001": "robots.txt forbids /wiki/EP001",
            "EP002": f"robots.txt forbids /wiki/{title}",
        }
        assert wiki.titles == ["EP002", "EP003"]
        assert pages_in(tmp_path) == {"EP003"}

    def test_a_wiki_that_forbids_every_article_is_left_alone(self, wiki: Front, tmp_path: Path) -> None:
        wiki.set_robots("User-agent: *", "Disallow: /wiki/")
        done = crawl(wiki, tmp_path)
        assert "0 episodes, 5 skipped" in done.output
        assert wiki.titles == []

    @pytest.mark.parametrize("status", [401, 403])
    def test_hidden_rules_forbid_everything(self, status: int, wiki: Front, tmp_path: Path) -> None:
        wiki.robots = wiki.robots._replace(status=status)
        assert "forbids" in str(crawl(wiki, tmp_path).exception)

    def test_rules_that_can_not_be_read_forbid_everything(self, wiki: Front, tmp_path: Path) -> None:
        wiki.robots = wiki.robots._replace(status=503)
        done = crawl(wiki, tmp_path, "--retries", "1")
        assert "503 Service Unavailable, 2 times in a row: try again later" in str(done.exception)
        assert {seen.path for seen in wiki.seen} == {"/robots.txt"}


class TestServerTrouble:
    def test_each_kind_is_waited_for(self, wiki: Front, tmp_path: Path) -> None:
        wiki.troubles.extend([fails(500), drops, fails(502), fails(429)])
        done = crawl(wiki, tmp_path, "--last", "2")
        assert done.exit_code == 0, done.output
        assert [line["code"] for line in lines(tmp_path / "episodes.jsonl")] == ["EP001", "EP002"]
        assert not wiki.troubles
        for problem in ("500 Internal Server Error", "no answer", "502 Bad Gateway", "429 Too Many Requests"):
            assert problem in done.output

    def test_the_pauses_double(self, wiki: Front, tmp_path: Path) -> None:
        wiki.troubles.extend([fails(500)] * 3)
        done = crawl(wiki, tmp_path, "--last", "1", pause=0.2)
        assert done.exit_code == 0
        assert re.findall(r"asking again in (\S+) s", done.output) == ["0.2", "0.4", "0.8"]
        first, second, third = wiki.gaps[1:4]  # the first gap is after robots.txt
        assert first >= 0.2
        assert second >= 0.4
        assert third >= 0.8

    @pytest.mark.parametrize("trouble", [fails(503, Retry_After="1"), lags], ids=["503", "maxlag"])
    def test_retry_after_is_obeyed(self, trouble: object, wiki: Front, tmp_path: Path) -> None:
        wiki.troubles.append(trouble)  # type: ignore[arg-type]
        done = crawl(wiki, tmp_path, "--last", "1", pause=0)
        assert done.exit_code == 0, done.output
        assert "asking again in 1 s" in done.output
        assert wiki.gaps[1] >= 1

    def test_retry_after_may_be_a_date(self, wiki: Front, tmp_path: Path) -> None:
        until: list[float] = []  # time.monotonic() at that date

        def is_busy(*asked: Any) -> Answer:  # noqa: ANN401
            date = int(time.time()) + 2
            until.append(time.monotonic() + date - time.time())
            written = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(date))
            return fails(503, Retry_After=written)(*asked)

        wiki.troubles.append(is_busy)
        assert crawl(wiki, tmp_path, "--last", "1", pause=0).exit_code == 0
        robots, refused, again = wiki.seen[:3]
        assert robots.gone < refused.came < until[0] - 0.9
        assert again.came > until[0] - 0.05

    def test_a_wiki_that_asks_for_an_hour_is_not_waited_for(self, wiki: Front, tmp_path: Path) -> None:
        wiki.troubles.append(fails(503, Retry_After="3600"))
        done = crawl(wiki, tmp_path, "--last", "1")
        assert "asks to wait 3,600 s: come back then" in str(done.exception)

    def test_the_patience_ends(self, wiki: Front, tmp_path: Path) -> None:
        assert crawl(wiki, tmp_path, "--last", "2").exit_code == 0
        wiki.reset()
        wiki.troubles.extend([fails(500)] * 10)
        done = crawl(wiki, tmp_path, "--last", "3", "--retries", "3", pause=0)
        assert isinstance(done.exception, OSError)
        assert "500 Internal Server Error, 4 times in a row: try again later" in str(done.exception)
        assert len(wiki.api) == 4
        assert pages_in(tmp_path) == {"EP001", "EP002"}

    def test_a_refusal_is_not_repeated(self, wiki: Front, tmp_path: Path) -> None:
        wiki.troubles.append(fails(403))
        assert "403" in str(crawl(wiki, tmp_path, "--last", "1").exception)
        assert len(wiki.api) == 1

    def test_a_redirect_to_another_place_is_not_followed(self, wiki: Front, tmp_path: Path) -> None:
        wiki.troubles.append(fails(301, Location="https://elsewhere.example/w/api.php"))
        done = crawl(wiki, tmp_path, "--last", "1")
        assert "redirects to https://elsewhere.example/w/api.php: name that place with --site" in str(
            done.exception
        )

    def test_a_site_that_is_no_wiki_is_told(self, wiki: Front, tmp_path: Path) -> None:
        wiki.troubles.append(fails(200))
        assert "is no MediaWiki API: correct --site" in str(crawl(wiki, tmp_path, "--last", "1").exception)

    def test_a_damaged_page_in_the_cache_is_named(self, wiki: Front, tmp_path: Path) -> None:
        assert crawl(wiki, tmp_path, "--last", "1").exit_code == 0
        [file] = tmp_path.glob("cache/*/EP001.json")
        file.write_text(file.read_text(encoding="utf-8")[:100])
        assert f"{file} is damaged: delete it" in str(crawl(wiki, tmp_path, "--last", "1").exception)


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--contact", "nobody", "give your mail address"),
        ("--contact", "é@example.org", "give your mail address"),
        ("--contact", "a@example.org\r\nX: y", "give your mail address"),
        ("--site", "bulbapedia.bulbagarden.net", "give it whole"),
        (
            "--site",
            "https://bulbapedia.bulbagarden.net/w/api.php",
            "the folder that holds the wiki's api.php",
        ),
        ("--series", "EP0", "letters alone"),
        ("--series", "../", "letters alone"),
        ("--last", "-1", "-1 is not in the range"),
        ("--delay", "nan", "nan is no finite number"),
        ("--pause", "inf", "inf is no finite number"),
    ],
)
def test_an_option_that_can_not_be_right_is_refused(
    option: str, value: str, says: str, wiki: Front, tmp_path: Path
) -> None:
    done = crawl(wiki, tmp_path, option, value)
    assert done.exit_code == 2
    assert f"Invalid value for '{option}'" in done.output
    assert says in " ".join(done.output.split())
    assert wiki.seen == []


def test_last_must_not_be_before_first(wiki: Front, tmp_path: Path) -> None:
    done = crawl(wiki, tmp_path, "--first", "3", "--last", "2")
    assert done.exit_code == 2
    assert "2 is before --first 3" in done.output


def test_a_contact_must_be_given(tmp_path: Path) -> None:
    done = CliRunner().invoke(command, ["--out", str(tmp_path)])
    assert done.exit_code == 2
    assert "Missing option '--contact'" in done.output


def test_help_tells_every_option() -> None:
    done = CliRunner().invoke(command, ["--help"])
    assert done.exit_code == 0
    for parameter in command.params:
        assert parameter.opts[0] in done.output
        assert getattr(parameter, "help", None), parameter.name
