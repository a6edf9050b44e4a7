"""Models of the sherpa-onnx project: SenseVoice, Fun-ASR-Nano, Paraformer, transducers, Qwen3-ASR, from a folder.

``families.py`` tells which kind of model a folder holds, ``loading.py`` loads it in a child process, ``host.py`` asks
it there; here is our end. ``tagger.py`` makes a SenseVoice model tell emotions beside another engine. The package is
an extra, ``qasr[sherpa]``, and is imported in the child alone; nothing is ever downloaded.
"""

import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import anyio.abc
import msgspec
import numpy as np

from qasr.domain.audio import Pcm
from qasr.domain.errors import EngineUnavailable
from qasr.domain.options import Hints
from qasr.domain.transcript import EMOTIONS, Emotion, Hypothesis, Word
from qasr.engines import process
from qasr.engines.base import Capabilities, Recognizer, RecognizerStream, Request, StreamText
from qasr.engines.sherpa.host import About, Asked, Fed, Heard
from qasr.workers import WorkerPool, available_cpus

TARGET: Final = "qasr.engines.sherpa.loading:factory"
LONGEST_S: Final = 30.0
LOAD_S: Final = 300.0
"""The largest models have some GB, which may lie on a slow disk."""
GRACE_S: Final = 60.0
"""A call of the library cannot be stopped; a batch of segments takes seconds on a small machine."""


class _Sherpa:
    """Our end of the child process."""

    def __init__(self, pool: WorkerPool, about: About, closing: anyio.abc.TaskGroup) -> None:
        self._pool, self._about, self._closing = pool, about, closing
        self._numbers = itertools.count()
        self._capabilities = Capabilities(
            name="sherpa",
            languages=frozenset(about.languages),
            longest_s=LONGEST_S,
            largest_batch=about.largest_batch,
            punctuation=about.punctuation,
            word_times=about.word_times,
            context=about.context,
            hotwords=about.hotwords,
            itn=about.itn,
            emotion=about.emotion,
            streaming=about.streaming,
        )

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def recognize(self, batch: Sequence[Request]) -> list[Hypothesis]:
        asked = [asked_of(request.hints, itn=request.itn) for request in batch]
        answers = await process.ask(self._pool, "recognize", asked, [request.segment.pcm for request in batch])
        return [_hypothesis(_DECODER.decode(answer)) for answer in answers]

    def stream(self, hints: Hints) -> RecognizerStream:
        return _Stream(self._pool, next(self._numbers), hints, self._closing, revises=self._about.revises)


class _Stream:
    """A growing segment; what it remembers lies in the child."""

    def __init__(
        self, pool: WorkerPool, number: int, hints: Hints, closing: anyio.abc.TaskGroup, *, revises: bool
    ) -> None:
        self._pool, self._number, self._closing, self._revises = pool, number, closing, revises
        self._asked, self._language = asked_of(hints, itn=False), hints.language
        self._n_fed = 0
        self._is_closed = False

    async def feed(self, pcm: Pcm) -> StreamText:
        fed = Fed(self._number, self._n_fed, self._asked)
        self._n_fed += len(pcm)
        (answer,) = await process.ask(self._pool, "feed", fed, [np.asarray(pcm, np.float32)])
        text = msgspec.msgpack.decode(answer, type=str)
        stable, tail = ("", text) if self._revises else (text, "")
        return StreamText(stable=stable, tail=tail, language=self._language)

    def close(self) -> None:
        if self._n_fed and not self._is_closed:
            self._closing.start_soon(self._close)
        self._is_closed = True

    async def _close(self) -> None:
        with anyio.move_on_after(GRACE_S):
            await process.tell(self._pool, "close", self._number)


_DECODER: Final = msgspec.msgpack.Decoder(Heard)


def asked_of(hints: Hints, *, itn: bool) -> Asked:
    """A request's hints, as the child wants them."""
    hotwords = [(hotword.text, hotword.weight) for hotword in hints.hotwords]
    return Asked(language=hints.language, context=hints.context, hotwords=hotwords, itn=itn)


def emotion_of(heard: Heard) -> Emotion | None:
    """The emotion, if it is one of the documented."""
    return next((emotion for emotion in EMOTIONS if emotion == heard.emotion), None)


def _hypothesis(heard: Heard) -> Hypothesis:
    words = None
    if heard.pieces is not None:
        words = tuple(Word(text=text, begin_ms=begin, end_ms=end) for text, begin, end in heard.pieces)
    return Hypothesis(
        text=heard.text,
        language=heard.language,
        words=words,
        emotion=emotion_of(heard),
        events=tuple(heard.events),
        truncated=heard.truncated,
    )


def config_of(settings: Mapping[str, str]) -> dict[str, object]:
    """What the child is told.

    Raises:
        ValueError: a setting is not a number, or out of range.
    """
    threads, itn = int(settings.get("threads", "0")) or available_cpus(), settings.get("itn", "always")
    if threads < 1 or itn not in ("always", "asked"):
        raise ValueError(f"sherpa engine: threads={threads} or itn={itn!r} is out of range")
    return {
        "folder": settings.get("folder", ""),
        "setting": "QASR_SHERPA__FOLDER",
        "languages": [code.strip() for code in settings.get("languages", "").split(",") if code.strip()],
        "punctuation": settings.get("punctuation", ""),
        "threads": threads,
        "provider": settings.get("provider", "cpu"),
        "itn": itn,
    }


@asynccontextmanager
async def factory(settings: Mapping[str, str]) -> AsyncIterator[Recognizer]:
    """A model of sherpa-onnx, loaded.

    Args:
        settings: ``folder`` of the model; ``languages`` that it hears, as codes between commas, where its files do not
            tell; ``punctuation``, the folder of a model that sets marks; ``threads`` (all processors that we may use);
            ``provider`` of onnxruntime (``cpu``); ``itn`` of SenseVoice: ``always`` or ``asked`` (``always``).

    Raises:
        EngineUnavailable: there is no such model, or it does not load.
        ValueError: a setting is not a number, or out of range.
    """
    config = config_of(settings)
    if not config["folder"]:
        raise EngineUnavailable("no model is set; QASR_SHERPA__FOLDER names the folder of one for sherpa-onnx")
    what = "the sherpa-onnx model"
    async with process.loaded(TARGET, config, what=what, parallel=1, load_s=LOAD_S, grace_s=GRACE_S) as (pool, about):
        closing = await anyio.create_task_group().__aenter__()
        try:
            yield _Sherpa(pool, msgspec.convert(about, About), closing)
        finally:
            closing.cancel_scope.cancel()
            await closing.__aexit__(None, None, None)
