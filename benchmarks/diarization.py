"""``python -m benchmarks diarization``: who spoke when, and what two channels are worth.

The embedded models, on conversations put together from real readers and on real recordings of ``../shared/audio``.
Diarization error rates leave out 250 ms around each reference boundary and count overlapping speech.
"""

import argparse
import asyncio
import json
import os
import time
import wave
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Final

import numpy as np
import uvloop
from rich.console import Console

from benchmarks.accuracy import edits, words
from benchmarks.clips import FOLDER, LIMITS, LONGEST_MS, ROOT, Clip, Corpus, scratch, sounds
from benchmarks.conversations import Conversation, conversations
from benchmarks.table import Results, Row, at_least, at_most
from benchmarks.turns import Errors, Spoken, errors, matched, read_rttm
from qasr.app import running
from qasr.config import Settings
from qasr.domain.audio import SAMPLE_RATE, FileSource, Pcm
from qasr.domain.options import Hints, RecognitionOptions
from qasr.domain.transcript import Sentence
from qasr.engines.base import Diarizer
from qasr.engines.diarizer import community, diarizer
from qasr.engines.diarizer.models import CommunityEars
from qasr.engines.diarizer.windows import voices
from qasr.engines.silero_vad import SileroVad
from qasr.pipeline.diarize import turns_by_channel, voices_in
from qasr.pipeline.recorded import segments
from qasr.pipeline.segment import SegmentPolicy
from qasr.service import Order, Service

AGREEMENT: Final = {
    "telephone, real, one channel": ("multispeaker/pyannote_sample",),
    "telephone, composed of readers, mixed to one channel": ("twochannel/call_1688_1998", "twochannel/call_2609_3331"),
    "meeting (AMI dev00)": ("multispeaker/ami_dev00",),
    "meeting (AMI trn01)": ("multispeaker/ami_trn01",),
    "meeting (AMI trn04)": ("multispeaker/ami_trn04",),
    "meeting (AMI trn07)": ("multispeaker/ami_trn07",),
}
CALLS: Final = ("twochannel/call_1688_1998", "twochannel/call_2609_3331")
ABOUT: Final = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Told:
    """What was found in a recording."""

    spoken: list[Spoken]
    errors: Errors

    @property
    def people(self) -> int:
        """How many there are."""
        return len({one.who for one in self.spoken})


