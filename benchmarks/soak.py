"""Ten thousand live sessions that are opened, fed and dropped at random moments: what is left of them in the server.

Each session is one of: a socket that is closed before the task starts, while it speaks, after its last word but before
the results, or in good order; half of the closed ones without a word of goodbye (a reset). Both protocols take turns.
The server's threads, open files and memory are looked at between rounds, when all sockets are closed.
"""

import asyncio
import base64
import json
import os
import random
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from benchmarks.server import Server, serving
from benchmarks.speakers import FRAME_BYTES, MODEL, frame
from benchmarks.table import Row, at_least, at_most

SESSIONS: Final = 10_000
ROUNDS: Final = 10
AT_ONCE: Final = 32
SETTLED_S: Final = 3.0
"""Between rounds, for what is closed to be let go."""
LONGEST_S: Final = 30.0
"""For one session."""
SEED: Final = 20261121
REALTIME: Final = "qwen3-asr-flash-realtime"

End = Literal["upgraded", "asked", "speaking", "spoken", "finished"]
ENDS: Final[Sequence[End]] = ("upgraded", "asked", "speaking", "spoken", "finished")


async def measure(n_sessions: int, sound: bytes) -> list[Row]:
    """Rows of what is left."""
    frames = [sound[at : at + FRAME_BYTES] for at in range(0, len(sound) - FRAME_BYTES, FRAME_BYTES)][:40]
    chance = random.Random(SEED)
    looks: list[tuple[float, int, int]] = []
    async with serving(ENGINES__DEFAULT="scripted", ENGINES__ALIGNERS="0") as server:
        await _round(server, n_sessions // ROUNDS, frames, chance)  # so that caches and pools are full
        for _ in range(ROUNDS):
            looks.append(await _look(server))
            await _round(server, n_sessions // ROUNDS, frames, chance)
        looks.append(await _look(server))
    rss_mb, files, threads = zip(*looks, strict=True)
    return [
        Row("soak", "live sessions, dropped at random", n_sessions, "", at_least(n_sessions)),
        Row("soak", "memory: slope per 1000 sessions", _slope(rss_mb) * ROUNDS * 1000 / n_sessions, "MB", at_most(1)),
        Row("soak", "memory: before and after", rss_mb[-1] - rss_mb[0], "MB"),
        Row("soak", "open files: before and after", files[-1] - files[0], "", at_most(0)),
        Row("soak", "threads: before and after", threads[-1] - threads[0], "", at_most(0)),
    ]


async def _look(server: Server) -> tuple[float, int, int]:
    """Memory in MB, open files, threads."""
    await asyncio.sleep(SETTLED_S)
    folder = Path("/proc") / str(server.pid)
    return server.processes()[0].rss_mb, len(list((folder / "fd").iterdir())), len(list((folder / "task").iterdir()))


async def _round(server: Server, n_sessions: int, frames: Sequence[bytes], chance: random.Random) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with gate, asyncio.timeout(LONGEST_S):
            end, resets = chance.choice(ENDS), chance.random() < 0.5
            await _session(server.port, frames, end, realtime=number % 2 == 0, resets=resets, chance=chance)

    async with asyncio.TaskGroup() as group:
        for number in range(n_sessions):
            group.create_task(one(number))


async def _session(
    port: int, frames: Sequence[bytes], end: End, *, realtime: bool, resets: bool, chance: random.Random
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        path = f"/api-ws/v1/realtime?model={REALTIME}" if realtime else "/api-ws/v1/inference"
        writer.write(_upgrade(path))
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 101 " not in head[:16]:
            raise RuntimeError(head.decode())
        if end == "upgraded":
            return
        task_id = os.urandom(16).hex()
        writer.write(_opening(task_id, realtime=realtime))
        if end == "asked":
            return
        await _until(reader, b"session.updated" if realtime else b"task-started")
        spoken = frames[: chance.randrange(1, len(frames))] if end == "speaking" else frames
        for data in spoken:
            writer.write(frame(_append(data), 1) if realtime else frame(data, 2))
        await writer.drain()
        if end == "speaking":
            return
        writer.write(_closing(task_id, realtime=realtime))
        if end == "spoken":
            return
        await _until(reader, b"session.finished" if realtime else b"task-finished")
    finally:
        if resets:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(*_LINGER, linger)
        writer.close()


_LINGER: Final = (1, 13)
"""SOL_SOCKET, SO_LINGER: closing sends a reset."""


def _upgrade(path: str) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer bench\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    ).encode()


def _text(value: object) -> bytes:
    return frame(json.dumps(value).encode(), 1)


def _opening(task_id: str, *, realtime: bool) -> bytes:
    if realtime:
        return _text({"type": "session.update", "session": {"turn_detection": {"type": "server_vad"}}})
    payload = {"task_group": "audio", "task": "asr", "function": "recognition", "model": MODEL, "input": {}}
    payload["parameters"] = {"format": "pcm", "sample_rate": 16000}
    return _text({"header": {"action": "run-task", "task_id": task_id, "streaming": "duplex"}, "payload": payload})


def _append(data: bytes) -> bytes:
    return json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(data).decode()}).encode()


def _closing(task_id: str, *, realtime: bool) -> bytes:
    if realtime:
        return _text({"type": "session.finish"})
    header = {"action": "finish-task", "task_id": task_id, "streaming": "duplex"}
    return _text({"header": header, "payload": {"input": {}}})


async def _until(reader: asyncio.StreamReader, sign: bytes) -> None:
    """Read until a frame with *sign* has come."""
    seen = b""
    while sign not in seen:
        data = await reader.read(2**16)
        if not data:
            raise RuntimeError(f"the server left before {sign.decode()}: {seen[-300:].decode(errors='replace')}")
        seen = seen[-len(sign) :] + data


def _slope(values: Sequence[float]) -> float:
    """Of a straight line through *values*, per step."""
    n = len(values)
    mean_x, mean_y = (n - 1) / 2, sum(values) / n
    return sum((x - mean_x) * (y - mean_y) for x, y in enumerate(values)) / sum((x - mean_x) ** 2 for x in range(n))
