"""Chinese numbers in digits.

A *run* is a longest stretch of numerals. At each run the rules are tried in order, and the first that knows what it
reads decides: fixed words, percent and fractions, times, decimals, ratios, ranges, dates, money, units; and at last
the number by itself. Digits take the place of numerals and all else stays: ``三月十五日`` becomes ``3月15日``. Only
what has a sign of its own is written with it: ``35.6%``, ``2/3``, ``3:30``, ``-5``.

Numbers below ten are words of everyday speech (一个, 两天, 三思); they stay unless something that is written with
digits follows. What counts roughly (三五个, 十七八岁, 几十) stays too.
"""

import re
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from qasr.pipeline.rewriting import Edit

_DIGITS: Final = dict(zip("零〇一二三四五六七八九两兩幺", (0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 2, 2, 1), strict=True))
_TENS: Final = {"十": 10, "百": 100, "千": 1000}
_MYRIADS: Final = {"万": 10_000, "萬": 10_000, "亿": 100_000_000, "億": 100_000_000}
_NUMERALS: Final = "".join([*_DIGITS, *_TENS, *_MYRIADS])
_RUN: Final = f"[{_NUMERALS}]++"
_LONGEST: Final = 24
"""Characters of a number; nobody says more, and reading them takes a call each."""
_POINT: Final = "[点點]"
_SECTION: Final = re.compile(
    "(?:(?P<thousands>[一二三四五六七八九两兩])千)?(?:(?P<hundreds>[一二三四五六七八九两兩])百)?"
    "(?:[零〇]?(?P<tens>[一二三四五六七八九])?(?P<ten>十))?(?:(?P<gap>[零〇])?(?P<units>[一二三四五六七八九]))?"
)

_FIXED: Final = re.compile(
    "|".join(
        (
            "十分(?![之钟鐘])",  # very
            "十足|十全十美|十恶不赦|十万火急|十拿九稳|十面埋伏|十里洋场|十指连心|十字",
            "十年树木|十年寒窗|十年如一日|十年磨一剑|十年生死|十天半个月|十之八九|十有八九|十万八千里",
            "三十而立|四十不惑|五十知天命|六十耳顺|三十年河[东西]|三十六计|七十二变|七十二行|三百六十行",
            "五十步笑百步|八十一难|十八般|十八罗汉|十三陵|一千零一夜|万元户",
            "七七八八|二百五(?![十百千万0-9])|一二三(?![零〇一二三四五六七八九])|五五开|四五六七|九一八(?=事变)|一二[·.]?九(?=运动)",
            "(?<=[周週期拜])[一二三四五六](?=[一二三四五六七八九十两兩]+[点點])",
            "十一(?=长假|假期|黄金周|国庆|期间)|(?<=双)十[一二]|(?<=初)[一二三四五六七八九十]",
            "(?<=[正腊臘]月)[一二三四五六七八九十]+|(?<=[红紅])十字|五月天|三月不知|五月花",
            f"[一两兩三]{_POINT}一[线線滴]|一{_POINT}(?:一{_POINT}|半{_POINT})|[两兩三四五]{_POINT}一[是、，]",
        )
    )
)
"""Fixed words and idioms: what they hold is no number, or is never written as one."""

