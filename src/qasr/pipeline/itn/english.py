"""English numbers in digits.

At each word the readings are tried in order (times, dates, digits one by one, years, numbers with what they count), and
the first that fits decides. A number that is followed at once by another one which it does not combine with can be read
in more than one way; the whole stretch stays as it was said.

Numbers below ten stay words (*one of them*, *two thirds*) unless a unit, a sign or a date makes figures of them.
"""

import re
from collections.abc import Iterator
from typing import Final, TypeAlias

from qasr.pipeline.itn.english_numerals import (
    CENTURIES,
    DECADES,
    NAUGHTS,
    NUMERALS,
    ORDINAL_UNITS,
    REPEATED,
    SCALES,
    TEENS,
    UNITS,
    Number,
    Tokens,
    below_hundred,
    below_thousand,
    cardinal,
    end_of_stretch,
    fraction,
    is_open,
    suffix,
    written,
    year_number,
)
from qasr.pipeline.rewriting import Edit


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_HOURS: Final = {word: value for word, value in (UNITS | TEENS).items() if 1 <= value <= 12}


_PARTS_OF_HOUR: Final = {"half": 30, "quarter": 15}
_MONTHS: Final = _words("january february march april may june july august september october november december")
_VERBS: Final = frozenset({"march", "may"})
_BEFORE_MONTHS: Final = _words("on of since by until till in from before after this last next to through")
_BEFORE_TIMES: Final = _words("at by until till before after around from between")
_BETWEEN_TIMES: Final = frozenset({"to", "and", "or"})
_BEFORE_YEARS: Final = _words("in since of by until till from before after around year circa")

_CURRENCIES: Final = {"dollar": "$", "dollars": "$", "euro": "€", "euros": "€", "yen": "¥"}
_COINS: Final = frozenset({"cent", "cents"})
_MEASURES: Final = _words(
    "percent pounds kilogram kilograms kilo kilos gram grams milligrams ounces tons tonnes kilometer kilometers "
    "kilometre kilometres meter meters metre metres centimeter centimeters centimetres millimeter millimeters "
    "millimetres mile miles inch inches feet foot yards liter liters litre litres milliliters millilitres degree "
    "degrees hertz kilohertz megahertz gigahertz kilobytes megabytes gigabytes terabytes watts kilowatts megawatts "
    "volts amps yuan rmb renminbi cent cents rupees hectares acres"
)
"""What is written behind figures, also behind small ones."""

_HALF_DAY: Final = re.compile(r"\s+([ap])(\.\s?m\b\.?|\s?m\b)", re.IGNORECASE)
_PART_OF_DAY: Final = re.compile(r"\s+(?:in the (?:morning|afternoon|evening)|at night|tonight|sharp)\b", re.IGNORECASE)
_LETTERS: Final = re.compile("[A-Za-z]+")
_PHONE: Final = re.compile(r"([2-9]\d\d)([2-9]\d\d)(\d{4})")

Reading: TypeAlias = tuple[list[Edit], int]
"""What is written otherwise, and the first token that was not read."""


def edits(text: str) -> Iterator[Edit]:
    """What of *text* is written in digits, in order."""
    tokens = Tokens(text)
    place, times_end = 0, -1
    while place < len(tokens.words):
        reading = _time(tokens, place, is_chained=times_end == place - 1 and tokens[place - 1] in _BETWEEN_TIMES)
        if reading is not None:
            times_end = reading[1]
        else:
            reading = _otherwise(tokens, place)
        if reading is None:
            place += 1
        else:
            yield from reading[0]
            place = max(reading[1], place + 1)


def _time(tokens: Tokens, place: int, *, is_chained: bool) -> Reading | None:
    return _past_the_hour(tokens, place) or _clock(tokens, place, is_chained=is_chained)


def _otherwise(tokens: Tokens, place: int) -> Reading | None:
    for read in (_day_of_month, _date, _one_by_one, _year, _counted):
        if (reading := read(tokens, place)) is not None:
            return reading
    return None


# ---- times and dates


def _clock(tokens: Tokens, place: int, *, is_chained: bool) -> Reading | None:
    """*at three thirty*, *ten p m*, *three o'clock*; *is_chained*: behind another time and a *to*."""
    if (hour := _HOURS.get(tokens[place])) is None:
        return None
    minute, end = _minute(tokens, place + 1)
    if is_open(tokens, end) or tokens.next(end) in _MEASURES or tokens.next(end) in _CURRENCIES:
        return None
    text = f"{hour}:{minute:02}" if minute is not None else str(hour)
    found = [tokens.over(place, end, text)]
    if (half := _HALF_DAY.match(tokens.text, tokens.behind(end))) is not None:
        return [*found, *_half_day(half)], end + len(_LETTERS.findall(half[0]))
    if tokens.next(end) in ("o'clock", "o’clock"):
        return found, end + 1
    behind_it = _PART_OF_DAY.match(tokens.text, tokens.behind(end))
    is_time = behind_it or is_chained or tokens.before(place) in _BEFORE_TIMES
    return (found, end) if minute is not None and is_time and (hour, minute) != (9, 11) else None


