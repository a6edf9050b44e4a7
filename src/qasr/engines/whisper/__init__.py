"""Whisper in CTranslate2's format, by faster-whisper: about a hundred languages, from a folder on this machine.

``host.py`` is the child process with the model, ``languages.py`` what its language codes are here. Decoding is greedy
by beams without sampling, so that the same recording always has the same text; what it does to its failures, the
guards of the pipeline see to. Nothing is ever downloaded.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from qasr.domain.errors import EngineUnavailable
from qasr.domain.transcript import Hypothesis, Word
from qasr.engines import process
from qasr.engines.base import Capabilities, Recognizer, Request
from qasr.engines.whisper import languages
from qasr.engines.whisper.host import Asked, Heard
from qasr.workers import WorkerPool, available_cpus

FILES: Final = ("model.bin", "config.json", "tokenizer.json")
"""Of a model's folder; the library would download a tokenizer that is missing."""
LONGEST_S: Final = 30.0
"""The window that the model was trained on."""
LOAD_S: Final = 300.0
"""The largest model has 3 GB, which may lie on a slow disk."""
GRACE_S: Final = 60.0
"""A cancelled call ends with the window that it is in, which on a small machine may take long."""


class _Whisper:
    """Our end of the child process."""

    def __init__(self, pool: WorkerPool, calls: int, codes: frozenset[str]) -> None:
        self._pool = pool
        self._capabilities = Capabilities(
            name="whisper",
            languages=codes,
            longest_s=LONGEST_S,
            parallel_calls=calls,
            punctuation=True,
            word_times=True,
            context=True,
            hotwords=True,
        )

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def recognize(self, batch: Sequence[Request]) -> list[Hypothesis]:
        asked = [_asked(request) for request in batch]
        answers = await process.ask(self._pool, "recognize", asked, [request.segment.pcm for request in batch])
        heard = [_DECODER.decode(answer) for answer in answers]
        return [_hypothesis(one, request) for one, request in zip(heard, batch, strict=True)]


_DECODER: Final = msgspec.msgpack.Decoder(Heard)


def _asked(request: Request) -> Asked:
    hints = request.hints
    heaviest = sorted(hints.hotwords, key=lambda hotword: -hotword.weight)
    return Asked(
        language=languages.theirs(hints.language),
        context=hints.context,
        hotwords=[hotword.text for hotword in heaviest],
        word_times=request.word_times,
    )


def _hypothesis(heard: Heard, request: Request) -> Hypothesis:
    words = None
    if heard.words is not None:
        words = tuple(Word(text=text, begin_ms=begin, end_ms=end) for text, begin, end in heard.words)
    return Hypothesis(
        text=heard.text,
        language=request.hints.language or languages.ours(heard.language),
        words=words,
        truncated=heard.truncated,
    )


@asynccontextmanager
async def factory(settings: Mapping[str, str]) -> AsyncIterator[Recognizer]:
    """A Whisper model, loaded.

    Args:
        settings: ``folder`` of the model; ``device``: ``cpu``, ``cuda`` or ``auto`` (``auto``); ``compute`` type of
            CTranslate2 (``int8`` on a processor, ``float16`` on a GPU); ``threads`` of all calls together (all
            processors that we may use); ``calls`` at once (1); ``beam`` width (5).

    Raises:
        EngineUnavailable: there is no such model, or it does not load.
        ValueError: a setting is not a number, or out of range.
    """
    folder, calls, beam = settings.get("folder", ""), int(settings.get("calls", "1")), int(settings.get("beam", "5"))
    threads = int(settings.get("threads", "0")) or available_cpus()
    if calls < 1 or beam < 1 or threads < 1:
        raise ValueError(f"whisper engine: calls={calls}, beam={beam}, threads={threads} is out of range")
    await asyncio.to_thread(_check, folder)
    config = {
        "folder": folder,
        "device": settings.get("device", "auto"),
        "compute": settings.get("compute", ""),
        "threads": -(-threads // calls),
        "calls": calls,
        "beam": beam,
    }
    async with process.loaded(
        "qasr.engines.whisper.host:factory",
        config,
        what="the Whisper model",
        parallel=calls,
        load_s=LOAD_S,
        grace_s=GRACE_S,
    ) as (pool, about):
        codes = msgspec.convert(about["languages"], list[str])
        yield _Whisper(pool, calls, frozenset(code for their in codes for code in languages.spellings(their)))


def _check(folder: str) -> None:
    if not folder:
        raise EngineUnavailable(
            "no Whisper model is set; QASR_WHISPER__FOLDER names the folder of one in CTranslate2's format"
        )
    missing = [name for name in FILES if not (Path(folder) / name).is_file()]
    if missing:
        raise EngineUnavailable(
            f"the folder set as QASR_WHISPER__FOLDER lacks {', '.join(missing)}; it must hold a Whisper model in "
            "CTranslate2's format"
        )
