"""Text as it was found to text as a model should learn it; case and punctuation stay as they are."""

import re

import ftfy

from finetune.documents import END_OF_TEXT, START_OF_TEXT

# Curly quotes are the author's punctuation and stay.
_FTFY = ftfy.TextFixerConfig(uncurl_quotes=False, normalization="NFC")

_DELIMITER = re.compile("|".join(map(re.escape, (START_OF_TEXT, END_OF_TEXT))))

# Control characters that ftfy leaves, and those that are seen nowhere: soft hyphen, zero-width space, word joiner, byte
# order mark, and the marks of writing direction. The joiners U+200C and U+200D are part of words and of emoji.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\xad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]"
)
_LINE_BREAK = re.compile("\r\n?|[\x0b\x0c\u0085\u2028\u2029]")

# What a wiki's editors put in brackets. Other brackets may be the author's: "[at the zoo] Me: ...".
_REMARK = re.compile(
    r"""[ \t]*\[\s*(?:
        edit(?:\s*\|\s*edit\ source)? | edit\ source | update | dead\ link | disputed | dubious | sic\?? | vague
        | original\ research\?? | failed\ verification | weasel\ words | dubious\s*\W\s*discuss
        | (?:[a-z]+\s+){0,4}needed
        | (?:according\ to\ |by\ )?(?:who|whom|when|where|which|why|how|what)\?
        | \d{1,3} | [a-z] | (?:note|nb|n|fn)\s*\d{1,3}
    )\s*\]""",
    re.VERBOSE | re.IGNORECASE,
)

# What a wiki's maintainers tell its editors and readers: a sentence that begins so, and the pleas that come after it.
_NOTICE = re.compile(
    r"""(?:^|(?<=[.!?)]\ ))(?:
        This\ (?:[a-z]+\ )?(?:article|section|page)\ (?:
            does\ not\ (?:meet|cite)\b | is\ (?:incomplete|a\ stub|an\ orphan|currently\ being|undergoing)\b
            | needs\ (?:to\ be\ |additional\b|more\b|cleanup\b|expansion\b|attention\b)
            | may\ (?:need\ to\ be|require|contain\ (?:major|original|unsourced|excessive)|be\ confusing)\b
            | (?:has\ multiple\ issues|relies\ (?:largely|too\ much)|lacks\ (?:sources|citations)|requires\ cleanup)\b
            | is\ missing\ (?:information|references|sources|citations)\b
        )
        | Spoiler\ warning\b
        | Unsourced\ material\ may\b
        | \(?Learn\ how\ and\ when\ to\ remove\ th(?:is|ese)\b
        | You\ can\ help\ (?:\S+\ ){1,3}by\ (?:expanding|adding|editing)\b
        | Please\ (?:feel\ free\ to\ (?:edit|expand)|help\ (?:us\ )?(?:improve|to\ improve|expand))\b
    )[^.\n]*(?:\.\ ?|$)
    | ^(?:Main\ article|Further\ information|See\ also):.*$""",
    re.VERBOSE | re.MULTILINE,
)


def clean(text: str) -> str:
    """`text` without mojibake, control characters, delimiters, a wiki's remarks and notices, and needless white space.

    Lines are stripped, and no two paragraphs are more than one empty line apart; what is NFC is so afterwards too.
    Cleaning what is clean changes nothing. May be empty.
    """
    while (cleaner := _clean_once(text)) != text:  # what a removal joins may be for the next round to remove
        text = cleaner
    return text


def _clean_once(text: str) -> str:
    text = _LINE_BREAK.sub("\n", ftfy.fix_text(text, _FTFY))
    text = _DELIMITER.sub(" ", _INVISIBLE.sub("", text))
    lines = (" ".join(line.split()) for line in text.split("\n"))
    text = _NOTICE.sub("", _REMARK.sub("", "\n".join(lines)))
    return re.sub(r"\n{3,}", "\n\n", text).strip()
