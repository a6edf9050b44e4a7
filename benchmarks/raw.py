"""A client that costs next to nothing, for many small requests: one thread, non-blocking sockets, a process of its own.

``press`` starts ``python -m benchmarks.raw``, which reads a ``Job`` from its standard input and writes ``Pressed`` to
its standard output. Each kept-alive connection sends its next request when it has its answer.
"""

import asyncio
import itertools
import selectors
import socket
import sys
import time
from dataclasses import dataclass
from typing import Final

import msgspec

from benchmarks.clips import ROOT

CONNECTIONS: Final = 8
LONGEST_S: Final = 30.0
"""Without any answer at all."""
CHUNK: Final = 2**16


class Job(msgspec.Struct, frozen=True):
    """What to send, in turn."""

    port: int
    requests: list[bytes]
    seconds: float
    connections: int = CONNECTIONS


class Pressed(msgspec.Struct, frozen=True):
    """What came back."""

    bodies: list[bytes]
    latencies_s: list[float]
    wall_s: float
    cpu_s: float
    """Of the client."""

    @property
    def per_s(self) -> float:
        return len(self.bodies) / self.wall_s


async def press(job: Job) -> Pressed:
    """Send until the time is over.

    Raises:
        RuntimeError: an answer was not 200.
    """
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.raw"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    out, _ = await child.communicate(msgspec.json.encode(job))
    if child.returncode:
        raise RuntimeError("the client failed; its reason stands above")
    return msgspec.json.decode(out, type=Pressed)


def request(method: str, path: str, body: bytes = b"", headers: str = "") -> bytes:
    """One request, encoded."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer bench\r\n{headers}"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


@dataclass(slots=True)
class _Line:
    """One connection."""

    socket: socket.socket
    begun: float = 0.0
    data: bytes = b""

    def send(self, data: bytes) -> None:
        self.begun, self.data = time.perf_counter(), b""
        self.socket.sendall(data)  # small: the kernel takes it at once

    def body(self) -> bytes | None:
        """Of the answer, if it is complete."""
        head, end, body = self.data.partition(b"\r\n\r\n")
        if not end:
            return None
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return None
        if b" 200 " not in head[:16]:
            raise RuntimeError(self.data.decode(errors="replace")[:500])
        return body


def _run(job: Job) -> Pressed:
    requests = itertools.cycle(job.requests)
    bodies: list[bytes] = []
    latencies: list[float] = []
    with selectors.DefaultSelector() as selector:
        lines = [_Line(socket.create_connection(("127.0.0.1", job.port))) for _ in range(job.connections)]
        begun, cpu = time.perf_counter(), time.process_time()
        for line in lines:
            line.socket.setblocking(False)  # noqa: FBT003 - its only parameter
            selector.register(line.socket, selectors.EVENT_READ, line)
            line.send(next(requests))
        while selector.get_map():
            ready = selector.select(LONGEST_S)
            if not ready:
                raise RuntimeError("the server does not answer")
            for key, _ in ready:
                line = key.data
                data = line.socket.recv(CHUNK)
                if not data:
                    raise RuntimeError("the server closed the connection")
                line.data += data
                if (body := line.body()) is None:
                    continue
                now = time.perf_counter()
                bodies.append(body)
                latencies.append(now - line.begun)
                if now - begun < job.seconds:
                    line.send(next(requests))
                else:
                    selector.unregister(line.socket)
                    line.socket.close()
        return Pressed(bodies, latencies, time.perf_counter() - begun, time.process_time() - cpu)


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(_run(msgspec.json.decode(sys.stdin.buffer.read(), type=Job))))
