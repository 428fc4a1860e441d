"""Sentences of the corpus's prose, one by one."""

from server.api.sentences import SENTENCE_END


def split_sentences(paragraph: str) -> list[str]:
    """Its sentences, a quotation of several being one; joined by blanks they are the paragraph.

    What goes on with a small letter has not ended: "No!" cries Ash.
    """
    sentences: list[str] = []
    start = 0
    for match in SENTENCE_END.finditer(paragraph):
        sentence, behind = paragraph[start : match.end()], paragraph[match.end() + 1 : match.end() + 2]
        if sentence.count('"') % 2 == 0 and (behind.isupper() or behind == '"'):
            sentences.append(sentence)
            start = match.end() + 1
    return [*sentences, paragraph[start:]]
