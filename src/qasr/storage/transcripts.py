"""Finished transcripts of tasks, in the object store: one file of JSON lines per recording.

The first line is the header, each other line a sentence, ordered by channel and time. Files are written and read as
streams: twelve hours of sentences with their words are some 50 MB, and memory stays flat.
"""

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass

import msgspec

from qasr.domain.errors import NotFound
from qasr.domain.transcript import Sentence
from qasr.storage.objects import Objects


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptHeader:
    """What is known of a recording besides its sentences."""

    url: str
    """As the client wrote it."""
    container: str
    codec: str
    rate_hz: int
    channels: tuple[int, ...]
    """Tracks that were recognized, each by itself; ``(0,)`` also where all were mixed to one."""
    duration_ms: int
    speech_ms: tuple[int, ...]
    """Length of the segments of each of ``channels``."""
    damaged_packets: int
    engine: str
    language: str | None


_header = msgspec.json.Decoder(TranscriptHeader)
_sentence = msgspec.json.Decoder(Sentence)


class Transcripts:
    """Transcripts by task and number of the recording in it."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def header(self, task_id: str, number: int) -> TranscriptHeader:
        """Facts about the recording.

        Raises:
            NotFound: there is no such transcript, or not yet, or no longer.
        """
        async for line in self._lines(task_id, number):
            return _header.decode(line)
        raise NotFound("The transcript is empty.")  # the power failed while it was written

    async def sentences(self, task_id: str, number: int) -> AsyncIterator[Sentence]:
        """All sentences, ordered by channel and time.

        Raises:
            NotFound: there is no such transcript, or not yet, or no longer.
        """
        is_header = True
        async for line in self._lines(task_id, number):
            if not is_header:
                yield _sentence.decode(line)
            is_header = False

    async def write(
        self, task_id: str, number: int, header: TranscriptHeader, sentences: AsyncIterable[Sentence]
    ) -> None:
        """Store a transcript, in place of one that is there; *sentences* come in their order."""

        async def lines() -> AsyncIterator[bytes]:
            encoder = msgspec.json.Encoder()
            yield encoder.encode(header) + b"\n"
            async for sentence in sentences:
                yield encoder.encode(sentence) + b"\n"

        await self._objects.write_stream(_key(task_id, number), lines())

    async def delete(self, task_id: str) -> None:
        """Forget all transcripts of the task, and what they were made from."""
        await self._objects.delete_under(f"results/{task_id}/")

    def _lines(self, task_id: str, number: int) -> AsyncIterator[bytes]:
        return lines_of(self._objects.read_stream(_key(task_id, number)))


async def lines_of(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The lines of a file that comes in *chunks*."""
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
    if rest:
        yield rest


def _key(task_id: str, number: int) -> str:
    return f"results/{task_id}/{number}/transcript.jsonl"
