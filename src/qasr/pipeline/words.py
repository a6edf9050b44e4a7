"""Text into words and sentences, and times for them where nobody measured any.

A word is what stands between blanks, or one character of a script that is written without them. Sentence punctuation
belongs to the word before it, as the services write it.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

from qasr.domain.transcript import Word

_UNSPACED: Final = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Han, kana, iteration marks: one character is one word."""

PIECE: Final = re.compile(rf"[{_UNSPACED}][^\w\s]*|[^\s{_UNSPACED}]+")
"""A word with the punctuation behind it, or punctuation alone."""
_PERCENT: Final = re.compile(r"\d[%‰]")
"""Signs that are no punctuation."""
_SENTENCE_END: Final = re.compile(r"[.!?…。！？][\"'”’)\]]*$")
_ABBREVIATIONS: Final = frozenset(
    ["mr.", "mrs.", "ms.", "dr.", "st.", "prof.", "jr.", "sr.", "vs.", "no.", "e.g.", "i.e.", "etc.", "a.m.", "p.m."]
)


def split_words(text: str) -> list[tuple[str, str]]:
    """Words of *text* as ``(word, punctuation behind it)``; a piece that is only punctuation joins the word before."""
    return [(word, punctuation) for word, punctuation, _, _ in locate_words(text)]


def locate_words(text: str) -> list[tuple[str, str, int, int]]:
    """The same, with where each word begins and ends, its punctuation not included."""
    words: list[tuple[str, str, int, int]] = []
    for match in PIECE.finditer(text):
        piece = match.group()
        end = len(piece)
        while end and unicodedata.category(piece[end - 1])[0] in "PS" and not _PERCENT.search(piece, end - 2, end):
            end -= 1
        word, punctuation = piece[:end].lstrip("\"'“‘([¿¡"), piece[end:]
        if word:
            end += match.start()
            words.append((word, punctuation, end - len(word), end))
        elif words:
            before, behind, first, last = words[-1]
            words[-1] = (before, behind + piece, first, last)
    return words


def split_sentences(text: str) -> list[str]:
    """Sentences of *text*, in order; their words are the words of *text*."""
    sentences: list[str] = []
    start = 0
    for piece in PIECE.finditer(text):
        if _SENTENCE_END.search(piece.group()) and piece.group().lower() not in _ABBREVIATIONS:
            sentences.append(text[start : piece.end()].strip())
            start = piece.end()
    rest = text[start:].strip()
    if rest and (split_words(rest) or not sentences):
        sentences.append(rest)
    elif rest:
        sentences[-1] += rest
    return [sentence for sentence in sentences if sentence]


def spread(parts: Sequence[str], begin_ms: int, end_ms: int) -> list[tuple[int, int]]:
    """Times of *parts* within a stretch, by their length in characters: an estimate, to be marked as one."""
    total = sum(len(part) for part in parts) or 1
    times, seen = [], 0
    for part in parts:
        first = begin_ms + (end_ms - begin_ms) * seen // total
        seen += len(part)
        times.append((first, begin_ms + (end_ms - begin_ms) * seen // total))
    return times


def make_words(
    pieces: Sequence[tuple[str, str]], times: Sequence[tuple[int, int]], *, estimated: bool
) -> tuple[Word, ...]:
    """Pair words with their times."""
    return tuple(
        Word(text=word, punctuation=punctuation, begin_ms=begin, end_ms=end, estimated=estimated)
        for (word, punctuation), (begin, end) in zip(pieces, times, strict=True)
    )
