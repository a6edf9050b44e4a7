"""What stands on the screen, and for how long."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qasr.domain.cues import COLUMNS_PER_S, LINE, LINES, LONGEST_MS, SHORTEST_MS, columns, cues
from qasr.domain.transcript import Sentence, Word

JFK = (
    "And so my fellow Americans, ask not what your country can do for you, ask what you can do for your country.",
    ("And so my fellow Americans,", "ask not what your country can do for you,"),
    ("ask what you can do for your country.",),
)
WEATHER = (
    "今天天气不错，我们一起出去走走，顺便看看2025年开幕的《清明上河图》展览。",
    ("今天天气不错，我们一起出去走走，", "顺便看看2025年开幕的《清明上河图》展览。"),
)


def said(text: str, length_ms: int = 4_000, begin_ms: int = 0, speaker: int | None = None) -> Sentence:
    return Sentence(text=text, begin_ms=begin_ms, end_ms=begin_ms + length_ms, speaker=speaker)


@pytest.mark.parametrize(("text", "expected"), [(JFK[0], JFK[1:]), (WEATHER[0], WEATHER[1:]), ("Yes.", (("Yes.",),))])
def test_cues_and_lines_break_where_clauses_part(text: str, expected: tuple[tuple[str, ...], ...]) -> None:
    """Not at the last place that fits."""
    assert expected == tuple(cue.lines for cue in cues([said(text)]))


def test_numbers_stay_with_their_units() -> None:
    """2025 and 年 are one to a reader, even where something has to be broken."""
    lines = [
        line
        for cue in cues([said("这是一个没有标点的很长的句子一直说到2025年才停下来然后接着说" * 2)])
        for line in cue.lines
    ]

    assert 2 == "".join(lines).count("2025年")
    assert 2 == sum(line.count("2025年") for line in lines)


def test_cues_have_the_times_of_their_words() -> None:
    """The second one begins when its first word does, after a pause that no estimate would know of."""
    text = (
        "One two three four five six seven eight nine ten, eleven twelve thirteen fourteen fifteen sixteen seventeen."
    )
    words = tuple(
        Word(text=word.rstrip(",."), begin_ms=begin, end_ms=begin + 90)
        for i, word in enumerate(text.split())
        for begin in [100 * i + (5_000 if i >= 10 else 0)]
    )
    first, second = cues([Sentence(text=text, begin_ms=0, end_ms=6_700, words=words)])

    assert second.lines[0].startswith("eleven")
    assert (0, 6_000) == (first.begin_ms, second.begin_ms)
    assert first.end_ms < 6_000


def test_a_short_cue_stays_until_it_was_read() -> None:
    """Into the silence behind it, but not into what comes next."""
    long, short = "A sentence that takes its time to be read.", "Yes."
    alone, between = cues([said(short, 200)]), cues([said(long, 300), said(short, 200, 400)])

    assert [(0, SHORTEST_MS)] == [(cue.begin_ms, cue.end_ms) for cue in alone]
    assert [(0, 400), (400, 400 + SHORTEST_MS)] == [(cue.begin_ms, cue.end_ms) for cue in between]
    (whole,) = cues([said(long, 300)])
    assert columns(long) * 1000 // COLUMNS_PER_S == whole.end_ms


def test_nothing_stays_for_ever() -> None:
    """A word in a minute of noise is gone after seven seconds."""
    (cue,) = cues([said("Well.", 60_000)])

    assert LONGEST_MS == cue.end_ms


def test_speakers_are_named_when_they_change() -> None:
    """Counted from 1; who goes on speaking is not named again."""
    found = cues(
        [
            said("Hello.", speaker=0),
            said("And more.", begin_ms=4_000, speaker=0),
            said("Hi.", begin_ms=8_000, speaker=1),
        ]
    )

    assert [("Speaker 1: Hello.",), ("And more.",), ("Speaker 2: Hi.",)] == [cue.lines for cue in found]


def test_cues_of_several_tracks_mix_by_time() -> None:
    """A long sentence of one does not stand before a short one of the other that began earlier."""
    found = cues([said(JFK[0], 10_500), said("Yes.", 500, 2_000)])

    assert ["And so", "Yes.", "ask wh"] == [cue.lines[0][:6] for cue in found]


SPOKEN = st.lists(
    st.sampled_from(
        [
            "one",
            "two,",
            "because",
            "extraordinarily",
            "the",
            "end.",
            "今天",
            "很好，",
            "《书》",
            "2025",
            "x" * 60,
            "ไทย",
            "-",
        ]
    ),
    min_size=1,
    max_size=60,
)


@given(SPOKEN, st.sampled_from(["", " "]), st.integers(0, 60_000), st.booleans())
def test_limits(parts: list[str], blank: str, length_ms: int, has_speaker: bool) -> None:
    """Nothing is lost or added, lines and their number are limited, times go forward and end in time."""
    text = blank.join(parts)
    sentence = said(text, length_ms, 1_000, 3 if has_speaker else None)
    found = cues([sentence])

    shown = "".join(line for cue in found for line in cue.lines)
    assert "".join((("Speaker 4: " if has_speaker else "") + text).split()) == "".join(shown.split())
    for cue in found:
        assert 1 <= len(cue.lines) <= LINES
        assert all(0 < columns(line) <= LINE for line in cue.lines)
        assert cue.begin_ms <= cue.end_ms <= cue.begin_ms + LONGEST_MS
    assert all(before.end_ms <= after.begin_ms for before, after in pairwise(found))


@given(st.text(max_size=300))
def test_any_text_is_shown(text: str) -> None:
    """All of it, whatever it is written in."""
    shown = "".join(line for cue in cues([said(text)]) for line in cue.lines)

    assert "".join(text.split()) == "".join(shown.split())
