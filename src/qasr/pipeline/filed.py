"""Long recordings, by way of the object store, in three kinds of steps that may each be done again::

    cut    address → file → samples → segments → groups:   work/<task>/<number>/<group>.pcm
    hear   group → sentences:                              results/<task>/<number>/<group>.jsonl
                 → voices, where speakers are told apart:  results/<task>/<number>/<group>.voices.jsonl
    merge  sentences of all groups, in order → transcript: results/<task>/<number>/transcript.jsonl

A group is some segments that follow each other: what is recognized again if the process dies meanwhile. No step holds
more than a few groups in memory, however long the recording is; and what a step has written it writes again the same.
"""

import struct
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import msgspec
import numpy as np

from qasr.domain import telemetry
from qasr.domain.audio import MediaLimits, Segment, to_ms
from qasr.domain.errors import EngineFailed, NotFound
from qasr.domain.options import RecognitionOptions
from qasr.domain.speakers import Turns, Voice
from qasr.domain.transcript import Sentence
from qasr.engines.base import Capabilities
from qasr.engines.registry import LoadedEngines
from qasr.engines.room import DEFAULT, EngineRoom
from qasr.engines.slots import Lane
from qasr.pipeline.decode import Decoder
from qasr.pipeline.diarize import attributed, diarizer_of, turns_by_channel, voices_in
from qasr.pipeline.fetch import Fetcher, discard
from qasr.pipeline.flow import ordered_map
from qasr.pipeline.language import in_known_language
from qasr.pipeline.normalize import written
from qasr.pipeline.recognize import Turn, recognize
from qasr.pipeline.recorded import segments
from qasr.pipeline.seats import Seats
from qasr.pipeline.segment import SegmentPolicy
from qasr.storage.objects import Objects
from qasr.storage.transcripts import TranscriptHeader, Transcripts, lines_of
from qasr.storage.uploads import SCHEME, Uploads

MOST_SEGMENTS: Final = 8
"""Of a group."""
MOST_GROUP_MS: Final = 120_000
"""Of speech in a group of several segments: 4 MB."""
LEAST_HEARD: Final = 4
"""Groups of one owner that may be in memory at once for one engine; more where it takes more. One is 8 MB."""
OWNERS: Final = 2
"""Of all owners together there may be so many times as much."""
ABANDONED_S: Final = 24 * 3600
"""Age of what remains of a download; no step lasts as long."""
_LENGTH: Final = struct.Struct("<I")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One recording of one task."""

    task_id: str
    number: int

    def group(self, group: int) -> str:
        """Key of the segments of a group."""
        return f"{self.work}{group}.pcm"

    def heard(self, group: int) -> str:
        """Key of the sentences of a group."""
        return f"{self.results}{group}.jsonl"

    def voices(self, group: int) -> str:
        """Key of the voices of a group."""
        return f"{self.results}{group}.voices.jsonl"

    @property
    def work(self) -> str:
        """Where keys of segments begin."""
        return f"work/{self.task_id}/{self.number}/"

    @property
    def results(self) -> str:
        """Where keys of sentences begin."""
        return f"results/{self.task_id}/{self.number}/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be done with a recording."""

    url: str
    owner: str
    options: RecognitionOptions
    limits: MediaLimits
    model: str = DEFAULT
    """Public name."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What ``cut`` found out."""

    groups: int
    container: str
    codec: str
    rate_hz: int
    channels: tuple[int, ...]
    duration_ms: int
    speech_ms: tuple[int, ...]
    damaged_packets: int

    @property
    def is_short(self) -> bool:
        """One group at most: cut, heard and merged in one go, which may have to begin again at the file."""
        return self.groups <= 1


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What ``hear`` found out."""

    ms: int
    """Length of the segments."""
    sentences: int
    language: str | None
    engine: str | None = None
    """By name; None in results of earlier versions."""


class _Voices(msgspec.Struct, frozen=True):
    """What comes before the voices of a group: by which models they were found."""

    models: str


class _Piece(msgspec.Struct, frozen=True):
    """A segment in a group's index."""

    begin_ms: int
    channel: int
    speech_probability: float
    n_samples: int


