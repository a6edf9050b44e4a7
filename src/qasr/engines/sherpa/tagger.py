"""Emotions and sounds beside the speech, told by a SenseVoice model beside whatever engine hears the words."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from qasr.domain.audio import Segment
from qasr.domain.errors import EngineUnavailable
from qasr.domain.transcript import Tags
from qasr.engines import process
from qasr.engines.base import Tagger
from qasr.engines.sherpa import GRACE_S, LOAD_S, TARGET, config_of, emotion_of
from qasr.engines.sherpa.host import Asked, Heard
from qasr.workers import WorkerPool

_DECODER: Final = msgspec.msgpack.Decoder(Heard)


class _SenseVoice:
    """What the model hears is thrown away, what it finds about it is kept."""

    name = "sense_voice"

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool

    async def tag(self, segment: Segment) -> Tags:
        (answer,) = await process.ask(self._pool, "recognize", [Asked()], [segment.pcm])
        heard = _DECODER.decode(answer)
        return Tags(emotion=emotion_of(heard), events=tuple(heard.events))


@asynccontextmanager
async def tagger(settings: Mapping[str, str]) -> AsyncIterator[Tagger]:
    """A SenseVoice model that tells emotions.

    Args:
        settings: ``folder`` of the model, ``threads``.

    Raises:
        EngineUnavailable: there is no such model, or it tells no emotions.
        ValueError: a setting is out of range.
    """
    what = "the emotion tagger (QASR_TAGGER__FOLDER)"
    config = config_of({"threads": "1"} | dict(settings)) | {"setting": "QASR_TAGGER__FOLDER"}
    async with process.loaded(TARGET, config, what=what, parallel=1, load_s=LOAD_S, grace_s=GRACE_S) as (pool, about):
        if not about["emotion"]:
            raise EngineUnavailable(f"{what} is a {about['family']} model, which tells no emotions")
        yield _SenseVoice(pool)


__all__ = ["tagger"]
