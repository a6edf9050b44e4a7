"""``python -m benchmarks tasks``: long recordings as durable tasks, by the real server, with the ``scripted`` engine.

=========  ======================================================================================
``mp3``    12 hours, from the submission to the last byte of the document: time, memory, disk
``m4a``    the same in another container
``linear`` 10 minutes, 1, 3 and 12 hours: how the cost grows
``rates``  submissions and queries per second, 8 connections
``beside`` a synchronous request while 12 hours are cut, and while they are heard
``kill``   100 times ``kill -9`` at random moments
=========  ======================================================================================
"""

import argparse
import asyncio
import json
import math
import sys
import time
import urllib.request
import wave
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

import anyio
import uvloop
from rich.console import Console

from benchmarks import kill, long
from benchmarks.client import send_here
from benchmarks.clips import ROOT, Corpus, corpus, scratch
from benchmarks.costs import cpu_s
from benchmarks.raw import CONNECTIONS, Job, Pressed, press, request
from benchmarks.server import Server, serving
from benchmarks.table import Results, Row, at_least, at_most
from benchmarks.watch import data_dir, watching, whole_tree

HOURS_12_S: Final = 12 * 3600
LENGTHS_S: Final = (600, 3600, 3 * 3600, HOURS_12_S)
LONGEST_WAIT_S: Final = 900.0
"""For one task."""
MODEL: Final = "qwen3-asr-flash-filetrans"
SUBMIT: Final = "/api/v1/services/audio/asr/transcription"
LATENCY_MS: Final = 200
"""Of the engine in ``beside``."""
PRESS_S: Final = 10.0
ABOUT: Final = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Asked:
    """How much of it all."""

    quick: bool
    kills: int
    known: dict[int, tuple[float, float]] = field(default_factory=dict)
    """Processor and wall seconds of lengths that a part has measured, for others."""

    @property
    def longest_s(self) -> int:
        return 600 if self.quick else HOURS_12_S

    @property
    def press_s(self) -> float:
        return 2.0 if self.quick else PRESS_S


def main(arguments: Sequence[str]) -> int:
    """Exit code: 1 if a target is missed and ``--check`` was given."""
    asked = _parser().parse_args(arguments)
    about = corpus(quick=True)
    sizes = Asked(quick=asked.quick, kills=3 if asked.quick else asked.kills)
    rows = uvloop.run(_measure(asked.parts or list(PARTS), sizes))
    clips = Corpus("the clips of tests/data with silences between, repeated", about.clips)
    results = Results(clips, sizes.longest_s, asked.quick, rows)
    results.write(asked.output, Console())
    return int(asked.check and any(row.met is False for row in results.rows))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks tasks", description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="ten minutes instead of twelve hours: does it run at all?")
    parser.add_argument("--kills", type=int, default=100, help="of the part kill; default: 100")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    parser.add_argument("--output", type=Path, default=ROOT / "bench-results" / "tasks", help="folder for the results")
    return parser


async def _measure(names: Sequence[str], sizes: Asked) -> list[Row]:
    rows: list[Row] = []
    for name in names:
        ABOUT.print(f"measuring {name} …")
        found = await PARTS[name](sizes)
        for row in found:
            ABOUT.print("  " + "  ".join(row.cells), highlight=False)
        rows += found
    return rows


# ---- the parts