def _minute(tokens: Tokens, place: int) -> tuple[int | None, int]:
    if tokens.next(place) in NAUGHTS and UNITS.get(tokens.next(place + 1)):
        return UNITS[tokens[place + 1]], place + 2
    number = below_hundred(tokens, place, joined=True)
    if number is None or number.is_ordinal or not 10 <= number.value < 60:
        return None, place
    return number.value, number.end


def _half_day(match: re.Match[str]) -> list[Edit]:
    """``p m`` as ``p.m.``; what has points or no blank is fine as it is."""
    if match[2].strip(" \t").lower() != "m" or not match[2][0].isspace():
        return []
    is_last = match.string[match.end() : match.end() + 1] == "."
    return [Edit(match.start(1), match.end(), f"{match[1]}.m" if is_last else f"{match[1]}.m.")]


def _past_the_hour(tokens: Tokens, place: int) -> Reading | None:
    """*half past three*, *a quarter to one*, *twenty past six*."""
    minute, end = _PARTS_OF_HOUR.get(tokens[place], 0), place + 1
    if not minute and (number := below_hundred(tokens, place)) and number.value in (5, 10, 20, 25):
        minute, end = number.value, number.end
    side, hour = tokens.next(end), _HOURS.get(tokens.next(end + 1))
    if hour is None or is_open(tokens, end + 2):
        return None
    begin = place - (tokens[place] == "quarter" and tokens.before(place) == "a")
    if minute and (side == "past" or (side == "after" and minute in _PARTS_OF_HOUR.values())):
        return [tokens.over(begin, end + 2, f"{hour}:{minute:02}")], end + 2
    if side == "to" and tokens[place] == "quarter":
        return [tokens.over(begin, end + 2, f"{(hour - 2) % 12 + 1}:45")], end + 2
    return None


def _day_of_month(tokens: Tokens, place: int) -> Reading | None:
    """*the fifth of May*"""
    day = below_hundred(tokens, place)
    if day is None or not day.is_ordinal or day.value > 31:
        return None
    if tokens.next(day.end) != "of" or tokens.next(day.end + 1) not in _MONTHS:
        return None
    return [tokens.over(place, day.end, f"{day.value}{suffix(day.value)}")], day.end


def _date(tokens: Tokens, place: int) -> Reading | None:
    """A day or year behind its month."""
    the = tokens.before(place) == "the"
    month = place - 1 - the
    if tokens[month] not in _MONTHS or not tokens.next(place) or (the and not tokens.next(place - 1)):
        return None
    if (year := year_number(tokens, place)) is not None and not is_open(tokens, year.end):
        return [tokens.over(place, year.end, str(year.value))], year.end
    return _day(tokens, place, month, the="th" if the else "")


def _day(tokens: Tokens, place: int, month: int, *, the: str) -> Reading | None:
    day = below_hundred(tokens, place)
    if day is None or not 1 <= day.value <= 31 or tokens.next(day.end) in ("hundred", *SCALES):
        return None
    year = year_number(tokens, day.end, joined=True) or cardinal(tokens, day.end, joined=True)
    if year is not None and (year.is_ordinal or not 1000 <= year.value < 3000 or is_open(tokens, year.end)):
        return [], end_of_stretch(tokens, year.end)
    if year is None and not _is_date(tokens, month, day):
        return None
    text = f"{day.value}{suffix(day.value)}" if the else str(day.value)
    if year is None:
        return [tokens.over(place, day.end, text)], day.end
    return [tokens.over(place, day.end, f"{text},"), tokens.over(day.end, year.end, str(year.value))], year.end


def _is_date(tokens: Tokens, month: int, day: Number) -> bool:
    """*May first*, but not *may first see* nor *in May five people*."""
    if not day.is_ordinal and (day.value < 10 or tokens.next(day.end)):
        return False
    is_name = tokens[month] not in _VERBS or tokens.text[tokens.spans[month][0]].isupper()
    return is_name or tokens.before(month) in _BEFORE_MONTHS


def _year(tokens: Tokens, place: int) -> Reading | None:
    century, decade = CENTURIES.get(tokens[place]), DECADES.get(tokens.next(place + 1))
    if century is not None and decade is not None and not is_open(tokens, place + 2):
        return [tokens.over(place, place + 2, f"{century * 100 + decade}s")], place + 2
    year = year_number(tokens, place)
    if year is None or is_open(tokens, year.end):
        return None
    is_year = year.value >= 1600 or tokens.before(place) in _BEFORE_YEARS
    return ([tokens.over(place, year.end, str(year.value))], year.end) if is_year else None


