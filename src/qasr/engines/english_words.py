"""How English words are spoken: from what is written ("42", "O'Brien", "FBI") to dictionary words and ARPAbet phones.

Good enough for forced alignment, where the text is known and only its times are asked for; not for speech synthesis.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

Known: TypeAlias = Callable[[str], bool]
"""Whether the dictionary has a word, in lower case."""

LONGEST_WORD: Final = 40
"""Letters; the rest of a longer one is not spoken."""

_ONES: Final = (  # noqa: SIM905 - words, not quotation marks
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS: Final = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905
_SCALES: Final = ((10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))
_ORDINALS: Final = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_SIGNS: Final = {"%": "percent", "&": "and", "+": "plus", "=": "equals", "@": "at", "°": "degrees"}
_CURRENCIES: Final = {"$": "dollars", "£": "pounds", "€": "euros"}
_LETTERS: Final = str.maketrans(
    {"ß": "ss", "ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d", "ð": "th", "þ": "th", "’": "'", "‘": "'"}
)
_TOKEN: Final = re.compile(
    r"(?P<currency>[$£€])?(?P<number>\d+(?:,\d{3})*)(?:\.(?P<decimals>\d+))?(?P<suffix>(?:st|nd|rd|th|s)(?![a-z]))?"
    r"|(?P<sign>[%&+=@°])"
    r"|(?P<letters>'?[a-z]+(?:'[a-z]+)*)"
)


def spoken(word: str, known: Known) -> list[str] | None:
    """The dictionary words that *word* is spoken as; empty for bare punctuation, None for a foreign script.

    >>> spoken("42nd", lambda word: True)
    ['forty', 'second']
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", word.translate(_LETTERS)) if not unicodedata.combining(c))
    plain = plain.lower().translate(_LETTERS)
    if any(c.isalpha() and not c.isascii() for c in plain):
        return None
    is_capital = word.isupper()
    return [form for match in _TOKEN.finditer(plain) for form in _forms(match, known, is_capital=is_capital)]


def _forms(match: re.Match[str], known: Known, *, is_capital: bool) -> Iterator[str]:
    if sign := match["sign"]:
        yield _SIGNS[sign]
    elif number := match["number"]:
        yield from _number(number, match["suffix"] or "")
        if decimals := match["decimals"]:
            yield "point"
            yield from (_ONES[int(digit)] for digit in decimals[:LONGEST_WORD])
        if currency := match["currency"]:
            yield _CURRENCIES[currency]
    else:
        letters = match["letters"][:LONGEST_WORD]
        bare = letters.strip("'")
        if known(letters):
            yield letters
        elif known(bare):
            yield bare
        elif is_capital and len(bare) <= 5 and bare.isalpha():
            yield from (f"{letter}." for letter in bare)  # an abbreviation; the dictionary has letters with a dot
        else:
            yield bare


def _number(number: str, suffix: str) -> list[str]:
    digits = number.replace(",", "")
    if len(digits) > 9 or (digits[0] == "0" and len(digits) > 1):
        words = [_ONES[int(digit)] for digit in digits[:LONGEST_WORD]]
    elif len(number) == 4 and (1100 <= int(digits) < 2000 or 2010 <= int(digits) < 2100):
        words = _year(*divmod(int(digits), 100))
    else:
        words = list(_cardinal(int(digits)))
    last = words[-1]
    if suffix == "s":
        words[-1] = f"{last[:-1]}ies" if last.endswith("y") else f"{last}s"
    elif suffix:
        words[-1] = _ORDINALS.get(last) or (f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th")
    return words


def _year(century: int, year: int) -> list[str]:
    if year == 0:
        return [*_cardinal(century), "hundred"]
    return [*_cardinal(century), *(["oh"] if year < 10 else []), *_cardinal(year)]


def _cardinal(number: int) -> Iterator[str]:
    """*number* in words, without "and"; below a billion of billions."""
    for size, name in _SCALES:
        if number >= size:
            yield from _cardinal(number // size)
            yield name
            number %= size
            if not number:
                return
    if number < 20:
        yield _ONES[number]
    else:
        yield _TENS[number // 10]
        if number % 10:
            yield _ONES[number % 10]


_SOUNDS: Final = {
    # longest first; at each place the first that fits is taken. "$" is the end of the word, "^" its beginning
    "^kn": "N", "^wr": "R", "^ps": "S", "^wh": "W", "^x": "Z", "^y": "Y", "^mc": "M AH K",
    "tion": "SH AH N", "sion": "ZH AH N", "ough": "AO", "augh": "AO", "eigh": "EY", "igh": "AY", "tch": "CH",
    "sch": "SH", "dge": "JH", "que$": "K", "ing$": "IH NG", "ies$": "IY Z", "le$": "AH L", "es$": "IH Z", "ed$": "D",
    "e$": "", "y$": "IY", "a$": "AH", "o$": "OW", "i$": "IY",
    "ch": "CH", "ck": "K", "sh": "SH", "th": "TH", "ph": "F", "gh": "G", "ng": "NG", "qu": "K W", "zh": "ZH",
    "ce": "S EH", "ci": "S IH", "cy": "S IY", "ge": "JH EH", "gi": "JH IH", "gy": "JH IY",
    "ai": "EY", "ay": "EY", "au": "AO", "aw": "AO", "ar": "AA R", "ea": "IY", "ee": "IY", "ei": "IY", "er": "ER",
    "eu": "Y UW", "ew": "UW", "ey": "IY", "ie": "IY", "ir": "ER", "oa": "OW", "oi": "OY", "oo": "UW", "or": "AO R",
    "ou": "AW", "ow": "OW", "oy": "OY", "ue": "UW", "ui": "UW", "ur": "ER",
    "bb": "B", "cc": "K", "dd": "D", "ff": "F", "gg": "G", "kk": "K", "ll": "L", "mm": "M", "nn": "N", "pp": "P",
    "rr": "R", "ss": "S", "tt": "T", "vv": "V", "zz": "Z",
    "a": "AE", "b": "B", "c": "K", "d": "D", "e": "EH", "f": "F", "g": "G", "h": "HH", "i": "IH", "j": "JH", "k": "K",
    "l": "L", "m": "M", "n": "N", "o": "AA", "p": "P", "q": "K", "r": "R", "s": "S", "t": "T", "u": "AH", "v": "V",
    "w": "W", "x": "K S", "y": "IH", "z": "Z",
}  # fmt: skip
"""Letters to ARPAbet phones: the commonest reading of each group, nothing cleverer."""
_LONGEST_GROUP: Final = max(map(len, _SOUNDS))


def pronunciation(word: str) -> str:
    """ARPAbet phones of *word* by letter-to-sound rules, at least one.

    >>> pronunciation("qasr")
    'K AE S R'
    """
    rest = f"^{''.join(c for c in word if 'a' <= c <= 'z')}$"
    phones: list[str] = []
    while rest not in {"", "$"}:
        for length in range(min(_LONGEST_GROUP, len(rest)), 0, -1):
            if (sound := _SOUNDS.get(rest[:length])) is not None:
                phones.extend(sound.split())
                rest = rest[length:]
                break
        else:
            rest = rest[1:]  # the mark of the beginning
    return " ".join(phones) or "AH"
