"""Many people who speak at once, at next to no cost: one thread, non-blocking sockets, a process of its own.

``speak`` starts ``python -m benchmarks.speakers``, which reads a ``Job`` from its standard input and writes ``Heard``
to its standard output. Each speaker opens a socket of the task protocol and sends binary frames of 100 ms, each at its
time, however late the answers are. What comes back is kept with the moment at which it came.
"""

import asyncio
import base64
import heapq
import json
import os
import selectors
import socket
import sys
import time
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, Final

import msgspec

from benchmarks.clips import ROOT

FRAME_MS: Final = 100
FRAME_BYTES: Final = 2 * 16 * FRAME_MS
MODEL: Final = "fun-asr-realtime"
CHUNK: Final = 2**16
REST_S: Final = 20.0
"""For what comes after the last frame."""
_UPGRADE: Final = (
    "GET /api-ws/v1/inference HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer bench\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
)


class Job(msgspec.Struct, frozen=True):
    """What is said: the sounds are given to the speakers in turn."""

    port: int
    sounds: list[bytes]
    """16 kHz, 16 bits, one channel."""
    speakers: int
    at_once: int
    """Speakers that speak at the same time; the next one begins where one ends."""
    silence_ms: int


class Told(msgspec.Struct, frozen=True):
    """One result."""

    at_s: float
    """Since the speaker's first frame."""
    sentence: int
    text: str
    begin_ms: int
    end_ms: int | None
    """None: it is not complete."""


class Spoken(msgspec.Struct, frozen=True):
    """What came of one speaker."""

    sound: int
    told: list[Told]
    late_ms: float
    """The frame that was sent latest, after its time: the client's own fault."""


class Heard(msgspec.Struct, frozen=True):
    """What came of all."""

    spoken: list[Spoken]
    wall_s: float
    cpu_s: float
    """Of the client."""


async def speak(job: Job) -> Heard:
    """Speak to the end.

    Raises:
        RuntimeError: the server refused something, or did not answer in time.
    """
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.speakers"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    out, _ = await child.communicate(msgspec.json.encode(job))
    if child.returncode:
        raise RuntimeError("the client failed; its reason stands above")
    return msgspec.json.decode(out, type=Heard)


def frame(data: bytes, opcode: int) -> bytes:
    """A client's frame; masked with zeros, which changes nothing."""
    if len(data) < 126:
        head = bytes([0x80 | opcode, 0x80 | len(data)])
    else:
        head = bytes([0x80 | opcode, 0x80 | 126]) + len(data).to_bytes(2, "big")
    return head + bytes(4) + data


def _action(name: str, task_id: str, **payload: object) -> bytes:
    header = {"action": name, "task_id": task_id, "streaming": "duplex"}
    return frame(json.dumps({"header": header, "payload": {"input": {}, **payload}}).encode(), 1)


