"""Where utterances begin and end, and which sound they get."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qasr.domain.audio import Pcm
from qasr.domain.live import Endpointing
from qasr.engines.silero_vad import WINDOW, WINDOW_MS
from qasr.pipeline.divide import Change, Committed, Completed, Detected, Divider, Grown, Opened
from qasr.pipeline.endpoint import OVERTIME_MS, SHORT_PAUSE_MS, TAIL_MS, Began, Ended, Endpointer, Mark

POLICY = Endpointing(threshold=0.5, silence_ms=640, prefix_ms=320, longest_ms=20_000)
LOUD, QUIET = 0.9, 0.05


def windows(ms: int) -> int:
    return ms // WINDOW_MS


def probabilities(*stretches: tuple[float, int]) -> list[float]:
    """Stretches of one probability each, lengths in ms."""
    return [probability for probability, ms in stretches for _ in range(windows(ms))]


def marks(endpointing: Endpointing, found: list[float], *, quietest: int = 0) -> list[Mark]:
    endpointer = Endpointer(endpointing, lambda begin, end: min(max(quietest, begin), end - 1))
    return endpointer.feed(np.array(found, np.float32)) + endpointer.end()


def times(found: list[Mark]) -> list[tuple[str, int]]:
    return [("began" if isinstance(mark, Began) else "ended", mark.window * WINDOW_MS) for mark in found]


def test_an_utterance_reaches_from_before_its_first_word_to_behind_its_last() -> None:
    """Prefix and tail are sound of the utterance; the silence that ended it is not."""
    found = marks(POLICY, probabilities((QUIET, 1_600), (LOUD, 3_200), (QUIET, 3_200)))

    assert [("began", 1_600 - 320), ("ended", 4_800 + TAIL_MS)] == times(found)


def test_a_pause_is_not_an_end() -> None:
    """Nothing ends before the silence is as long as it has to be."""
    found = marks(POLICY, probabilities((LOUD, 3_200), (QUIET, 640 - 32), (LOUD, 3_200), (QUIET, 640)))

    assert [("began", 0), ("ended", 3_200 + 608 + 3_200 + TAIL_MS)] == times(found)


def test_a_click_is_no_utterance() -> None:
    """Two windows are a click; it leaves nothing behind."""
    assert [] == marks(POLICY, probabilities((QUIET, 640), (LOUD, 64), (QUIET, 6_400)))


def test_speech_stays_speech_a_little_below_the_threshold() -> None:
    """Hysteresis: words fade."""
    found = marks(POLICY, probabilities((LOUD, 320), (0.4, 3_200), (QUIET, 640)))

    assert [("began", 0), ("ended", 320 + 3_200 + TAIL_MS)] == times(found)


@pytest.mark.parametrize("threshold", [0.001, 0.1, 0.5, 0.999])
def test_any_threshold_ends_what_it_began(threshold: float) -> None:
    """Also near 0, where there is no room below for speech that goes on."""
    policy = Endpointing(threshold=threshold, silence_ms=640, prefix_ms=0, longest_ms=20_000)

    found = marks(policy, probabilities((0.9995, 640), (threshold / 2, 3_200)))

    assert [Began, Ended] == [type(mark) for mark in found]
    assert windows(640 + TAIL_MS) == found[-1].window


def test_the_prefix_never_takes_sound_of_the_utterance_before() -> None:
    """What was heard is not heard again."""
    policy = Endpointing(threshold=0.5, silence_ms=320, prefix_ms=3_000, longest_ms=20_000)

    found = marks(policy, probabilities((LOUD, 960), (QUIET, 480), (LOUD, 960), (QUIET, 640)))

    assert [("began", 0), ("ended", 960 + 160), ("began", 960 + 160)] == times(found)[:3]


def test_a_long_utterance_ends_at_its_next_short_pause() -> None:
    """A breath that would be none of its ends is one once it has grown too long."""
    pause = probabilities((QUIET, SHORT_PAUSE_MS))
    found = marks(POLICY, probabilities((LOUD, 19_200)) + pause + probabilities((LOUD, 1_600)) + pause + [LOUD] * 50)

    assert [("began", 0), ("ended", 19_200 + 160 + 1_600 + 160)] == times(found)[:2]
    assert isinstance(found[2], Began)


def test_a_monologue_is_cut_at_its_quietest_point() -> None:
    """Without any pause the next utterance begins where the cut is; no window lies between them."""
    cut = windows(21_000)
    found = marks(POLICY, [LOUD] * windows(20_000 + OVERTIME_MS + 2_000), quietest=cut)

    assert [Began(0), Ended(cut), Began(cut)] == found[:3]


def test_nothing_begins_behind_a_cut_where_nothing_is_said() -> None:
    """The last word may lie before the quietest point."""
    endpointer = Endpointer(
        Endpointing(threshold=0.5, silence_ms=6_000, prefix_ms=0, longest_ms=1_024), lambda _, end: end - 1
    )
    endpointer.feed(np.array([LOUD] * 32, np.float32))
    found = endpointer.feed(np.array([LOUD] * windows(OVERTIME_MS - 64) + [QUIET] * 100, np.float32))

    assert [Ended] == [type(mark) for mark in found]


def test_what_was_cleared_belongs_to_no_utterance() -> None:
    """A prefix does not reach back behind a clear."""
    endpointer = Endpointer(POLICY, lambda begin, _: begin)
    endpointer.feed(np.array([LOUD] * 10, np.float32))
    endpointer.clear()

    assert not endpointer.is_open
    assert [Began(10)] == endpointer.feed(np.array([LOUD] * 10, np.float32))


# The sound

policies = st.builds(
    Endpointing,
    threshold=st.sampled_from([0.1, 0.3, 0.5, 0.8]),
    silence_ms=st.integers(0, 1_500),
    prefix_ms=st.integers(0, 1_000),
    longest_ms=st.integers(500, 6_000),
)
sounds = st.lists(st.tuples(st.sampled_from([0.02, 0.08, 0.2, 0.4, 0.95]), st.integers(32, 5_000)), max_size=10)
blocks = st.lists(st.integers(1, 9_000), min_size=1, max_size=5)


def divided(divider: Divider, pcm: Pcm, found: list[float], sizes: list[int]) -> list[Change]:
    """Feed blocks of *sizes* samples, over and over."""
    changes: list[Change] = []
    position = turn = 0
    while position < len(pcm):
        block = pcm[position : position + sizes[turn % len(sizes)]]
        told = slice(position // WINDOW, (position + len(block)) // WINDOW)
        changes += divider.feed(block, np.array(found[told], np.float32))
        position, turn = position + len(block), turn + 1
    return changes + divider.finish(np.array(found[position // WINDOW :], np.float32))


def utterances(changes: list[Change]) -> list[tuple[int, int, Pcm, list[float]]]:
    """Begin, end, sound and probabilities of each; checks that changes come in order."""
    found: list[tuple[int, int, Pcm, list[float]]] = []
    grown: list[Grown] | None = None
    begin = 0
    for change in changes:
        match change:
            case Opened(sample):
                assert grown is None
                begin, grown = sample, []
            case Grown():
                assert grown is not None
                grown.append(change)
            case Completed(sample):
                assert grown is not None
                pcm = np.concatenate([one.pcm for one in grown] or [np.zeros(0, np.float32)])
                found.append((begin, sample, pcm, [p for one in grown for p in one.probabilities.tolist()]))
                grown = None
    assert grown is None
    return found


@settings(deadline=None, max_examples=150)
@given(policies, sounds, blocks, st.integers(0, 511))
def test_every_utterance_has_exactly_its_own_sound(
    policy: Endpointing, sound: list[tuple[float, int]], sizes: list[int], rest: int
) -> None:
    """No sample of an utterance is lost, none is in two, and blocks do not matter."""
    found = probabilities(*sound)
    rng = np.random.default_rng(1)
    pcm = rng.standard_normal(len(found) * WINDOW + rest).astype(np.float32)
    found += [0.3] * (rest > 0)

    whole = utterances(divided(Detected(policy, 5_000), pcm, found, [max(1, len(pcm))]))
    pieces = utterances(divided(Detected(policy, 5_000), pcm, found, sizes))

    assert [(begin, end, told) for begin, end, _, told in whole] == [(b, e, told) for b, e, _, told in pieces]
    for begin, end, heard, told in pieces:
        assert np.array_equal(pcm[begin - 5_000 : end - 5_000], heard)
        assert found[(begin - 5_000) // WINDOW :][: len(told)] == pytest.approx(told)
        assert end - begin <= (policy.longest_ms + OVERTIME_MS + 500) * 16
    assert all(a[1] <= b[0] for a, b in pairwise(whole))


@settings(deadline=None, max_examples=15)
@given(sounds, blocks)
def test_a_detector_holds_little_while_nothing_is_said(sound: list[tuple[float, int]], sizes: list[int]) -> None:
    """However long it was: the prefix of what may come."""
    divider = Detected(POLICY, 0)
    quiet = [QUIET] * windows(10_000)
    found = [*probabilities(*sound), *quiet]
    pcm = np.zeros(len(found) * WINDOW, np.float32)
    divided(divider, pcm, found, sizes)

    assert divider._tape.end - divider._tape.begin <= windows(POLICY.prefix_ms) * WINDOW + WINDOW
    assert len(divider._probabilities) <= windows(POLICY.prefix_ms)


@given(st.integers(0, 9_000), blocks)
def test_what_is_committed_is_one_utterance(n_samples: int, sizes: list[int]) -> None:
    """In manual mode the client decides; where it fed nothing there is nothing."""
    pcm = np.arange(n_samples, dtype=np.float32)
    found = [QUIET] * (-(-n_samples // WINDOW))

    heard = utterances(divided(Committed(100), pcm, found, sizes))

    assert [(100, 100 + n_samples)] * (n_samples > 0) == [(begin, end) for begin, end, _, _ in heard]
    assert all(np.array_equal(pcm, sound) for _, _, sound, _ in heard)
