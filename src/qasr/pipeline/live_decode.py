"""Live sound comes in: bytes as a client sends them, in pieces of any size, become samples while they come.

::

    pcm wav mulaw alaw        read in this process, see live_pcm.py
    mp3 aac amr opus speex    Piece ──▶ child: packets, frames, samples, see live_media.py
                                    ◀── float32 [n_samples]

A child serves many streams, one piece at a time, and keeps the state of each between its pieces. When it dies, all
streams in it fail; the next one finds a new child. What cannot be told from another cutting of the same bytes is not
told: the samples are the same. Encoders put some silence before the sound (AAC and MP3 up to 70 ms); it is left there.

What a client can make us keep is bounded: ``PIECE`` bytes on their way, what they may decode to (``live_media.py``
counts), a packet that is not complete, and ``STREAMS`` streams in each child.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Protocol, Self

import anyio
import anyio.lowlevel
import msgspec
import numpy as np
import structlog

from qasr.domain.audio import HIGHEST_RATE_HZ, LOWEST_RATE_HZ, LiveFormat, Pcm
from qasr.domain.errors import EngineFailed, InvalidParameter, QueueFull, Undecodable
from qasr.pipeline import live_pcm
from qasr.workers import CallFailed, WorkerDied, WorkerPool

PIECE: Final = 4 * 1024
"""Bytes that a child decodes at once: half a second of MP3 at 64 kbit/s, never more than two minutes of anything."""
LINEAR_PIECE: Final = 32 * 1024
"""Bytes that are read at once here: a second of PCM at 16 kHz."""
STREAMS: Final = 64
"""Streams that one child keeps."""
STALL_S: Final = 30.0
"""Seconds in which a child must answer for a piece, the pieces of others before it included; it needs milliseconds."""
ENDED: Final = "The process that decoded this audio ended; please try again."

log = structlog.get_logger(__name__)


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """Some bytes of one stream, in the payload; what a child is asked to decode."""

    stream: int
    codec: str
    turn: int
    """Counts the pieces of the stream; at 0 it begins."""
    last: bool
    ended: tuple[int, ...]
    """Streams that nobody wants any more."""


class LiveStream(Protocol):
    """One session's sound while it comes; fed by one task, in order.

    A feed that fails, is cancelled or is not read to its end ends the stream.
    """

    def feed(self, data: bytes) -> AsyncGenerator[Pcm, None]:
        """What *data* adds, in pieces that are not empty.

        Raises:
            Undecodable: the bytes are not of the format, or decode to more than sound does.
            EngineFailed: the process that decoded the stream ended.
        """
        ...

    def finish(self) -> AsyncGenerator[Pcm, None]:
        """What remains when no byte will follow. Raises as ``feed`` does; also where there were bytes but no sound."""
        ...


class LiveDecoders:
    """Reads live sound of all formats, compressed ones in *processes* children; an async context manager."""

    def __init__(self, *, processes: int) -> None:
        self._children = [_Child(WorkerPool("qasr.pipeline.live_media:factory", {})) for _ in range(processes)]
        self._stack = AsyncExitStack()
        self._n_streams = 0

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for child in self._children:
                await stack.enter_async_context(child.pool)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    @property
    def pids(self) -> list[int]:
        """The children that live now."""
        return [pid for child in self._children for pid in child.pool.pids]

    @property
    def is_ready(self) -> bool:
        """Whether every child can take work."""
        return all(child.pool.is_ready for child in self._children)

    async def wait_ready(self) -> None:
        """Wait until every child can take work."""
        for child in self._children:
            await child.pool.wait_ready()

    @asynccontextmanager
    async def open(self, form: LiveFormat) -> AsyncIterator[LiveStream]:
        """A stream of *form*; leaving the block frees what it held.

        Raises:
            InvalidParameter: nobody records at such a rate.
            QueueFull: the children have as many streams as they take.
        """
        if not LOWEST_RATE_HZ <= form.rate_hz <= HIGHEST_RATE_HZ:
            raise InvalidParameter(
                f"A sample rate of {form.rate_hz} Hz is not supported; {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz are.",
                parameter="sample_rate",
            )
        if form.codec in {"pcm", "wav", "mulaw", "alaw"}:
            yield _LinearStream(live_pcm.sound(form))
            return
        child = min(self._children, key=lambda child: child.n_streams)
        if child.n_streams >= STREAMS:
            raise QueueFull("Too many compressed audio streams are open; please try again later.")
        number, self._n_streams = self._n_streams, self._n_streams + 1
        stream = _DecodedStream(child, number, form.codec)
        child.n_streams += 1
        try:
            yield stream
        finally:
            child.n_streams -= 1
            if stream.is_kept:
                child.ended.add(number)


@dataclass(slots=True, eq=False)
class _Child:
    """A pool of one, so that a stream's pieces all come to the same process."""

    pool: WorkerPool
    n_streams: int = 0
    ended: set[int] = field(default_factory=set)
    """Streams that it still has to forget; it is told with the next piece of another."""


class _LinearStream:
    def __init__(self, sound: live_pcm.Sound) -> None:
        self._sound = sound

    async def feed(self, data: bytes) -> AsyncGenerator[Pcm, None]:
        for at in range(0, len(data), LINEAR_PIECE):
            pcm = self._sound.feed(data[at : at + LINEAR_PIECE])
            if len(pcm):
                yield pcm
            await anyio.lowlevel.checkpoint()

    async def finish(self) -> AsyncGenerator[Pcm, None]:
        pcm = self._sound.finish()
        if len(pcm):
            yield pcm


class _DecodedStream:
    def __init__(self, child: _Child, number: int, codec: str) -> None:
        self._child, self._number, self._codec = child, number, codec
        self._turn = 0
        self._usable = True
        self.is_kept = False
        """Whether the child may hold something for it."""

    async def feed(self, data: bytes) -> AsyncGenerator[Pcm, None]:
        for at in range(0, len(data), PIECE):
            pcm = await self._ask(data[at : at + PIECE], last=False)
            if len(pcm):
                yield pcm

    async def finish(self) -> AsyncGenerator[Pcm, None]:
        if self._turn and len(pcm := await self._ask(b"", last=True)):
            yield pcm

    async def _ask(self, data: bytes, *, last: bool) -> Pcm:
        if not self._usable:
            raise RuntimeError("the stream has ended, or is being fed by another task")
        self._usable, self.is_kept = False, True
        piece = Piece(
            stream=self._number, codec=self._codec, turn=self._turn, last=last, ended=tuple(self._child.ended)
        )
        with _translated(), anyio.fail_after(STALL_S):
            async with self._child.pool.call("decode", piece, data) as replies:
                answer = b"".join([samples async for _, samples in replies])
        self._child.ended.difference_update(piece.ended)
        self._turn += 1
        self._usable = self.is_kept = not last
        return np.frombuffer(answer, np.float32)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except CallFailed as failed:
        if failed.kind == "gone":
            raise EngineFailed(ENDED) from failed
        if failed.kind != "undecodable":
            log.error("live_decoder_failed", detail=str(failed))  # noqa: TRY400 - the traceback is the child's, and gone
        raise Undecodable(live_pcm.FAILED) from failed
    except (WorkerDied, TimeoutError) as died:
        raise EngineFailed(ENDED) from died