async def _long(kind: long.Kind, sizes: Asked) -> list[Row]:
    path = await asyncio.to_thread(long.recording, sizes.longest_s, kind)
    async with _origin(path.parent) as base, _server() as server:
        before = whole_tree(server.pid)
        with watching(server.pid) as watch:
            done = await _transcribe(server, f"{base}/{path.name}")
        costs = cpu_s(before, whole_tree(server.pid))
    if kind == "mp3":
        sizes.known[sizes.longest_s] = (sum(costs.values()), done.wall_s)
    name = f"{sizes.longest_s / 3600:.3g} h {kind}"
    return [
        Row(kind, f"{name}: submission to the last byte of the document", done.wall_s, "s", at_most(240)),
        Row(kind, f"{name}: the document alone, {done.megabytes:.1f} MB", done.download_s, "s"),
        Row(kind, f"{name}: sentences", done.sentences, ""),
        Row(kind, f"{name}: peak RSS, server and decoders", watch.peak_mb, "MB", at_most(500)),
        *(Row(kind, f"{name}: peak RSS, {role}", mb, "MB") for role, mb in watch.by_role_mb.items()),
        Row(kind, f"{name}: RSS in the second half, most / median", watch.flatness, "", at_most(1.2)),
        Row(kind, f"{name}: disk under the data directory, most", watch.disk_mb, "MB"),
        *(
            Row(kind, f"{name}: CPU per audio second, {role}", 1000 * cost / sizes.longest_s, "ms")
            for role, cost in costs.items()
        ),
    ]


async def _linear(sizes: Asked) -> list[Row]:
    lengths_s = [600] if sizes.quick else LENGTHS_S
    paths = [await asyncio.to_thread(long.recording, seconds, "mp3") for seconds in lengths_s]
    found = dict(sizes.known)
    async with _origin(long.CACHE) as base, _server() as server:
        await _transcribe(server, f"{base}/{paths[0].name}")  # whatever is done at the first task only
        for seconds, path in zip(lengths_s, paths, strict=True):
            if seconds not in found:
                before = whole_tree(server.pid)
                done = await _transcribe(server, f"{base}/{path.name}")
                found[seconds] = sum(cpu_s(before, whole_tree(server.pid)).values()), done.wall_s
    spent, walls = zip(*(found[seconds] for seconds in lengths_s), strict=True)
    rows = [
        row
        for seconds, cost, wall_s in zip(lengths_s, spent, walls, strict=True)
        for row in (
            Row("linear", f"{seconds / 3600:.3g} h: CPU per audio second, all processes", 1000 * cost / seconds, "ms"),
            Row("linear", f"{seconds / 3600:.3g} h: wall", wall_s, "s"),
        )
    ]
    if len(lengths_s) > 1:
        rows += [
            Row("linear", "exponent of CPU over length", exponent(lengths_s, spent), "", at_most(1.05)),
            Row("linear", "exponent of wall over length", exponent(lengths_s, walls), ""),
        ]
    return rows


async def _rates(sizes: Asked) -> list[Row]:
    """Tasks wait behind one that takes long, so that nothing but taking them on is measured."""
    path = await asyncio.to_thread(long.recording, 600, "mp3")
    headers = "X-DashScope-Async: enable\r\n"
    async with (
        _origin(path.parent) as base,
        _server(SCRIPTED__LATENCY_MS="600000", JOBS__CONCURRENCY="1", JOBS__MOST_UNFINISHED="1000000") as server,
    ):
        body = json.dumps({"model": MODEL, "input": {"file_url": f"{base}/{path.name}"}}).encode()
        ask = request("POST", SUBMIT, body, headers)
        first = await asyncio.to_thread(_submit, server, f"{base}/{path.name}")
        with anyio.fail_after(LONGEST_WAIT_S):
            while not await _is_cut(server, first):  # noqa: ASYNC110 - it happens in another process
                await asyncio.sleep(0.1)
        submitted, of_submissions = await _pressed(server, Job(server.port, [ask], sizes.press_s))
        ids = [json.loads(body)["output"]["task_id"] for body in submitted.bodies]
        polls = [request("GET", f"/api/v1/tasks/{task_id}") for task_id in ids[:1000]]
        polled, of_polls = await _pressed(server, Job(server.port, polls, sizes.press_s))
    return [
        Row("rates", f"durable submissions, {CONNECTIONS} connections", submitted.per_s, "/s", at_least(100)),
        *_latency_rows("submission", submitted, of_submissions),
        Row("rates", f"queries of a task, {CONNECTIONS} connections", polled.per_s, "/s", at_least(800)),
        *_latency_rows("query", polled, of_polls),
    ]


