"""Which language is a text in? Asked where an engine wrote it and did not say.

::

    words ─▶ the script that most of them are in ─▶ its languages, of those that the engine hears
                                                       ├─ one: that is it
                                                       ├─ a letter that only one of them has: that is it
                                                       └─ several: statistics of letter sequences (py3langid)

Where that leaves a doubt the answer is None: a wrong language misleads more than none. Single words mostly do.
"""

import re
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any, Final, Literal, TypeAlias

import anyio.to_thread

from qasr.domain.languages import NAMES
from qasr.domain.transcript import Hypothesis
from qasr.pipeline.words import split_words

Script: TypeAlias = Literal["arabic", "cyrillic", "devanagari", "greek", "han", "hangul", "kana", "latin", "thai"]

LEAST_PROBABILITY: Final = 0.5
"""Of the most likely language among those possible. Of two sentences in each language of the catalogue, all but two
are told right and those are left open; see ``tests/pipeline/test_text_language.py``."""
LEAST_OF_FEW: Final = 0.75
"""The same among at most ``FEW`` languages, which have less to share."""
FEW: Final = 5
LEAST_OF_ONE_WORD: Final = 0.8
"""The same for a single word: many belong to several languages."""
LEAST_HAN: Final = 4
"""Japanese without kana is shorter than this: names and titles. Chinese of this length is taken for Chinese."""

_SCRIPTS: Final[Mapping[Script, str]] = {
    "latin": "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02af\u1e00-\u1eff",
    "han": "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
    "kana": "\u3041-\u3096\u309d-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f",
    "hangul": "\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3",
    "cyrillic": "\u0400-\u04ff",
    "arabic": "\u0620-\u064a\u066e-\u06d3\u06fa-\u06ff\u0750-\u077f",
    "devanagari": "\u0904-\u0939\u0958-\u0961",
    "greek": "\u0370-\u03ff\u1f00-\u1fff",
    "thai": "\u0e01-\u0e30\u0e40-\u0e46",
}
_LETTER: Final = re.compile("|".join(f"(?P<{name}>[{letters}])" for name, letters in _SCRIPTS.items()))

_WRITTEN_IN: Final[Mapping[Script, frozenset[str]]] = {
    "han": frozenset({"zh", "yue", "ja"}),
    "kana": frozenset({"ja"}),
    "hangul": frozenset({"ko"}),
    "cyrillic": frozenset({"bg", "mk", "ru", "uk"}),
    "arabic": frozenset({"ar", "fa"}),
    "devanagari": frozenset({"hi"}),
    "greek": frozenset({"el"}),
    "thai": frozenset({"th"}),
}
"""All other languages are written in Latin letters."""
_OTHERS: Final = frozenset(code for codes in _WRITTEN_IN.values() for code in codes)

_OWN_LETTERS: Final[Mapping[str, str]] = {"uk": "іїєґ", "ru": "ыэё", "mk": "ѓќѕљњџј", "fa": "پچژگ"}
"""Letters that no other of the languages here has that are written in the same script."""

_LABELS: Final = {"fil": "tl"}
"""Where py3langid has another code."""


async def with_language(hypothesis: Hypothesis, asked: str | None, known: AbstractSet[str] | None) -> Hypothesis:
    """*hypothesis* with its language: the engine's word for it, else the client's, else what the text looks like.

    Args:
        hypothesis: as the engine gave it.
        asked: the language that the client named.
        known: codes that the engine hears; None: any.
    """
    if hypothesis.language is not None or not hypothesis.text.strip():
        return hypothesis
    if asked is not None:
        return replace(hypothesis, language=asked)
    return replace(hypothesis, language=await anyio.to_thread.run_sync(identify, hypothesis.text, known))


def identify(text: str, known: AbstractSet[str] | None = None) -> str | None:
    """The code of the language that *text* is in; None where it cannot be told.

    Args:
        text: as much as there is, with punctuation.
        known: codes that are possible; None: all that we have a name for.
    """
    script, words = _main_script(text)
    if script is None:
        return None
    possible = (_WRITTEN_IN[script] if script != "latin" else NAMES.keys() - _OTHERS) & (known or NAMES.keys())
    if "fil" in possible:
        possible -= {"tl"}  # two codes of one language
    if len(possible) <= 1:
        return next(iter(possible), None)
    if "ja" in possible and len(words) < LEAST_HAN:
        return None
    letters = set("".join(words).lower())
    own = [code for code in possible & _OWN_LETTERS.keys() if letters.intersection(_OWN_LETTERS[code])]
    if len(own) == 1:
        return own[0]
    return _most_likely(words, "" if script == "han" else " ", possible - {"ja"})


def _main_script(text: str) -> tuple[Script | None, Sequence[str]]:
    """The script of more than half of the words, and these words; a character of an unspaced script counts as one."""
    by_script: dict[Script, list[str]] = {}
    for word, _ in split_words(text):
        match = _LETTER.search(word)
        if match is not None:
            by_script.setdefault(match.lastgroup, []).append(word)  # type: ignore[arg-type]
    counts = Counter({script: len(words) for script, words in by_script.items()})
    if "kana" in counts:  # Japanese mixes the two, Chinese has no kana
        counts["kana"] += counts.pop("han", 0)
    if not counts:
        return None, ()
    (script, n_words), *_ = counts.most_common(1)
    return (script, by_script[script]) if 2 * n_words > counts.total() else (None, ())


def _most_likely(words: Sequence[str], blank: str, possible: AbstractSet[str]) -> str | None:
    """The most likely of *possible*; None if its share of their probability is too small to tell."""
    labels = {_LABELS.get(code, code): code for code in possible}
    ranks = _classifier().rank(blank.join(words))
    likely = {labels[label]: probability for label, probability in ranks if label in labels}
    least = LEAST_OF_ONE_WORD if len(words) == 1 else LEAST_OF_FEW if len(possible) <= FEW else LEAST_PROBABILITY
    best = max(likely, key=likely.__getitem__)
    return best if likely[best] > least * sum(likely.values()) else None


_loading = threading.Lock()
_loaded: list[Any] = []


def _classifier() -> Any:
    """py3langid's, loaded by who needs it first: 0.6 s and 125 MB."""
    with _loading:
        if not _loaded:
            from py3langid.langid import MODEL_FILE, LanguageIdentifier  # noqa: PLC0415 - only where it is needed

            _loaded.append(LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True))
        return _loaded[0]
