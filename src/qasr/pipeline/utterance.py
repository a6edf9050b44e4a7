"""One utterance of a live session: sound goes in, segments come out; what was heard goes in, events come out. No I/O.

Mostly it is one segment. A long one is heard in several, each as soon as it is complete; so a final is never far away,
and neither the sound held nor the work grows with the length of an utterance.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from qasr.domain import live
from qasr.domain.audio import Pcm, Segment, to_ms
from qasr.domain.errors import QasrError
from qasr.domain.live import Failed, LiveOptions, Partial
from qasr.domain.transcript import Sentence, Word, join
from qasr.engines.base import Capabilities
from qasr.engines.silero_vad import Probabilities
from qasr.pipeline.agreement import Agreement
from qasr.pipeline.endpoint import hysteresis
from qasr.pipeline.guess import Guess
from qasr.pipeline.normalize import drafted, written
from qasr.pipeline.segment import Segmenter, SegmentPolicy
from qasr.pipeline.words import make_words, split_words, spread

LONGEST_MS: Final = 30_000
"""Of a segment, also where an engine takes longer ones: partials and finals are to be quick."""


class Piece:
    """One complete segment of an utterance, and what was heard in it."""

    def __init__(self, segment: Segment) -> None:
        self.segment: Segment | None = segment
        """None: it was heard, and its sound is free."""
        self.begin_ms, self.end_ms = segment.begin_ms, segment.end_ms
        self.sentences: tuple[Sentence, ...] | None = None
        """None: it was not heard yet."""

    def heard(self, sentences: tuple[Sentence, ...]) -> None:
        """This was said in it."""
        self.sentences, self.segment = sentences, None


class Utterance:
    """Told about once it has a ``number``; complete once it has an end.

    Args:
        options: those in force when it began.
        begin: its first sample in the session.
        longest_s: the longest segment that the engine takes.
    """

    def __init__(self, options: LiveOptions, begin: int, longest_s: float) -> None:
        self.options = options
        self.number: int | None = None
        self.begin_ms = to_ms(begin)
        self.end_ms: int | None = None
        self.pieces: list[Piece] = []
        self.error: QasrError | None = None
        """The first that happened to one of its pieces."""
        self._agreement = Agreement()
        self._language: str | None = None
        self._segmenter = Segmenter(_policy(options, longest_s), origin=begin)
        self._settled: list[tuple[str, int, int]] = []  # text, begin and end of the pieces that agreement knows
        self._told: Partial | None = None

    def feed(self, pcm: Pcm, probabilities: Probabilities) -> list[Piece]:
        """More sound; the pieces that are to be heard now."""
        return self._complete(self._segmenter.feed(pcm, probabilities))

    def end(self, sample: int) -> list[Piece]:
        """Its sound is complete; the last pieces."""
        self.end_ms = to_ms(sample)
        return self._complete(self._segmenter.finish(np.zeros(0, np.float32)))

    def drop(self, sample: int) -> None:
        """Its sound is complete and to be forgotten, and so is what was heard in it."""
        self.end_ms = to_ms(sample)
        self.pieces, self.error = [], None

    def _complete(self, segments: list[Segment]) -> list[Piece]:
        pieces = [Piece(segment) for segment in segments]
        self.pieces += pieces
        return pieces

    @property
    def is_heard(self) -> bool:
        """Whether all pieces so far were heard, or one of them never will be."""
        return self.error is not None or all(piece.sentences is not None for piece in self.pieces)

    @property
    def open_ms(self) -> int:
        """Length of the segment that is still growing."""
        return to_ms(self._segmenter.open_samples)

    def open(self) -> Segment | None:
        """The segment that is still growing, so far."""
        return self._segmenter.open()

    def settle(self) -> bool:
        """What was heard of complete pieces is certain from now on, in their order. False: nothing new was."""
        n_before = len(self._settled)
        for piece in self.pieces[n_before:]:
            if piece.sentences is None:
                break
            if piece.sentences:
                self._language = piece.sentences[0].language
            known = sum(len(text) for text, _, _ in self._settled)
            self._agreement.settle(join(piece.sentences), self._language)
            self._settled.append((self._agreement.confirmed[known:], piece.begin_ms, piece.end_ms))
        return len(self._settled) > n_before

    def heard_open(self, guess: Guess) -> None:
        """This was heard of the segment that is still growing."""
        self._language = guess.language
        if guess.stable is None:
            self._agreement.hear(guess.text, guess.language)
        else:
            self._agreement.take(guess.stable, guess.text, guess.language)

    def partial(self, engine: Capabilities, growing: Segment | None = None) -> Partial | None:
        """What is known so far, of what *engine* hears; None if that is nothing, or what was told last.

        *growing*: the open segment, as it was heard.
        """
        assert self.number is not None
        confirmed, tentative = self._agreement.confirmed, self._agreement.tentative
        options, parts = self.options, list(self._settled)
        if growing is not None:
            n_settled = sum(len(text) for text, _, _ in parts)
            parts.append(((confirmed + tentative)[n_settled:], growing.begin_ms, growing.end_ms))
        heard = Partial(
            utterance=self.number,
            begin_ms=self.begin_ms,
            confirmed=confirmed,
            tentative=tentative,
            language=self._language or options.hints.language,
            words=_estimated(parts) if options.word_times == "words" else (),
        )
        known = drafted(heard, engine, itn=options.itn, drop_fillers=options.drop_fillers)
        told = self._told
        if not known.confirmed + known.tentative:
            return None
        if told is not None and (told.confirmed, told.tentative) == (known.confirmed, known.tentative):
            return None
        self._told = known
        return known

    def sentences(self) -> tuple[Sentence, ...]:
        """All that was heard."""
        return tuple(sentence for piece in self.pieces for sentence in piece.sentences or ())

    def final(self, engine: Capabilities) -> live.Final | Failed:
        """What is told last; it is complete, and *engine* has heard it."""
        assert self.number is not None
        assert self.end_ms is not None
        if self.error is not None:
            return Failed(utterance=self.number, error=self.error)
        options = self.options
        sentences = written(self.sentences(), engine, itn=options.itn, drop_fillers=options.drop_fillers)
        return live.Final(
            utterance=self.number,
            begin_ms=self.begin_ms,
            end_ms=self.end_ms,
            text=join(sentences),
            language=next((one.language for one in sentences if one.language), self.options.hints.language),
            emotion=next((one.emotion for one in sentences if one.emotion), None),
            words=_forward([word for one in sentences for word in one.words], self.begin_ms, self.end_ms),
        )


def _policy(options: LiveOptions, longest_s: float) -> SegmentPolicy:
    policy = SegmentPolicy(longest_ms=min(int(longest_s * 1000), LONGEST_MS))
    if (found := options.endpointing) is None:
        return policy
    return replace(
        policy,
        threshold=found.threshold,
        hysteresis=hysteresis(found.threshold),
        pad_ms=max(policy.pad_ms, found.prefix_ms),
    )


def _estimated(parts: Sequence[tuple[str, int, int]]) -> tuple[Word, ...]:
    words: list[Word] = []
    for text, begin_ms, end_ms in parts:
        pieces = split_words(text)
        words += make_words(pieces, spread([word for word, _ in pieces], begin_ms, end_ms), estimated=True)
    return tuple(words)


def _forward(words: Sequence[Word], begin_ms: int, end_ms: int) -> tuple[Word, ...]:
    """*words* within the utterance, none before the one before it."""
    kept: list[Word] = []
    for word in words:
        begin = min(max(word.begin_ms, kept[-1].end_ms if kept else begin_ms), end_ms)
        kept.append(replace(word, begin_ms=begin, end_ms=min(max(word.end_ms, begin), end_ms)))
    return tuple(kept)
