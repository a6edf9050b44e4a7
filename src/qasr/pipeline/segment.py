"""Where to cut a recording: speech probabilities in, segments out.

A segment opens when the probability passes ``threshold`` and closes after a silence. How long a silence is asked for
depends on how much speech the segment holds: words keep their context (an engine hears a whole sentence better than its
halves), and long segments still end at the first good pause. A segment that reaches the engine's limit is cut at its
quietest point. Segments never overlap and never leave out detected speech::

    probability  ▁▁▇▇▇▁▇▇▇▇▁▁▁▁▁▁▁▁▇▇▇▇▁▁▁
    segments       [pad······pad]    [····]
"""

from dataclasses import dataclass

import numpy as np

from qasr.domain.audio import Pcm, Segment, to_ms, to_samples
from qasr.engines.silero_vad import WINDOW, WINDOW_MS, Probabilities
from qasr.pipeline.tape import Tape


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentPolicy:
    """How to cut. Times in milliseconds."""

    longest_ms: int
    threshold: float = 0.5
    """Speech begins above it."""
    hysteresis: float = 0.15
    """Speech ends this far below ``threshold``."""
    pad_ms: int = 200
    """Kept before and behind the speech; in a short pause, half of it each."""
    pause_ms: int = 2000
    """Silence that ends a short segment."""
    short_pause_ms: int = 320
    """Silence that ends a segment of ``enough_ms`` or more."""
    enough_ms: int = 12_000
    """Speech with enough context to be cut at a short pause."""
    least_speech_ms: int = 64
    """Shorter bursts are clicks."""


class Segmenter:
    """Cuts one channel. Feed blocks in order, then ``finish``; the same audio in other blocks gives the same segments.

    Invariant: ``_tape`` holds all that an open or coming segment may need.

    Args:
        policy: how to cut.
        channel: told in the segments.
        origin: sample of the recording at which the first block begins.
    """

    def __init__(self, policy: SegmentPolicy, channel: int = 0, origin: int = 0) -> None:
        self._policy, self._channel, self._origin = policy, channel, origin
        self._tape = Tape()
        self._window = 0  # windows seen
        self._probabilities: list[float] = []  # of the open segment
        self._begin: int | None = None  # first window of the open segment's speech
        self._last_speech = 0  # window after the last speech
        self._cut = 0  # sample: nothing before it may be used again

    def feed(self, pcm: Pcm, probabilities: Probabilities) -> list[Segment]:
        """Segments that *pcm* completes. *probabilities* belong to the windows that *pcm* completes."""
        self._tape.append(pcm)
        segments = [segment for p in probabilities.tolist() for segment in self._step(p)]
        self._forget()
        return segments

    def finish(self, probabilities: Probabilities) -> list[Segment]:
        """The last segments; *probabilities* belong to the last, incomplete window."""
        segments = [segment for p in probabilities.tolist() for segment in self._step(p)]
        if self._begin is not None:
            end = self._last_speech * WINDOW + to_samples(self._policy.pad_ms)
            segments += self._close(min(end, self._tape.end))
        return segments

    @property
    def open_samples(self) -> int:
        """Length of the open segment so far; 0: none is open."""
        return 0 if self._begin is None else max(0, self._open_end() - self._first_sample())

    def open(self) -> Segment | None:
        """The open segment so far; None: none is open. It only ever grows, until it is cut or completed."""
        if self._begin is None:
            return None
        first = self._first_sample()
        return Segment(
            pcm=self._tape.copy(first, self._open_end()), begin_ms=to_ms(self._origin + first), channel=self._channel
        )

    def _open_end(self) -> int:
        return min(self._last_speech * WINDOW + to_samples(self._policy.pad_ms), self._tape.end)

    def _step(self, probability: float) -> list[Segment]:
        policy, window = self._policy, self._window
        self._window += 1
        if self._begin is None:
            if probability >= policy.threshold:
                self._begin, self._last_speech = window, window + 1
                self._probabilities = [probability]
            return []
        self._probabilities.append(probability)
        if probability >= policy.threshold - policy.hysteresis:
            self._last_speech = window + 1
        silence_ms = (window + 1 - self._last_speech) * WINDOW_MS
        enough = (self._last_speech - self._begin) * WINDOW_MS >= policy.enough_ms
        if silence_ms >= (policy.short_pause_ms if enough else policy.pause_ms):
            half = to_samples(silence_ms) // 2  # the other half is left to the next segment's padding
            return self._close(self._last_speech * WINDOW + min(to_samples(policy.pad_ms), half))
        if (self._window * WINDOW) - self._first_sample() >= to_samples(policy.longest_ms):
            return self._cut_quietest()
        return []

    def _first_sample(self) -> int:
        assert self._begin is not None
        return max(self._begin * WINDOW - to_samples(self._policy.pad_ms), self._cut, self._tape.begin)

    def _close(self, end: int) -> list[Segment]:
        """End the open segment at sample *end*."""
        assert self._begin is not None
        long_enough = (self._last_speech - self._begin) * WINDOW_MS >= self._policy.least_speech_ms
        segment = self._take(self._first_sample(), end) if long_enough else []
        self._begin = None
        return segment

    def _cut_quietest(self) -> list[Segment]:
        """Split the open segment where its second half is quietest; the rest stays open."""
        assert self._begin is not None
        first = self._first_sample()
        audio = self._tape.copy(first, self._window * WINDOW)
        frames = len(audio) // WINDOW
        energy = np.square(audio[: frames * WINDOW].reshape(frames, WINDOW)).mean(axis=1)
        smooth = np.convolve(energy, np.ones(3) / 3, mode="same")
        half = frames // 2
        quietest = half + int(np.argmin(smooth[half : frames - 1]))
        cut = first + quietest * WINDOW + WINDOW // 2
        segments = self._take(first, cut)
        opened = cut // WINDOW
        self._probabilities = self._probabilities[max(0, opened - self._begin) :] or [1.0]
        self._begin = opened
        if self._last_speech <= opened:  # only silence is left behind the cut
            self._begin = None
        return segments

    def _take(self, first: int, end: int) -> list[Segment]:
        pcm = self._tape.copy(first, end)
        self._cut = end
        if not len(pcm):
            return []
        speech = [p for p in self._probabilities if p >= self._policy.threshold - self._policy.hysteresis]
        mean = sum(speech) / len(speech) if speech else 0.0
        return [
            Segment(
                pcm=pcm,
                begin_ms=to_ms(self._origin + first),
                channel=self._channel,
                speech_probability=min(1.0, max(0.0, mean)),
            )
        ]

    def _forget(self) -> None:
        """Drop audio that no segment can need any more."""
        keep = (
            self._first_sample() if self._begin is not None else self._window * WINDOW - to_samples(self._policy.pad_ms)
        )
        self._tape.forget(max(keep, self._cut))
