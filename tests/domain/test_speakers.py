"""Voices become turns, and moments become somebody's."""

from typing import Final

from qasr.domain.speakers import Turn, Turns, Voice, named, turns_of
from qasr.domain.transcript import Sentence


def voice(begin_ms: int, end_ms: int) -> Voice:
    return Voice(begin_ms=begin_ms, end_ms=end_ms, embedding=b"", clear_ms=end_ms - begin_ms)


def turn(begin_ms: int, end_ms: int, speaker: int) -> Turn:
    return Turn(begin_ms=begin_ms, end_ms=end_ms, speaker=speaker)


TALK: Final = Turns([turn(0, 1000, 0), turn(900, 2000, 1), turn(5000, 6000, 0)])


def test_voices_of_one_speaker_that_touch_are_one_turn() -> None:
    """Windows end anywhere, turns where somebody stops."""
    voices = [voice(0, 500), voice(500, 900), voice(800, 1500), voice(2000, 2100)]

    assert [turn(0, 900, 0), turn(800, 1500, 1), turn(2000, 2100, 0)] == turns_of(voices, [0, 0, 1, 0])


def test_a_moment_is_whose_most_of_it_is() -> None:
    """Of several who speak equally long, it is who spoke before."""
    assert 0 == TALK.speaker(100, 200)
    assert 1 == TALK.speaker(800, 1800)
    assert 0 == TALK.speaker(920, 980)
    assert 1 == TALK.speaker(920, 980, before=1)
    assert 0 == TALK.speaker(920, 980, before=7)


def test_silence_is_whose_turn_is_nearest() -> None:
    """A word must be somebody's, also where the models heard nobody."""
    assert 1 == TALK.speaker(2100, 2200)
    assert 0 == TALK.speaker(4000, 4900)
    assert 0 == TALK.speaker(9000, 9100)
    assert Turns([]).speaker(0, 1) is None


def test_a_long_turn_is_found_however_many_short_ones_lie_in_it() -> None:
    """Looking only among the last few that began would miss it."""
    turns = [turn(0, 100_000, 0), *(turn(ms, ms + 10, 1) for ms in range(50, 90_000, 1000))]

    assert 0 == Turns(turns).speaker(89_500, 89_900)


def test_a_conversation_is_told_in_order_of_time_and_by_name() -> None:
    """Channels are named where there are several, speakers where they were told apart."""
    sentences = [
        Sentence(text=text, begin_ms=ms, end_ms=ms + 1, channel=channel, speaker=speaker)
        for text, ms, channel, speaker in (("a", 0, 0, 0), ("c", 9, 0, 1), ("b", 5, 1, 0))
    ]

    assert [("Channel 0, Speaker 1", "a"), ("Channel 1, Speaker 1", "b"), ("Channel 0, Speaker 2", "c")] == [
        (name, sentence.text) for name, sentence in named(sentences)
    ]
    assert ["", "Speaker 2"] == [name for name, _ in named([Sentence(text="x", begin_ms=0, end_ms=1), sentences[1]])]
