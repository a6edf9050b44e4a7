"""Text into words and sentences, and times for them where nobody measured any.

A word is what stands between blanks, or one character of a script that is written without them. Sentence punctuation
belongs to the word before it, as the services write it.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Final, NamedTuple

from qasr.domain.transcript import Word

_UNSPACED: Final = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Han, kana, iteration marks: one character is one word."""

PIECE: Final = re.compile(rf"[{_UNSPACED}][^\w\s]*|[^\s{_UNSPACED}]+")
"""A word with the punctuation behind it, or punctuation alone."""
_SENTENCE_END: Final = re.compile(r"[.!?…。！？][\"'”’)\]]*$")
_OPENING: Final = "\"'“‘([¿¡"
_ABBREVIATIONS: Final = frozenset(
    ["mr.", "mrs.", "ms.", "dr.", "st.", "prof.", "jr.", "sr.", "vs.", "no.", "e.g.", "i.e.", "etc."]
)


class Piece(NamedTuple):
    """A word in its text: ``text[begin:word_end]`` without what follows it, ``text[begin:end]`` with it."""

    word: str
    """In lower case, without signs around it."""
    begin: int
    word_end: int
    end: int


def pieces(text: str) -> list[Piece]:
    """The words of *text* with their places in it; a piece of signs alone belongs to none."""
    found = []
    for match in PIECE.finditer(text):
        word_end = match.end()
        while word_end > match.start() and unicodedata.category(text[word_end - 1])[0] in "PS":
            word_end -= 1
        word = text[match.start() : word_end].lstrip(_OPENING)
        if word:
            found.append(Piece(word.lower(), match.start(), word_end, match.end()))
    return found


def split_words(text: str) -> list[tuple[str, str]]:
    """Words of *text* as ``(word, punctuation behind it)``; a piece that is only punctuation joins the word before."""
    words: list[tuple[str, str]] = []
    for piece in PIECE.findall(text):
        end = len(piece)
        while end and unicodedata.category(piece[end - 1])[0] in "PS":
            end -= 1
        word, punctuation = piece[:end].lstrip(_OPENING), piece[end:]
        if word:
            words.append((word, punctuation))
        elif words:
            words[-1] = (words[-1][0], words[-1][1] + piece)
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


def refit(words: Sequence[tuple[str, str]], timed: Sequence[Word]) -> list[tuple[int, int]] | None:
    """Times of *words* (as ``split_words`` gives them) from those that an engine gave to pieces of its own making.

    An engine times tokens, or what stands between blanks with its punctuation; only letters and digits are compared.
    None where the two are not the same text.
    """
    letters: list[str] = []
    spans: list[tuple[int, int]] = []
    for word in timed:
        own = letters_of(word.text)
        letters += own
        spans += spread(own, word.begin_ms, word.end_ms)
    wanted = [letters_of(word) for word, _ in words]
    if letters != [letter for own in wanted for letter in own]:
        return None
    times, start, now_ms = [], 0, 0
    for own in wanted:
        begin = max(now_ms, spans[start][0]) if own else now_ms
        now_ms = max(begin, spans[start + len(own) - 1][1]) if own else now_ms
        times.append((begin, now_ms))
        start += len(own)
    return times


def letters_of(text: str) -> list[str]:
    """Letters and digits of *text* in lower case: what is left when spelling and signs are put aside."""
    return [letter for letter in text.lower() if letter.isalnum()]
