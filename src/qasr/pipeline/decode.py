"""Recordings become samples: our end of the processes that decode, see ``media.py`` for theirs.

::

    Decoder ──Job──▶ child: open, demux, decode, resample
            ◀─Found─        once the first sound has been decoded
            ◀─Block─        float32 [n_channels, n_samples], again and again
            ◀─End / Fail    or it dies, and the pool starts another

A stranger's file can crash, stall or bloat its parser; that costs the one call it came with, and is the file's fault.
Where the process was killed from outside (``workers/pool.py`` tells it by the signal), it is ours, and may be tried
again: the limits below end a process by other signals, or with an error that it reports itself. What a child may use is
bounded twice: by itself (memory, CPU time, no files to write) and by us (it must answer within ``STALL_S``, and who
leaves the block kills what does not stop).
"""

import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeAlias

import anyio
import msgspec
import numpy as np
import numpy.typing as npt
import structlog

from qasr.domain import telemetry
from qasr.domain.audio import MediaInfo, MediaLimits, RawFormat, to_ms
from qasr.domain.errors import (
    Empty,
    EngineFailed,
    EngineUnavailable,
    InvalidParameter,
    NoAudioTrack,
    QasrError,
    TooLarge,
    TooLong,
    Undecodable,
)
from qasr.workers import CallFailed, Replies, WorkerDied, WorkerKilled, WorkerPool

STALL_S: Final = 30.0
"""Seconds of wall clock in which a child must give the next block; it needs some 20 ms. Slow readers do not count."""
CPU_S: Final = 20.0
CPU_PER_AUDIO_S: Final = 0.02
"""CPU seconds that one call may use: so much for any file, and so much more for each second that its limit allows.
The slowest of our formats, Opus, takes .003; wav .0005."""
TOO_COSTLY: Final = "The audio could not be decoded within the resources that one recording may use."
KILLED: Final = "The process that decoded the recording was ended from outside; retry."

Pcm2: TypeAlias = npt.NDArray[np.float32]
"""Samples ``[n_channels, n_samples]`` at 16 kHz, within [-1, 1]; not writable."""

log = structlog.get_logger(__name__)


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a child is asked to do."""

    path: bytes | None
    """None: the payload is the recording."""
    max_bytes: int
    max_ms: int
    cpu_s: float
    channels: tuple[int, ...] | None
    raw: RawFormat | None


class Found(msgspec.Struct, tag="found", frozen=True):
    """What was found; sent once the first sound has been decoded."""

    info: MediaInfo


class Block(msgspec.Struct, tag="block", frozen=True):
    """Samples in the payload, float32 ``[n_channels, n_samples]``; the last block may be empty."""

    n_channels: int
    damaged_packets: int


_answers = msgspec.msgpack.Decoder(Found | Block)

KINDS: Final[Mapping[str, Callable[[str], QasrError]]] = {
    "undecodable": Undecodable,
    "empty": Empty,
    "no_audio_track": NoAudioTrack,
    "no_such_channel": lambda message: InvalidParameter(message, parameter="channel_id"),
    "too_long": TooLong,
    "too_large": TooLarge,
}
"""The child's words for a refusal, and ours."""


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except CallFailed as failed:
        if failed.kind in KINDS:
            raise KINDS[failed.kind](str(failed)) from failed
        log.error("decoder_failed", detail=str(failed))  # noqa: TRY400 - the traceback is the child's, and gone
        raise Undecodable(TOO_COSTLY) from failed
    except WorkerKilled as killed:
        raise EngineFailed(KILLED) from killed
    except WorkerDied as died:
        raise Undecodable(TOO_COSTLY) from died
    except TimeoutError as late:
        raise Undecodable(TOO_COSTLY) from late


