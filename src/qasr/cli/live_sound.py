"""Where ``qasr live`` gets its sound: a file played at the speed of speech, standard input, a microphone.

All of them give pieces of 100 ms at 16 kHz. A file, and a pipe that has everything at once, are slowed down to the
speed at which they were spoken; a microphone is as fast as it is.
"""

import os
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Final

import anyio
import numpy as np
from anyio.abc import ByteReceiveStream

from qasr.cli.failure import one_line
from qasr.domain.audio import SAMPLE_RATE, LiveCodec, LiveFormat, MediaLimits, Pcm
from qasr.pipeline.decode import Decoder
from qasr.pipeline.live_decode import LiveDecoders

PIECE: Final = SAMPLE_RATE // 10
"""Samples of 100 ms."""
READ_BYTES: Final = 16 * 1024
LIMITS: Final = MediaLimits(max_bytes=2 * 1024**3, max_ms=12 * 3600 * 1000)
CATCH_UP_S: Final = 1.0
"""A pipe that stood still may give so much faster afterwards."""
RECORDERS: Final = (
    "pw-record --rate 16000 --channels 1 --format s16 -",
    "parec --rate=16000 --channels=1 --format=s16le --raw",
    "arecord --quiet --rate 16000 --channels 1 --format S16_LE --file-type raw",
    "rec -q -t raw -r 16000 -c 1 -b 16 -e signed-integer -",
)
"""PipeWire, PulseAudio, ALSA, SoX."""


class NoSound(Exception):
    """There is none; the message tells why and what to do."""


async def of_file(path: Path) -> AsyncGenerator[Pcm]:
    """A recording of any format, all its channels mixed.

    Raises:
        QasrError: it cannot be decoded.
    """
    async with (
        Decoder(processes=1) as decoder,
        decoder.decode(path, limits=LIMITS, channels=None) as stream,
        aclosing(_pieces(block[0] async for block in stream.blocks())) as pieces,
        aclosing(_paced(pieces)) as paced,
    ):
        async for piece in paced:
            yield piece


async def of_stdin(rate_hz: int) -> AsyncGenerator[Pcm]:
    """A wav stream, or samples without a header.

    Raises:
        QasrError: it is a damaged wav stream.
    """
    async with (
        aclosing(_decoded(_stdin(), rate_hz)) as samples,
        aclosing(_pieces(samples)) as pieces,
        aclosing(_paced(pieces)) as paced,
    ):
        async for piece in paced:
            yield piece


async def of_microphone(command: str | None) -> AsyncGenerator[Pcm]:
    """What a recording program hears.

    Args:
        command: the program and its arguments; None: one that is installed.

    Raises:
        NoSound: there is no such program, or it gave up.
    """
    words = shlex.split(command) if command else _installed()
    try:
        process = await anyio.open_process(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    except OSError as error:
        raise NoSound(f"{words[0]} cannot be started: {error.strerror}") from error
    async with process:
        assert process.stdout is not None
        try:
            async with (
                aclosing(_decoded(_received(process.stdout), SAMPLE_RATE)) as samples,
                aclosing(_pieces(samples)) as pieces,
            ):
                async for piece in pieces:
                    yield piece
            if await process.wait() != 0:
                assert process.stderr is not None
                told = b"".join([chunk async for chunk in _received(process.stderr)]).decode(errors="replace")
                raise NoSound(f"{words[0]} gave up: {one_line(told) or f'exit code {process.returncode}'}")
        finally:
            if process.returncode is None:
                process.terminate()


def _installed() -> list[str]:
    for command in RECORDERS:
        words = shlex.split(command)
        if shutil.which(words[0]):
            return words
    names = ", ".join(command.partition(" ")[0] for command in RECORDERS)
    raise NoSound(
        f"no program that records was found ({names}); name one with --recorder, or pipe sound in: … | qasr live -"
    )


async def _received(stream: ByteReceiveStream) -> AsyncGenerator[bytes]:
    try:
        while True:
            yield await stream.receive(READ_BYTES)
    except anyio.EndOfStream:
        return


async def _stdin() -> AsyncGenerator[bytes]:
    """What comes, when it comes."""
    descriptor = sys.stdin.fileno()
    may_block = not stat.S_ISREG(os.fstat(descriptor).st_mode)
    while True:
        if may_block:
            await anyio.wait_readable(descriptor)
        data = os.read(descriptor, READ_BYTES)
        if not data:
            return
        yield data


async def _decoded(chunks: AsyncIterator[bytes], rate_hz: int) -> AsyncGenerator[Pcm]:
    """*chunks* as samples: a wav stream, if they begin like one, or else 16 bits at *rate_hz*."""
    async with AsyncExitStack() as held:
        decoders = await held.enter_async_context(LiveDecoders(processes=0))  # none of the formats needs any
        stream = None
        async for data in chunks:
            if stream is None:
                codec: LiveCodec = "wav" if data.startswith(b"RIFF") else "pcm"
                stream = await held.enter_async_context(decoders.open(LiveFormat(codec=codec, rate_hz=rate_hz)))
            async for pcm in stream.feed(data):
                yield pcm
        if stream is not None:
            async for pcm in stream.finish():
                yield pcm


async def _pieces(samples: AsyncIterator[Pcm]) -> AsyncGenerator[Pcm]:
    """*samples* cut anew into pieces of 100 ms, the last one shorter."""
    rest = np.zeros(0, np.float32)
    async for more in samples:
        rest = np.concatenate([rest, more])
        while len(rest) >= PIECE:
            yield rest[:PIECE]
            rest = rest[PIECE:]
    if len(rest):
        yield rest


async def _paced(pieces: AsyncIterator[Pcm]) -> AsyncGenerator[Pcm]:
    """Each piece when it would have been spoken to its end, or when it comes, if that is later."""
    due_s = anyio.current_time()
    async for piece in pieces:
        due_s += len(piece) / SAMPLE_RATE
        await anyio.sleep_until(due_s)
        yield piece
        due_s = max(due_s, anyio.current_time() - CATCH_UP_S)
