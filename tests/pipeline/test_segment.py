"""Where recordings are cut."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from qasr.domain.audio import SAMPLE_RATE, Segment
from qasr.engines.silero_vad import WINDOW
from qasr.pipeline.segment import Segmenter, SegmentPolicy

POLICY = SegmentPolicy(longest_ms=30_000)


def tone(seconds: float) -> npt.NDArray[np.float32]:
    """Sound that stands for speech; quieter in its middle, so that there is a best place to cut."""
    n = round(seconds * SAMPLE_RATE)
    return np.asarray(0.3 * np.sin(np.arange(n) * 0.1), np.float32)


def cut(
    pcm: npt.NDArray[np.float32], probabilities: list[float], sizes: list[int], policy: SegmentPolicy
) -> list[Segment]:
    """Feed *pcm* in blocks of *sizes* samples (repeated), with one given probability per window."""
    segmenter = Segmenter(policy)
    segments: list[Segment] = []
    position = windows = turn = 0
    while position < len(pcm):
        block = pcm[position : position + sizes[turn % len(sizes)]]
        position, turn = position + len(block), turn + 1
        now = position // WINDOW
        segments += segmenter.feed(block, np.array(probabilities[windows:now], np.float32))
        windows = now
    return segments + segmenter.finish(np.array(probabilities[windows:], np.float32))


def speech(pattern: list[tuple[bool, float]]) -> tuple[npt.NDArray[np.float32], list[float]]:
    """Audio and probabilities of stretches of speech and silence, lengths in seconds."""
    flags = [spoken for spoken, seconds in pattern for _ in range(round(seconds * SAMPLE_RATE / WINDOW))]
    pcm = np.concatenate([tone(WINDOW / SAMPLE_RATE) * flag for flag in flags] or [tone(0)])
    return pcm, [0.95 if flag else 0.02 for flag in flags]


patterns = st.lists(st.tuples(st.booleans(), st.floats(0.05, 20)), max_size=8).map(speech)


def test_silence_gives_no_segment() -> None:
    """Nothing said, nothing handed to an engine."""
    pcm, probabilities = speech([(False, 30.0)])

    assert [] == cut(pcm, probabilities, [WINDOW * 10], POLICY)


def test_a_short_recording_stays_whole() -> None:
    """A breath does not tear a sentence apart: engines hear better with context."""
    pcm, probabilities = speech([(False, 0.5), (True, 3), (False, 1.0), (True, 3), (False, 0.5)])

    assert 1 == len(cut(pcm, probabilities, [WINDOW * 10], POLICY))


def test_a_long_segment_ends_at_the_first_good_pause() -> None:
    """With enough context, a short pause is where text can be told early."""
    pcm, probabilities = speech([(True, 13), (False, 0.5), (True, 5)])

    segments = cut(pcm, probabilities, [WINDOW * 10], POLICY)

    assert 2 == len(segments)
    assert 13_000 < segments[0].end_ms < 13_500


def test_speech_without_a_pause_is_cut_where_it_is_quietest() -> None:
    """A monologue longer than the engine takes is cut in its quietest moment, not in a word."""
    pcm, probabilities = speech([(True, 40)])
    quiet = slice(24 * SAMPLE_RATE, 24 * SAMPLE_RATE + 3200)
    pcm[quiet] *= 0.01

    segments = cut(pcm, probabilities, [WINDOW * 100], POLICY)

    assert 2 == len(segments)
    assert 24_000 <= segments[0].end_ms <= 24_200


def test_a_click_is_no_speech() -> None:
    """One window above the threshold is not worth an engine call."""
    pcm, probabilities = speech([(False, 1.0), (True, 0.032), (False, 5.0)])

    assert [] == cut(pcm, probabilities, [WINDOW], POLICY)


@settings(deadline=None, max_examples=50)  # blocks of a few samples take their time
@given(patterns, st.lists(st.integers(500, 40_000), min_size=1, max_size=5))
def test_blocks_do_not_matter(made: tuple[npt.NDArray[np.float32], list[float]], sizes: list[int]) -> None:
    """The same audio in other blocks gives the same segments."""
    pcm, probabilities = made

    whole = cut(pcm, probabilities, [max(1, len(pcm))], POLICY)
    pieces = cut(pcm, probabilities, sizes, POLICY)

    assert [(s.begin_ms, len(s.pcm)) for s in whole] == [(s.begin_ms, len(s.pcm)) for s in pieces]
    assert all(np.array_equal(a.pcm, b.pcm) for a, b in zip(whole, pieces, strict=True))


@settings(deadline=None, max_examples=50)
@given(patterns, st.integers(2_000, 30_000))
def test_segments_are_ordered_bounded_and_hold_all_speech(
    made: tuple[npt.NDArray[np.float32], list[float]], longest_ms: int
) -> None:
    """No overlap, nothing longer than the engine takes, no detected speech left out."""
    pcm, probabilities = made
    policy = SegmentPolicy(longest_ms=longest_ms)

    segments = cut(pcm, probabilities, [16_000], policy)

    assert all(segment.end_ms - segment.begin_ms <= longest_ms + 1 for segment in segments)
    assert all(a.end_ms <= b.begin_ms + 1 for a, b in pairwise(segments))
    for position, length_ms in _stretches(probabilities):
        if length_ms >= 2 * policy.least_speech_ms:
            middle = (position + length_ms // 2) if length_ms < longest_ms else position + 100
            assert any(s.begin_ms <= middle <= s.end_ms for s in segments), f"speech at {middle} ms is left out"


def _stretches(probabilities: list[float]) -> list[tuple[int, int]]:
    """Begin and length, in ms, of each stretch of speech."""
    found: list[list[int]] = []
    for i, probability in enumerate([*probabilities, 0.0]):
        if probability > 0.5:
            if not found or found[-1][1] >= 0:
                found.append([i, -1])
        elif found and found[-1][1] < 0:
            found[-1][1] = i
    return [(begin * 32, (end - begin) * 32) for begin, end in found]
