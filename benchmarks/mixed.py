"""``python -m benchmarks mixed``: all kinds of work at once for a long time, and then more than the server can do.

The engine is ``scripted``: what is measured is the server. One *job* is, by chance, a synchronous recognition, a task
from its submission to its end, or a live session; each has the same 3 s of sound.

=============  ======================================================================================
capacity       jobs done per second while clients work without a pause: as many of them as get the most done.
               Counted by the kind that is furthest behind its share: what others do beyond theirs is none
``load``       jobs that begin at random moments, 80 % of the capacity: errors, memory, latencies. In parts of
               three minutes, each at 80 % of what the capacity is just before it: a host that is shared is
               not as fast all the time
``overload``   the same at 300 % in parts of a minute, by another server whose queues are short: how soon it says
               no, and whether it does as much as the capacity meanwhile, of each kind. What is done is counted as
               for the capacity: not in the first quarter of a part, when the queues fill, nor when no more come
=============  ======================================================================================
"""

import argparse
import asyncio
import base64
import gc
import itertools
import json
import math
import random
import time
import wave
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import uvloop
from rich.console import Console
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import CloseCode

from benchmarks.clips import ROOT, Corpus, corpus, scratch
from benchmarks.connections import Connections, encoded
from benchmarks.long import RATE_HZ, clip
from benchmarks.pace import watching
from benchmarks.server import Server, serving
from benchmarks.table import Results, Row, at_least, at_most
from benchmarks.tasks import _origin as origin
from benchmarks.watch import whole_tree

Kind: TypeAlias = Literal["synchronous", "task", "live"]

SHARES: Final[Mapping[Kind, float]] = {"synchronous": 0.8, "task": 0.1, "live": 0.1}
CLIP_S: Final = 3.0
LATENCY_MS: Final = 200
SLOTS: Final = 4
SETTINGS: Final = {
    "ENGINES__DEFAULT": "scripted",
    "ENGINES__ALIGNERS": "0",
    "SCRIPTED__LATENCY_MS": str(LATENCY_MS),
    "SCRIPTED__SLOTS": str(SLOTS),
    "JOBS__CONCURRENCY": "16",  # many short files: the default of 4 is for long ones, and would end at 10 a second
    "FETCH__ALLOW_NETWORKS": "127.0.0.0/8",
    "LOG__LEVEL": "warning",
}
SHEDDING: Final = {
    "SERVER__MOST_AT_ONCE": "32",
    "SERVER__MOST_WAITING": "24",
    "LIVE__MOST_SESSIONS": "4",
    "JOBS__MOST_UNFINISHED": "64",
}
"""What has no room is refused, so these decide what is done of each kind; they are chosen to keep the shares about as
they are, that the sums can be compared. Live sound goes before all else: a session takes 0.4 s however much waits, so
that 4 at once are a little more than a tenth of the jobs. With 32 nearly all are let in, and recordings get what is
left. Of these 28 are heard at once (4 of the places are for other owners): with fewer the machine is idle at times,
with more a refusal waits longer for its turn; of tasks 16."""
WORKERS: Final = (32, 64, 128)
STRETCH_S: Final = 30.0
"""For one measurement of the capacity."""
PART_S: Final = 180.0
"""Of the load, after which the capacity is measured anew."""
FILLING: Final = 0.25
"""Share of that time in which nothing is counted: clients have to get out of step first."""
WARM: Final[Mapping[Kind, int]] = {"synchronous": 40, "task": 16, "live": 4}
"""Jobs at once: enough for every child to be started, and no more sessions than may be open."""
LONGEST_S: Final[Mapping[Kind, float]] = {"synchronous": 60.0, "task": 600.0, "live": 60.0}
"""Later it is an error. Tasks are for what nobody waits for: they go behind everything else."""
LOOK_S: Final = 1.0
KEY: Final = {"Authorization": "Bearer bench"}
JSON: Final = {"Content-Type": "application/json"}
SESSION: Final = {"type": "transcription", "audio": {"input": {"turn_detection": None}}}
PIECE_BYTES: Final = 12_800
OVERLOAD_S: Final = 30.0
"""At least: the queues have to fill first."""
OVERLOAD_PART_S: Final = 60.0
ABOUT: Final = Console(stderr=True)


BUSY: Final = (429, 503)


class Refused(Exception):
    """The server has said that it is busy."""

    def __init__(self) -> None:
        super().__init__()
        self.at_s = time.perf_counter()
        """When we knew; the connection is closed after it."""


