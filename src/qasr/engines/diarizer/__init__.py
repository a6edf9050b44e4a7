"""Tells speakers apart, in a child process: by embedded models, or by those of an operator's folder.

``windows.py`` finds voices in a segment, ``clustering.py`` whose they are; ``models.py`` and ``sherpa.py`` are the two
kinds of models, ``community.py`` where the embedded ones lie; ``host.py`` is the child, and here is our end.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import numpy as np

from qasr.domain.audio import Segment
from qasr.domain.speakers import Voice
from qasr.engines import process
from qasr.engines.base import Diarizer
from qasr.engines.diarizer import community
from qasr.engines.diarizer.host import Asked, Heard
from qasr.workers import WorkerPool, available_cpus

LOAD_S: Final = 60.0
GRACE_S: Final = 60.0
"""A cancelled call ends at its next voice, which on a busy machine may take seconds."""
_HEARD: Final = msgspec.msgpack.Decoder(Heard)
_SPEAKERS: Final = msgspec.msgpack.Decoder(list[int])


class _Diarizer:
    """Our end of the child process."""

    def __init__(self, pool: WorkerPool, name: str) -> None:
        self._pool, self.name = pool, name

    async def voices(self, segment: Segment) -> list[Voice]:
        answers = await process.ask(self._pool, "voices", None, [segment.pcm])
        found = [
            Voice(
                begin_ms=segment.begin_ms + heard.begin_ms,
                end_ms=segment.begin_ms + heard.end_ms,
                embedding=heard.embedding,
                clear_ms=heard.clear_ms,
            )
            for heard in map(_HEARD.decode, answers)
        ]
        return sorted(found, key=lambda voice: (voice.begin_ms, voice.end_ms, voice.embedding))

    async def identify(self, voices: Sequence[Voice], count: int | None) -> list[int]:
        if not voices:
            return []
        embeddings = [np.frombuffer(voice.embedding, np.float32) for voice in voices]
        asked = Asked([voice.clear_ms for voice in voices], count)
        (answer,) = await process.send(self._pool, "identify", asked, np.concatenate(embeddings).tobytes())
        return _SPEAKERS.decode(answer)


def is_installed(settings: Mapping[str, str]) -> bool:
    """Whether there is something to load; whether it loads shows then."""
    return bool(settings.get("folder")) or community.locate() is not None


@asynccontextmanager
async def diarizer(settings: Mapping[str, str]) -> AsyncIterator[Diarizer]:
    """Models that tell speakers apart, loaded.

    Args:
        settings: ``folder`` of models for sherpa-onnx (empty: the embedded ones), ``threshold`` that belongs to these,
            ``threads``, the calls that run at once, each on one core (0: all cores that we may use).

    Raises:
        EngineUnavailable: there are no such models, or they do not load.
        ValueError: a setting is not a number, or out of range.
    """
    threads, threshold = int(settings.get("threads") or 0) or available_cpus(), float(settings.get("threshold") or 0.5)
    if threads < 1 or not 0 < threshold < 1:
        raise ValueError(f"diarizer: threads={threads} or threshold={threshold} is out of range")
    config = {"folder": settings.get("folder", ""), "threads": threads, "threshold": threshold}
    target, what = "qasr.engines.diarizer.host:factory", "the models that tell speakers apart"
    async with process.loaded(target, config, what=what, parallel=threads, load_s=LOAD_S, grace_s=GRACE_S) as (
        pool,
        about,
    ):
        yield _Diarizer(pool, str(about["name"]))


__all__ = ["diarizer", "is_installed"]