_HOUR_BEFORE: Final = re.compile(
    "(?:[上下]午|早[上晨]|[晚夜][上里间]|凌晨|清晨|中午|正午|傍晚|半夜|深夜|[今明昨后前]天|[今明昨当]晚|[今明]早|[日号號]|[点點][到至])$"
)
"""What an hour stands behind."""
_COUNTED: Final = (
    "个個名位人年月日号號天岁歲分秒小点點元块塊毛角米公厘毫斤克吨升度次条條件本张張台辆輛家所倍周届层層楼樓只隻份场場"
    "部页頁集种種篇章节節支枝瓶包箱袋户戶亩班席题題步"
)
"""What may follow a ten that is one; in other company it is mostly part of a word."""
_UNIT: Final = re.compile(
    "(?:"
    "平方(?:公里|米|厘米)?|立方(?:米|厘米)?|公里|[厘毫微纳]米|公[斤顷吨尺分]|[毫微]克|毫升|"
    "摄氏度?|华氏度?|个百分点|兆?赫兹?|兆瓦|"
    "[美欧日港澳韩加]元|英镑|美金|港币|人民币|[块毛]钱|元(?![里论素旦宵老次化件凶首帅气])|"
    "米(?![饭粉面老线勒])|(?<![两兩])(?:[号號](?![称召码])|月(?![亮饼光色台老球嫂]))|"
    r"\s?(?:[kKmMcC]?m|[kKmM]?g|[KMGT]B|[kMG]?Hz|[GK])(?![A-Za-z])"
    ")"
)
"""Units that are written behind digits, also behind those below ten."""
_COMPARED: Final = "大小多少高低强好快慢贵便重轻长短早晚差"

_Rule: TypeAlias = tuple[re.Pattern[str], Callable[[re.Match[str]], list[Edit] | None]]


def edits(text: str) -> Iterator[Edit]:
    """What of *text* is written in digits, in order."""
    place = 0
    while (run := _START.search(text, place)) is not None:
        found, place = ([], run.end()) if run["written"] else _read(text, run.start())
        yield from found


def _read(text: str, place: int) -> tuple[list[Edit], int]:
    """What the first rule that knows what it reads makes of it, and where it stopped."""
    for pattern, read in _RULES:
        if (match := pattern.match(text, place)) is not None and (found := read(match)) is not None:
            return found, match.end()
    return [], place + 1  # a 负 that is no sign


# ---- reading numerals


def cardinal(run: str) -> int | None:
    """The number that *run* counts; None: it is not well formed, or counts roughly (三五, 七八百)."""
    if len(run) > _LONGEST:
        return None
    for mark, size in (("亿", _MYRIADS["亿"]), ("万", _MYRIADS["万"])):
        simple = run.replace("億", "亿").replace("萬", "万")
        if mark in simple:
            head, _, tail = simple.rpartition(mark)
            many, rest = cardinal(head), _below(tail, size)
            return None if not many or rest is None else many * size + rest
    return _section(run)


def _below(tail: str, size: int) -> int | None:
    """What comes behind a 万 or 亿: less than that; a single digit counts the next smaller power (一万二)."""
    if not tail:
        return 0
    if len(tail) == 1 and tail in _DIGITS:
        return _DIGITS[tail] * size // 10 or None
    value = cardinal(tail.lstrip("零〇"))
    return value if value is not None and value < size else None


def _section(run: str) -> int | None:
    """A number below 10 000."""
    if run in _DIGITS:
        return _DIGITS[run]
    match = _SECTION.fullmatch(run)
    if match is None or run[:1] in ("", "零", "〇"):
        return None
    thousands, hundreds, units = (_DIGITS[match[group] or "零"] for group in ("thousands", "hundreds", "units"))
    tens = _DIGITS[match["tens"] or "一"] if match["ten"] else 0
    if units and not match["gap"] and not match["ten"]:  # 三千五, 两百五
        tens, hundreds, units = (units, hundreds, 0) if hundreds else (0, units, 0)
    return thousands * 1000 + hundreds * 100 + tens * 10 + units


def digits(run: str) -> str | None:
    """*run* as digits that were read one by one; None: it has others than digits."""
    if all(char in _DIGITS and char not in "两兩" for char in run):
        return "".join(str(_DIGITS[char]) for char in run)
    return None


def written(value: int, run: str) -> str:
    """*value*, which *run* says, as Chinese text writes it: round 万 and 亿 stay."""
    ten_thousand, hundred_million = "萬" if "萬" in run else "万", "億" if "億" in run else "亿"
    high, rest = divmod(value, _MYRIADS["亿"])
    myriads, ones = divmod(rest, _MYRIADS["万"])
    low = f"{myriads}{ten_thousand}" if myriads and not ones else str(rest)
    if high:
        return f"{written(high, run)}{hundred_million}{low if rest else ''}"
    return low


