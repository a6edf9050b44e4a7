"""English numbers in words: what they say, and where they end. How they are written is the business of ``english.py``.

The text is read as tokens; a *joint* stands between two that only a blank or a hyphen parts. Numbers do not reach over
anything else.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from qasr.pipeline.rewriting import Edit


def _counting(words: str, values: Iterable[int]) -> dict[str, int]:
    return dict(zip(words.split(), values, strict=True))


UNITS: Final = _counting("zero one two three four five six seven eight nine", range(10))
TEENS: Final = _counting(
    "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen", range(10, 20)
)
TENS: Final = _counting("twenty thirty forty fifty sixty seventy eighty ninety", range(20, 100, 10))
ORDINAL_UNITS: Final = _counting("first second third fourth fifth sixth seventh eighth ninth", range(1, 10))
ORDINAL_TEENS: Final = _counting(
    "tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth", range(10, 20)
)
ORDINAL_TENS: Final = {tens.replace("y", "ieth"): value for tens, value in TENS.items()}
SCALES: Final = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
ORDINAL_SCALES: Final = {"thousandth": 10**3, "millionth": 10**6}
DECADES: Final = {tens.replace("y", "ies"): value for tens, value in TENS.items()}
CENTURIES: Final = {word: value for word, value in TEENS.items() if value >= 11} | {"twenty": 20}
NAUGHTS: Final = frozenset({"oh", "o"})
REPEATED: Final = {"double": 2, "triple": 3}
NUMERALS: Final = frozenset(
    [*UNITS, *TEENS, *TENS, *ORDINAL_TEENS, *ORDINAL_TENS, *SCALES, *DECADES, "hundred", "hundredth"]
)
"""What a number may not be followed by at once."""
_FINAL: Final = NUMERALS - SCALES.keys()
_GOING_ON: Final = NUMERALS | NAUGHTS
_STRETCHING: Final = NUMERALS | ORDINAL_UNITS.keys() | NAUGHTS | REPEATED.keys() | {"point"}

_WORD: Final = re.compile(r"[A-Za-z]+(?:['’][A-Za-z]+)*")
_JOINT: Final = re.compile(r"[ \t]+|-")


@dataclass(frozen=True, slots=True)
class Number:
    """A number in words: its value and the first token behind it."""

    value: int
    end: int
    is_ordinal: bool = False


@dataclass(slots=True)
class Tokens:
    """The words of a text."""

    text: str
    spans: list[tuple[int, int]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    joints: list[str] = field(default_factory=list)
    """What stands before each token if it is a joint, else nothing."""

    def __post_init__(self) -> None:
        end = 0
        for match in _WORD.finditer(self.text):
            gap = self.text[end : match.start()]
            self.spans.append(match.span())
            self.words.append(match[0].lower())
            self.joints.append(gap if self.words[1:] and _JOINT.fullmatch(gap) else "")
            end = match.end()

    def __getitem__(self, place: int) -> str:
        """The word at *place* in small letters; empty beyond the ends."""
        return self.words[place] if 0 <= place < len(self.words) else ""

    def next(self, place: int) -> str:
        """The word at *place* if it is joined to the one before, else empty."""
        return self[place] if 0 < place < len(self.words) and self.joints[place] else ""

    def before(self, place: int) -> str:
        """The word before *place* that is joined to it, else empty."""
        return self[place - 1] if self.next(place) else ""

    def over(self, begin: int, end: int, text: str) -> Edit:
        """The tokens from *begin* up to *end* are written as *text*."""
        return Edit(self.spans[begin][0], self.spans[end - 1][1], text)

    def behind(self, end: int) -> int:
        """Where the text behind the token before *end* begins."""
        return self.spans[end - 1][1]


def below_hundred(tokens: Tokens, place: int, *, joined: bool = False) -> Number | None:
    """A number below 100 from *place* on; *joined*: it goes on with the token before."""
    word = tokens.next(place) if joined else tokens[place]
    for values, is_ordinal in ((UNITS, False), (TEENS, False), (ORDINAL_UNITS, True), (ORDINAL_TEENS, True)):
        if word in values:
            return Number(values[word], place + 1, is_ordinal)
    if word in ORDINAL_TENS:
        return Number(ORDINAL_TENS[word], place + 1, is_ordinal=True)
    if word in TENS:
        unit = tokens.next(place + 1)
        if UNITS.get(unit):
            return Number(TENS[word] + UNITS[unit], place + 2)
        if unit in ORDINAL_UNITS:
            return Number(TENS[word] + ORDINAL_UNITS[unit], place + 2, is_ordinal=True)
        return Number(TENS[word], place + 1)
    return None


def below_thousand(tokens: Tokens, place: int, *, joined: bool = False) -> Number | None:
    """Also *fifteen hundred*."""
    word = tokens.next(place) if joined else tokens[place]
    if word == "a" and tokens.next(place + 1) == "hundred":
        head: Number | None = Number(1, place + 1)
    else:
        head = below_hundred(tokens, place, joined=joined)
    if (
        head is None
        or head.is_ordinal
        or not 1 <= head.value < 20
        or tokens.next(head.end) not in ("hundred", "hundredth")
    ):
        return head
    value, end = head.value * 100, head.end + 1
    if tokens[head.end] == "hundredth":
        return Number(value, end, is_ordinal=True)
    return _with_rest(tokens, value, end, below=100)


def _with_rest(tokens: Tokens, value: int, end: int, *, below: int) -> Number:
    """*value* and what is added to it behind *end*, with or without an *and*."""
    with_and = tokens.next(end) == "and"
    rest = cardinal(tokens, end + with_and, joined=True, below=below)
    if rest is None or not 0 < rest.value < (100 if with_and else below):
        return Number(value, end)
    if with_and and tokens.next(rest.end) == "hundred":
        return Number(value, end)  # one hundred and two hundred
    return Number(value + rest.value, rest.end, rest.is_ordinal)


def cardinal(tokens: Tokens, place: int, *, joined: bool = False, below: int = 10**15) -> Number | None:
    """The longest number from *place* on; it may end as an ordinal."""
    if below <= 100:
        return below_hundred(tokens, place, joined=joined)
    word = tokens.next(place) if joined else tokens[place]
    is_one = word == "a" and tokens.next(place + 1) in SCALES
    head = Number(1, place + 1) if is_one else below_thousand(tokens, place, joined=joined)
    if head is None or head.is_ordinal or head.value == 0:
        return head
    scale = SCALES.get(tokens.next(head.end), 0)
    if scale and scale < below:
        return _with_rest(tokens, head.value * scale, head.end + 1, below=scale)
    if (scale := ORDINAL_SCALES.get(tokens.next(head.end), 0)) and scale < below:
        return Number(head.value * scale, head.end + 1, is_ordinal=True)
    return head


def fraction(tokens: Tokens, place: int) -> tuple[str, int] | None:
    """What stands behind a decimal point: digits one by one, or a number below 100."""
    read, end = "", place
    while (word := tokens.next(end)) in UNITS or word in NAUGHTS:
        read += str(UNITS.get(word, 0))
        end += 1
    if not read and (number := below_hundred(tokens, place, joined=True)) and not number.is_ordinal:
        read, end = str(number.value), number.end
    return (read, end) if read and tokens.next(end) not in _FINAL else None


def year_number(tokens: Tokens, place: int, *, joined: bool = False) -> Number | None:
    """*nineteen ninety nine*, *nineteen oh five*, *twenty twenty four*: 1100 to 2099."""
    word = tokens.next(place) if joined else tokens[place]
    if (century := CENTURIES.get(word)) is None:
        return None
    if tokens.next(place + 1) in NAUGHTS and UNITS.get(tokens.next(place + 2)):
        return Number(century * 100 + UNITS[tokens[place + 2]], place + 3)
    rest = below_hundred(tokens, place + 1, joined=True)
    if rest is None or rest.is_ordinal or rest.value < 10:
        return None
    return Number(century * 100 + rest.value, rest.end)


def is_open(tokens: Tokens, end: int) -> bool:
    """Whether a number goes on in a way that was not understood."""
    word = tokens.next(end)
    goes_on = word == "point" or word in NAUGHTS or word in REPEATED
    return word in NUMERALS or (goes_on and tokens.next(end + 1) in _GOING_ON)


def written(value: int) -> str:
    """*value* in digits, with commas from 10,000 on."""
    return f"{value:,}" if value >= 10_000 else str(value)


def suffix(value: int) -> str:
    """What makes an ordinal of *value*."""
    return "th" if value % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")


def end_of_stretch(tokens: Tokens, end: int) -> int:
    """Where a stretch of numbers ends that is left as it was said."""
    while tokens.next(end) in _STRETCHING:
        end += 1
    return end
