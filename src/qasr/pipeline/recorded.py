"""A recording becomes sentences::

    decoded blocks → segments (voice activity) → sentences of each (recognize.py) → (a known language?)
                                               → (who speaks? diarize.py)

Segments are recognized some ahead of the reader and come out in order of time; where speakers are told
apart, all come at the end. Leaving the block stops everything.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Protocol

import anyio
import numpy as np
import numpy.typing as npt

from qasr.domain import telemetry
from qasr.domain.audio import Pcm, Segment
from qasr.domain.options import RecognitionOptions
from qasr.domain.speakers import Voice
from qasr.domain.transcript import Sentence
from qasr.engines.registry import LoadedEngines
from qasr.engines.silero_vad import Probabilities, SileroVad, VadState
from qasr.pipeline.diarize import diarizer_of, voices_in, with_speakers
from qasr.pipeline.flow import ordered_map
from qasr.pipeline.language import in_known_language
from qasr.pipeline.normalize import written
from qasr.pipeline.recognize import Turn, recognize
from qasr.pipeline.segment import Segmenter, SegmentPolicy

MOST_AHEAD: Final = 32
"""Segments of one recording that wait or are heard at once, however many the engine takes: 60 MB, if they are long."""
INLINE_SAMPLES: Final = 16_000
"""Blocks up to a second are cheaper to look at than to hand to a thread."""


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
        heard = await recognize(segment, options, engines, turn)
        sentences = written(heard, capabilities, itn=options.itn, drop_fillers=options.drop_fillers)
        if memory is not None:
            memory.keep(segment, sentences)
        return sentences

    voices: list[Voice] = []
    diarizer = await diarizer_of(engines) if options.speakers else None

    async def listen(segment: Segment) -> tuple[Sentence, ...]:
        if diarizer is not None:
            voices.extend(await voices_in(segment, diarizer))
        return await hear(segment)

    ahead = min(capabilities.parallel_calls * capabilities.largest_batch, MOST_AHEAD)
    async with ordered_map(listen, segments(blocks, engines.vad, policy, options.channels), ahead=ahead) as heard:
        known = heard if options.hints.language else in_known_language(heard, capabilities)
        yield known if diarizer is None else with_speakers(known, voices, diarizer, options)


async def segments(
    blocks: AsyncIterator[npt.NDArray[np.float32]],
    vad: SileroVad,
    policy: SegmentPolicy,
    channels: tuple[int, ...] | None,
) -> AsyncIterator[Segment]:
    """Cut each channel by itself; segments come in order of their ends."""
    ears = [(vad.start(), Segmenter(policy, channel)) for channel in channels or (0,)]
    with telemetry.stage("segment", is_current=False):
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