_sentence = msgspec.json.Decoder(Sentence)
_heard = msgspec.json.Decoder(Heard)
_voices = msgspec.json.Decoder(_Voices)
_voice = msgspec.json.Decoder(Voice)
_pieces = msgspec.json.Decoder(list[_Piece])


class Filed:
    """The steps.

    Args:
        objects: where groups and results go.
        engines: what hears.
        folder: on this machine, for downloads; they go on there after a crash.
        cuts: recordings that are decoded at once. Each occupies a decoder for minutes, so that one should be left for
            requests that somebody waits for.
    """

    def __init__(
        self,
        *,
        objects: Objects,
        engines: EngineRoom,
        decoder: Decoder,
        fetcher: Fetcher,
        uploads: Uploads,
        folder: Path,
        cuts: int,
    ) -> None:
        self._objects, self._transcripts, self._engines = objects, Transcripts(objects), engines
        self._decoder, self._fetcher, self._uploads, self._folder = decoder, fetcher, uploads, folder
        self._cutting = Seats(cuts, most_of_one=max(1, cuts - 1))
        self._hearing: dict[str, Seats] = {}  # by engine

    async def cut(self, place: Place, asked: Asked) -> Plan:
        """Fetch the recording and cut it into groups. The file that was fetched is removed then, or by ``clear`` if the
        recording is short: it may have to be cut again when its address is not good any more.

        Raises:
            QasrError: it cannot be read, decoded, or is longer than allowed.
        """
        path = self._folder / f"{place.task_id}-{place.number}"
        await anyio.Path(self._folder).mkdir(parents=True, exist_ok=True)
        with telemetry.stage("fetch"):
            if asked.url.startswith(SCHEME):
                await self._uploads.fetch(asked.url, asked.owner, path, max_bytes=asked.limits.max_bytes)
            else:
                await self._fetcher.fetch_on(asked.url, path, max_bytes=asked.limits.max_bytes)
        async with self._cutting.seat(asked.owner), self._engines.lease(asked.model) as engines:
            plan = await self._cut(place, asked, path, engines)
        if not plan.is_short:
            await anyio.to_thread.run_sync(discard, path)
        return plan

    async def _cut(self, place: Place, asked: Asked, path: Path, engines: LoadedEngines) -> Plan:
        policy = SegmentPolicy(longest_ms=int(engines.slots.capabilities.longest_s * 1000))
        channels = asked.options.channels or (0,)
        speech_ms = dict.fromkeys(channels, 0)
        group = _Group()
        n_groups = 0
        async with self._decoder.decode(path, limits=asked.limits, channels=asked.options.channels) as stream:
            async for segment in segments(stream.blocks(), engines.vad, policy, asked.options.channels):
                if not group.takes(segment):
                    await self._objects.write(place.group(n_groups), group.encode())
                    n_groups, group = n_groups + 1, _Group()
                group.add(segment)
                speech_ms[segment.channel] += to_ms(len(segment.pcm))
            if group.ms:
                await self._objects.write(place.group(n_groups), group.encode())
                n_groups += 1
            return Plan(
                groups=n_groups,
                container=stream.info.container,
                codec=stream.info.codec,
                rate_hz=stream.info.rate_hz,
                channels=channels,
                duration_ms=stream.duration_ms,
                speech_ms=tuple(speech_ms[channel] for channel in channels),
                damaged_packets=stream.damaged_packets,
            )

    async def hear(self, place: Place, group: int, asked: Asked) -> Heard:
        """Recognize one group, unless its result is there already.

        Raises:
            EngineError: the engine failed.
            CapacityError: too much is waiting for it.
            UnsupportedLanguage: the recording is in no language of the engine.
        """
        try:
            return await self._recall(place, group)
        except NotFound:
            pass
        async with (
            self._engines.lease(asked.model) as engines,
            self._seats(engines.slots.capabilities).seat(asked.owner),
        ):
            return await self._hear(place, group, asked, engines)

    async def _hear(self, place: Place, group: int, asked: Asked, engines: LoadedEngines) -> Heard:
        try:
            pieces = decode_group(await self._objects.read(place.group(group)))
        except (NotFound, msgspec.MsgspecError, ValueError, struct.error) as error:
            raise EngineFailed("Intermediate results of the recording were lost.") from error
        judged = group == 0 and not asked.options.hints.language
        sentences = await _recognized(pieces, asked, engines, judged=judged)
        if asked.options.speakers:
            await self._find_voices(place, group, pieces, engines)
        heard = Heard(
            ms=sum(to_ms(len(piece.pcm)) for piece in pieces),
            sentences=len(sentences),
            language=next((s.language for s in sentences if s.language), asked.options.hints.language),
            engine=engines.name,
        )
        encode = msgspec.json.Encoder().encode
        await self._objects.write(place.heard(group), b"\n".join([encode(heard), *map(encode, sentences), b""]))
        return heard

    async def _find_voices(self, place: Place, group: int, pieces: list[Segment], engines: LoadedEngines) -> None:
        """Written before the sentences: where these are, nothing is done again."""
        diarizer = await diarizer_of(engines)
        encode = msgspec.json.Encoder().encode
        lines = [encode(_Voices(diarizer.name))]
        async with ordered_map(partial(voices_in, diarizer=diarizer), _each(pieces), ahead=len(pieces)) as found:
            lines += [encode(voice) async for voices in found for voice in voices]
        await self._objects.write(place.voices(group), b"\n".join([*lines, b""]))

    async def _turns(self, place: Place, plan: Plan, asked: Asked) -> dict[int, Turns]:
        """Who speaks when on each channel; what voices are like is held for the whole recording: 1 KB each, of which
        there are some 20 a minute.
        """
        if not asked.options.speakers:
            return {}
        async with self._engines.lease(asked.model) as engines:
            diarizer = await diarizer_of(engines)
            voices: list[Voice] = []
            for group in range(plan.groups):
                is_first = True
                async for line in lines_of(self._objects.read_stream(place.voices(group))):
                    if not is_first:
                        voices.append(_voice.decode(line))
                    elif _voices.decode(line).models != diarizer.name:
                        raise EngineFailed("The models that tell speakers apart were exchanged during the task.")
                    is_first = False
            return await turns_by_channel(voices, diarizer, asked.options)

    def _seats(self, engine: Capabilities) -> Seats:
        """For groups: as many of one owner as keep the engine busy while others are read and written."""
        if engine.name not in self._hearing:
            busy = -(-engine.parallel_calls * engine.largest_batch // MOST_SEGMENTS)
            most = max(LEAST_HEARD, 2 * busy)
            self._hearing[engine.name] = Seats(OWNERS * most, most_of_one=most)
        return self._hearing[engine.name]

    async def _recall(self, place: Place, group: int) -> Heard:
        async for line in lines_of(self._objects.read_stream(place.heard(group))):
            return _heard.decode(line)
        raise NotFound("The result is empty.")

    async def merge(self, place: Place, plan: Plan, asked: Asked, language: str | None) -> None:
        """Make the transcript of the results of all groups, and remove what it was made from."""
        try:
            await self._transcripts.header(place.task_id, place.number)
        except NotFound:
            header = TranscriptHeader(
                url=asked.url,
                container=plan.container,
                codec=plan.codec,
                rate_hz=plan.rate_hz,
                channels=plan.channels,
                duration_ms=plan.duration_ms,
                speech_ms=plan.speech_ms,
                damaged_packets=plan.damaged_packets,
                engine=await self._engine(place, plan, asked),
                language=asked.options.hints.language or language,
            )
            turns = await self._turns(place, plan, asked)
            await self._transcripts.write(place.task_id, place.number, header, self._sentences(place, plan, turns))
        await self.clear(place, plan.groups)

    async def _engine(self, place: Place, plan: Plan, asked: Asked) -> str:
        """Which engine heard the beginning; where nothing was there to hear, which would have."""
        heard = (await self._recall(place, 0)).engine if plan.groups else None
        return heard or self._engines.chosen(asked.model).engine

    async def _sentences(self, place: Place, plan: Plan, turns: dict[int, Turns]) -> AsyncIterator[Sentence]:
        """All sentences, one channel after the other; results are read once per channel, and never held together."""
        for channel in plan.channels:
            for group in range(plan.groups):
                is_first = True
                async for line in lines_of(self._objects.read_stream(place.heard(group))):
                    if not is_first and (sentence := _sentence.decode(line)).channel == channel:
                        for part in attributed(sentence, turns.get(channel)):
                            yield part
                    is_first = False

    async def clear(self, place: Place, groups: int) -> None:
        """Remove what is not needed once the transcript is there, or will not be."""
        await self._objects.delete_under(place.work)
        for group in range(groups):
            await self._objects.delete(place.heard(group))
            await self._objects.delete(place.voices(group))
        await anyio.to_thread.run_sync(discard, self._folder / f"{place.task_id}-{place.number}")

    async def forget(self, task_id: str) -> None:
        """Remove all that there is of a task."""
        await self._objects.delete_under(f"work/{task_id}/")
        await self._transcripts.delete(task_id)
        for path in await anyio.to_thread.run_sync(lambda: list(self._folder.glob(f"{task_id}-*"))):
            await anyio.to_thread.run_sync(partial(path.unlink, missing_ok=True))

    async def sweep(self) -> None:
        """Remove downloads that nobody has gone on with for long: those of tasks that another server has taken over."""
        before_s = time.time() - ABANDONED_S

        def remove() -> None:
            for path in self._folder.glob("*"):
                with suppress(FileNotFoundError):  # its task has ended meanwhile
                    if path.stat().st_mtime < before_s:
                        path.unlink()

        await anyio.to_thread.run_sync(remove)


async def _recognized(pieces: list[Segment], asked: Asked, engines: LoadedEngines, *, judged: bool) -> list[Sentence]:
    """The sentences of *pieces*; *judged*: first by whether the engine knows the language."""
    turn = Turn(lane=Lane.FILE, owner=asked.owner)

    async def hear(segment: Segment) -> tuple[Sentence, ...]:
        heard = await recognize(segment, asked.options, engines, turn)
        options, engine = asked.options, engines.slots.capabilities
        return written(heard, engine, itn=options.itn, drop_fillers=options.drop_fillers)

    async with ordered_map(hear, _each(pieces), ahead=len(pieces)) as heard:
        passed = in_known_language(heard, engines.slots.capabilities) if judged else heard
        return [sentence async for sentences in passed for sentence in sentences]


async def _each(pieces: Iterable[Segment]) -> AsyncIterator[Segment]:
    for piece in pieces:
        yield piece


class _Group:
    """Segments on their way to the store, as 16 bits per sample: twice as small, and no engine hears the difference."""

    def __init__(self) -> None:
        self.ms = 0
        self._pieces: list[_Piece] = []
        self._samples: list[bytes] = []

    def takes(self, segment: Segment) -> bool:
        """Whether *segment* still belongs to it."""
        small = len(self._pieces) < MOST_SEGMENTS and self.ms + to_ms(len(segment.pcm)) <= MOST_GROUP_MS
        return not self._pieces or small

    def add(self, segment: Segment) -> None:
        self.ms += to_ms(len(segment.pcm))
        self._pieces.append(
            _Piece(segment.begin_ms, segment.channel, round(segment.speech_probability, 4), len(segment.pcm))
        )
        self._samples.append(np.rint(np.clip(segment.pcm, -1, 1) * 32767).astype("<i2").tobytes())

    def encode(self) -> bytes:
        """Length of the index (4 bytes, little-endian), index (JSON), samples of all segments."""
        index = msgspec.json.encode(self._pieces)
        return b"".join([_LENGTH.pack(len(index)), index, *self._samples])


def decode_group(data: bytes) -> list[Segment]:
    """The segments of a group as it was stored.

    Raises:
        ValueError, struct.error, msgspec.MsgspecError: it is no group.
    """
    (n_index,) = _LENGTH.unpack_from(data)
    pieces = _pieces.decode(data[_LENGTH.size : _LENGTH.size + n_index])
    samples = np.frombuffer(data, "<i2", offset=_LENGTH.size + n_index)
    if len(samples) != sum(piece.n_samples for piece in pieces):
        raise ValueError("the samples do not fit the index")
    found, start = [], 0
    for piece in pieces:
        pcm = samples[start : start + piece.n_samples].astype(np.float32) / np.float32(32767)
        start += piece.n_samples
        found.append(
            Segment(
                pcm=pcm, begin_ms=piece.begin_ms, channel=piece.channel, speech_probability=piece.speech_probability
            )
        )
    return found


__all__ = ["Asked", "Filed", "Heard", "Place", "Plan", "decode_group"]
