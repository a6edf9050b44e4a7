"""A child process: ``python -m qasr.workers.child MODULE:FACTORY CONFIG`` answers calls from its standard input.

``FACTORY(config)`` returns a ``Handler``; loading happens in it, and a ``Refusal`` tells the parent why it cannot.
Calls run on ``handler.parallel`` threads. The process ends when its standard input does, so it cannot outlive the
program that started it.
"""

import importlib
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, Protocol, TypeAlias

import msgspec

from qasr.workers import protocol

Cancelled: TypeAlias = Callable[[], bool]
"""Ask it often; True means that nobody waits for the answer."""

Answer: TypeAlias = tuple[object, bytes | memoryview]
"""A value that msgpack can carry, and raw bytes."""


class Handler(Protocol):
    """What a child does."""

    parallel: int
    about: Mapping[str, object]
    """Told to the parent once, when loading is done."""

    def handle(self, method: str, body: msgspec.Raw, payload: bytes, cancelled: Cancelled) -> Iterator[Answer]:
        """Answer one call; raise ``Refusal`` to fail it with a word that the parent knows."""
        ...


class Refusal(Exception):
    """The call, or loading, cannot be done; *kind* tells the parent why."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class _Channel:
    """Frames over two file descriptors; writing is shared by all threads."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source, self._sink, self._lock = source, sink, threading.Lock()
        self._decoder = msgspec.msgpack.Decoder(protocol.ToChild)

    def read(self) -> tuple[protocol.ToChild, bytes] | None:
        lengths = self._source.read(protocol.LENGTHS.size)
        if len(lengths) < protocol.LENGTHS.size:
            return None
        n_head, n_payload = protocol.LENGTHS.unpack(lengths)
        head, payload = self._source.read(n_head), self._source.read(n_payload)
        if len(head) < n_head or len(payload) < n_payload:
            return None
        return self._decoder.decode(head), payload

    def write(self, header: protocol.FromChild, payload: bytes | memoryview = b"") -> None:
        with self._lock:
            self._sink.write(protocol.encode(header, payload))
            self._sink.flush()


def _serve(handler: Handler, channel: _Channel) -> None:
    calls: queue.SimpleQueue[tuple[protocol.Call, bytes]] = queue.SimpleQueue()
    cancelled: set[int] = set()

    def answer(call: protocol.Call, payload: bytes) -> protocol.End | protocol.Fail:
        try:
            for body, data in handler.handle(call.method, call.body, payload, lambda: call.id in cancelled):
                channel.write(protocol.Item(call.id, protocol.raw(body)), data)
        except Refusal as refusal:
            return protocol.Fail(call.id, refusal.kind, str(refusal))
        except Exception as error:  # noqa: BLE001 - whatever a call does, the process goes on
            return protocol.Fail(call.id, "error", f"{type(error).__name__}: {error}")
        return protocol.End(call.id)

    def work() -> None:
        while True:
            call, payload = calls.get()
            channel.write(answer(call, payload))
            cancelled.discard(call.id)

    for _ in range(handler.parallel):
        threading.Thread(target=work, daemon=True).start()
    while (frame := channel.read()) is not None:
        header, payload = frame
        if isinstance(header, protocol.Cancel):
            cancelled.add(header.id)
        else:
            calls.put((header, payload))


def main(target: str, config: str) -> None:
    """Load *target* with *config* (JSON) and answer until the standard input ends."""
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not break the frames
    channel = _Channel(sys.stdin.buffer, sink)
    module, _, name = target.partition(":")
    try:
        handler: Handler = getattr(importlib.import_module(module), name)(msgspec.json.decode(config))
    except Refusal as refusal:
        channel.write(protocol.Fail(protocol.LOADING, refusal.kind, str(refusal)))
        raise SystemExit(1) from refusal
    channel.write(protocol.Ready(protocol.raw(handler.about)))
    _serve(handler, channel)
    os._exit(0)  # threads inside a model call must not keep us


if __name__ == "__main__":
    from qasr.workers.child import main as run  # the module by its name: handlers raise that one's Refusal

    run(*sys.argv[1:])