# ---- numbers


def _one_by_one(tokens: Tokens, place: int) -> Reading | None:
    """Three digits or more: telephones, codes, rooms. *One two three* is counting."""
    read, end, n_words = "", place, 0
    while True:
        word = tokens.next(end) if end > place else tokens[end]
        repeat = REPEATED.get(word, 1)
        digit = tokens.next(end + 1) if repeat > 1 else word
        if digit not in UNITS and digit not in NAUGHTS:
            break
        read += str(UNITS.get(digit, 0)) * repeat
        end += 1 + (repeat > 1)
        n_words += digit in UNITS
    if len(read) < 3 or n_words < 2:
        return None
    if is_open(tokens, end):
        return [], end_of_stretch(tokens, end)
    if len(read) < 7 and read in "123456789":
        return [], end
    if tokens.before(place) in NUMERALS:
        return None
    phone = _PHONE.fullmatch(read)
    return [tokens.over(place, end, "-".join(phone.groups()) if phone else read)], end


def _counted(tokens: Tokens, place: int) -> Reading | None:
    """A number, its decimals, its sign, and what it counts."""
    number = cardinal(tokens, place)
    if number is None:
        return None
    if number.is_ordinal:
        return _ordinal(tokens, place, number)
    end, text, is_round = number.end, written(number.value), False
    if tokens[end - 1] in ("million", "billion", "trillion") and (short := _short_scale(tokens, place, end)):
        text, is_round = short, True
    decimals = fraction(tokens, end + 1) if tokens.next(end) == "point" else None
    if decimals is not None and not is_round:
        text, end = f"{number.value}.{decimals[0]}", decimals[1]
        if tokens.next(end) in SCALES:
            text, end, is_round = f"{text} {tokens[end]}", end + 1, True
    if is_open(tokens, end) or (end < len(tokens.words) and tokens.joints[end] == "-"):
        return [], end_of_stretch(tokens, end)
    if tokens[place] == "a" and end - place == 2:  # a hundred
        return [], end
    if (money := _money(tokens, place, end, text)) is not None:
        return money
    return _quantity(tokens, place, end, text, is_small=number.value < 10 and decimals is None and not is_round)


def _quantity(tokens: Tokens, place: int, end: int, text: str, *, is_small: bool) -> Reading | None:
    counted = tokens.next(end)
    begin = place
    sign = tokens.before(place) == "minus" and tokens.before(place - 1) not in NUMERALS
    if sign and (not is_small or counted in _MEASURES):
        text, begin = f"-{text}", place - 1
    if counted == "percent" or (counted == "per" and tokens.next(end + 1) == "cent"):
        if tokens.before(begin) == "point":
            return [], end
        end += 1 if counted == "percent" else 2
        return [tokens.over(begin, end, f"{text}%")], end
    if is_small and counted not in _MEASURES:
        return [], end
    if _is_shared(tokens, place, end):
        return [], end
    return [tokens.over(begin, end, text)], end


def _is_shared(tokens: Tokens, place: int, end: int) -> bool:
    """*two or three hundred*: the hundred belongs to both."""
    conjunction = tokens.before(place) in ("or", "to") and tokens.before(place - 1) in UNITS
    return conjunction and tokens[place] in UNITS and end - place == 2


def _ordinal(tokens: Tokens, place: int, number: Number) -> Reading | None:
    if number.value < 10 or is_open(tokens, number.end) or tokens.next(number.end) in ORDINAL_UNITS:
        return [], end_of_stretch(tokens, number.end)
    return [tokens.over(place, number.end, f"{number.value}{suffix(number.value)}")], number.end


def _short_scale(tokens: Tokens, place: int, end: int) -> str | None:
    """``3 million``: of round millions the word stays."""
    head = below_thousand(tokens, place)
    if head is None or head.end != end - 1 or tokens[place] == "a":
        return None
    return f"{head.value} {tokens[end - 1]}"


def _money(tokens: Tokens, place: int, end: int, text: str) -> Reading | None:
    """Signs stand before the number; cents that follow belong to it."""
    sign = _CURRENCIES.get(tokens.next(end), "")
    if not sign:
        return None
    end += 1
    with_and = tokens.next(end) == "and"
    cents = below_hundred(tokens, end + with_and, joined=True)
    if cents is not None and not cents.is_ordinal and tokens.next(cents.end) in _COINS and text.isdecimal():
        text, end = f"{text}.{cents.value:02}", cents.end + 1
    return [tokens.over(place, end, f"{sign}{text}")], end
