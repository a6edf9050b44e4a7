"""Inverse text normalization: numbers that were spoken, as they are written. Text in, text out; nothing is loaded.

::

    text ─┬─ chinese.edits   二零二五年三月十五日下午三点半 → 2025年3月15日下午3:30
          └─ english.edits   twenty five percent         → 25%
                 └──▶ Rewriting: the new text, and where each of its characters came from

Each grammar looks at its own script, so a sentence of both is written right in both. Both are careful: what can be read
in more than one way, idioms, and small numbers that count nothing in particular stay words. A text that was normalized
is not changed again, and none becomes empty. What is written how: docs/text.md; why there is no library in here:
docs/decisions/0015.
"""

import re
from typing import Final

from qasr.pipeline.itn import chinese, english
from qasr.pipeline.rewriting import Edit, Rewriting

LANGUAGES: Final = frozenset({"zh", "yue", "wuu", "nan", "en"})
"""Codes of the languages whose numbers are normalized: Chinese with its dialects, and English."""
_OTHERS: Final = re.compile("[\u3040-\u30ff\uac00-\ud7af]")
"""Kana and hangul: Chinese numerals among them are not Chinese."""


def normalize(text: str, language: str | None = None) -> Rewriting:
    """*text* with its numbers in digits, if it is in one of ``LANGUAGES``; else as it is.

    A *language* of None is for text of which only the script is known.
    """
    if (language is not None and language not in LANGUAGES) or (language is None and _OTHERS.search(text)):
        return Rewriting(text, ())
    return Rewriting(text, [*chinese.edits(text), *english.edits(text)])


__all__ = ["LANGUAGES", "Edit", "Rewriting", "normalize"]
