"""``python -m benchmarks live``: speech that is heard while it is spoken, by the real server.

============  ======================================================================================
``sessions``  how many people may speak at once with the ``scripted`` engine
``speech``    the default engine on real speech: delays, revised partials, word errors
``soak``      sessions that are opened, fed and dropped at random moments: what is left of them
============  ======================================================================================
"""

import argparse
import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import uvloop
from rich.console import Console

from benchmarks import soak
from benchmarks.accuracy import edits, words
from benchmarks.bench import Bench
from benchmarks.client import send
from benchmarks.clips import ROOT, Corpus, Sound, corpus, sounds
from benchmarks.costs import cost_rows, cpu_s
from benchmarks.server import Server, serving
from benchmarks.speakers import FRAME_MS, Heard, Job, Spoken, Told, speak
from benchmarks.table import Results, Row, at_least, at_most

LEVELS: Final = (100, 200, 300, 400)
QUICK: Final = (5,)
MOST_LAG_MS: Final = 150.0
SILENCE_MS: Final = 800
SPEECH_AT_ONCE: Final = 4
TAIL_S: Final = 2.0
"""Silence behind a clip, so that its last utterance ends by itself."""
MONOLOGUE_S: Final = 24.0
WORD_FRAMES: Final = 3
WORD_MS: Final = WORD_FRAMES * FRAME_MS
"""People say about 200 words a minute."""
ABOUT: Final = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Causes:
    """Which frame causes which result."""

    finals: Mapping[int, int]
    """By sentence."""
    partials: Mapping[tuple[int, int], int]
    """By sentence and number of words."""
    offsets: Mapping[int, int]
    """By sentence, for partials that a lone speaker does not get: the earliest frame that may cause one without words;
    for each word it is ``WORD_FRAMES`` later."""


async def sessions(bench: Bench) -> list[Row]:
    """More and more speakers of the same monologue, each level compared with a lone speaker."""
    sound = _monologue(bench.sounds)
    rows: list[Row] = []
    reached = 0
    settings = {"ENGINES__ALIGNERS": "0", "LIVE__MOST_SESSIONS": "1000", "SCRIPTED__WORD_MS": str(WORD_MS)}
    async with serving(ENGINES__DEFAULT="scripted", **settings) as server:
        causes = _causes(await _spoken(server, sound, 1))
        for level in QUICK if bench.quick else LEVELS:
            before = server.processes()
            heard, rss_mb = await _watched(server, sound, level)
            costs = cpu_s(before, server.processes()) | {"client": heard.cpu_s}
            lags = sorted(lag for spoken in heard.spoken for lag in _lags(spoken, causes))
            p95 = _quantile(lags, 0.95)
            audio_s = level * len(sound) / 32_000
            name = f"{level} live sessions"
            rows += [
                Row("live", f"{name}: p50 from the sound to its event", _quantile(lags, 0.5), "ms"),
                Row("live", f"{name}: p95 from the sound to its event", p95, "ms"),
                Row("live", f"{name}: the client's latest frame", max(s.late_ms for s in heard.spoken), "ms"),
                Row("live", f"{name}: memory per session", (rss_mb - before[0].rss_mb) / level, "MB"),
                *cost_rows("live", name, costs, audio_s),
            ]
            if p95 > MOST_LAG_MS:
                break
            reached = level
    target = at_least(200)
    return [*rows, Row("live", f"sessions with p95 ≤ {MOST_LAG_MS:g} ms", reached, "", None if bench.quick else target)]


async def speech(bench: Bench) -> list[Row]:
    """All clips, a few speakers at once; the same clips as recordings."""
    clips = [_bytes(sound) for sound in bench.sounds]
    async with serving() as server:
        offline = await send(server.port, "form", bench.corpus.paths, concurrency=SPEECH_AT_ONCE)
        heard = await speak(Job(server.port, clips, len(clips), SPEECH_AT_ONCE, SILENCE_MS))
    by_clip = {spoken.sound: spoken.told for spoken in heard.spoken}
    references = [words(clip.reference) for clip in bench.corpus.clips]
    live = [" ".join(t.text for t in by_clip[i] if t.end_ms is not None) for i in range(len(clips))]
    n_words = sum(map(len, references))
    rates = [
        100 * sum(edits(wanted, words(text)) for wanted, text in zip(references, texts, strict=True)) / n_words
        for texts in (offline.texts, live)
    ]
    told = list(by_clip.values())
    finals = [1000 * t.at_s - t.end_ms - SILENCE_MS for ts in told for t in ts if t.end_ms is not None]
    firsts = [1000 * first.at_s - first.begin_ms for ts in told for first in _firsts(ts)]
    n_revised, n_partials = map(sum, zip(*map(_revised, told), strict=True))
    return [
        Row("live", "word error rate, recordings", rates[0], "%"),
        Row("live", "word error rate, live", rates[1], "%"),
        Row("live", "word error rate, live, more than recordings", rates[1] - rates[0], "points", at_most(5)),
        Row("live", "end of speech to its final, without the silence: p50", _quantile(finals, 0.5), "ms"),
        Row("live", "end of speech to its final, without the silence: p95", _quantile(finals, 0.95), "ms"),
        Row("live", "begin of speech to its first partial: p50", _quantile(firsts, 0.5), "ms"),
        Row("live", "begin of speech to its first partial: p95", _quantile(firsts, 0.95), "ms"),
        Row("live", "partials with a word that the final does not have there", 100 * n_revised / n_partials, "%"),
    ]