def main(arguments: Sequence[str]) -> int:
    """Exit code: 1 if a target is missed and ``--check`` was given."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks diarization", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two conversations: does it run at all?")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    parser.add_argument("--output", type=Path, default=ROOT / "bench-results" / "diarization", help="for the results")
    asked = parser.parse_args(arguments)
    folder = Path(os.environ.get(FOLDER) or ROOT.parent / "shared" / "audio")
    if not (folder / "manifest.jsonl").is_file():
        parser.error(f"there is no {folder / 'manifest.jsonl'}; {FOLDER} names the folder of the recordings")
    results = uvloop.run(_measure(folder, quick=asked.quick))
    results.write(asked.output, Console())
    return int(asked.check and any(row.met is False for row in results.rows))


async def _measure(folder: Path, *, quick: bool) -> Results:
    rows: list[Row] = []
    audio_s = 0.0

    def take(found: list[Row]) -> None:
        for row in found:
            ABOUT.print(*row.cells[:2])  # it takes minutes: so that nobody waits for nothing
        rows.extend(found)

    async with diarizer({}) as ears:
        for part in ("test",) if quick else ("development", "test"):
            composed = await conversations(folder, part, quick=quick)
            audio_s += sum(len(one.pcm) for one in composed) / SAMPLE_RATE
            take(await _composed(composed, part, ears))
        take([_speed(composed[-1].pcm)])
        if not quick:
            take(await _real(folder, ears))
    with scratch() as place:
        async with running(Settings(data_dir=Path(place) / "data")) as service:
            for name in CALLS[1:] if quick else CALLS:
                take(await _channels(folder, name, service))
            take([await _attribution(composed[::3], service, Path(place))])
    about = Corpus("conversations composed of readers, and recordings of several people", ())
    return Results(about, audio_s, quick, rows)


async def _composed(composed: list[Conversation], part: str, ears: Diarizer) -> list[Row]:
    told = [await _told(one.pcm, one.spoken, ears) for one in composed]
    right = fmean(found.people == one.people for found, one in zip(told, composed, strict=True))
    rate = fmean(one.errors.rate for one in told)
    is_test = part == "test"
    name = f"{len(composed)} conversations of 1 to 4 readers, {part} part"
    return [
        Row("diarization", f"{name}: error rate", rate, "%", at_most(5) if is_test else None),
        Row("diarization", f"{name}: highest error rate", max(one.errors.rate for one in told), "%"),
        Row("diarization", f"{name}: confusion alone", fmean(one.errors.confusion for one in told), "%"),
        Row("diarization", f"{name}: number of speakers right", 100 * right, "%", at_least(80) if is_test else None),
    ]


def _speed(pcm: Pcm) -> Row:
    """Of the models alone, in this process and on one thread."""
    library = community.locate()
    assert library is not None, community.REMEDY
    ears = CommunityEars(*community.load(library))
    begun = time.process_time()
    n_voices = sum(1 for _ in voices(pcm, ears))
    speed = len(pcm) / SAMPLE_RATE / (time.process_time() - begun)
    return Row("diarization", f"embedded models: speed, {n_voices} voices found", speed, "audio s per CPU s")


async def _real(folder: Path, ears: Diarizer) -> list[Row]:
    rows = []
    for name, files in AGREEMENT.items():
        found = await sounds(Corpus(name, tuple(Clip(folder / f"{file}.flac", "") for file in files)))
        wanted = [read_rttm(folder / f"{file}.rttm") for file in files]
        told = [await _told(sound.pcm, spoken, ears) for sound, spoken in zip(found, wanted, strict=True)]
        counts = ", ".join(
            f"{one.people} of {len({s.who for s in spoken})}" for one, spoken in zip(told, wanted, strict=True)
        )
        rows.append(
            Row("diarization", f"{name}: error rate; speakers: {counts}", fmean(one.errors.rate for one in told), "%")
        )
    return rows


async def _told(pcm: Pcm, wanted: Sequence[Spoken], ears: Diarizer) -> Told:
    """As the server does it: voices in the segments, then speakers."""
    policy = SegmentPolicy(longest_ms=LONGEST_MS)
    cut = [segment async for segment in segments(_whole(pcm), SileroVad(), policy, None)]
    found_voices = [voice for own in await asyncio.gather(*(voices_in(one, ears) for one in cut)) for voice in own]
    turns = (await turns_by_channel(found_voices, ears, RecognitionOptions(speakers=True))).get(0)
    found = [Spoken(t.begin_ms, t.end_ms, str(t.speaker)) for t in turns] if turns is not None else []
    return Told(found, errors(wanted, found, len(pcm) * 1000 / SAMPLE_RATE))


async def _whole(pcm: Pcm) -> AsyncIterator[np.ndarray[tuple[int, int], np.dtype[np.float32]]]:
    yield pcm[None]


async def _attribution(composed: list[Conversation], service: Service, place: Path) -> Row:
    """Words that are heard while somebody speaks, and are said to be theirs."""
    right = total = 0
    for number, one in enumerate(composed):
        sentences = await _heard(service, _wav(place / f"{number}.wav", one.pcm), RecognitionOptions(speakers=True))
        people = sorted({spoken.who for spoken in one.spoken})
        n_found = max((s.speaker or 0 for s in sentences), default=0) + 1
        together = np.zeros((len(people), n_found), np.int64)
        for sentence in sentences:
            for word in sentence.words:
                middle_ms = (word.begin_ms + word.end_ms) / 2
                who = next((s.who for s in one.spoken if s.begin_ms <= middle_ms < s.end_ms), None)
                if who is not None:
                    together[people.index(who), sentence.speaker or 0] += 1
        right += sum(int(together[pair]) for pair in matched(together))
        total += int(together.sum())
    return Row(
        "diarization", f"words of {len(composed)} of the test part with the right speaker", 100 * right / total, "%"
    )


async def _channels(folder: Path, name: str, service: Service) -> list[Row]:
    """Word error rate of each channel of a call, heard by itself."""
    manifest = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    row = next(row for row in map(json.loads, manifest) if row["file"] == f"{name}.flac")
    sentences = await _heard(service, folder / row["file"], RecognitionOptions(channels=(0, 1)))
    rows = []
    for channel in (0, 1):
        wanted = [word for said in row["segments"] if said["channel"] == channel for word in words(said["text"])]
        heard = words(" ".join(s.text for s in sentences if s.channel == channel))
        rate = 100 * edits(wanted, heard) / len(wanted)
        rows.append(Row("diarization", f"{name.rpartition('/')[2]}, channel {channel}: word error rate", rate, "%"))
    return rows


async def _heard(service: Service, path: Path, options: RecognitionOptions) -> tuple[Sentence, ...]:
    asked = RecognitionOptions(
        hints=Hints(language="en"), word_times="words", speakers=options.speakers, channels=options.channels
    )
    transcript = await service.transcribe(
        Order(source=FileSource(path=path), options=asked, limits=LIMITS, owner="benchmark")
    )
    return transcript.sentences


def _wav(path: Path, pcm: Pcm) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.rint(np.clip(pcm, -1, 1) * 32767).astype("<i2").tobytes())
    return path
