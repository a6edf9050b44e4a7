"""Punctuation left out: for clients that want words alone."""

from dataclasses import replace

from qasr.domain.transcript import Sentence
from qasr.pipeline.words import locate_words


def without_marks(sentence: Sentence) -> Sentence:
    """*sentence* without the punctuation between its words; that inside of words stays (*don't*, 3.5%)."""
    words = tuple(replace(word, punctuation="") for word in sentence.words)
    return replace(sentence, text=bare(sentence.text), words=words)


def bare(text: str) -> str:
    """The words of *text*, with blanks where it has any between them."""
    parts: list[str] = []
    place = 0
    for word, _, begin, end in locate_words(text):
        if parts and any(map(str.isspace, text[place:begin])):
            parts.append(" ")
        parts.append(word)
        place = end
    return "".join(parts)
