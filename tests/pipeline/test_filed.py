"""Long recordings by way of the object store are heard as short ones are, and every step may be done again."""

import io
import os
import struct
import time
import wave
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import Speech
from tests.pipeline.test_fetch import LOCAL, Origin, left_in, says

from qasr.domain.audio import SAMPLE_RATE, MediaLimits, Pcm, Segment
from qasr.domain.errors import EngineFailed, NotFound, TooLong, Undecodable
from qasr.domain.options import Hints, RecognitionOptions
from qasr.domain.transcript import Sentence
from qasr.engines.room import Choice, EngineRoom
from qasr.engines.slots import Lane
from qasr.pipeline.decode import Decoder
from qasr.pipeline.fetch import Fetcher
from qasr.pipeline.filed import Asked, Filed, Place, Plan, _Group, decode_group
from qasr.pipeline.recognize import Turn
from qasr.pipeline.recorded import transcription
from qasr.pipeline.segment import SegmentPolicy
from qasr.storage.objects import Objects
from qasr.storage.transcripts import Transcripts
from qasr.storage.uploads import Uploads

PLACE = Place(task_id="task-1", number=0)
LIMITS = MediaLimits(max_bytes=100 * 2**20, max_ms=3_600_000)


@dataclass
class House:
    """All that the steps need, and the folder that they leave their things in."""

    filed: Filed
    transcripts: Transcripts
    engines: EngineRoom
    decoder: Decoder
    origin: Origin
    folder: Path

    def asked(self, data: bytes, limits: MediaLimits = LIMITS, channels: tuple[int, ...] | None = None) -> Asked:
        self.origin.answers["/a.wav"] = says(200, data)
        return Asked(
            url=self.origin.url("/a.wav"),
            owner="me",
            options=RecognitionOptions(hints=Hints(language="en"), channels=channels),
            limits=limits,
        )

    async def heard(self, asked: Asked) -> tuple[Plan, list[Sentence]]:
        """By all three steps."""
        plan = await self.filed.cut(PLACE, asked)
        for group in range(plan.groups):
            await self.filed.hear(PLACE, group, asked)
        await self.filed.merge(PLACE, plan, asked, "en")
        return plan, [sentence async for sentence in self.transcripts.sentences(PLACE.task_id, PLACE.number)]

    def objects(self) -> list[str]:
        root = self.folder / "objects"
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    objects = Objects.open(None, tmp_path / "objects")
    async with (
        EngineRoom(lambda _: [Choice(engine="scripted")]) as engines,
        Decoder(processes=1) as decoder,
        Fetcher(LOCAL) as fetcher,
        Origin({}).running() as origin,
    ):
        filed = Filed(
            objects=objects,
            engines=engines,
            decoder=decoder,
            fetcher=fetcher,
            uploads=Uploads(objects, b"secret", max_bytes=1, keep=None, policy_s=1),  # type: ignore[arg-type]
            folder=tmp_path / "fetching",
            cuts=1,
        )
        yield House(filed, Transcripts(objects), engines, decoder, origin, tmp_path)


def wav(*channels: Pcm) -> bytes:
    """All *channels*, as long as the longest."""
    length = max(map(len, channels))
    samples = np.stack([np.pad(channel, (0, length - len(channel))) for channel in channels], axis=1)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(len(channels))
        out.setsampwidth(2)
        out.setframerate(SAMPLE_RATE)
        out.writeframes(np.rint(samples * 32767).astype("<i2").tobytes())
    return file.getvalue()