def _real(numeral: str) -> str | None:
    """A number that may have a decimal point, in digits."""
    whole, point, fraction = numeral.replace("點", "点").partition("点")
    value, behind = cardinal(whole), digits(fraction)
    if value is None or (point and not behind):
        return None
    return f"{value}.{behind}" if point else str(value)


# ---- rules: a list of edits; None: another rule may read it


def _keep(_match: re.Match[str]) -> list[Edit]:
    return []


def _over(match: re.Match[str], text: str) -> list[Edit]:
    return [Edit(match.start(), match.end(), text)]


def _at(match: re.Match[str], group: str, text: str) -> Edit:
    return Edit(match.start(group), match.end(group), text)


def _percent(match: re.Match[str]) -> list[Edit] | None:
    number = "100" if match["number"] == "百" else _real(match["number"])
    if number is None:
        return []
    sign = "-" if match["minus"] or match["inner"] else ""
    first = Edit(match.start(), match.end("number"), f"{sign}{number}{'%' if match['of'] == '百' else '‰'}")
    if match["last"] is None or (last := _real(match["last"])) is None:
        return [first]
    return [first, _at(match, "last", f"{last}{'%' if match['of'] == '百' else '‰'}")]


def _fraction(match: re.Match[str]) -> list[Edit] | None:
    whole = cardinal(match["whole"]) if match["whole"] else 0
    below, above = cardinal(match["below"]), cardinal(match["above"])
    if whole is None or below is None or above is None or below < 2:
        return []
    fraction = Edit(match.start("below"), match.end("above"), f"{above}/{below}")
    return [_at(match, "whole", str(whole)), fraction] if match["whole"] else [fraction]


def _clock(match: re.Match[str]) -> list[Edit] | None:
    hour = cardinal(match["hour"])
    if hour is None or hour > 24:
        return None
    said = match["minute"] or ""
    if match["quarters"]:
        minute: int | None = 15 * _DIGITS[match["quarters"]]
    elif match["half"]:
        minute = 30
    else:
        minute = cardinal(said.lstrip("零〇")) if said[0] in "零〇" else cardinal(said)
        if minute is None or minute > 59 or not _is_minute(match, said):
            return None
    text = f"{hour}:{minute:02}"
    if match["second"]:
        second = cardinal(match["second"].lstrip("零〇"))
        if second is None or second > 59:
            return None
        text += f":{second:02}"
    return _over(match, text)


def _is_minute(match: re.Match[str], said: str) -> bool:
    """Whether 三点 *said* is a time, where it might be a decimal."""
    if said in _DIGITS:  # 三点五分 may be a mark
        return bool(match["minutes"]) and _after_day(match)
    if said[0] in "零〇":
        return bool(match["minutes"]) or _after_day(match)
    return said != "十" or bool(match["minutes"])


def _after_day(match: re.Match[str]) -> bool:
    return _HOUR_BEFORE.search(match.string[max(0, match.start() - 3) : match.start()]) is not None


def _hour(match: re.Match[str]) -> list[Edit] | None:
    hour = cardinal(match["hour"])
    if hour is None or hour > 24:
        return None
    following = match.string[match.end() : match.end() + 1]
    is_time = (
        match["sharp"]
        or match["until"] is not None
        or (_after_day(match) and following not in tuple("也都儿兒点點不没沒半"))
    )
    return [_at(match, "hour", str(hour))] if hour and (hour >= 10 or is_time) else []


def _decimal(match: re.Match[str]) -> list[Edit] | None:
    number = _real(f"{match['whole']}点{match['fraction']}")
    if number is None:
        return []
    return _over(match, f"{'-' if match['minus'] else ''}{number}{match['myriads']}")


