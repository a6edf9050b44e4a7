"""Numbers that were spoken, as they are written; the table is ``tests/data/itn.tsv``."""

import csv
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qasr.pipeline.itn import Edit, Rewriting, normalize

TABLE: Final = Path(__file__).parents[1] / "data" / "itn.tsv"


def table() -> list[dict[str, str]]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


CASES: Final = table()

CHINESE: Final = (
    *"零〇一二两三四五六七八九幺十百千万亿點点分半年月日号元块毛个第负到比几多米克里的，。",
    *("百分之", "分之", "下午", "三点", "点钟", "零下", "公里", "十分", "二零", "2", "3.5", "GB", "twenty"),
)
ENGLISH: Final = (
    "a one two three five nine ten twelve fifteen nineteen twenty thirty ninety hundred thousand million and point oh "
    "zero first second fifth twentieth twenty-one of the march may june at p m a.m. past half quarter to percent "
    "dollars cents minus double degrees or in nineties o'clock 3 2024 15, $5 。 三点"
)


def soup(words: tuple[str, ...] | list[str], blank: str) -> st.SearchStrategy[str]:
    """Nonsense made of what the rules look for."""
    return st.lists(st.sampled_from(words), min_size=1, max_size=10).map(blank.join)


ANY: Final = soup(CHINESE, "") | soup(ENGLISH.split(), " ") | st.text(min_size=1)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["spoken"])
def test_table(case: dict[str, str]) -> None:
    """Each is written as the table says, whether its language is known or only its script."""
    language = None if case["language"] == "mixed" else case["language"]

    assert case["written"] == normalize(case["spoken"], language).text
    assert case["written"] == normalize(case["spoken"]).text


def test_table_is_large_enough() -> None:
    """Both languages, no case twice."""
    count = {language: sum(case["language"] == language for case in CASES) for language in ("zh", "en", "mixed")}

    assert count["zh"] >= 100
    assert count["en"] >= 100
    assert len(CASES) == len({case["spoken"] for case in CASES})


@given(ANY)
def test_what_is_written_stays(text: str) -> None:
    """Normalizing again changes nothing; nothing ever becomes empty."""
    written = normalize(text).text

    assert written == normalize(written).text
    assert written
    assert all(edit.text for edit in normalize(text).edits)


@given(ANY)
def test_each_character_knows_where_it_came_from(text: str) -> None:
    """Origins go forward, and what was not rewritten is found where it was."""
    rewriting = normalize(text)
    origins = [rewriting.origin(place, place + 1) for place in range(len(rewriting.text))]

    assert sorted(origins) == origins
    for place, (begin, end) in enumerate(origins):
        rewritten = any(edit.begin <= begin < edit.end for edit in rewriting.edits)
        assert rewritten or text[begin:end] == rewriting.text[place]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("二人で三十分待った", "ja"),
        ("二人で三十分待った", None),
        ("세 시 三十分", None),
        ("twenty pour cent", "fr"),
        ("二十", "ko"),
    ],
)
def test_other_languages_stay(text: str, language: str | None) -> None:
    """The documents offer it for Chinese and English only."""
    assert text == normalize(text, language).text


@pytest.mark.parametrize("language", ["zh", "yue", "wuu", "nan"])
def test_dialects_of_chinese(language: str) -> None:
    """They share the numerals."""
    assert "2025年" == normalize("二零二五年", language).text


@pytest.mark.parametrize(
    "part",
    ["一万", "一", "三点", "百分之", "twenty ", "one hundred and ", "one ", "a thousand ", "point one ", "double "],
)
def test_long_nonsense_is_read(part: str) -> None:
    """An engine that repeats itself for ever breaks nothing: 一万一万… once went deeper with each numeral."""
    assert normalize(part * 5000).text


def test_edits_are_checked() -> None:
    """Edits of nothing and overlapping ones are mistakes of a rule."""
    with pytest.raises(ValueError, match="no edit"):
        Edit(1, 1, "x")
    with pytest.raises(ValueError, match="overlap"):
        Rewriting("abc", [Edit(0, 2, "x"), Edit(1, 3, "y")])
