"""Words of a client's own that its results must not show: covered by asterisks of the same number, or left out."""

import re
from dataclasses import replace
from functools import lru_cache, partial
from typing import Final

from qasr.domain.options import HiddenWords
from qasr.domain.transcript import Sentence
from qasr.pipeline.filters.removal import Span, without
from qasr.pipeline.rewriting import Rewriting, retimed, rewritten
from qasr.pipeline.words import locate_words

_UNSPACED: Final = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0e7f"
"""Scripts without blanks: a hidden word may stand inside of anything there."""
_LETTER: Final = rf"[^\W{_UNSPACED}]"


def hide(sentence: Sentence, hidden: HiddenWords) -> Sentence | None:
    """*sentence* as its client wants it; None where nothing is left to show. Words keep their times."""
    left: Sentence | None = sentence
    if hidden.removed:
        left = rewritten(sentence, without(sentence.text, partial(_spans, _pattern(hidden.removed))))
    return _covered(left, _pattern(hidden.starred)) if left is not None and hidden.starred else left


def _spans(pattern: re.Pattern[str], text: str) -> list[Span]:
    return [match.span() for match in pattern.finditer(text)]


def _covered(sentence: Sentence, pattern: re.Pattern[str]) -> Sentence:
    """A phrase may span several words; each keeps its length, so each stays where it is."""
    text = pattern.sub(_stars, sentence.text)
    if text == sentence.text:
        return sentence
    words, places = sentence.words, locate_words(sentence.text)
    if words and len(words) != len(places):  # an engine's own: none of them may show what a phrase hides
        words = retimed(words, Rewriting(sentence.text, ()))
    shown = (replace(word, text=text[begin:end]) for word, (_, _, begin, end) in zip(words, places, strict=False))
    return replace(sentence, text=text, words=tuple(shown))


def _stars(match: re.Match[str]) -> str:
    return re.sub(r"\S", "*", match[0])


@lru_cache(maxsize=64)
def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    """Finds *words*, longest first, in any case, and not inside of longer words of scripts with blanks."""
    return re.compile("|".join(_alone(word) for word in sorted(words, key=len, reverse=True)), re.IGNORECASE)


def _alone(word: str) -> str:
    head = rf"(?<!{_LETTER})" if re.match(_LETTER, word) else ""
    tail = rf"(?!{_LETTER})" if re.match(_LETTER, word[-1]) else ""
    return head + r"\s+".join(map(re.escape, word.split())) + tail