def talk(clip: Pcm, times: int) -> Pcm:
    pause = np.zeros(5 * SAMPLE_RATE // 2, np.float32)
    return np.concatenate([part for _ in range(times) for part in (clip, pause)])


@pytest.mark.anyio
@pytest.mark.parametrize("channels", [None, (0,), (1, 0)])
async def test_the_same_is_heard_as_in_a_short_recording(
    house: House, speech: Speech, channels: tuple[int, ...] | None
) -> None:
    """Group by group or in one stream: the same sentences; channels one after the other, each in order of time."""
    clip = speech("jfk.flac")[: 3 * SAMPLE_RATE]
    asked = house.asked(wav(talk(clip, 10), np.roll(talk(clip, 7), SAMPLE_RATE)), channels=channels)
    plan, found = await house.heard(asked)
    path = house.folder / "whole.wav"
    await anyio.Path(path).write_bytes(wav(talk(clip, 10), np.roll(talk(clip, 7), SAMPLE_RATE)))
    async with (
        house.engines.lease() as engines,
        house.decoder.decode(path, limits=LIMITS, channels=channels) as stream,
    ):
        policy = SegmentPolicy(longest_ms=30_000)
        turn = Turn(lane=Lane.FILE, owner="me")
        async with transcription(stream.blocks(), asked.options, engines, policy, turn) as heard:
            whole = [sentence async for sentences in heard for sentence in sentences]
    order = list(channels or (0,))

    assert plan.groups >= 2
    assert sorted(whole, key=lambda s: (order.index(s.channel), s.begin_ms)) == [
        *map(_as(whole), found),
    ]
    assert sum(plan.speech_ms) > 10_000


def _as(whole: list[Sentence]):  # type: ignore[no-untyped-def]
    """Probabilities are rounded in the store; all else is the same."""
    by_place = {(s.channel, s.begin_ms): s for s in whole}

    def same(sentence: Sentence) -> Sentence:
        other = by_place[sentence.channel, sentence.begin_ms]
        assert abs(other.speech_probability - sentence.speech_probability) < 1e-4
        assert (other.text, other.end_ms, other.language) == (sentence.text, sentence.end_ms, sentence.language)
        return other

    return same


@pytest.mark.anyio
async def test_only_the_transcript_is_left(house: House, speech: Speech) -> None:
    """No download, no samples, no results of groups; and nothing at all once the task is forgotten."""
    await house.heard(house.asked(wav(talk(speech("jfk.flac")[:48_000], 10))))
    left = house.objects()
    await house.filed.forget(PLACE.task_id)

    assert ["results/task-1/0/transcript.jsonl"] == left
    assert [] == house.objects()
    assert [] == left_in(house.folder / "fetching")


@pytest.mark.anyio
async def test_downloads_that_were_left_behind_are_removed_after_a_day(house: House) -> None:
    """Another server has taken their tasks over, and knows nothing of the files here."""
    folder = house.folder / "fetching"
    await anyio.Path(folder).mkdir(exist_ok=True)
    for name, age_s in (("a-0", 90_000), ("a-0.part", 90_000), ("b-0", 3_600)):
        (folder / name).touch()
        os.utime(folder / name, (time.time() - age_s,) * 2)
    await house.filed.sweep()

    assert ["b-0"] == [path.name for path in left_in(folder)]


@pytest.mark.anyio
async def test_each_step_may_be_done_again(house: House, speech: Speech) -> None:
    """With the same outcome; what was heard is not heard anew, and a merge may be cut off before it has tidied up."""
    asked = house.asked(wav(talk(speech("jfk.flac")[:48_000], 10)))
    plans = [await house.filed.cut(PLACE, asked) for _ in range(2)]
    firsts = [await house.filed.hear(PLACE, group, asked) for group in range(plans[0].groups)]
    await anyio.Path(house.folder / "objects" / PLACE.group(0)).unlink()
    again = await house.filed.hear(PLACE, 0, asked)
    await house.filed.merge(PLACE, plans[0], asked, "en")
    sentences = [s async for s in house.transcripts.sentences(PLACE.task_id, 0)]
    await house.filed.merge(PLACE, plans[0], asked, "en")

    assert plans[0] == plans[1]
    assert firsts[0] == again
    assert sentences == [s async for s in house.transcripts.sentences(PLACE.task_id, 0)]
    assert sum(first.sentences for first in firsts) == len(sentences)


@pytest.mark.anyio
async def test_a_short_recording_may_be_cut_again_when_its_address_is_not_good_any_more(
    house: House, speech: Speech
) -> None:
    """It takes one step, which may be cut off anywhere: what was fetched is kept until its end."""
    asked = house.asked(wav(speech("jfk.flac")))
    plans = [await house.filed.cut(PLACE, asked)]
    house.origin.answers["/a.wav"] = says(403, b"expired")
    plans.append(await house.filed.cut(PLACE, asked))
    await house.filed.hear(PLACE, 0, asked)
    await house.filed.merge(PLACE, plans[1], asked, "en")

    assert 1 == plans[0].groups
    assert plans[0] == plans[1]
    assert [] == left_in(house.folder / "fetching")


@pytest.mark.anyio
async def test_silence_makes_no_group(house: House) -> None:
    plan = await house.filed.cut(PLACE, house.asked(wav(np.zeros(SAMPLE_RATE * 3, np.float32))))

    assert (0, 3000, (0,)) == (plan.groups, plan.duration_ms, plan.speech_ms)


@pytest.mark.anyio
async def test_what_cannot_be_heard_is_told_by_its_kind(house: House, speech: Speech) -> None:
    long = wav(talk(speech("jfk.flac")[:48_000], 10))
    short = MediaLimits(max_bytes=LIMITS.max_bytes, max_ms=20_000)

    with pytest.raises(Undecodable):
        await house.filed.cut(PLACE, house.asked(b"this is no sound"))
    await house.filed.clear(PLACE, 0)
    with pytest.raises(TooLong):
        await house.filed.cut(PLACE, house.asked(long, short))
    with pytest.raises(EngineFailed):
        await house.filed.hear(PLACE, 99, house.asked(long))
    with pytest.raises(NotFound):
        await house.transcripts.header(PLACE.task_id, 0)


pieces = st.tuples(
    st.integers(1, 2000), st.integers(0, 43_200_000), st.integers(0, 7), st.floats(0, 1, allow_nan=False)
)


@settings(max_examples=50, deadline=None)
@given(st.lists(pieces, min_size=1, max_size=8), st.integers(0, 2**32 - 1))
def test_a_group_comes_back_as_it_was_stored(made: list[tuple[int, int, int, float]], seed: int) -> None:
    """To half a step of 16 bits."""
    rng = np.random.default_rng(seed)
    group = _Group()
    stored = [
        Segment(
            pcm=rng.uniform(-1, 1, n).astype(np.float32),
            begin_ms=begin,
            channel=channel,
            speech_probability=probability,
        )
        for n, begin, channel, probability in made
    ]
    for segment in stored:
        group.add(segment)
    found = decode_group(group.encode())

    assert [(s.begin_ms, s.channel, len(s.pcm)) for s in stored] == [(s.begin_ms, s.channel, len(s.pcm)) for s in found]
    assert all(np.abs(a.pcm - b.pcm).max() < 0.6 / 32767 for a, b in zip(stored, found, strict=True))


@pytest.mark.parametrize("cut", [0, 3, 10, 200])
def test_a_damaged_group_is_told(cut: int) -> None:
    group = _Group()
    group.add(Segment(pcm=np.zeros(100, np.float32), begin_ms=0))

    with pytest.raises((ValueError, struct.error, msgspec.MsgspecError)):
        decode_group(group.encode()[:cut])
