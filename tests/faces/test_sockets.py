"""Dialogues over real sockets: who is let in, what is too large, who is slow, who vanishes, and that all of it ends."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
import numpy as np
import pytest
import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from qasr.cli.websocket import LARGEST_MESSAGE, LiveWebSocket
from qasr.domain.audio import LiveFormat, Pcm
from qasr.domain.errors import EngineFailed, QasrError, QueueFull, Undecodable
from qasr.domain.live import Final as Heard
from qasr.domain.live import LiveEvent, LiveOptions, LiveSession
from qasr.faces import sockets
from qasr.faces.dashscope.errors import to_wire
from qasr.faces.http import RequestIds
from qasr.faces.keys import Keys
from qasr.faces.sockets import Action, Close, Ears, Limits, Sockets, admit

pytestmark = pytest.mark.anyio

FORMAT: Final = LiveFormat(codec="pcm", rate_hz=16_000)
LONG_S: Final = 30.0
"""Much more than anything here takes."""


@dataclass
class Echo:
    """A dialogue that says what happens. Text frames are orders; bytes are sound."""

    told: list[str] = field(default_factory=list)

    def open(self) -> list[Action]:
        return [sockets.Open(LiveOptions(), FORMAT, ""), self._say("open")]

    def receive(self, frame: str | bytes) -> list[Action]:
        if isinstance(frame, bytes):
            return [sockets.Feed(frame)]
        orders: dict[str, list[Action]] = {
            "commit": [sockets.Commit()],
            "clear": [sockets.Clear()],
            "configure": [sockets.Configure(LiveOptions(itn=True)), sockets.Reformat(FORMAT)],
            "finish": [sockets.Finish()],
            "flood": [sockets.Send("x" * 100_000)] * 1000,
        }
        if frame == "raise":
            raise RuntimeError("on purpose")
        if frame == "close":
            return [self._say("closing"), Close(4321), self._say("never sent")]
        return orders.get(frame) or [self._say(f"{len(frame)}")]

    def hear(self, event: LiveEvent) -> list[Action]:
        return [self._say(f"heard {event.text}")] if isinstance(event, Heard) else []

    def heard(self) -> list[Action]:
        return [self._say("all heard")]

    def fail(self, error: QasrError) -> list[Action]:
        gone = [] if isinstance(error, Undecodable) else [Close(4000)]
        return [self._say(f"failed {type(error).__name__}"), *gone]

    def tick(self, now_s: float, waiting_s: float) -> list[Action]:  # noqa: ARG002
        return [Close(4001, "idle")] if waiting_s > 0.5 and self.impatient else []

    impatient: bool = False

    def _say(self, text: str) -> sockets.Send:
        self.told.append(text)
        return sockets.Send(text)


@dataclass
class FakeSession:
    """Tells how much it was fed, at the end or at a commit."""

    n_fed: int = 0
    orders: list[str] = field(default_factory=list)
    slow: asyncio.Event | None = None
    breaks: bool = False
    engine: str = "fake"

    def __post_init__(self) -> None:
        self._events: asyncio.Queue[LiveEvent | None] = asyncio.Queue()

    async def feed(self, pcm: Pcm) -> None:
        if self.slow is not None:
            await self.slow.wait()
        if self.breaks:
            self._events.put_nowait(None)
            raise EngineFailed("broken")
        self.n_fed += len(pcm)

    async def commit(self) -> None:
        self.orders.append("commit")
        self._events.put_nowait(Heard(utterance=1, begin_ms=0, end_ms=0, text=f"{self.n_fed}"))

    async def clear(self) -> None:
        self.orders.append("clear")

    async def configure(self, options: LiveOptions) -> None:
        self.orders.append(f"itn {options.itn}")

    async def finish(self) -> None:
        await self.commit()
        self._events.put_nowait(None)

    async def events(self) -> AsyncIterator[LiveEvent]:
        while (event := await self._events.get()) is not None:
            yield event
        if self.breaks:
            raise EngineFailed("broken")


class Raw:
    """Two bytes are a sample; an odd rest is kept. ``bad`` is no sound."""

    def __init__(self) -> None:
        self._rest = b""

    async def feed(self, data: bytes) -> AsyncGenerator[Pcm, None]:
        if data == b"bad":
            raise Undecodable("bad")
        data = self._rest + data
        self._rest = data[len(data) // 2 * 2 :]
        pcm = np.zeros(len(data) // 2, np.float32)
        for begin in range(0, len(pcm), 16_000):
            yield pcm[begin : begin + 16_000]

    async def finish(self) -> AsyncGenerator[Pcm, None]:
        if self._rest:
            yield np.zeros(1, np.float32)


@dataclass
class House:
    """A server with fake ears."""

    sockets: Sockets
    port: int = 0
    most: int = 100
    slow: asyncio.Event | None = None
    breaks: bool = False
    impatient: bool = False
    sessions: list[FakeSession] = field(default_factory=list)
    n_open: int = 0
    n_decoders: int = 0
    dialogues: list[Echo] = field(default_factory=list)
    keys: Keys = field(default_factory=lambda: Keys(("sk-right",)))

    @asynccontextmanager
    async def live(self, options: LiveOptions, *, model: str) -> AsyncIterator[LiveSession]:  # noqa: ARG002
        if self.n_open >= self.most:
            raise QueueFull("full")
        session = FakeSession(slow=self.slow, breaks=self.breaks)
        self.sessions.append(session)
        self.n_open += 1
        try:
            yield session
        finally:
            self.n_open -= 1

    @asynccontextmanager
    async def decode(self, form: LiveFormat) -> AsyncIterator[Raw]:  # noqa: ARG002
        self.n_decoders += 1
        try:
            yield Raw()
        finally:
            self.n_decoders -= 1

    async def endpoint(self, websocket: WebSocket) -> None:
        caller = await admit(websocket, self.keys, to_wire)
        if caller is not None:
            dialogue = Echo(impatient=self.impatient)
            self.dialogues.append(dialogue)
            ears = Ears(live=self.live, decode=self.decode)
            await self.sockets.converse(websocket, dialogue, ears, to_wire=to_wire)

    def connect(self, key: str = "Bearer sk-right", **options: Any) -> connect:
        headers = {"Authorization": key} if key else {}
        return connect(f"ws://127.0.0.1:{self.port}/", additional_headers=headers, compression=None, **options)

    async def until(self, condition: Callable[[], bool]) -> None:
        with anyio.fail_after(LONG_S):
            while not condition():  # noqa: ASYNC110
                await anyio.sleep(0.01)

    @property
    def is_empty(self) -> bool:
        return (len(self.sockets), self.n_open, self.n_decoders) == (0, 0, 0)


@asynccontextmanager
async def serving(limits: Limits | None = None, *, ping_s: float = 20.0, **options: Any) -> AsyncIterator[House]:
    """A house that is open until the block ends, and empty then."""
    house = House(Sockets(limits), **options)
    app = Starlette(routes=[WebSocketRoute("/", house.endpoint)])
    app.add_middleware(RequestIds)
    config = uvicorn.Config(
        app,
        ws=LiveWebSocket,
        ws_max_size=LARGEST_MESSAGE,
        ws_per_message_deflate=False,
        ws_ping_interval=ping_s,
        ws_ping_timeout=ping_s,
        log_config=None,
        lifespan="off",
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        house.port = sock.getsockname()[1]
        async with anyio.create_task_group() as group:
            group.start_soon(server.serve, [sock])
            await house.until(lambda: server.started)
            yield house
            await house.until(lambda: house.is_empty)
            server.should_exit = True


async def close_code(websocket: ClientConnection) -> int | None:
    """With which code the server closes; what it says before is not looked at."""
    with anyio.fail_after(LONG_S), suppress(ConnectionClosed):
        while True:
            await websocket.recv()
    return websocket.close_code


@pytest.mark.parametrize("key", ["", "Bearer sk-wrong", "Basic sk-right", "Bearer"])
async def test_wrong_key_is_refused_before_the_upgrade(key: str, caplog: pytest.LogCaptureFixture) -> None:
    """With 401 and JSON in the shape of the face; strangers cannot fill the log with errors."""
    async with serving() as house:
        with pytest.raises(InvalidStatus) as refused:
            await house.connect(key)

    assert 401 == refused.value.response.status_code
    body = json.loads(refused.value.response.body)
    assert "InvalidApiKey" == body["code"]
    assert body["request_id"] == refused.value.response.headers["X-Request-Id"]
    assert [] == house.dialogues
    assert [] == [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("key", ["Bearer sk-right", "bearer sk-right", "BEARER  sk-right"])
async def test_right_key_is_let_in(key: str) -> None:
    """However the scheme is written."""
    async with serving() as house, house.connect(key, origin="http://elsewhere.example") as client:
        assert "open" == await client.recv()


async def test_sound_goes_in_and_text_comes_out() -> None:
    """In order; odd bytes are carried, and the last half sample is not lost before the end is told."""
    async with serving() as house, house.connect() as client:
        await client.send(b"\x00" * 3)
        await client.send(b"\x00" * 4)
        await client.send("commit")
        await client.send("configure")
        await client.send("finish")
        told = [await client.recv() for _ in range(4)]

        assert ["open", "heard 3", "heard 3", "all heard"] == told
        assert ["commit", "itn True", "commit"] == house.sessions[0].orders
        await house.until(lambda: house.n_open == 0)


async def test_what_is_left_behind_a_commit_is_no_utterance() -> None:
    """Half a sample, or what a resampler holds: it would be heard as one."""
    async with serving() as house, house.connect() as client:
        await client.send(b"\x00" * 5)
        await client.send("commit")
        await client.send("finish")

        assert ["open", "heard 2", "heard 2", "all heard"] == [await client.recv() for _ in range(4)]


async def test_clear_forgets_half_a_sample() -> None:
    """What comes next begins with a whole one."""
    async with serving() as house, house.connect() as client:
        await client.send(b"\x00" * 3)
        await client.send("clear")
        await client.send(b"\x00" * 4)
        await client.send("finish")

        assert ["open", "heard 3", "all heard"] == [await client.recv() for _ in range(3)]


async def test_large_frame_is_taken() -> None:
    """As large as is documented, in one piece; the session gets it in small ones."""
    async with serving() as house, house.connect() as client:
        await client.send(bytes(20 * 1024**2))
        await client.send("finish")

        assert ["open", f"heard {10 * 1024**2}"] == [await client.recv(), await client.recv()]


@pytest.mark.parametrize(
    "frame", [bytes(sockets.LARGEST_FRAME + 1), "a" * (sockets.LARGEST_FRAME + 1)], ids=["bytes", "text"]
)
async def test_larger_frame_is_the_end(frame: str | bytes) -> None:
    """1009, and the client is still there to see it."""
    async with serving() as house, house.connect() as client:
        await client.send(frame)

        assert 1009 == await close_code(client)


async def test_far_too_large_frame_is_cut_off() -> None:
    """It is not read to its end; the client may or may not see the code of the close."""
    async with serving() as house, house.connect() as client:
        with suppress(ConnectionClosed):
            await client.send(bytes(2 * LARGEST_MESSAGE))

        assert await close_code(client) in (1009, 1006)


async def test_nothing_is_said_behind_a_close() -> None:
    """What stands before it is sent; the session ends at once."""
    async with serving() as house, house.connect() as client:
        await client.send("close")

        assert ["open", "closing"] == [await client.recv(), await client.recv()]
        assert 4321 == await close_code(client)


async def test_crash_is_told_and_ends_only_this_conversation() -> None:
    """The dialogue's own words, then 4000 or 1011; others do not notice."""
    with structlog.testing.capture_logs() as logs:
        async with serving() as house, house.connect() as other:
            async with house.connect() as client:
                await client.send("raise")

                assert ["open", "failed EngineFailed"] == [await client.recv(), await client.recv()]
                assert 4000 == await close_code(client)
            await other.send("hello")

            assert ["open", "5"] == [await other.recv(), await other.recv()]

    assert ["conversation_raised"] == [each["event"] for each in logs if each["log_level"] == "error"]


