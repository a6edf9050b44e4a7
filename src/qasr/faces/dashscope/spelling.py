"""Sentences as result documents spell them: where blanks stand, and without the words that a client wants hidden.

The texts and punctuations of a sentence's words, one after the other, are its text again: ``Hello `` and nothing,
``world`` and ``, ``: a blank stands behind whatever comes before it. (Opening quotes belong to no word and are left
out.)
"""

import re

from qasr.domain.options import HiddenWords
from qasr.domain.transcript import Sentence, separator
from qasr.faces.dashscope.task_wire import ResultWord
from qasr.pipeline.filters import hide


def spell(sentence: Sentence, hidden: HiddenWords) -> tuple[str, list[ResultWord]]:
    """Text and words of *sentence*; an empty text where nothing is left to show."""
    shown = hide(sentence, hidden)
    return (shown.text, _words(shown)) if shown is not None else ("", [])


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
