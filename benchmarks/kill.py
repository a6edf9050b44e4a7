"""``kill -9`` at random moments, many times: each task ends with its right result, no finished group is heard again.

The same as ``tests/jobs/test_kill.py``, whose tools it uses, only longer: whenever tasks end, new ones are submitted,
each with a recording of its own, so that there is always something to be interrupted. Recordings differ in where their
segments begin and how long these are; the engine's log therefore tells which group was heard.
"""

import random
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

import av
import numpy as np
from tests.jobs.program import Life, begins, origin, start, submit, talk, wait_all, write_wav
from tests.jobs.test_kill import LATENCY_MS, TIMES, finished

from benchmarks.clips import ROOT, scratch
from qasr.domain.audio import SAMPLE_RATE, Pcm
from qasr.pipeline.filed import decode_group

AT_ONCE: Final = 4
"""Unfinished tasks that there are to be."""
LEADS: Final = 13
LENGTHS_S: Final = (2.0, 2.3, 2.6, 2.9, 3.2)
"""Of the clip; with so many silences before it they make 65 recordings that have no segment in common."""
EARLY: Final = 0.2
"""Share of the kills that come while the server starts."""
LIFE_S: Final = 3.5
"""The longest life of a server that is ready; more where it took longer to start, on a busy machine."""
LONGEST_S: Final = 1800.0
REST_S: Final = 240.0
"""For what is unfinished after the last kill."""

Group = tuple[str, int]


@dataclass
class Found:
    """What came of it."""

    kills: int = 0
    unfinished_kills: int = 0
    fruitful: int = 0
    tasks: int = 0
    wrong: list[str] = field(default_factory=list)
    """What was told of these tasks."""
    again: int = 0
    segments: int = 0
    twice: int = 0
    starts_s: list[float] = field(default_factory=list)

    @property
    def start_s(self) -> float:
        return median(self.starts_s)


class _Trial:
    """One data directory through all its lives."""

    def __init__(self, folder: Path, base: str, seed: int) -> None:
        self.found = Found()
        self._folder, self._base, self._data_dir = folder, base, folder / "data"
        self._rng = random.Random(seed)
        self._recordings = _recordings(folder / "files")
        self._groups: dict[Group, set[tuple[int, int]]] = {}
        self._task_ids: list[str] = []
        self._done: set[Group] = set()
        self._seen = 0

    def run(self, kills: int, longest_s: float) -> None:
        began = time.monotonic()
        while self.found.kills < kills and time.monotonic() - began < longest_s:
            life, begun = self._start(), time.monotonic()
            if self._task_ids and self._rng.random() < EARLY:
                time.sleep(self._rng.uniform(0.2, 2.5))
            else:
                server = life.wait_ready()
                self.found.starts_s.append(time.monotonic() - begun)
                self._top_up(server)
                time.sleep(self._rng.uniform(0.1, max(LIFE_S, self.found.starts_s[-1])))
            life.kill()
            self.found.kills += 1
            self.found.unfinished_kills += bool(self._unfinished())
            self.found.fruitful += self._look()
        life = self._start()
        outputs = wait_all(life.wait_ready(), self._task_ids, timeout_s=REST_S)
        self._look()
        self.found.wrong = [str(output) for output in outputs if not self._is_right(output)]
        life.stop()
        heard = Counter(self._heard())
        self.found.tasks, self.found.segments = len(self._task_ids), len(heard)
        self.found.twice = heard.total() - len(heard)

    def _start(self) -> Life:
        variables = {
            "QASR_ENGINES__DEFAULT": "scripted",
            "QASR_SCRIPTED__LATENCY_MS": str(LATENCY_MS),
            "QASR_SCRIPTED__SLOTS": "2",
            "QASR_SCRIPTED__CALL_LOG": str(self._folder / "calls"),
        }
        return start(self._data_dir, self._folder / "log", variables)

    def _top_up(self, server: str) -> None:
        """One task more, if there are too few: several would be cut at once, and on a slow machine none in a life."""
        if self._unfinished() < AT_ONCE and (name := next(self._recordings, None)) is not None:
            self._task_ids.append(submit(server, [f"{self._base}/{name}"]))

    def _unfinished(self) -> int:
        path = self._data_dir / "qasr.db"
        if not path.exists():
            return 0
        with closing(sqlite3.connect(path)) as connection:
            query = "select count(*) from tasks where state in ('PENDING', 'RUNNING')"
            return int(connection.execute(query).fetchone()[0])

    def _look(self) -> bool:
        """Compare what this life has heard with what was finished before it; whether it has heard anything."""
        for task_id in self._task_ids:
            for path in (self._data_dir / "objects" / "work" / task_id / "0").glob("*.pcm"):
                if (task_id, int(path.stem)) not in self._groups:
                    self._groups[task_id, int(path.stem)] = {
                        (piece.begin_ms, piece.end_ms - piece.begin_ms) for piece in decode_group(path.read_bytes())
                    }
        heard = self._heard()
        lately = set(heard[self._seen :])
        self.found.again += sum(bool(lately & self._groups.get(group, set())) for group in self._done)
        is_new, self._seen = len(heard) > self._seen, len(heard)
        self._done = finished(self._data_dir, self._task_ids)
        return is_new

    def _heard(self) -> list[tuple[int, int]]:
        path = self._folder / "calls"
        if not path.exists():
            return []
        rows = [line.split() for line in path.read_text().splitlines()]
        return [(int(begin), int(length)) for begin, length, _channel in rows]

    @staticmethod
    def _is_right(output: dict[str, object]) -> bool:
        """All sentences, in order, about as far apart as they were said."""
        if output["task_status"] != "SUCCEEDED":
            return False
        (sentences,) = begins(output)
        return len(sentences) == TIMES and sentences == sorted(set(sentences))


def run(kills: int, *, longest_s: float = LONGEST_S, seed: int = 20261121) -> Found:
    """Kill a server that does tasks so many times, or as often as the time allows, and let the last one finish."""
    with scratch() as name, origin(Path(name)) as base:
        folder = Path(name)
        (folder / "files").mkdir()
        trial = _Trial(folder, f"{base}/files", seed)
        trial.run(kills, longest_s)
        return trial.found


def _recordings(folder: Path) -> Iterator[str]:
    """Names of files in *folder*, each written when it is asked for."""
    speech = _speech()
    for length_s in LENGTHS_S:
        clip = speech[: int(length_s * SAMPLE_RATE)]
        for number in range(LEADS):
            path = folder / f"{length_s:g}-{number}.wav"
            write_wav(path, talk(clip, times=TIMES, lead_ms=320 * number))
            yield path.name


def _speech() -> Pcm:
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    with av.open(str(ROOT / "tests" / "data" / "jfk.flac")) as container:
        frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])