async def _beside(sizes: Asked) -> list[Row]:
    path = await asyncio.to_thread(long.recording, sizes.longest_s, "mp3")
    with scratch() as folder:
        clip = Path(folder) / "5s.wav"
        _write_wav(clip)
        async with (
            _origin(path.parent) as base,
            _server(SCRIPTED__LATENCY_MS=str(LATENCY_MS), SCRIPTED__SLOTS="2") as server,
        ):
            await _ask_often(server, clip, 5)
            idle = await _ask_often(server, clip, 5 if sizes.quick else 40)
            task_id = await asyncio.to_thread(_submit, server, f"{base}/{path.name}")
            cutting, hearing = await _ask_beside(server, clip, task_id, 100)
            state = (await asyncio.to_thread(_query, server, task_id))["task_status"]
    ABOUT.print(f"  asked {len(cutting)} times while it was cut, {len(hearing)} while it was heard; now {state}")
    rows = [Row("beside", "5 s, idle server: p50", 1000 * median(idle), "ms")]
    rows += [Row("beside", "5 s, idle server: p95", 1000 * p95(idle), "ms")]
    for doing, found in (("is cut", cutting), ("is heard", hearing)):
        if found:
            name = f"5 s, while {sizes.longest_s / 3600:.3g} h {doing}"
            later, latest = (1000 * (measure(found) - measure(idle)) for measure in (median, p95))
            rows += [
                Row("beside", f"{name}: p50, more than idle", later, "ms", at_most(LATENCY_MS)),
                Row("beside", f"{name}: p95, more than idle", latest, "ms", at_most(LATENCY_MS)),
            ]
    return rows


async def _kill(sizes: Asked) -> list[Row]:
    found = await asyncio.to_thread(kill.run, sizes.kills)
    for output in found.wrong:
        ABOUT.print(f"  wrong: {output}", highlight=False)
    return [
        Row("kill", "kill -9 at random moments", found.kills, "", at_least(sizes.kills)),
        Row("kill", "of them while a task was unfinished", found.unfinished_kills, ""),
        Row("kill", "of them after segments were heard in that life", found.fruitful, ""),
        Row("kill", "tasks", found.tasks, ""),
        Row("kill", "tasks with a wrong result", len(found.wrong), "", at_most(0)),
        Row("kill", "finished groups that were heard again", found.again, "", at_most(0)),
        Row("kill", "segments", found.segments, ""),
        Row("kill", "segments heard a second time, their group being unfinished", found.twice, ""),
        Row("kill", "start until ready, median of all lives", found.start_s, "s"),
    ]


PARTS: Final[Mapping[str, Callable[[Asked], Awaitable[list[Row]]]]] = {
    "mp3": partial(_long, "mp3"),
    "m4a": partial(_long, "m4a"),
    "linear": _linear,
    "rates": _rates,
    "beside": _beside,
    "kill": _kill,
}


# ---- what they share


@dataclass(frozen=True, slots=True)
class Done:
    """One task from its submission to the last byte of its document."""

    wall_s: float
    download_s: float
    megabytes: float
    sentences: int


async def _transcribe(server: Server, url: str) -> Done:
    """Submit, poll every half second, download."""
    begun = time.perf_counter()
    task_id = await asyncio.to_thread(_submit, server, url)
    while (output := await asyncio.to_thread(_query, server, task_id))["task_status"] in ("PENDING", "RUNNING"):
        if time.perf_counter() - begun > LONGEST_WAIT_S:
            raise RuntimeError(f"the task takes too long: {output}")
        await asyncio.sleep(0.5)
    if output["task_status"] != "SUCCEEDED":
        raise RuntimeError(f"the task failed: {output}")
    ready = time.perf_counter()
    document = await asyncio.to_thread(_read, output["result"]["transcription_url"])
    ended = time.perf_counter()
    sentences = json.loads(document)["transcripts"][0]["sentences"]
    return Done(ended - begun, ended - ready, len(document) / 1e6, len(sentences))


