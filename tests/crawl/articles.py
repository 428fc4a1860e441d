"""Articles shaped like Bulbapedia's, around texts from this project's corpus."""

import json
from typing import NamedTuple

from tests.service.stack import ROOT

TEMPLATES = {
    "Template:EpisodeInfobox": '{| class="roundy infobox"\n! {{{title}}}\n|-\n| Code: {{{code}}}\n|}',
    "Template:Quality": '{| class="roundy notice"\n| This article does not meet the quality standards. {{{1|}}}\n|}'
    "[[Category:Articles of low quality]]",
    "Template:P": "[[{{{1}}} (Pokémon)|{{{1}}}]]",
    "Template:Ash": "[[Ash Ketchum|Ash]]",
    "Template:TRT": "[[Team Rocket trio|Team Rocket]]",
    "Template:Tt": '<span class="explain" title="{{{2}}}">{{{1}}}</span>',
    "Template:Disambig": '<div class="notice">Several articles share this name.</div>',
}


class Episode(NamedTuple):
    """An episode of the corpus: `text` is what a crawl of its article must give back."""

    code: str
    title: str
    text: str


def corpus(count: int) -> list[Episode]:
    """The first of Kanto's, as EP001 and so on."""
    lines = (ROOT / "corpus/episodes/kanto.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    return [Episode(f"EP{number:03}", **json.loads(line)) for number, line in enumerate(lines, start=1)]


def article(code: str, title: str, plot: str) -> str:
    """The whole page around a plot's wikitext."""
    return f"""{{{{EpisodeInfobox|code={code}|title={title}}}}}
'''{title}''' (Japanese: '''旅立ち''') is an episode of the series.<ref>An announcement</ref>

== Plot ==
{plot}

== Major events ==
* Nothing of what stands here belongs to the plot.

== Debuts ==
=== Humans ===
* [[A passer-by]]

[[Category:Episodes]]
[[ja:{title}]]
"""


def marked_up(text: str) -> str:
    """The same words as an editor of the wiki writes them: links, templates, a picture, a comment, a reference."""
    for name, markup in {
        "Team Rocket": "{{TRT}}",
        "Ash": "{{Ash}}",
        "Pikachu": "{{p|Pikachu}}",
        "Onix": "{{tt|Onix|イワーク}}",
        "Misty": "[[Misty (anime)|Misty]]",
        "Brock": "''[[Brock]]''",
    }.items():
        text = text.replace(name, markup)
    first, *others = text.split("\n\n")
    return "\n\n".join(
        [
            f"[[File:Scene.png|thumb|250px|A scene with [[Misty]]]]\n{first}<ref>Seen on {{{{p|Television}}}}</ref>",
            "=== Later ===\n<!-- spoilers below -->",
            *others,
        ]
    )


def episode_pages(episodes: list[Episode]) -> dict[str, str]:
    """Articles, and the codes as redirects to them."""
    pages: dict[str, str] = {}
    for code, title, text in episodes:
        pages[title] = article(code, title, marked_up(text))
        pages[code] = f"#REDIRECT [[{title}]]"
    return pages


NAMES = (
    "Pokémon Trainers bring Flabébé, Farfetch’d and Nidoran♀ to Poké Park, whose gate says ようこそ. "
    "Élodie’s Flabébé wins."
)
NOTICED = "The notice is gone, and Pikachu stays.\n\nIn the end everybody goes home."

AWKWARD_PAGES = {
    # AG001: no plot section
    "AG001": "#REDIRECT [[A Short Announcement]]",
    "A Short Announcement": "{{EpisodeInfobox|code=AG001|title=A Short Announcement}}\nNo plot yet.\n"
    "\n== Trivia ==\n* It was announced.\n",
    # AG002: a redirect to a redirect
    "AG002": "#REDIRECT [[The Second Name]]",
    "The Second Name": "#REDIRECT [[Twice Removed]]",
    "Twice Removed": article("AG002", "Twice Removed", "Two signs point to one road."),
    # AG003: disambiguation
    "AG003": "'''AG003''' may be:\n* [[Twice Removed]], an episode\n* [[Route 3]], a road\n{{Disambig}}\n",
    # AG004: the quality standards' notice at the top, on a line of the plot, and before its first word
    "AG004": "#REDIRECT [[Of Doubtful Quality]]",
    "Of Doubtful Quality": "{{Quality|All of it.}}\n"
    + article(
        "AG004",
        "Of Doubtful Quality",
        "{{Quality|This section}}\n{{Quality}}The notice is gone, and {{p|Pikachu}} stays.\n\n"
        "{{Quality\n|reason=style\n}}\n"
        "In the end everybody goes home.",
    ),
    # AG005: names that are not ASCII
    "AG005": "#REDIRECT [[Flabébé et la Pokémon フラベベ]]",
    "Flabébé et la Pokémon フラベベ": article(
        "AG005",
        "Flabébé et la Pokémon フラベベ",
        NAMES.replace("Flabébé", "{{p|Flabébé}}").replace(" to ", "&nbsp;to "),
    ),
    # AG006: no such page
    # AG007: redirects in a circle, AG008: a redirect to nothing, AG009: a second code for AG002's article
    "AG007": "#REDIRECT [[The Other Way Round]]",
    "The Other Way Round": "#REDIRECT [[AG007]]",
    "AG008": "#REDIRECT [[Never Written]]",
    "AG009": "#REDIRECT [[Twice Removed]]",
    # AG010: a synopsis instead of a plot, AG011: a plot without a word
    "AG010": article("AG010", "AG010", "An older layout.").replace("== Plot ==", "==Synopsis=="),
    "AG011": article("AG011", "AG011", "{{Quality|Please write it.}}\n<!-- nothing yet -->"),
}
