"""Sentences as result documents spell them: where blanks stand, and words that a client wants hidden.

The texts and punctuations of a sentence's words, one after the other, are its text again: ``Hello `` and nothing,
``world`` and ``, ``: a blank stands behind whatever comes before it. (Opening quotes belong to no word and are left
out.)
"""

import re
from functools import lru_cache
from typing import Final

from qasr.domain.options import HiddenWords
from qasr.domain.transcript import Sentence, separator
from qasr.faces.dashscope.task_wire import ResultWord

_UNSPACED: Final = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0e7f"
"""Scripts without blanks: a hidden word may stand inside of anything there."""
_LETTER: Final = rf"[^\W{_UNSPACED}]"
_BLANK_BEFORE_MARK: Final = re.compile(r"\s+(?=[,.;:!?…，。；：！？、])")
_LOOSE_MARKS: Final = " ,;:，；：、"


def spell(sentence: Sentence, hidden: HiddenWords) -> tuple[str, list[ResultWord]]:
    """Text and words of *sentence*; an empty text where nothing is left to show."""
    words = _words(sentence)
    if not (hidden.starred or hidden.removed):
        return sentence.text, words
    text = _pattern(hidden.starred).sub(_stars, sentence.text)
    text = _pattern(hidden.removed).sub("", text)
    if hidden.removed:
        text = _BLANK_BEFORE_MARK.sub("", " ".join(text.split())).lstrip(_LOOSE_MARKS)
    return (text, _hide(words, hidden)) if re.search(r"[\w*]", text) else ("", [])


def _words(sentence: Sentence) -> list[ResultWord]:
    """A blank goes where the text has it; a word that the text does not have gets the blank of its language."""
    pieces: list[tuple[str, str]] = []
    place = 0
    for word in sentence.words:
        found = sentence.text.find(word.text, place)
        gap = separator(sentence.language) if found < 0 else sentence.text[place:found]
        if pieces and re.search(r"\s", gap):
            text, punctuation = pieces[-1]
            pieces[-1] = (text, punctuation + " ") if punctuation else (text + " ", "")
        pieces.append((word.text, word.punctuation))
        if found >= 0:
            place = found + len(word.text)
            place += len(word.punctuation) * sentence.text.startswith(word.punctuation, place)
    return [
        ResultWord(begin_time=word.begin_ms, end_time=word.end_ms, text=text, punctuation=punctuation)
        for word, (text, punctuation) in zip(sentence.words, pieces, strict=True)
    ]


def _hide(words: list[ResultWord], hidden: HiddenWords) -> list[ResultWord]:
    """A hidden phrase may span several words."""
    line = "".join(word.text + word.punctuation for word in words)
    shown = list(_pattern(hidden.starred).sub(_stars, line))
    for match in _pattern(hidden.removed).finditer("".join(shown)):
        shown[match.start() : match.end()] = [""] * (match.end() - match.start())
    kept: list[ResultWord] = []
    place = 0
    for word in words:
        text = "".join(shown[place : place + len(word.text)])
        place += len(word.text) + len(word.punctuation)
        if text.strip():
            kept.append(ResultWord(word.begin_time, word.end_time, text, word.punctuation))
        elif kept and word.punctuation.strip():
            last = kept[-1]
            marks = last.punctuation.strip() or word.punctuation
            kept[-1] = ResultWord(last.begin_time, last.end_time, last.text.rstrip(), marks)
    return kept


def _stars(match: re.Match[str]) -> str:
    return re.sub(r"\S", "*", match[0])


@lru_cache(maxsize=64)
def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    """Finds *words*, longest first, in any case, and not inside of longer words of scripts with blanks."""
    if not words:
        return re.compile(r"(?!)")
    return re.compile("|".join(_alone(word) for word in sorted(words, key=len, reverse=True)), re.IGNORECASE)


def _alone(word: str) -> str:
    head = rf"(?<!{_LETTER})" if re.match(_LETTER, word) else ""
    tail = rf"(?!{_LETTER})" if re.match(_LETTER, word[-1]) else ""
    return head + r"\s+".join(map(re.escape, word.split())) + tail