@dataclass
class Told:
    """What came of jobs."""

    latencies_s: dict[Kind, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: Counter[str] = field(default_factory=Counter)
    refused_s: dict[Kind, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Until the server said no."""
    late_s: list[float] = field(default_factory=list)
    """How late this process was to begin each job: what it measures is too long by about as much."""

    @property
    def by_kind(self) -> Counter[Kind]:
        """How many are done."""
        return Counter({kind: len(times) for kind, times in self.latencies_s.items()})

    @property
    def n_done(self) -> int:
        return self.by_kind.total()

    @property
    def n_refused(self) -> int:
        return sum(map(len, self.refused_s.values()))

    @property
    def n_asked(self) -> int:
        return self.n_done + self.n_refused + self.errors.total()


class Clients:
    """Do jobs of all kinds at one server."""

    def __init__(self, connections: Connections, url: str) -> None:
        self._connections = connections
        self.n_done = 0
        data = _wav()
        part = {"type": "input_audio", "input_audio": {"data": "data:audio/wav;base64," + _text(data)}}
        chat = {"model": "qwen3-asr-flash", "messages": [{"role": "user", "content": [part]}]}
        order = {"model": "paraformer-v2", "input": {"file_urls": [url]}}
        headers, path = {**KEY, **JSON}, "/api/v1/services/audio/asr/transcription"
        self._chat = encoded("POST", "/v1/chat/completions", headers, json.dumps(chat).encode())
        self._submission = encoded("POST", path, headers | {"X-DashScope-Async": "enable"}, json.dumps(order).encode())
        pieces = (data[at : at + PIECE_BYTES] for at in range(44, len(data), PIECE_BYTES))
        self._spoken = [
            json.dumps({"type": "session.update", "session": SESSION}),
            *(json.dumps({"type": "input_audio_buffer.append", "audio": _text(piece)}) for piece in pieces),
            json.dumps({"type": "input_audio_buffer.commit"}),
        ]

    async def do(self, kind: Kind, told: Told) -> None:
        """One job, noted in *told*."""
        begun = time.perf_counter()
        work: Mapping[Kind, Callable[[], Awaitable[None]]]
        work = {"synchronous": self._synchronous, "task": self._task, "live": self._live}
        try:
            async with asyncio.timeout(LONGEST_S[kind]):
                await work[kind]()
        except Refused as refused:
            told.refused_s[kind].append(refused.at_s - begun)
        except Exception as error:  # noqa: BLE001 - it is what we look for
            told.errors[f"{kind}: {type(error).__name__}: {error}"[:200]] += 1
        else:
            self.n_done += 1
            told.latencies_s[kind].append(time.perf_counter() - begun)

    async def _synchronous(self) -> None:
        answer = await self._ask(self._chat)
        assert "lasting" in answer["choices"][0]["message"]["content"]

    async def _task(self) -> None:
        task_id = (await self._ask(self._submission))["output"]["task_id"]
        query = encoded("GET", f"/api/v1/tasks/{task_id}", KEY)
        for pause_s in _pauses():
            state = (await self._ask(query))["output"]["task_status"]
            if state not in ("PENDING", "RUNNING"):
                assert state == "SUCCEEDED", state
                return
            await asyncio.sleep(pause_s)

    async def _live(self) -> None:
        url = f"ws://127.0.0.1:{self._connections.port}/v1/realtime?intent=transcription"
        try:
            async with connect(url, additional_headers=KEY, compression=None, proxy=None, open_timeout=None) as socket:
                await self._talk(socket)
        except InvalidStatus as error:
            if error.response.status_code in BUSY:
                raise Refused from error
            raise
        except ConnectionClosed as closed:  # while we were still speaking
            if closed.rcvd is not None and closed.rcvd.code == CloseCode.TRY_AGAIN_LATER:
                raise Refused from closed
            raise

    async def _talk(self, socket: ClientConnection) -> None:
        for frame in self._spoken:
            await socket.send(frame)
        async for message in socket:
            event = json.loads(message)
            if event["type"] == "error":
                if "later" in event["error"]["message"]:
                    raise Refused
                raise RuntimeError(event["error"]["message"])
            if event["type"].endswith("transcription.completed"):
                return
        raise RuntimeError("closed before its text")

    async def _ask(self, request: bytes) -> dict[str, Any]:
        status, body = await self._connections.ask(request)
        if status in BUSY:
            raise Refused
        if status != 200:
            raise RuntimeError(f"{status}: {body.decode(errors='replace')}")
        found: dict[str, Any] = json.loads(body)
        return found


def main(arguments: Sequence[str]) -> int:
    """Exit code: 1 if a target is missed and ``--check`` was given."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks mixed", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="of the load")
    parser.add_argument("--overload", type=float, metavar="SECONDS", help="default: a tenth of the load, at least 30")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    parser.add_argument("--output", type=Path, default=ROOT / "bench-results" / "mixed", help="folder for the results")
    asked = parser.parse_args(arguments)
    load_s = 60 * asked.minutes
    rows = uvloop.run(_measure(load_s, asked.overload or max(OVERLOAD_S, load_s / 10)))
    clips = Corpus(f"the first {CLIP_S:g} s of a clip of tests/data", corpus(quick=True).clips[:1])
    results = Results(clips, CLIP_S, asked.minutes < 30, rows)
    results.write(asked.output, Console())
    return int(asked.check and any(row.met is False for row in rows))


async def _measure(load_s: float, overload_s: float) -> list[Row]:
    chance = random.Random(1)
    kinds = _mixed(chance)
    stretch_s = min(STRETCH_S, load_s / 4)
    with scratch() as folder:
        (Path(folder) / "clip.wav").write_bytes(_wav())
        async with origin(Path(folder)) as base, watching() as speed:
            url = f"{base}/clip.wav"
            async with serving(**SETTINGS) as server, aclosing(Connections(server.port)) as connections:
                clients = Clients(connections, url)
                await _warm(clients)
                workers = await _workers(clients, stretch_s, kinds)

                async def capacity() -> float:
                    return await _stretch(clients, workers, stretch_s, kinds)

                load = await _load(server, clients, capacity, load_s, kinds, chance)
                async with serving(**SETTINGS, **SHEDDING) as short, aclosing(Connections(short.port)) as others:
                    shed = Clients(others, url)
                    await _warm(shed)
                    overload = await _overload(shed, capacity, overload_s, kinds, chance)
    return [
        Row("mixed", "clients who get the most done", workers, ""),
        *load,
        *overload,
        Row("mixed", "this machine's own speed in its slowest minute, of the mean", 100 * speed.slowest(), "%"),
    ]


async def _warm(clients: Clients) -> None:
    """Have some jobs of each kind done, which nobody counts: what they need first is loaded, here as there."""
    told = Told()
    await asyncio.gather(*(clients.do(kind, told) for kind, times in WARM.items() for _ in range(times)))
    _check(told)
    gc.collect()
    gc.freeze()  # a pause of ours would be counted as one of the server's


async def _workers(clients: Clients, seconds: float, kinds: Iterator[Kind]) -> int:
    """The number of clients who get the most done."""
    found = {workers: await _stretch(clients, workers, seconds, kinds) for workers in WORKERS}
    return max(found, key=lambda workers: found[workers])


async def _stretch(clients: Clients, workers: int, seconds: float, kinds: Iterator[Kind]) -> float:
    """Jobs per second.

    Counted is what ends while all of them work: neither the first moments, nor what is waited for at the end.
    """
    told = Told()
    end = time.perf_counter() + seconds
    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(_work(clients, told, end, kinds))
        await asyncio.sleep(FILLING * seconds)
        begun, before = time.perf_counter(), told.by_kind
        await asyncio.sleep(end - begun)
        took, after = time.perf_counter() - begun, told.by_kind
    _check(told)
    return min((after[kind] - before[kind]) / share for kind, share in SHARES.items()) / took


async def _work(clients: Clients, told: Told, end: float, kinds: Iterator[Kind]) -> None:
    while time.perf_counter() < end:
        await clients.do(next(kinds), told)


def _check(told: Told) -> None:
    if told.errors or told.n_refused:
        raise RuntimeError(f"jobs failed: {told.errors}, refused: {told.n_refused}")


async def _load(
    server: Server,
    clients: Clients,
    capacity: Callable[[], Awaitable[float]],
    seconds: float,
    kinds: Iterator[Kind],
    chance: random.Random,
) -> list[Row]:
    told = Told()
    looks: list[tuple[int, float]] = []

    async def look() -> None:
        while True:
            with suppress(OSError):  # a process ended while we looked
                looks.append((clients.n_done, sum(process.rss_mb for process in whole_tree(server.pid))))
            await asyncio.sleep(LOOK_S)

    looking = asyncio.create_task(look())
    n_parts = max(1, round(seconds / PART_S))
    found: list[float] = []
    for _ in range(n_parts):
        found.append(await capacity())
        await _begin(clients, told, 0.8 * found[-1], seconds / n_parts, kinds, chance)
    looking.cancel()
    name = f"{seconds / 60:g} min at 80 %"
    for error, times in told.errors.most_common(5):
        ABOUT.print(f"{times} × {error}", markup=False)
    steady = looks[len(looks) // 5 :]
    return [
        Row("mixed", f"capacity, least of {n_parts}", min(found), "jobs/s"),
        Row("mixed", f"capacity, greatest of {n_parts}", max(found), "jobs/s"),
        Row("mixed", f"{name}: jobs done", told.n_done, ""),
        Row("mixed", f"{name}: done per second in the slowest minute", _slowest(looks), "jobs/s"),
        Row("mixed", f"{name}: errors", told.errors.total(), "", at_most(0)),
        Row("mixed", f"{name}: refused", told.n_refused, "", at_most(0)),
        Row("mixed", f"{name}: memory per 1 000 jobs", 1000 * _slope(steady), "MB", at_most(1)),
        Row("mixed", f"{name}: memory at the end", looks[-1][1], "MB"),
        *(
            Row("mixed", f"{name}: {kind}, p{100 * share:g}", 1000 * _quantile(told.latencies_s[kind], share), "ms")
            for kind in SHARES
            for share in (0.5, 0.99)
        ),
        Row("mixed", f"{name}: the client's own delay, p99", 1000 * _quantile(told.late_s, 0.99), "ms"),
    ]


async def _overload(
    clients: Clients,
    capacity: Callable[[], Awaitable[float]],
    seconds: float,
    kinds: Iterator[Kind],
    chance: random.Random,
) -> list[Row]:
    told = Told()
    n_parts = max(1, round(seconds / OVERLOAD_PART_S))
    part_s = seconds / n_parts
    found: list[float] = []
    done: Counter[Kind] = Counter()
    able = 0.0  # jobs that could have been done meanwhile
    for _ in range(n_parts):
        found.append(await capacity())
        working = asyncio.create_task(_begin(clients, told, 3 * found[-1], part_s, kinds, chance))
        await asyncio.sleep(FILLING * part_s)
        begun, before = time.perf_counter(), told.by_kind
        await asyncio.sleep((1 - FILLING) * part_s)
        able += found[-1] * (time.perf_counter() - begun)
        done += told.by_kind - before
        await working
    refused = [after for times in told.refused_s.values() for after in times]
    for error, times in told.errors.most_common(5):
        ABOUT.print(f"{times} × {error}", markup=False)
    return [
        Row("mixed", f"at 300 %: capacity, least of {n_parts}", min(found), "jobs/s"),
        Row("mixed", f"at 300 %: capacity, greatest of {n_parts}", max(found), "jobs/s"),
        Row("mixed", "at 300 %: jobs begun per second", told.n_asked / seconds, "jobs/s"),
        Row("mixed", "at 300 %: done, of the capacity", 100 * done.total() / able, "%", at_least(90)),
        *(
            Row("mixed", f"at 300 %: done, of the capacity, {kind}", 100 * done[kind] / (share * able), "%")
            for kind, share in SHARES.items()
        ),
        Row("mixed", "at 300 %: refused", 100 * len(refused) / told.n_asked, "%"),
        Row("mixed", "at 300 %: time to a refusal, p50", 1000 * _quantile(refused, 0.5), "ms"),
        Row("mixed", "at 300 %: time to a refusal, p95", 1000 * _quantile(refused, 0.95), "ms", at_most(50)),
        *(
            Row("mixed", f"at 300 %: time to a refusal, p95, {kind}", 1000 * _quantile(times, 0.95), "ms")
            for kind, times in sorted(told.refused_s.items())
        ),
        Row("mixed", "at 300 %: the client's own delay, p95", 1000 * _quantile(told.late_s, 0.95), "ms"),
        Row("mixed", "at 300 %: other errors", told.errors.total(), "", at_most(0)),
    ]


async def _begin(
    clients: Clients, told: Told, per_s: float, seconds: float, kinds: Iterator[Kind], chance: random.Random
) -> None:
    """Jobs at moments that know nothing of each other, as people come; returns when all have ended."""
    end = time.perf_counter() + seconds
    due = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        while (due := due + chance.expovariate(per_s)) < end:
            await asyncio.sleep(due - time.perf_counter())
            told.late_s.append(max(0.0, time.perf_counter() - due))
            group.create_task(clients.do(next(kinds), told))


def _mixed(chance: random.Random) -> Iterator[Kind]:
    """Kinds without an end, shuffled; of any ten in turn each has its share."""
    ten = [kind for kind, share in SHARES.items() for _ in range(round(10 * share))]
    while True:
        chance.shuffle(ten)
        yield from ten


def _pauses() -> Iterator[float]:
    """Between two looks at a task, in seconds: as the SDK of DashScope waits. If all who wait looked each second, a
    line of a few hundred tasks would keep the server from shortening it.
    """
    yield from (1, 1, 2, 2, 2, 4, 4, 4)
    yield from itertools.repeat(5)


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[math.ceil(share * len(values)) - 1] if values else 0.0


def _slowest(looks: Sequence[tuple[int, float]]) -> float:
    """Jobs done per second in the minute with the fewest of them; in all of the time, if it is shorter."""
    step = min(round(60 / LOOK_S), len(looks) - 1)
    return min(after[0] - before[0] for before, after in zip(looks, looks[step:], strict=False)) / (step * LOOK_S)


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the straight line that fits best."""
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def _wav() -> bytes:
    out = BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ // 2)
        file.writeframes(clip(CLIP_S)[::2].tobytes())
    return out.getvalue()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
