"""What is a word of the plot and what is not; the wiki itself is in tests/crawl."""

import pytest

from finetune.crawl.plot import NoPlotError, read_plot


def no_templates(wikitext: str) -> str:
    raise AssertionError(f"nothing to expand in {wikitext!r}")


def plot(wikitext: str) -> str:
    return read_plot(f"Lead.\n== Plot ==\n{wikitext}\n== Trivia ==\nNo.", ["Plot"], no_templates)


@pytest.mark.parametrize(
    ("wikitext", "words"),
    [
        ("[[Ash Ketchum|Ash]] meets [[Misty]].", "Ash meets Misty."),
        ("Two [[Pidgey]]s fly.", "Two Pidgeys fly."),
        ("'''Bold''' and ''slanted''.", "Bold and slanted."),
        ("''[[Brock]]'s'' and ''Brock'''s.", "Brock's and Brock's."),
        ("'''Never closed.", "Never closed."),
        ("A<ref>See {{p|Onix}}</ref>, b<ref name=x />.", "A, b."),
        ("A <!-- hidden\n\n -->b.", "A b."),
        ("[[File:A.png|thumb|A [[picture]]]]Ash [[Image:B.png]]runs.", "Ash runs."),
        ("{| class=x\n| [[cell]] {{p|Onix}}\n|}\nAsh runs.", "Ash runs."),
        ("<gallery>\nA.png|a\n</gallery>\nAsh runs.", "Ash runs."),
        ("<div class=notice>Needs work.</div>\nAsh runs.", "Ash runs."),
        ("=== Part 1 ===\nAsh.\n=== Part 2 ===\nMisty.", "Ash.\n\nMisty."),
        ("{{Quality|{{p|Onix}}}}\n{{a}} {{b|\nc}}\nAsh runs.", "Ash runs."),
        ("* Ash.\n* Misty.", "Ash. Misty."),
        ("One line<br>and<br />another.", "One line and another."),
        ("Tea&nbsp;&amp; cake &ndash; fine.", "Tea & cake – fine."),
        ("__NOTOC__Ash. [[Category:X]][[ja:サトシ]] [[:Category:X|Shown]].", "Ash. Shown."),
        ("See [https://wiki.example this page]. https://wiki.example", "See this page."),
        ("One\nline.\n\n\nTwo.", "One line.\n\nTwo."),
    ],
)
def test_only_the_words_are_left(wikitext: str, words: str) -> None:
    assert plot(wikitext) == words


def test_a_template_within_a_sentence_is_what_the_wiki_says() -> None:
    asked: list[str] = []

    def expand(wikitext: str) -> str:
        asked.append(wikitext)
        return wikitext.replace("{{p|Onix}}", "[[Onix (Pokémon)|Onix]]").replace(
            "{{note}}", "{|\n| Note\n|}\n"
        )

    text = read_plot("== Plot ==\n{{box}}\n'''{{p|Onix}}''' sleeps.\n\n{{note}}It wakes.", ["Plot"], expand)
    assert text == "Onix sleeps.\n\nIt wakes."
    assert len(asked) == 1
    assert "box" not in asked[0]


def test_the_first_section_that_is_there_is_taken() -> None:
    page = "== Summary ==\nS.\n==  [[Synopsis]] ==\nY."
    assert read_plot(page, ["Plot", "synopsis", "Summary"], no_templates) == "Y."


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ("Lead alone.", "no section Plot or Synopsis"),
        ("== Plot ==\n{{Quality}}\n== Trivia ==\nx", "its section Plot holds no words"),
        ("== Plot ==\nA.\n{{Disambig}}", "a disambiguation page"),
    ],
)
def test_what_holds_no_plot_says_why(page: str, reason: str) -> None:
    with pytest.raises(NoPlotError, match=reason):
        read_plot(page, ["Plot", "Synopsis"], no_templates)
