"""A client that costs next to nothing, in a process of its own: blocking sockets, requests encoded beforehand.

``send`` starts ``python -m benchmarks.client``, which reads a ``Job`` from its standard input, encodes all requests,
sends them over as many kept-alive connections as asked for, each connection taking the next request when it has its
answer, and writes ``Answers`` to its standard output.
"""

import asyncio
import base64
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

from benchmarks.clips import ROOT

Dialect: TypeAlias = Literal["form", "chat"]
"""``form``: multipart to ``audio/transcriptions``; ``chat``: a data URL in JSON to ``chat/completions``."""

BOUNDARY: Final = "qasr-bench-boundary"
LONGEST_S: Final = 120.0


class Job(msgspec.Struct, frozen=True):
    """What to send."""

    port: int
    dialect: Dialect
    paths: list[str]
    concurrency: int


class Answers(msgspec.Struct, frozen=True):
    """What came back, in the order of ``Job.paths``."""

    texts: list[str]
    latencies_s: list[float]
    wall_s: float
    cpu_s: float
    """Of the client, while requests were under way."""


class _Chat(msgspec.Struct):
    class _Choice(msgspec.Struct):
        class _Message(msgspec.Struct):
            content: str

        message: _Message

    choices: list[_Choice]


class _Transcription(msgspec.Struct):
    text: str


async def send(port: int, dialect: Dialect, paths: Sequence[Path], *, concurrency: int) -> Answers:
    """Send each of *paths* once, *concurrency* at a time."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.client"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    job = Job(port, dialect, [str(path) for path in paths], concurrency)
    out, _ = await child.communicate(msgspec.json.encode(job))
    if child.returncode:
        raise RuntimeError("the client failed; its reason stands above")
    return msgspec.json.decode(out, type=Answers)


async def send_here(port: int, dialect: Dialect, path: Path) -> float:
    """Seconds until one request, sent by this process, is answered."""
    job = Job(port, dialect, [str(path)], 1)
    return (await asyncio.to_thread(_run, job)).latencies_s[0]


def _run(job: Job) -> Answers:
    requests = [_encode(job.dialect, Path(path)) for path in job.paths]
    bodies: list[bytes] = [b""] * len(requests)
    latencies = [0.0] * len(requests)
    numbers = iter(range(len(requests)))
    failures: list[BaseException] = []

    def work(connection: socket.socket) -> None:
        try:
            with connection:
                for number in _shared(numbers):
                    begun = time.perf_counter()
                    connection.sendall(requests[number])
                    bodies[number] = _answer(connection)
                    latencies[number] = time.perf_counter() - begun
        except BaseException as error:  # noqa: BLE001 - told below, by the main thread
            failures.append(error)

    connections = [socket.create_connection(("127.0.0.1", job.port), LONGEST_S) for _ in range(job.concurrency)]
    threads = [threading.Thread(target=work, args=(connection,)) for connection in connections]
    begun, cpu = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall_s, cpu_s = time.perf_counter() - begun, time.process_time() - cpu
    if failures:
        raise failures[0]
    return Answers([_text(job.dialect, body) for body in bodies], latencies, wall_s, cpu_s)


def _shared(numbers: Iterator[int]) -> Iterator[int]:
    """The next number, for whoever asks first; ``next`` of a range is one step of the interpreter."""
    while (number := next(numbers, None)) is not None:
        yield number


def _encode(dialect: Dialect, path: Path) -> bytes:
    data = path.read_bytes()
    return _form(path.name, data) if dialect == "form" else _chat(data)


def _form(name: str, data: bytes) -> bytes:
    body = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode() + data
    body += f"\r\n--{BOUNDARY}--\r\n".encode()
    return _request("/v1/audio/transcriptions", f"multipart/form-data; boundary={BOUNDARY}", body)


def _chat(data: bytes) -> bytes:
    audio = {"data": "data:audio/wav;base64," + base64.b64encode(data).decode()}
    content = [{"type": "input_audio", "input_audio": audio}]
    body = {"model": "qwen3-asr-flash", "messages": [{"role": "user", "content": content}]}
    return _request("/v1/chat/completions", "application/json", msgspec.json.encode(body))


def _request(path: str, content_type: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer bench\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _answer(connection: socket.socket) -> bytes:
    """The body of one answer; the server tells its length."""
    data = _receive(connection, b"", lambda found: b"\r\n\r\n" in found)
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines)
    length = int(fields["content-length"])
    body = _receive(connection, body, lambda found: len(found) >= length)
    if status.split()[1] != "200":
        raise RuntimeError(f"{status}: {body.decode(errors='replace')[:500]}")
    return body


def _receive(connection: socket.socket, data: bytes, complete: Callable[[bytes], bool]) -> bytes:
    while not complete(data):
        more = connection.recv(2**16)
        if not more:
            raise RuntimeError("the server closed the connection")
        data += more
    return data


def _text(dialect: Dialect, body: bytes) -> str:
    if dialect == "form":
        return msgspec.json.decode(body, type=_Transcription).text
    return msgspec.json.decode(body, type=_Chat).choices[0].message.content


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(_run(msgspec.json.decode(sys.stdin.buffer.read(), type=Job))))
