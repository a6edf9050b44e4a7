"""Qwen3-ASR: thirty languages, open weights, on a CPU or a CUDA GPU. The extra ``qasr[qwen3]`` and a checkpoint.

::

    here, without torch            child process
    __init__   the engine          host         calls in, answers out; one thread runs the loop
    setup      settings            loop         rows join and leave  ──▶ encoder, decoder ──▶ cache
    messages   between the two     checkpoint   both layouts → the library's classes
    languages  names               prompt       template, context, reading of answers
                                   stream       growing segments
    aligner    word times          alignment    known words → times

The aligner is another model, in another child.
"""

import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, Self

import anyio
import anyio.abc
import msgspec
import numpy as np
import structlog

from qasr.domain.audio import Pcm
from qasr.domain.errors import EngineFailed, EngineUnavailable, InvalidParameter, UnsupportedLanguage
from qasr.domain.options import Hints
from qasr.domain.transcript import Hypothesis, Token
from qasr.engines.base import Capabilities, Recognizer, RecognizerStream, Request, StreamText
from qasr.engines.qwen3 import setup as setups
from qasr.engines.qwen3.languages import HEARD
from qasr.engines.qwen3.messages import Feed, Hear, Heard, Partial
from qasr.engines.qwen3.setup import STREAMS_AT_ONCE, Setup
from qasr.workers import CallFailed, WorkerDied, WorkerPool

GRACE_S: Final = 60.0
"""A cancelled call ends at the loop's next step, which on a busy machine may take seconds; the others must not pay."""

log = structlog.get_logger(__name__)


class _Qwen3Asr:
    """Our end of the child process."""

    def __init__(self, pool: WorkerPool, setup: Setup) -> None:
        self._pool, self._setup = pool, setup
        self._group: anyio.abc.TaskGroup | None = None
        self._numbers = itertools.count()
        self._capabilities = Capabilities(
            name="qwen3_asr",
            languages=HEARD,
            longest_s=setup.longest_s,
            parallel_calls=setup.parallel_calls,  # each segment by itself: it joins those that are being written
            punctuation=True,
            context=True,
            streaming=True,
        )

    async def __aenter__(self) -> Self:
        self._group = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._group is not None
        self._group.cancel_scope.cancel()
        await self._group.__aexit__(None, None, None)

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def recognize(self, batch: Sequence[Request]) -> list[Hypothesis]:
        answers: dict[int, Hypothesis] = {}
        failures: list[Exception] = []

        async def hear(place: int, request: Request) -> None:
            try:
                answers[place] = await self._hear(request)
            except (EngineFailed, InvalidParameter) as error:
                failures.append(error)
                group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for place, request in enumerate(batch):
                group.start_soon(hear, place, request)
        if failures:
            raise failures[0]
        return [answers[place] for place in range(len(batch))]

    async def _hear(self, request: Request) -> Hypothesis:
        hear = Hear(_known(request.hints.language), request.hints.context)
        heard = msgspec.msgpack.decode(await self.call("recognize", hear, request.segment.pcm), type=Heard)
        tokens = zip(heard.ids, heard.pieces, heard.logprobs, strict=True)
        return Hypothesis(
            text=heard.text,
            language=heard.language,
            tokens=tuple(Token(id=i, text=piece, logprob=min(0.0, logprob)) for i, piece, logprob in tokens),
            truncated=heard.truncated,
        )

    def stream(self, hints: Hints) -> RecognizerStream:
        return _Stream(self, next(self._numbers), hints)

    async def call(self, method: str, body: object, pcm: Pcm) -> bytes:
        """One call of the child; its one answer.

        Raises:
            EngineFailed: it may be tried again.
            InvalidParameter: the context is too long.
        """
        samples = np.ascontiguousarray(pcm, np.float32)
        try:
            async with self._pool.call(method, body, samples.tobytes()) as replies:
                answers = [bytes(answer) async for answer, _ in replies]
        except CallFailed as error:
            if error.kind == "context_too_long":
                limit = self._setup.context_tokens
                raise InvalidParameter(f"The context has more than {limit} tokens.", parameter="messages") from error
            log.warning("engine_call_failed", method=method, kind=error.kind, reason=str(error))
            raise EngineFailed("the engine could not recognize this segment; retry") from error
        except WorkerDied as error:
            raise EngineFailed("the engine ended unexpectedly; retry") from error
        return answers[0]

    def close_stream(self, number: int) -> None:
        """Have the child forget a stream, soon."""
        assert self._group is not None
        self._group.start_soon(self._close_stream, number)

    async def _close_stream(self, number: int) -> None:
        try:
            async with self._pool.call("close", number) as replies:
                async for _ in replies:
                    pass
        except (CallFailed, WorkerDied):
            return  # so it is forgotten, too


class _Stream:
    """Our end of one growing segment; what it has heard lives in the child."""

    def __init__(self, engine: _Qwen3Asr, number: int, hints: Hints) -> None:
        self._engine, self._number, self._hints = engine, number, hints
        self._first, self._closed = True, False

    async def feed(self, pcm: Pcm) -> StreamText:
        if self._closed:
            raise EngineFailed("the stream is closed")
        feed = Feed(self._number, self._first, _known(self._hints.language), self._hints.context)
        self._first = False
        try:
            heard = msgspec.msgpack.decode(await self._engine.call("feed", feed, pcm), type=Partial)
        except BaseException:  # also cancelled: nobody knows what was heard
            self.close()
            raise
        return StreamText(stable=heard.stable, tail=heard.tail, language=heard.language)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._engine.close_stream(self._number)


def _known(language: str | None) -> str | None:
    """A language that can be forced.

    Raises:
        UnsupportedLanguage: the model has no name for it.
    """
    if language is not None and language not in HEARD:
        raise UnsupportedLanguage(f"Qwen3-ASR does not hear {language!r}.", parameter="language")
    return language


@asynccontextmanager
async def factory(settings: Mapping[str, str]) -> AsyncIterator[Recognizer]:
    """Qwen3-ASR, loaded.

    Args:
        settings: the fields of ``setup.Setup``, as text.

    Raises:
        EngineUnavailable: torch or transformers is not installed, no model is named, or it does not load.
        ValueError: a setting is unknown or out of range.
    """
    setup = setups.read(settings)
    setups.check_packages("Qwen3-ASR")
    if not setup.folder:
        raise EngineUnavailable("Qwen3-ASR needs a checkpoint; set QASR_QWEN3_ASR__FOLDER to its folder")
    async with WorkerPool(
        "qasr.engines.qwen3.host:factory",
        msgspec.to_builtins(setup),
        parallel=setup.parallel_calls + STREAMS_AT_ONCE,
        grace_s=GRACE_S,
    ) as pool:
        about = await setups.wait_loaded(pool, "Qwen3-ASR")
        log.info("qwen3_asr_loaded", folder=setup.folder, precision=setup.precision, device=about["device"])
        async with _Qwen3Asr(pool, setup) as engine:
            yield engine
