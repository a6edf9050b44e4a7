"""Fillers: sounds that people make while they think, and that say nothing. Chinese and English.

Some are nothing else (嗯, 呃, *um*, *uh*) and go wherever they stand. Others are words, too (*ah*, a last 啊); they go
only where they stand alone: at the beginning or behind a mark, and before one. What answers or asks stays: *uh-huh*,
*mm-hmm*, 嗯？. So do words that are fillers by their place in a sentence only (那个, *like*, *you know*), and
words said twice: leaving them out could change what was meant.
"""

import re
from typing import Final

from qasr.pipeline.filters.removal import MARKS, Span, without
from qasr.pipeline.itn import LANGUAGES
from qasr.pipeline.rewriting import Rewriting

_ALONE_ONLY: Final = "啊哦噢喔诶誒欸唉哎额額唔呣"
_HAN: Final = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")
_KANA: Final = re.compile("[\u3040-\u30ff]")
_LATIN: Final = r"[0-9A-Za-z_\u00c0-\u024f]"
_FILLER: Final = re.compile(
    rf"(?P<kept>(?<!{_LATIN})(?:u+h+[\s-]+(?:huh+|oh+)|m+h*m*[\s-]+h*m+)\b|嗯哼|呃逆)"
    rf"|(?P<mixed>[嗯呃{_ALONE_ONLY}]++)"
    rf"|(?<!{_LATIN}|['’-])(?:(?P<sure>u+h+m*|e+r+m+|h+m+)|(?P<english>um+|(?-i:[Ee]r))|(?P<alone>mm+|a+h+))"
    rf"(?!['’]?{_LATIN}|-\w)-?",
    re.IGNORECASE,
)
_NO_WORD: Final = re.compile("[嗯呃]++")


def without_fillers(text: str, language: str | None = None) -> Rewriting:
    """*text* without its fillers, if it is in one of the languages of numbers (``itn.LANGUAGES``); else as it is.

    A *language* of None is for text of which only the script is known.
    """
    if (language is not None and language not in LANGUAGES) or (language is None and _KANA.search(text)):
        return Rewriting(text, ())
    english = language is not None or _HAN.search(text) is not None
    return without(text, lambda left: _find(left, english=english))


def _find(text: str, *, english: bool) -> list[Span]:
    """Fillers in *text*. Where it may be in any language, *um* and *er* are none: both are words in German."""
    found: list[Span] = []
    capitals = text.isupper()  # all of it is written so; else capitals are the letters of a name, as in ER
    open_until = 0  # up to here, nothing but fillers stands behind the last mark
    for match in _FILLER.finditer(text):
        begin, end = match.span()
        begins = _begins(text, begin, open_until)
        alone = begins and _ends(text, end)
        if match["mixed"] and not alone:
            parts = [(begin + part.start(), begin + part.end()) for part in _NO_WORD.finditer(match["mixed"])]
            found += [part for part in parts if not _asks(text, part[1])]
        elif match["kept"] or _asks(text, end) or (match["english"] and not english) or (match["alone"] and not alone):
            continue
        elif match["mixed"] or capitals or not match[0].isupper():
            open_until = end if begins else open_until
            found.append((begin, end))
    return found


def _begins(text: str, place: int, open_until: int) -> bool:
    """Whether nothing but blanks and fillers stands between *place* and a mark or the beginning."""
    while place > open_until and text[place - 1].isspace():
        place -= 1
    return place == open_until or text[place - 1] in MARKS


def _ends(text: str, place: int) -> bool:
    rest = text[place : place + 2].lstrip()
    return not rest or rest[0] in MARKS or (text[place].isspace() and not rest[0].isascii())


def _asks(text: str, place: int) -> bool:
    return text[place : place + 1] in ("?", "？", "!", "！")
