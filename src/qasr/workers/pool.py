"""Our end of the children: a pool that keeps a number of them alive and lends them out call by call.

One supervisor per child starts it, reads its frames and starts another when it dies. A caller that leaves early sends
``Cancel``; the child's place is lent again once it has confirmed, or it is killed after a time of grace.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final, Self, TypeAlias

import anyio
import anyio.abc
import msgspec
import structlog

from qasr.domain import telemetry
from qasr.workers import protocol

GRACE_S: Final = 2.0
"""How long a child may go on with a call that nobody wants any more, unless its pool says otherwise."""
EXIT_S: Final = 5.0
"""How long a child may take to end once its output has; a moment, unless it has closed that on purpose."""
START_S: Final = 30.0
"""How long a call waits for a first child to load."""
NEXT_S: Final = 5.0
"""How long the next child waits for the one before it to load."""
READ_AHEAD: Final = 8
"""Items of one call that may wait for their reader; then the child waits too."""
RESTART_S: Final = (0.05, 0.2, 1.0, 5.0)
"""Pauses before a child is started again, by the number of deaths in a row before it was ready."""
READ_BUFFER: Final = 2 * 1024**2
"""Bytes that asyncio takes from a child before it waits for a reader; ten seconds of samples are 640 000."""
HOPELESS: Final = 2
"""Deaths in a row before a child was ready, after which nobody waits for it any more."""
PASSED_ON: Final = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "HOME")
"""Environment variables that a child gets; ours may hold keys, and a child may be broken into."""
LAST_WORDS: Final = 2_000
"""Characters of a child's error output that we keep for the log."""
FROM_OUTSIDE: Final = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
"""Signals that no process brings upon itself: crashes and used-up limits have others."""

Reply: TypeAlias = tuple[msgspec.Raw, bytes]
Replies: TypeAlias = AsyncIterator[Reply]

log = structlog.get_logger(__name__)


class WorkerDied(Exception):
    """The child ended while it was answering."""


class WorkerKilled(WorkerDied):
    """It was ended from outside, which says nothing about what it was doing: by a person, or for want of memory."""