@dataclass(slots=True, eq=False)
class _Speaker:
    """One socket, from its opening to ``task-finished``."""

    sound: int
    frames: list[bytes]
    socket: socket.socket
    silence_ms: int
    task_id: str = field(default_factory=lambda: os.urandom(16).hex())
    begun_s: float = 0.0
    n_sent: int = 0
    data: bytes = b""
    late_s: float = 0.0
    is_open: bool = False
    is_over: bool = False
    told: list[Told] = field(default_factory=list)

    def open(self) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(f"{_UPGRADE}{key}\r\n\r\n".encode())

    def due_s(self) -> float:
        return self.begun_s + self.n_sent * FRAME_MS / 1000

    def send(self) -> bool:
        """The frame that is due; whether more will follow."""
        self.late_s = max(self.late_s, time.perf_counter() - self.due_s())
        self.socket.sendall(self.frames[self.n_sent])
        self.n_sent += 1
        if self.n_sent < len(self.frames):
            return True
        self.socket.sendall(_action("finish-task", self.task_id))
        return False

    def receive(self) -> bool:
        """Read; whether the task has started just now."""
        data = self.socket.recv(CHUNK)
        if not data:
            raise RuntimeError("the server closed the connection")
        self.data += data
        if not self.is_open:
            head, end, self.data = self.data.partition(b"\r\n\r\n")
            if not end:
                self.data = head
                return False
            if b" 101 " not in head[:16]:
                raise RuntimeError(head.decode())
            self.is_open = True
            parameters = {"format": "pcm", "sample_rate": 16000, "max_sentence_silence": self.silence_ms}
            kind = {"task_group": "audio", "task": "asr", "function": "recognition", "model": MODEL}
            self.socket.sendall(_action("run-task", self.task_id, parameters=parameters, **kind))
        started = False
        while (message := self._message()) is not None:
            started |= self._take(message)
        return started

    def _message(self) -> bytes | None:
        """The next complete one; pings are answered."""
        data = self.data
        if len(data) < 2:
            return None
        length, begin = data[1], 2
        if length >= 126:
            begin = 4 if length == 126 else 10
            length = int.from_bytes(data[2:begin], "big")
        if len(data) < begin + length:
            return None
        self.data = data[begin + length :]
        opcode, message = data[0] & 15, data[begin : begin + length]
        if opcode == 9:
            self.socket.sendall(frame(message, 10))
            return self._message()
        if opcode == 8:
            raise RuntimeError(f"the server closed the session: {message[2:].decode()}")
        return message

    def _take(self, message: bytes) -> bool:
        now = time.perf_counter()
        value: dict[str, Any] = msgspec.json.decode(message)
        match value["header"]["event"]:
            case "task-started":
                self.begun_s = now
                return True
            case "result-generated":
                sentence = value["payload"]["output"]["sentence"]
                self.told.append(
                    Told(
                        at_s=now - self.begun_s,
                        sentence=sentence["sentence_id"],
                        text=sentence["text"],
                        begin_ms=sentence["begin_time"],
                        end_ms=sentence["end_time"],
                    )
                )
            case "task-finished":
                self.is_over = True
            case _:
                raise RuntimeError(message.decode())
        return False


def _run(job: Job) -> Heard:
    frames = [
        [frame(sound[at : at + FRAME_BYTES], 2) for at in range(0, len(sound), FRAME_BYTES)] for sound in job.sounds
    ]
    order = cycle(range(len(frames)))
    spoken: list[Spoken] = []
    due: list[tuple[float, int, _Speaker]] = []
    begun, cpu, n_begun = time.perf_counter(), time.process_time(), 0
    with selectors.DefaultSelector() as selector:

        def begin() -> None:
            nonlocal n_begun
            number = next(order)
            line = socket.create_connection(("127.0.0.1", job.port))
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            speaker = _Speaker(number, frames[number], line, job.silence_ms)
            selector.register(line, selectors.EVENT_READ, speaker)
            n_begun += 1
            speaker.open()

        spread_s = FRAME_MS / 1000 / job.at_once  # so that frames do not come in step
        latest_s = begun + REST_S
        while len(spoken) < job.speakers:
            now = time.perf_counter()
            while n_begun < min(job.speakers, job.at_once + len(spoken)) and now - begun >= n_begun * spread_s * 10:
                begin()
            while due and due[0][0] <= time.perf_counter():
                _, number, speaker = heapq.heappop(due)
                if speaker.send():
                    heapq.heappush(due, (speaker.due_s(), number, speaker))
                latest_s = time.perf_counter() + REST_S
            if time.perf_counter() > latest_s:
                raise RuntimeError("the server does not answer")
            wait_s = due[0][0] - time.perf_counter() if due else 0.01
            for key, _ in selector.select(min(max(wait_s, 0.0), 0.01)):
                speaker = key.data
                if speaker.receive():
                    heapq.heappush(due, (speaker.due_s(), id(speaker), speaker))
                if speaker.is_over:
                    selector.unregister(speaker.socket)
                    speaker.socket.close()
                    spoken.append(Spoken(speaker.sound, speaker.told, 1000 * speaker.late_s))
        return Heard(spoken, time.perf_counter() - begun, time.process_time() - cpu)


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(_run(msgspec.json.decode(sys.stdin.buffer.read(), type=Job))))
