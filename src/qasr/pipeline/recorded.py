"""A recording becomes sentences::

    decoded blocks → segments (voice activity) → hypotheses (engine slots) → words with times → sentences → (language?)

Segments are recognized some ahead of the reader and come out in order of time. Leaving the block stops everything.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final, Protocol

import anyio
import numpy as np
import numpy.typing as npt

from qasr.domain.audio import Pcm, Segment
from qasr.domain.options import RecognitionOptions
from qasr.domain.transcript import Hypothesis, Sentence, Token, Word
from qasr.engines.base import Aligner, Request
from qasr.engines.registry import LoadedEngines
from qasr.engines.silero_vad import Probabilities, SileroVad, VadState
from qasr.engines.slots import Lane
from qasr.pipeline.flow import ordered_map
from qasr.pipeline.language import in_known_language
from qasr.pipeline.normalize import written
from qasr.pipeline.segment import Segmenter, SegmentPolicy
from qasr.pipeline.words import make_words, split_sentences, split_words, spread

INLINE_SAMPLES: Final = 16_000
"""Blocks up to a second are cheaper to look at than to hand to a thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Whose work it is, for the engine slots."""

    lane: Lane
    owner: str


class Memory(Protocol):
    """Remembers what was heard, so that it is not heard again after an interruption."""

    def recall(self, segment: Segment) -> tuple[Sentence, ...] | None:
        """What was heard in *segment*; None: that is not known."""
        ...

    def keep(self, segment: Segment, sentences: tuple[Sentence, ...]) -> None:
        """This was heard in *segment*."""
        ...


@asynccontextmanager
async def transcription(
    blocks: AsyncIterator[npt.NDArray[np.float32]],
    options: RecognitionOptions,
    engines: LoadedEngines,
    policy: SegmentPolicy,
    turn: Turn,
    memory: Memory | None = None,
) -> AsyncIterator[AsyncIterator[tuple[Sentence, ...]]]:
    """Decoded audio in (blocks ``[n_channels, n_samples]``), the sentences of each segment out, in order of time."""
    capabilities = engines.slots.capabilities

    async def hear(segment: Segment) -> tuple[Sentence, ...]:
        if memory is not None and (known := memory.recall(segment)) is not None:
            return known
        request = Request(segment=segment, hints=options.hints)
        hypothesis = await engines.slots.recognize(request, lane=turn.lane, owner=turn.owner)
        heard = await sentences_of(segment, hypothesis, options, engines.aligner)
        sentences = written(heard, capabilities, itn=options.itn)
        if memory is not None:
            memory.keep(segment, sentences)
        return sentences

    ahead = capabilities.parallel_calls * capabilities.largest_batch
    async with ordered_map(hear, segments(blocks, engines.vad, policy, options.channels), ahead=ahead) as heard:
        yield heard if options.hints.language else in_known_language(heard, capabilities)


async def segments(
    blocks: AsyncIterator[npt.NDArray[np.float32]],
    vad: SileroVad,
    policy: SegmentPolicy,
    channels: tuple[int, ...] | None,
) -> AsyncIterator[Segment]:
    """Cut each channel by itself; segments come in order of their ends."""
    ears = [(vad.start(), Segmenter(policy, channel)) for channel in channels or (0,)]
    async for block in blocks:
        for (state, segmenter), pcm in zip(ears, block, strict=True):
            for segment in segmenter.feed(pcm, await _probabilities(state, pcm)):
                yield segment
    for state, segmenter in ears:
        for segment in segmenter.finish(state.finish()):
            yield segment


async def _probabilities(state: VadState, pcm: Pcm) -> Probabilities:
    if len(pcm) <= INLINE_SAMPLES:
        return state.feed(pcm)
    return await anyio.to_thread.run_sync(state.feed, pcm)


async def sentences_of(
    segment: Segment, hypothesis: Hypothesis, options: RecognitionOptions, aligner: Aligner | None
) -> tuple[Sentence, ...]:
    """What was heard in *segment*, as sentences with times, and with words where *options* want them."""
    whole = hypothesis.text.strip()
    texts = split_sentences(whole) if options.sentence_ends == "punctuation" else [whole] * bool(whole)
    if not texts:
        return ()
    words = await _timed_words(segment, hypothesis, aligner) if options.word_times == "words" else ()
    if words:
        spans, estimated, shares = _by_words(texts, words), words[0].estimated, _share(texts, words)
    else:
        spans = spread(texts, segment.begin_ms, segment.end_ms)
        estimated, shares = len(texts) > 1, [()] * len(texts)
    return tuple(
        Sentence(
            text=text,
            begin_ms=begin,
            end_ms=end,
            channel=segment.channel,
            language=hypothesis.language,
            emotion=hypothesis.emotion,
            words=share,
            tokens=tokens,
            estimated=estimated,
            speech_probability=segment.speech_probability,
            truncated=hypothesis.truncated,
        )
        for text, (begin, end), share, tokens in zip(
            texts, spans, shares, _share_tokens(texts, hypothesis.tokens), strict=True
        )
    )


async def _timed_words(segment: Segment, hypothesis: Hypothesis, aligner: Aligner | None) -> tuple[Word, ...]:
    """Words with times: the engine's own, else the aligner's, else estimated (and marked so)."""
    if hypothesis.words is not None:
        return tuple(
            replace(w, begin_ms=w.begin_ms + segment.begin_ms, end_ms=w.end_ms + segment.begin_ms)
            for w in hypothesis.words
        )
    pieces = split_words(hypothesis.text)
    if not pieces:
        return ()
    if aligner is not None and hypothesis.language in aligner.languages:
        times = await aligner.align(segment.pcm, [word for word, _ in pieces])
        if times is not None:
            shifted = [(begin + segment.begin_ms, end + segment.begin_ms) for begin, end in times]
            return make_words(pieces, shifted, estimated=False)
    guessed = spread([word for word, _ in pieces], segment.begin_ms, segment.end_ms)
    return make_words(pieces, guessed, estimated=True)


def _share(texts: Sequence[str], words: Sequence[Word]) -> list[tuple[Word, ...]]:
    """The words of each sentence."""
    shares, start = [], 0
    for text in texts:
        count = len(split_words(text))
        shares.append(tuple(words[start : start + count]))
        start += count
    return shares


def _by_words(texts: Sequence[str], words: Sequence[Word]) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    last = words[0].begin_ms
    for share in _share(texts, words):
        spans.append((share[0].begin_ms, share[-1].end_ms) if share else (last, last))
        last = spans[-1][1]
    return spans


def _share_tokens(texts: Sequence[str], tokens: Sequence[Token]) -> list[tuple[Token, ...]]:
    """The tokens of each sentence: each goes to the sentence in which its first byte lies."""
    shares: list[list[Token]] = [[] for _ in texts]
    ends, total = [], 0
    for text in texts:
        total += len("".join(text.split()).encode())
        ends.append(total)
    seen, sentence = 0, 0
    for token in tokens:
        while sentence < len(ends) - 1 and seen >= ends[sentence]:
            sentence += 1
        shares[sentence].append(token)
        seen += len(b"".join(token.text.split()))
    return [tuple(share) for share in shares]