class CallFailed(Exception):
    """The child answered that it cannot; *kind* is the handler's word."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class _OpenCall:
    """One call in flight, seen from the parent."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Reply | Exception | None] = asyncio.Queue(READ_AHEAD)
        self.abandoned = False
        self.over = False

    async def put(self, item: Reply | Exception | None) -> None:
        if not self.abandoned:
            await self._queue.put(item)

    def abandon(self) -> None:
        self.abandoned = True
        while not self._queue.empty():  # a reader blocked in `put` goes on
            self._queue.get_nowait()

    async def replies(self) -> Replies:
        while (item := await self._queue.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item


class _Child:
    """One supervised process."""

    def __init__(
        self, command: tuple[str, ...], parallel: int, free_in_pool: asyncio.Semaphore, grace_s: float
    ) -> None:
        self.command = command
        self._grace_s = grace_s
        self._free_in_pool = free_in_pool
        self.free = asyncio.Semaphore(parallel)
        self.ready = asyncio.Event()
        self.news = asyncio.Event()
        """It has loaded, refused to, or died."""
        self.seen = asyncio.Event()
        """The same, for the first time."""
        self.refusal: CallFailed | None = None
        """Why it cannot load, in its own words."""
        self.failures = 0
        """Deaths in a row before it was ready."""
        self.about: Mapping[str, object] = {}
        self.process: asyncio.subprocess.Process | None = None
        self._calls: dict[int, _OpenCall] = {}
        self._next_id = 0
        self._last_words = b""
        self._ended_by_us = False

    async def supervise(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            self._ended_by_us = False
            with anyio.CancelScope(shield=True):  # half a process would be nobody's
                self.process = await asyncio.create_subprocess_exec(
                    *self.command,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    limit=READ_BUFFER,
                    env={name: os.environ[name] for name in PASSED_ON if name in os.environ},  # no key of ours
                    start_new_session=True,  # Ctrl-C is for us; we end our children ourselves
                )
            assert self.process is not None
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._keep_last_words, self.process)
                    await self._read(self.process)
                self.failures = 0 if self.ready.is_set() else self.failures + 1
                self._tell()
                self.ready.clear()  # nobody else's call goes to it
                with anyio.move_on_after(EXIT_S):  # killing it now would hide from asyncio how it ended
                    await self.process.wait()
            finally:
                self.ready.clear()
                self._send_kill()
                with anyio.CancelScope(shield=True):
                    await _read_to_the_end(self.process)
                    code = await self.process.wait()
                    await self._fail_all(code)
            telemetry.tell(telemetry.WorkerDied(target=self.command[-2].partition(":")[0]))
            log.warning(
                "worker_died",
                command=self.command[-2],
                exit_code=code,
                last_words=self._last_words.decode(errors="replace"),
            )
            await asyncio.sleep(RESTART_S[min(self.failures, len(RESTART_S) - 1)])

    def _tell(self) -> None:
        self.news.set()
        self.seen.set()

    def kill(self) -> None:
        """End it for what it does or fails to do."""
        self._ended_by_us = True
        self._send_kill()

    def _send_kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.kill()

    async def _keep_last_words(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while data := await process.stderr.read(4096):
            self._last_words = (self._last_words + data)[-LAST_WORDS:]

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        decoder = msgspec.msgpack.Decoder(protocol.FromChild)
        source = process.stdout
        try:
            while True:
                n_head, n_payload = protocol.LENGTHS.unpack(await source.readexactly(protocol.LENGTHS.size))
                if n_head + n_payload > protocol.LARGEST_FRAME:
                    self.kill()
                    return
                header = decoder.decode(await source.readexactly(n_head))
                payload = await source.readexactly(n_payload)
                await self._take(header, payload)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        except msgspec.MsgspecError:
            self.kill()

    async def _take(self, header: protocol.FromChild, payload: bytes) -> None:
        if isinstance(header, protocol.Ready):
            self.about = msgspec.msgpack.decode(header.body)
            self.refusal = None
            self.ready.set()
            self._tell()
            return
        if isinstance(header, protocol.Fail) and header.id == protocol.LOADING:
            self.refusal = CallFailed(header.kind, header.message)
            self._tell()
            return
        call = self._calls.get(header.id)
        if call is None:
            return
        if isinstance(header, protocol.Item):
            await call.put((header.body.copy(), payload))
            return
        self._close(header.id)
        await call.put(CallFailed(header.kind, header.message) if isinstance(header, protocol.Fail) else None)

    def _close(self, call_id: int) -> None:
        call = self._calls.pop(call_id)
        call.over = True
        self.free.release()
        self._free_in_pool.release()

    async def _fail_all(self, exit_code: int) -> None:
        """*exit_code*: minus the signal, where one ended the process."""
        is_killed = -exit_code in FROM_OUTSIDE and not self._ended_by_us
        for call_id in list(self._calls):
            call = self._calls[call_id]
            self._close(call_id)
            kind = WorkerKilled if is_killed else WorkerDied
            await call.put(kind("the process that did this ended unexpectedly"))

    async def _send(self, frame: bytes) -> None:
        if self.process is None or self.process.stdin is None or self.process.stdin.is_closing():
            return  # the supervisor has seen it, or will
        try:
            self.process.stdin.write(frame)
            await self.process.stdin.drain()
        except (ConnectionError, RuntimeError):
            return

    @asynccontextmanager
    async def call(self, method: str, body: object, payload: bytes | memoryview) -> AsyncIterator[Replies]:
        """One call; the caller has acquired ``free``, here and in the pool; both are released when the child has
        confirmed the end, however long the caller keeps reading what it has sent.
        """
        call_id, self._next_id = self._next_id, self._next_id + 1
        call = self._calls[call_id] = _OpenCall()
        try:
            await self._send(protocol.encode(protocol.Call(call_id, method, protocol.raw(body)), payload))
            yield call.replies()
        finally:
            if not call.over:
                call.abandon()
                process = self.process
                asyncio.get_running_loop().call_later(self._grace_s, self._kill_if_open, call_id, process)
                if process is not None and process.stdin is not None and not process.stdin.is_closing():
                    process.stdin.write(protocol.encode(protocol.Cancel(call_id)))

    def _kill_if_open(self, call_id: int, process: asyncio.subprocess.Process | None) -> None:
        if call_id in self._calls and process is self.process:
            self.kill()


async def _read_to_the_end(process: asyncio.subprocess.Process) -> None:
    """Drain a killed child: asyncio reports no end of a process whose output waits for a reader."""
    assert process.stdout is not None
    while await process.stdout.read(65_536):
        pass


class WorkerPool:
    """Keeps *size* children of one kind alive; an async context manager.

    Args:
        target: ``module:factory`` of the handler, see ``child.py``.
        config: given to the factory, as JSON.
        size: number of processes.
        parallel: calls that one process answers at once.
        grace_s: how long a cancelled call may go on before its process is killed, with all calls in it.
    """

    def __init__(
        self,
        target: str,
        config: Mapping[str, object],
        *,
        size: int = 1,
        parallel: int = 1,
        grace_s: float = GRACE_S,
    ) -> None:
        command = (sys.executable, "-m", "qasr.workers.child", target, msgspec.json.encode(config).decode())
        self._free = asyncio.Semaphore(size * parallel)
        self._children = [_Child(command, parallel, self._free, grace_s) for _ in range(size)]
        self._group: anyio.abc.TaskGroup | None = None

    async def __aenter__(self) -> Self:
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._group.start_soon(self._start, self._group)
        return self

    async def _start(self, group: anyio.abc.TaskGroup) -> None:
        """One child after the other: the first is ready sooner, and it can answer."""
        for child in self._children:
            group.start_soon(child.supervise)
            with anyio.move_on_after(NEXT_S):
                await child.seen.wait()

    async def __aexit__(self, *exc: object) -> None:
        assert self._group is not None
        self._group.cancel_scope.cancel()
        await self._group.__aexit__(None, None, None)

    @property
    def pids(self) -> list[int]:
        """Processes that live now."""
        return [c.process.pid for c in self._children if c.process is not None and c.process.returncode is None]

    @property
    def is_ready(self) -> bool:
        """Whether a child has loaded, and can answer."""
        return any(child.ready.is_set() for child in self._children)

    async def wait_ready(self) -> Mapping[str, object]:
        """Wait until every child has loaded; what the first one says about itself.

        Raises:
            CallFailed: a child refuses to load; it is tried again, but hardly with more luck.
            WorkerDied: a child ended several times while it was loading; the same.
        """
        for child in self._children:
            while not child.ready.is_set():
                if child.refusal is not None:
                    raise child.refusal
                if child.failures >= HOPELESS:
                    raise WorkerDied("the process ended while it was loading")
                child.news.clear()
                await child.news.wait()
        return self._children[0].about

    @asynccontextmanager
    async def call(self, method: str, body: object = None, payload: bytes | memoryview = b"") -> AsyncIterator[Replies]:
        """Ask a free child; wait for one if none is. Leaving the block early cancels the call.

        The child is free for others once it has sent its answer, read or not.

        Raises (from the iterator): CallFailed, WorkerDied.
        """
        await self._free.acquire()
        try:
            child = await self._take_free()
        except BaseException:
            self._free.release()
            raise
        async with child.call(method, body, payload) as replies:
            yield replies

    async def _take_free(self) -> _Child:
        """A loaded child with a free place; its place is taken. A child that confirms a cancel late is passed over.

        Raises:
            WorkerDied: no child has come up for a long time.
        """
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline or any(child.ready.is_set() for child in self._children):
            for child in self._children:
                if child.ready.is_set() and not child.free.locked():
                    await child.free.acquire()
                    return child
            await asyncio.sleep(0.005)
        raise WorkerDied("the process that would do this cannot be started")