async def test_broken_session_is_told_once() -> None:
    """It breaks where it is fed and where it is read."""
    async with serving(breaks=True) as house, house.connect() as client:
        await client.send(bytes(10))

        assert ["open", "failed EngineFailed"] == [await client.recv(), await client.recv()]
        assert 4000 == await close_code(client)

    assert 1 == house.dialogues[0].told.count("failed EngineFailed")


async def test_undecodable_sound_leaves_the_session() -> None:
    """What comes next is decoded anew."""
    async with serving() as house, house.connect() as client:
        await client.send(b"bad")
        await client.send(bytes(4))
        await client.send("finish")

        assert ["open", "failed Undecodable", "heard 2", "all heard"] == [await client.recv() for _ in range(4)]


async def test_too_many_sessions_are_refused_by_the_dialogue() -> None:
    """And the next one is let in when there is room again."""
    async with serving(most=1) as house:
        async with house.connect() as first:
            assert "open" == await first.recv()
            async with house.connect() as second:
                assert "failed QueueFull" == await second.recv()
                assert 4000 == await close_code(second)
        await house.until(lambda: house.n_open == 0)
        async with house.connect() as third:
            assert "open" == await third.recv()


async def test_slow_engine_slows_the_client() -> None:
    """What the session has no room for is not read: the client cannot send on; nobody loses anything."""
    slow = asyncio.Event()
    async with serving(slow=slow) as house, house.connect() as client:
        sent = 0
        with anyio.move_on_after(3.0):
            while sent < 200:
                await client.send(bytes(10**6))
                sent += 1
        stuck = sent
        slow.set()
        with anyio.fail_after(LONG_S):
            await client.send("finish")
            told = [await client.recv(), await client.recv()]

        assert stuck < 200
        assert f"heard {house.sessions[0].n_fed}" == told[1]
        assert house.sessions[0].n_fed >= stuck * 500_000