def _ratio(match: re.Match[str]) -> list[Edit] | None:
    left, right = cardinal(match["left"]), cardinal(match["right"])
    if left is None or right is None:
        return None
    return _over(match, f"{left}:{right}")


def _range(match: re.Match[str]) -> list[Edit] | None:
    """The first number of a range is written as its last one is."""
    first, last = cardinal(match["first"]), cardinal(match["last"])
    following = match.string[match.end() : match.end() + 1]
    if first is None or last is None or first > 10 or last < 10 or following in ("几", "幾"):
        return None
    if first < 10 and last > 10 and last % 10 == 0:  # 两到三百: 200 to 300?
        return []
    if last == 10 and not (following and following in _COUNTED):
        return None
    return [_at(match, "first", str(first)), _at(match, "last", str(last))]


def _short_year(match: re.Match[str]) -> list[Edit] | None:
    first, second = (_DIGITS[char] for char in match["year"])
    is_rough = second == first + 1 or (first, second) == (3, 5)
    return None if is_rough or 1 <= first < 5 else [_at(match, "year", f"{first}{second}")]


def _generation(match: re.Match[str]) -> list[Edit] | None:
    return [_at(match, "year", digits(match["year"]) or match["year"])]


def _coins(match: re.Match[str]) -> list[Edit] | None:
    """三块五, 十二块五毛"""
    large, small = cardinal(match["large"]), cardinal(match["small"])
    if large is None or small is None or small > 9:
        return None
    found = [_at(match, "large", written(large, match["large"])), _at(match, "small", str(small))]
    return [*found, _at(match, "least", str(_DIGITS[match["least"]]))] if match["least"] else found


def _height(match: re.Match[str]) -> list[Edit] | None:
    """一米七五, 两米三"""
    large, small = cardinal(match["large"]), digits(match["small"])
    if large is None or small is None:
        return None
    return [_at(match, "large", written(large, match["large"])), _at(match, "small", small)]


def _measured(match: re.Match[str]) -> list[Edit] | None:
    if _is_rough(match):
        return []
    value = cardinal(match["number"])
    return None if value is None else [_at(match, "number", written(value, match["number"]))]


def _negative(match: re.Match[str]) -> list[Edit] | None:
    value = cardinal(match["number"])
    following = match.string[match.end() : match.end() + 1]
    if value is None or (value < 10 and following not in tuple("度摄华楼樓层層元")):
        return []
    return _over(match, f"-{written(value, match['number'])}")


def _below_zero(match: re.Match[str]) -> list[Edit] | None:
    value = cardinal(match["number"])
    return None if value is None else [_at(match, "number", str(value))]


def _ordinal(match: re.Match[str]) -> list[Edit] | None:
    value = cardinal(match["number"])
    return (
        None
        if value is None or value < 10 or _is_rough(match)
        else [_at(match, "number", written(value, match["number"]))]
    )


def _number(match: re.Match[str]) -> list[Edit] | None:
    run = match["number"]
    if _is_rough(match):
        return []
    if (read := digits(run)) is not None:
        return _over(match, read) if len(run) >= 3 else []
    following = match.string[match.end() : match.end() + 1]
    if run[-1] in "两兩" and len(run) > 1:  # the weight
        run, following = run[:-1], run[-1]
    value = cardinal(run)
    if value is None and run[-1] == "千" and following and following in "克米瓦赫卡伏":  # 二十五千克
        run, following = run[:-1], run[-1]
        value = cardinal(run)
    if value is None or value < 10:
        return []
    if run == "十" and not (following and following in _COUNTED + "多余餘两兩"):
        return []
    if _is_short(run) and following and following in "个個斤张張本件条條次台位人只份":
        return []  # 五百一个: five hundred, each
    return [Edit(match.start(), match.start() + len(run), written(value, run))]


def _is_short(run: str) -> bool:
    return len(run) > 2 and run[-1] in _DIGITS and run[-2] in "百千万萬亿億"


