"""The recordings that everything is measured on, and their samples, cut as the server cuts them."""

import json
import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from qasr.domain.audio import MediaLimits, Pcm, Segment
from qasr.engines.silero_vad import SileroVad
from qasr.pipeline.decode import Decoder
from qasr.pipeline.recorded import segments
from qasr.pipeline.segment import SegmentPolicy

ROOT: Final = Path(__file__).parents[1]
FOLDER: Final = "QASR_BENCH_AUDIO"
HARD: Final = frozenset({"noise", "spontaneous", "8khz"})
"""Labels of clips that are no test of an engine for clear, read speech."""
LIMITS: Final = MediaLimits(max_bytes=2**26, max_ms=600_000)
LONGEST_MS: Final = 30_000
"""Of the segments; every engine here takes so much."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording and what is said in it."""

    path: Path
    reference: str


@dataclass(frozen=True)
class Corpus:
    """The recordings of one run."""

    about: str
    clips: tuple[Clip, ...]

    @property
    def paths(self) -> list[Path]:
        return [clip.path for clip in self.clips]


def corpus(*, quick: bool = False) -> Corpus:
    """English clips of clear speech: those of the folder named by ``QASR_BENCH_AUDIO`` (``../shared/audio``), or, where
    it is absent, the few that lie in the repository. *quick*: two of the latter.
    """
    folder = Path(os.environ.get(FOLDER) or ROOT.parent / "shared" / "audio")
    manifest = folder / "manifest.jsonl"
    if not quick and manifest.is_file():
        rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
        clips = tuple(
            Clip(folder / row["file"], row["text"])
            for row in rows
            if row["group"] == "A" and row["language"] == "en" and row["text"] and not HARD & set(row["labels"])
        )
        return Corpus("English clips of clear speech, see the manifest's group A", clips)
    data = ROOT / "tests" / "data"
    texts = json.loads((data / "references.json").read_text(encoding="utf-8"))
    clips = tuple(Clip(data / name, text) for name, text in sorted(texts.items()))
    if quick:
        return Corpus("two clips of tests/data: a smoke run", clips[1:3])
    return Corpus(f"tests/data only, because there is no {manifest}", clips)


@dataclass(frozen=True)
class Sound:
    """A clip's samples, whole and as the segments that the server would hand to an engine."""

    pcm: Pcm
    segments: tuple[Segment, ...]

    @cached_property
    def whole(self) -> tuple[Segment, ...]:
        """The clip as one segment."""
        return (Segment(pcm=self.pcm, begin_ms=0),)

    @property
    def audio_s(self) -> float:
        return self.whole[0].duration_s


async def sounds(clips: Corpus) -> list[Sound]:
    """Decode and cut all clips, by the server's own code."""
    vad = SileroVad()
    policy = SegmentPolicy(longest_ms=LONGEST_MS)
    found = []
    async with Decoder(processes=1) as decoder:
        for path in clips.paths:
            async with decoder.decode(path, limits=LIMITS) as stream:
                blocks = [block async for block in stream.blocks()]
            cut = tuple([segment async for segment in segments(_replay(blocks), vad, policy, None)])
            found.append(Sound(np.concatenate(blocks, axis=1)[0], cut))
    return found


async def _replay(blocks: list[npt.NDArray[np.float32]]) -> AsyncIterator[npt.NDArray[np.float32]]:
    for block in blocks:
        yield block


def scratch() -> "tempfile.TemporaryDirectory[str]":
    """A folder for what a server keeps."""
    return tempfile.TemporaryDirectory(prefix="qasr-bench-")
