"""Subtitles."""

from hypothesis import given
from hypothesis import strategies as st

from qasr.domain.cues import cues
from qasr.domain.subtitles import srt, vtt
from qasr.domain.transcript import Sentence

TWO = (
    Sentence(text="Hello & welcome.", begin_ms=120, end_ms=1_480),
    Sentence(text="Line\n\nbreak", begin_ms=3_600_000, end_ms=3_661_001),
)


def test_srt() -> None:
    """Numbered cues, comma before the milliseconds, no blank line inside a cue."""
    assert (
        "1\n00:00:00,120 --> 00:00:01,480\nHello & welcome.\n\n2\n01:00:00,000 --> 01:00:07,000\nLine break\n\n"
    ) == srt(TWO)


def test_vtt() -> None:
    """A header, a point before the milliseconds, markup escaped."""
    assert vtt(TWO).startswith("WEBVTT\n\n00:00:00.120 --> 00:00:01.480\nHello &amp; welcome.\n\n")


def test_nothing_said_is_no_cue() -> None:
    """An empty file in either form is still a file of that form."""
    assert ("", "WEBVTT\n\n") == (srt(()), vtt(()))


@given(st.text(), st.integers(0, 10**8), st.integers(0, 10**6))
def test_no_text_breaks_a_cue(text: str, begin_ms: int, length_ms: int) -> None:
    """Whatever was heard, a cue ends with the only blank line in it and holds one arrow."""
    sentence = Sentence(text=f"a{text}", begin_ms=begin_ms, end_ms=begin_ms + length_ms)
    body = vtt((sentence,)).removeprefix("WEBVTT\n\n")

    n_cues = len(cues((sentence,)))
    assert n_cues >= 1
    assert n_cues == body.count("\n\n")
    assert n_cues == body.count("-->")
