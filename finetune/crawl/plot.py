"""The plot of an episode's article: from wikitext to plain paragraphs."""

import re
from collections.abc import Callable, Sequence
from functools import partial

import mwparserfromhell
from mwparserfromhell.nodes import Comment, ExternalLink, Heading, Node, Tag, Template, Text, Wikilink
from mwparserfromhell.wikicode import Wikicode

DISAMBIGUATION_TEMPLATES = {"disambig", "disambiguation", "disambiguation page", "dab", "hndis"}
NOT_PROSE_NAMESPACES = {"file", "image", "media", "category"}
NOT_PROSE_TAGS = {"ref", "references", "table", "gallery", "div", "hr", "math", "pre", "syntaxhighlight"}

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z]+)?")  # [[ja:...]], a link to the same article in another language
_BEHAVIOUR_SWITCH = re.compile(r"__[A-Z]+__")
_STRAY_APOSTROPHE = re.compile(r"(?<=\w)'''(?=\w)")  # in ''Brock'''s: the italics' end, and an apostrophe
_STRAY_EMPHASIS = re.compile(r"'{2,}")  # bold or italics that nobody closed


class NoPlotError(Exception):
    """The article holds no plot; the message says what it is instead."""


def read_plot(wikitext: str, sections: Sequence[str], expand: Callable[[str], str]) -> str:
    """The words of the first of `sections` that the article has; paragraphs are separated by an empty line.

    A template on a line of its own is a box or a notice, and is dropped. A template within a sentence stands for
    words, and only the wiki knows which: `expand` gives the wikitext without templates; it is called once at most.
    Raises NoPlotError for a disambiguation page, and when there is no such section or no word in it.
    """
    article = mwparserfromhell.parse(wikitext)
    if any(_name(template) in DISAMBIGUATION_TEMPLATES for template in article.filter_templates()):
        raise NoPlotError("a disambiguation page")
    name, section = _find(article, sections)
    _remove_furniture(section)
    section = _without_template_lines(section)
    if section.filter_templates():
        section = mwparserfromhell.parse(expand(str(section)))
        _remove_furniture(section)  # what the templates brought along
    text = _words(section)
    if not text:
        raise NoPlotError(f"its section {name} holds no words")
    return text


def _find(article: Wikicode, sections: Sequence[str]) -> tuple[str, Wikicode]:
    """The section and its name as asked for; its sub-sections belong to it, its heading doesn't."""
    for name in sections:
        found = article.get_sections(matches=partial(_is_called, name), include_headings=False)
        if found:
            return name, found[0]
    raise NoPlotError(f"no section {' or '.join(sections)}")


def _is_called(name: str, title: str) -> bool:
    words = mwparserfromhell.parse(title).strip_code()  # a heading may hold links
    return words.strip().casefold() == name.casefold()


def _name(template: Template) -> str:
    return str(template.name).strip().casefold().removeprefix("template:").replace("_", " ")


def _remove_furniture(section: Wikicode) -> None:
    """Take out what is no prose: comments, headings, tables, references, files, categories, boxes."""
    for node in section.filter(recursive=True, matches=_is_furniture):
        if section.contains(node):  # it may have gone with the table that it was in
            section.remove(node)
    for node in section.filter_tags(matches=lambda tag: str(tag.tag).lower() == "br"):
        section.replace(node, " ")


def _is_furniture(node: Node) -> bool:
    match node:
        case Comment() | Heading():
            return True
        case Tag():
            return str(node.tag).strip().lower() in NOT_PROSE_TAGS
        case Wikilink():
            prefix, colon, _ = str(node.title).strip().lower().partition(":")
            prefix = prefix.strip()
            is_language = node.text is None and _LANGUAGE.fullmatch(prefix) is not None
            return bool(colon) and (prefix in NOT_PROSE_NAMESPACES or is_language)
        case ExternalLink():
            return node.title is None  # a bare address
        case _:
            return False


def _without_template_lines(section: Wikicode) -> Wikicode:
    """The section without the lines that hold templates and nothing else."""
    lines: list[list[Node]] = [[]]
    for node in section.nodes:
        if isinstance(node, Text):
            first, *others = str(node).split("\n")
            lines[-1].append(Text(first))
            lines.extend([Text(other)] for other in others)
        else:
            lines[-1].append(node)
    kept = [line for line in lines if not _is_template_line(line)]
    return mwparserfromhell.parse("\n".join("".join(map(str, line)) for line in kept))


def _is_template_line(line: list[Node]) -> bool:
    words = [node for node in line if not isinstance(node, Template) and str(node).strip()]
    return not words and any(isinstance(node, Template) for node in line)


def _words(section: Wikicode) -> str:
    text = section.strip_code(normalize=True, collapse=False)
    for pattern, words in ((_BEHAVIOUR_SWITCH, ""), (_STRAY_APOSTROPHE, "'"), (_STRAY_EMPHASIS, "")):
        text = pattern.sub(words, text)
    paragraphs = (" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text))
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)