class DecodedStream:
    """One recording while it is being decoded.

    ``duration_ms`` and ``damaged_packets`` count up to the block read last; they are final once ``blocks`` has ended.
    """

    def __init__(self, replies: Replies, info: MediaInfo, stage: ExitStack) -> None:
        self.info = info
        self.duration_ms = 0
        self.damaged_packets = 0
        self._replies, self._stage = replies, stage  # the stage ends with the last block

    async def blocks(self) -> AsyncIterator[Pcm2]:
        """The samples in order, once; about ten seconds in each block, less in the first and the last.

        Raises:
            TooLong: the limit was reached; what came before it was good.
            Undecodable: nothing could be decoded, or the decoder broke on it.
            EngineFailed: the decoder was killed; the recording may be good.
        """
        n_samples = 0
        with self._stage:
            while True:
                with _translated():
                    answer = await _next(self._replies)
                if answer is None:
                    return
                block, payload = answer
                if not isinstance(block, Block):
                    raise Undecodable(TOO_COSTLY)
                self.damaged_packets = block.damaged_packets
                pcm = np.frombuffer(payload, np.float32).reshape(block.n_channels, -1)
                n_samples += pcm.shape[1]
                self.duration_ms = to_ms(n_samples)
                if pcm.shape[1]:
                    yield pcm


async def _next(replies: Replies) -> tuple[Found | Block, bytes] | None:
    with anyio.fail_after(STALL_S):
        try:
            body, payload = await anext(replies)
        except StopAsyncIteration:
            return None
    return _answers.decode(body), payload


class Decoder:
    """Decodes recordings in *processes* children; an async context manager.

    One recording occupies one child from ``decode`` to the end of its block, however slowly its reader reads.
    """

    def __init__(self, *, processes: int) -> None:
        self._pool = WorkerPool("qasr.pipeline.media:factory", {}, size=processes)

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.__aexit__(kind, error, trace)

    @property
    def pids(self) -> list[int]:
        """The children that live now."""
        return self._pool.pids

    @property
    def is_ready(self) -> bool:
        """Whether a child can take work."""
        return self._pool.is_ready

    async def wait_ready(self) -> None:
        """Wait until every child can take work."""
        await self._pool.wait_ready()

    @asynccontextmanager
    async def decode(
        self,
        recording: Path | bytes,
        *,
        limits: MediaLimits,
        channels: tuple[int, ...] | None = None,
        raw: RawFormat | None = None,
    ) -> AsyncIterator[DecodedStream]:
        """Decode the first audio stream of *recording*; leaving the block stops it.

        Args:
            recording: a regular file, or what is in it. Its name says nothing: the format is recognized by content.
            limits: what it may cost; a recording that is too long and does not say so fails when the limit is reached.
            channels: tracks to keep apart, from 0, in this order; None mixes all of them to one, scaled so that it
                cannot clip: a track that is alone speaks at half its level. Of two tracks that are each other's
                negative, the first is taken.
            raw: read the file as headerless PCM.

        Raises:
            Undecodable: not audio, or it broke the decoder.
            NoAudioTrack: a container without sound.
            InvalidParameter: a track in *channels* does not exist.
            TooLarge: more bytes than *limits* allow.
            TooLong: it says so itself; one that does not say it fails in ``DecodedStream.blocks``.
            EngineFailed: the decoder was killed; the recording may be good.
            EngineUnavailable: no decoder has come up for a long time.
        """
        path, data = (None, recording) if isinstance(recording, bytes) else (_absolute(recording), b"")
        job = Job(
            path=path,
            max_bytes=limits.max_bytes,
            max_ms=limits.max_ms,
            cpu_s=CPU_S + limits.max_ms / 1000 * CPU_PER_AUDIO_S,
            channels=channels,
            raw=raw,
        )
        async with AsyncExitStack() as call:
            with ExitStack() as opening:
                opening.enter_context(telemetry.stage("decode", is_current=False))
                try:
                    replies = await call.enter_async_context(self._pool.call("decode", job, data))
                except WorkerDied as error:
                    raise EngineUnavailable("The media decoders cannot be started.") from error
                with _translated():
                    answer = await _next(replies)
                if answer is None or not isinstance(answer[0], Found):
                    raise Undecodable(TOO_COSTLY)
                stage = call.enter_context(opening.pop_all())
            yield DecodedStream(replies, answer[0].info, stage)


def _absolute(path: Path) -> bytes:
    return os.path.abspath(os.fsencode(path))  # noqa: PTH100 - touches no disk