def _submit(server: Server, url: str) -> str:
    body = {"model": MODEL, "input": {"file_url": url}}
    found = _read(
        urllib.request.Request(
            f"http://127.0.0.1:{server.port}{SUBMIT}",
            json.dumps(body).encode(),
            {"Authorization": "Bearer bench", "X-DashScope-Async": "enable", "Content-Type": "application/json"},
        )
    )
    return str(json.loads(found)["output"]["task_id"])


def _query(server: Server, task_id: str) -> dict[str, Any]:
    address = f"http://127.0.0.1:{server.port}/api/v1/tasks/{task_id}"
    asked = urllib.request.Request(address, headers={"Authorization": "Bearer bench"})
    found: dict[str, Any] = json.loads(_read(asked))["output"]
    return found


def _read(asked: "urllib.request.Request | str") -> bytes:
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return bytes(answer.read())


@asynccontextmanager
async def _server(**settings: str) -> AsyncIterator[Server]:
    async with serving(ENGINES__DEFAULT="scripted", FETCH__ALLOW_NETWORKS="127.0.0.0/8", **settings) as server:
        yield server


@asynccontextmanager
async def _origin(folder: Path) -> AsyncIterator[str]:
    """A web server for the files in *folder*, in a process of its own; its address."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(folder)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert child.stdout is not None
        told = (await child.stdout.readline()).decode()  # Serving HTTP on 127.0.0.1 port 40123 (http://…) ...
        yield f"http://127.0.0.1:{told.split(' port ')[1].split()[0]}"
    finally:
        child.kill()
        await child.wait()


async def _pressed(server: Server, job: Job) -> tuple[Pressed, dict[str, float]]:
    """And what it cost, by process."""
    before = whole_tree(server.pid)
    found = await press(job)
    return found, cpu_s(before, whole_tree(server.pid)) | {"client": found.cpu_s}


def _latency_rows(name: str, found: Pressed, costs: Mapping[str, float]) -> list[Row]:
    return [
        Row("rates", f"{name}: p50", 1000 * median(found.latencies_s), "ms"),
        Row("rates", f"{name}: p95", 1000 * p95(found.latencies_s), "ms"),
        *(
            Row("rates", f"CPU per {name}, {role}", 1000 * costs[role] / len(found.bodies), "ms")
            for role in ("server", "client")
        ),
    ]


async def _ask_often(server: Server, clip: Path, times: int) -> list[float]:
    found = []
    for _ in range(times):
        found.append(await send_here(server.port, "form", clip))
        await asyncio.sleep(0.1)
    return found


async def _ask_beside(server: Server, clip: Path, task_id: str, most: int) -> tuple[list[float], list[float]]:
    """Seconds of requests while the task is cut, and while it is heard; *most* of the latter."""
    cutting: list[float] = []
    hearing: list[float] = []
    begun = time.perf_counter()
    while len(hearing) < most and time.perf_counter() - begun < LONGEST_WAIT_S:
        is_cut = await _is_cut(server, task_id)
        took_s = await send_here(server.port, "form", clip)
        state = (await asyncio.to_thread(_query, server, task_id))["task_status"]
        if state == "RUNNING":
            if is_cut:
                hearing.append(took_s)
            elif not await _is_cut(server, task_id):
                cutting.append(took_s)
        elif state != "PENDING":
            break
        await asyncio.sleep(0.1 if is_cut else 0.5)
    return cutting, hearing


async def _is_cut(server: Server, task_id: str) -> bool:
    """Whether the task's only recording is being heard by now; its plan is removed at the end."""
    return await anyio.Path(data_dir(server.pid) / "objects" / "work" / task_id / "0" / "plan.json").exists()


def _write_wav(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(long.RATE_HZ)
        file.writeframes(long.clip(5.0).tobytes())


def p95(values: Sequence[float]) -> float:
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


def exponent(lengths: Sequence[float], costs: Sequence[float]) -> float:
    """The *k* that fits cost = c · lengthᵏ best, over the logarithms."""
    xs, ys = [math.log(x) for x in lengths], [math.log(y) for y in costs]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / sum((x - mean_x) ** 2 for x in xs)
