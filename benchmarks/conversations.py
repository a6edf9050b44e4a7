"""Conversations put together from clips of real people, one after the other, so that who speaks when is known exactly.

Readers belong to one of two parts: thresholds were chosen on the *development* part, results are stated on the *test*
part, and nobody is in both.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.clips import Clip, Corpus, sounds
from benchmarks.turns import Spoken
from qasr.domain.audio import SAMPLE_RATE, Pcm

PARTS: Final = {
    "development": ("librispeech-1688", "librispeech-1998", "librispeech-2033", "vctk-p225", "ljspeech"),
    "test": (
        "librispeech-2412", "librispeech-2609", "librispeech-3005", "librispeech-3331", "vctk-p226",
        "librivox-sense-and-sensibility",
    ),
}  # fmt: skip
"""Speakers of the manifest."""
SIZES: Final = (1, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4)
"""Speakers of each conversation."""
TURNS: Final = 14
TURN_S: Final = (2.0, 7.0)
PAUSE_S: Final = (0.1, 0.8)
LEVEL: Final = 0.05
"""Root mean square of each turn."""
QUIET_DB: Final = 25.0
"""Under the loudest 5 %: no speech. At 35 the room between the words of some readings would count as speech."""
FRAME: Final = SAMPLE_RATE // 50


@dataclass(frozen=True, slots=True)
class Conversation:
    """What is heard, and who says it."""

    pcm: Pcm
    spoken: tuple[Spoken, ...]

    @property
    def people(self) -> int:
        """How many there are."""
        return len({one.who for one in self.spoken})


async def conversations(folder: Path, part: str, *, quick: bool = False) -> list[Conversation]:
    """Those of a part; *quick*: two."""
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    clips = {who: [folder / row["file"] for row in rows if row["speaker"] == who] for who in PARTS[part]}
    paths = [path for own in clips.values() for path in own]
    decoded = await sounds(Corpus(part, tuple(Clip(path, "") for path in paths)))
    heard = dict(zip(paths, (sound.pcm for sound in decoded), strict=True))
    readings = {who: [heard[path] for path in own] for who, own in clips.items()}
    seeds = count(1)
    sizes = SIZES[1::6] if quick else SIZES
    return [_composed(readings, random.Random(f"{part} {next(seeds)}"), size) for size in sizes]


def _composed(readings: dict[str, list[Pcm]], chance: random.Random, n_people: int) -> Conversation:
    people = chance.sample(sorted(readings), n_people)
    noise = np.random.default_rng(chance.randrange(2**32))
    pieces: list[Pcm] = []
    spoken: list[Spoken] = []
    n_samples, last = 0, ""
    for turn in range(TURNS):
        who = people[turn] if turn < n_people else chance.choice([one for one in people if one != last] or people)
        said = _cut(chance.choice(readings[who]), chance)
        begin_ms = n_samples * 1000 / SAMPLE_RATE
        spoken += [Spoken(begin_ms + begin, begin_ms + end, who) for begin, end in _speech(said)]
        pause = noise.normal(0, LEVEL / 250, int(chance.uniform(*PAUSE_S) * SAMPLE_RATE)).astype(np.float32)
        pieces += [said, pause]
        n_samples, last = n_samples + len(said) + len(pause), who
    return Conversation(np.concatenate(pieces), tuple(spoken))


def _cut(pcm: Pcm, chance: random.Random) -> Pcm:
    """A turn out of a reading, as loud as all others."""
    length = int(chance.uniform(*TURN_S) * SAMPLE_RATE)
    begin = chance.randrange(max(1, len(pcm) - length))
    said = pcm[begin : begin + length]
    return np.asarray(said * (LEVEL / (np.sqrt(np.square(said).mean()) + 1e-9)), np.float32)


def _speech(pcm: Pcm) -> list[tuple[float, float]]:
    """Where there is speech, in ms, by loudness alone; pauses up to 0.3 s are part of it."""
    frames = pcm[: len(pcm) // FRAME * FRAME].reshape(-1, FRAME)
    level = 10 * np.log10(np.square(frames).mean(axis=1) + 1e-10)
    loud: Sequence[int] = np.flatnonzero(level > np.quantile(level, 0.95) - QUIET_DB).tolist()
    spans: list[list[int]] = []
    for place in loud:
        if spans and (place - spans[-1][1]) * 20 <= 300:
            spans[-1][1] = place + 1
        else:
            spans.append([place, place + 1])
    return [(begin * 20.0, end * 20.0) for begin, end in spans if end - begin > 2]


__all__ = ["PARTS", "Conversation", "conversations"]