async def soaked(bench: Bench) -> list[Row]:
    """See ``soak.py``."""
    return await soak.measure(200 if bench.quick else soak.SESSIONS, _monologue(bench.sounds))


PARTS: Final[Mapping[str, Callable[[Bench], Awaitable[list[Row]]]]] = {
    "sessions": sessions,
    "speech": speech,
    "soak": soaked,
}


def main(arguments: Sequence[str]) -> int:
    """Exit code: 1 if a target is missed and ``--check`` was given."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks live", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="little of everything: does it run at all?")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    parser.add_argument("--output", type=Path, default=ROOT / "bench-results" / "live", help="folder for the results")
    asked = parser.parse_args(arguments)
    results = uvloop.run(_measure(asked.parts or list(PARTS), quick=asked.quick))
    results.write(asked.output, Console())
    return int(asked.check and any(row.met is False for row in results.rows))


async def _measure(names: Sequence[str], *, quick: bool) -> Results:
    clips: Corpus = corpus(quick=quick)
    bench = Bench(clips, await sounds(clips), quick)
    rows: list[Row] = []
    for name in names:
        ABOUT.print(f"measuring {name} …")
        more = await PARTS[name](bench)
        for row in more:
            ABOUT.print("  " + "  ".join(row.cells), highlight=False)
        rows += more
    return Results(clips, bench.audio_s, quick, rows)


def _bytes(sound: Sound, tail_s: float = TAIL_S) -> bytes:
    pcm = np.concatenate([*(segment.pcm for segment in sound.whole), np.zeros(int(16_000 * tail_s), np.float32)])
    data: bytes = np.rint(np.clip(pcm, -1, 1) * 32767).astype("<i2").tobytes()
    return data


def _monologue(all_sounds: Sequence[Sound]) -> bytes:
    """Clips with pauses between, about ``MONOLOGUE_S`` long."""
    pieces: list[bytes] = []
    for sound in all_sounds:
        pieces.append(_bytes(sound, tail_s=1.5))
        if sum(map(len, pieces)) >= MONOLOGUE_S * 32_000:
            break
    return b"".join(pieces)


async def _spoken(server: Server, sound: bytes, speakers: int) -> Heard:
    return await speak(Job(server.port, [sound], speakers, speakers, SILENCE_MS))


async def _watched(server: Server, sound: bytes, speakers: int) -> tuple[Heard, float]:
    """And the most memory of the server in the meantime."""
    most = 0.0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, server.processes()[0].rss_mb)
            await asyncio.sleep(1)

    watching = asyncio.create_task(watch())
    try:
        return await _spoken(server, sound, speakers), most
    finally:
        watching.cancel()


def _causes(alone: Heard) -> Causes:
    """A lone speaker's results come before the next frame is sent: the last one sent has caused them."""
    (spoken,) = alone.spoken
    finals: dict[int, int] = {}
    partials: dict[tuple[int, int], int] = {}
    offsets: dict[int, int] = {}
    for told in spoken.told:
        last = math.floor(told.at_s * 1000 / FRAME_MS)
        if told.end_ms is None:
            partials[told.sentence, _n_words(told)] = last
            offset = last - WORD_FRAMES * _n_words(told)
            offsets[told.sentence] = min(offset, offsets.get(told.sentence, offset))
        else:
            finals[told.sentence] = last
    return Causes(finals, partials, offsets)


def _lags(spoken: Spoken, causes: Causes) -> list[float]:
    """Milliseconds from the frame that causes a result to the result; of sentences that a lone speaker gets, too."""
    lags = []
    for told in spoken.told:
        if told.end_ms is not None and told.sentence in causes.finals:
            lags.append(1000 * told.at_s - causes.finals[told.sentence] * FRAME_MS)
        elif told.end_ms is None and told.sentence in causes.offsets and _n_words(told):
            at_least = causes.offsets[told.sentence] + WORD_FRAMES * _n_words(told)
            lags.append(1000 * told.at_s - causes.partials.get((told.sentence, _n_words(told)), at_least) * FRAME_MS)
    return lags


def _n_words(told: Told) -> int:
    """Heard by the scripted engine, before the utterance is complete."""
    return told.text.count("word")


def _firsts(told: Sequence[Told]) -> list[Told]:
    """The first partial of each sentence that has one."""
    firsts: dict[int, Told] = {}
    for one in told:
        if one.text:
            firsts.setdefault(one.sentence, one)
    return [first for first in firsts.values() if first.end_ms is None]


def _revised(told: Sequence[Told]) -> tuple[int, int]:
    """Partials that show a word which does not stand there in the end, and all partials."""
    finals = {t.sentence: words(t.text) for t in told if t.end_ms is not None}
    partials = [(words(t.text), finals.get(t.sentence, [])) for t in told if t.end_ms is None and t.text]
    return sum(shown != final[: len(shown)] for shown, final in partials), len(partials)


def _quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else math.nan