async def test_client_that_reads_nothing_is_cut_off() -> None:
    """After a time; its session is free, and its connection is gone."""
    async with serving(Limits(stalled_s=0.5, outbox_frames=8)) as house:
        client = await house.connect(max_queue=1)
        await client.send("flood")
        await house.until(lambda: len(house.dialogues) == 1 and "open" in house.dialogues[0].told)
        client.transport.pause_reading()
        await client.send("flood")

        await house.until(lambda: house.is_empty)
        client.transport.abort()


async def test_idle_client_is_seen_by_the_clock() -> None:
    """The dialogue is told how long nothing came."""
    async with serving(Limits(tick_s=0.05), impatient=True) as house, house.connect() as client:
        assert 4001 == await close_code(client)


@pytest.mark.parametrize("orders", [[], [b"\x00" * 7], ["commit"], ["finish"], [b"\x00", "finish"], ["flood"]], ids=str)
@pytest.mark.parametrize("politely", [True, False])
async def test_client_that_vanishes_leaves_nothing(orders: list[str | bytes], *, politely: bool) -> None:
    """At each state, with a farewell or without."""
    async with serving() as house:
        client = await house.connect()
        for order in orders:
            await client.send(order)
        if politely:
            await client.close()
        else:
            client.transport.abort()

        await house.until(lambda: len(house.sessions) <= 1 and house.is_empty)


async def test_stop_closes_all_with_1001() -> None:
    """And lets no more in: 503 before the upgrade."""
    async with serving() as house, house.connect() as first, house.connect() as second:
        for client in (first, second):
            assert "open" == await client.recv()
        await house.sockets.close()

        assert [1001, 1001] == [await close_code(client) for client in (first, second)]
        with pytest.raises(InvalidStatus) as refused:
            await house.connect()
        assert 503 == refused.value.response.status_code


@pytest.mark.parametrize("taken", [True, False])
async def test_slow_reading_is_not_taken_for_death(*, taken: bool) -> None:
    """While the server reads nothing it cannot see answers to its pings; a client that answers none is dead."""
    slow = asyncio.Event()
    async with serving(ping_s=0.2, slow=slow) as house, house.connect() as client:
        assert "open" == await client.recv()
        if taken:
            await client.send(bytes(10))
            await client.send(bytes(10))
            await anyio.sleep(1.0)
            slow.set()
            await client.send("hello")
            with anyio.fail_after(LONG_S):
                assert "5" == await client.recv()
        else:
            client.transport.pause_reading()
            await house.until(lambda: house.is_empty)
            client.transport.abort()