def _is_rough(match: re.Match[str]) -> bool:
    before = match.string[max(0, match.start("number") - 1) : match.start("number")]
    after = match.string[match.end("number") : match.end("number") + 1]
    starts_bare = match["number"][0] in _TENS
    return after in ("几", "幾") or before in ("几", "幾") or (starts_bare and before in ("数", "數"))


_START: Final = re.compile(f"(?P<written>[0-9]{_RUN})|[负負]?{_RUN}")
"""A run; behind a digit it belongs to what is written already (3亿, 40两)."""
_MINUS: Final = "(?:(?<![胜勝欺抱肩担擔辜自正])(?P<minus>[负負]))?"
_RULES: Final[tuple[_Rule, ...]] = tuple(
    (re.compile(pattern), read)
    for pattern, read in (
        (_FIXED.pattern, _keep),
        (
            (
                f"{_MINUS}(?P<of>[百千])分之(?P<inner>[负負])?(?P<number>{_RUN}(?:{_POINT}{_RUN})?+)(?![几幾多来])"
                f"(?:[到至](?P<last>{_RUN}(?:{_POINT}{_RUN})?+)(?![{_COUNTED}之几幾多])(?!分之))?"
            ),
            _percent,
        ),
        (f"[负負]?[百千万萬]分之{_RUN}(?:{_POINT}{_RUN})?", _keep),
        (f"(?:(?P<whole>{_RUN})又)?(?P<below>{_RUN})分之(?P<above>{_RUN})(?![几幾多])", _fraction),
        (
            (
                f"(?P<hour>{_RUN}){_POINT}(?:(?P<half>半)|(?P<quarters>[一三])刻|"
                f"(?P<minute>{_RUN})(?![万萬亿億个個百千倍%])(?P<minutes>分(?!之|钟|鐘)(?:(?P<second>{_RUN})秒)?)?)"
            ),
            _clock,
        ),
        (f"(?P<hour>{_RUN}){_POINT}(?:(?P<sharp>钟|鐘|整)|(?!{_RUN}))(?P<until>(?=[到至]{_RUN}{_POINT}))?", _hour),
        (
            (
                f"{_MINUS}(?P<whole>{_RUN}){_POINT}(?P<fraction>[零〇一二三四五六七八九]++)(?P<myriads>[万萬亿億]*+)(?!{_RUN})"
            ),
            _decimal,
        ),
        (f"{_RUN}{_POINT}{_RUN}", _keep),
        (f"(?P<left>{_RUN})比(?P<right>{_RUN})(?![{_COMPARED}])", _ratio),
        (f"(?<![周期拜第初负負])(?P<first>{_RUN})[到至](?P<last>{_RUN})", _range),
        (r"(?P<year>[零〇五六七八九][零〇一二三四五六七八九])(?=年(?![级級]))", _short_year),
        (r"(?P<year>[六七八九零〇一][零〇五])(?=后(?![来面天边]))", _generation),
        (
            (
                f"(?P<large>{_RUN})[块塊元](?P<small>[一二三四五六七八九])"
                rf"(?:[毛角](?:(?P<least>[一二三四五六七八九])(?:分|(?!{_RUN})(?=[钱錢的]|\W|$)))?|(?=[钱錢的左]|\W|$))"
            ),
            _coins,
        ),
        (f"(?P<large>{_RUN})米(?P<small>[一二三四五六七八九]{{1,2}})(?!{_RUN}|[{_COUNTED}多几幾])", _height),
        (f"(?<!几)(?P<number>{_RUN})(?={_UNIT.pattern})", _measured),
        (f"(?<![胜勝欺抱肩担擔辜自正])[负負](?P<number>{_RUN})", _negative),
        (f"(?<=零下)(?P<number>{_RUN})(?=度|摄|华|$)", _below_zero),
        (f"(?<=月)(?P<number>{_RUN})(?=[日号號])", _below_zero),
        (f"(?<=第)(?P<number>{_RUN})", _ordinal),
        (f"(?P<number>{_RUN})", _number),
    )
)
