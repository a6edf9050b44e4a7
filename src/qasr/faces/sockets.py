"""What the WebSocket faces share: a dialogue without I/O is run over a socket, between a client and a live session.

::

    client ──frames──▶ reader ──▶ dialogue.receive ──actions──▶ session: open, feed, commit, …, finish
                                  dialogue.hear    ◀──events─── session
                                  dialogue.tick    ◀──────────  clock
    client ◀──frames── writer ◀── outbox ◀──Send, Close── all of these

A dialogue decides what is said; this file moves it, and sees to what is the same for all:

- An engine that is slow slows the reader and so the client: nothing is read ahead of what the session has room for.
- A client that reads nothing holds up its own session only, and is cut off after ``Limits.stalled_s``.
- Whatever ends a conversation (the client leaves, the dialogue closes, the server stops, something raises) ends all of
  its tasks, and with them the session and the decoder.
"""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias, assert_never

import anyio
import structlog
from anyio.abc import TaskStatus
from starlette.websockets import WebSocket, WebSocketDisconnect

from qasr.domain.access import Caller, Scope
from qasr.domain.audio import LiveFormat, Pcm
from qasr.domain.errors import EngineFailed, EngineUnavailable, MediaError, QasrError
from qasr.domain.live import LiveEvent, LiveOptions, LiveSession
from qasr.faces.http import ToWire, error_answer, request_id, route
from qasr.faces.keys import Keys
from qasr.pipeline.live_decode import LiveStream

log = structlog.get_logger(__name__)

LARGEST_FRAME: Final = 20 * 1024**2 + 64 * 1024
"""Bytes: the documented 15 MiB of sound as base64, and some room for what stands around it."""

NORMAL: Final = 1000
GOING_AWAY: Final = 1001
POLICY_VIOLATION: Final = 1008
TOO_BIG: Final = 1009
INTERNAL_ERROR: Final = 1011
TRY_AGAIN_LATER: Final = 1013


@dataclass(frozen=True, slots=True)
class Send:
    """A text frame to the client."""

    text: str


@dataclass(frozen=True, slots=True)
class Open:
    """A live session begins; the one before it, if any, has ended (``Dialogue.heard`` was called)."""

    options: LiveOptions
    format: LiveFormat
    model: str
    """Public name of the one that is asked for; empty: of none in particular."""


@dataclass(frozen=True, slots=True)
class Reformat:
    """What is fed from now on has another format."""

    format: LiveFormat


@dataclass(frozen=True, slots=True)
class Feed:
    """Sound, as the client encoded it."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Commit:
    """See ``LiveSession.commit``."""


@dataclass(frozen=True, slots=True)
class Clear:
    """See ``LiveSession.clear``."""


@dataclass(frozen=True, slots=True)
class Configure:
    """See ``LiveSession.configure``."""

    options: LiveOptions


@dataclass(frozen=True, slots=True)
class Finish:
    """See ``LiveSession.finish``; the session's last event is followed by ``Dialogue.heard``."""


@dataclass(frozen=True, slots=True)
class Close:
    """Nothing is sent after it; the session, if one is open, ends at once."""

    code: int = NORMAL
    reason: str = ""
    least_age_s: float = 0.0
    """The socket stays open until it is that old: some clients do not see one that is closed at once."""


SessionAction: TypeAlias = Open | Reformat | Feed | Commit | Clear | Configure | Finish
Action: TypeAlias = Send | SessionAction | Close
"""What a dialogue asks for. Frames that stand before all else are on their way before anything more is heard."""


class Dialogue(Protocol):
    """One protocol, as a state machine without I/O. Its methods raise nothing and never wait."""

    def open(self) -> Sequence[Action]:
        """The socket is open."""
        ...

    def receive(self, frame: str | bytes) -> Sequence[Action]:
        """The client sent something."""
        ...

    def hear(self, event: LiveEvent) -> Sequence[Action]:
        """The session tells something."""
        ...

    def heard(self) -> Sequence[Action]:
        """The session has told everything, after ``Finish``; its place is free again."""
        ...

    def fail(self, error: QasrError) -> Sequence[Action]:
        """What was asked for could not be done: no session could be opened, sound could not be decoded, or the session
        broke. Told once for each session that broke; a dialogue that cannot go on closes.
        """
        ...

    def tick(self, now_s: float, waiting_s: float) -> Sequence[Action]:
        """Time passes, which may lead to ``Send`` and ``Close`` alone.

        Args:
            now_s: since the socket was opened.
            waiting_s: since when nothing came from the client; 0 while we are busy with what came.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ears:
    """What hears, and what decodes for it."""

    live: "OpenLive"
    decode: Callable[[LiveFormat], AbstractAsyncContextManager[LiveStream]]
    """A stream of this format, as ``Service.live_sound`` opens it."""


class OpenLive(Protocol):
    """``Visit.live``, for one caller and any model."""

    def __call__(self, options: LiveOptions, *, model: str) -> AbstractAsyncContextManager[LiveSession]:
        """A session with *model*, for as long as the block lasts; raises QasrError alone."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one client may cost."""

    frame_bytes: int = LARGEST_FRAME
    outbox_frames: int = 256
    """Frames that wait to be sent; beyond it the session is not listened to."""
    stalled_s: float = 30.0
    """How long one frame may take to be sent."""
    tick_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveContext:
    """What faces need for live speech, besides what they need anyway."""

    sockets: "Sockets"
    ears: Callable[[Caller, Scope], Ears]
    """What hears for a caller, through an interface."""
    session_s: float
    """Longest session."""
    idle_s: float
    """Longest time without a frame, where the protocol has such a limit."""


async def admit(websocket: WebSocket, keys: Keys, to_wire: ToWire) -> Caller | None:
    """Who opens *websocket*; None if they have no right to: then the upgrade is refused, in the shape of the face."""
    try:
        return await keys.bearer(websocket)
    except QasrError as error:
        await refuse(websocket, error, to_wire)
        return None


async def refuse(websocket: WebSocket, error: QasrError, to_wire: ToWire) -> None:
    """Refuse the upgrade with status and body of *error*."""
    log.info("refused", route=route(websocket.scope), error=type(error).__name__)
    await websocket.send_denial_response(error_answer(error, to_wire, request_id(websocket)))


class Sockets:
    """All open sockets of a server."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._open: set[_Conversation] = set()
        self._closing = False

    def __len__(self) -> int:
        return len(self._open)

    async def converse(
        self,
        websocket: WebSocket,
        dialogue: Dialogue,
        ears: Ears,
        *,
        to_wire: ToWire,
        subprotocol: str | None = None,
    ) -> None:
        """Run *dialogue* until one of both sides closes. The upgrade is refused while the server stops."""
        if self._closing:
            await refuse(websocket, EngineUnavailable("The server is being restarted."), to_wire)
            return
        conversation = _Conversation(websocket, dialogue, ears, self._limits)
        self._open.add(conversation)
        try:
            await websocket.accept(subprotocol)
            await conversation.run()
        except (WebSocketDisconnect, OSError):
            log.info("client_gone")
        finally:
            self._open.discard(conversation)

    async def close(self) -> None:
        """Close all of them with 1001, and let no more in. Returns when they are closed."""
        self._closing = True
        for conversation in self._open:
            conversation.close(Close(GOING_AWAY, "The server is being restarted."))
        while self._open:  # noqa: ASYNC110 - each ends by itself within Limits.stalled_s
            await anyio.sleep(0.01)


@dataclass(eq=False)
class _Outbox:
    """Frames to the client, in order. Putting never waits, so that order is that of the dialogue's decisions; those
    who put wait for room afterwards.
    """

    most: int
    _frames: deque[Send | Close] = field(default_factory=deque)
    _ended: bool = False
    _changed: anyio.Event = field(default_factory=anyio.Event)

    def put(self, frame: Send | Close) -> None:
        if not self._ended:
            self._frames.append(frame)
            self._ended = isinstance(frame, Close)
            self._notify()

    def end(self) -> None:
        self._ended = True
        self._notify()

    async def room(self) -> None:
        while len(self._frames) >= self.most:
            await self._changed.wait()

    async def get(self) -> Send | Close | None:
        """The next; None after the last."""
        while not self._frames:
            if self._ended:
                return None
            await self._changed.wait()
        frame = self._frames.popleft()
        self._notify()
        return frame

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


class _Conversation:
    """A dialogue under way: reader, writer, clock and session, each a task; they end together."""

    def __init__(self, websocket: WebSocket, dialogue: Dialogue, ears: Ears, limits: Limits) -> None:
        self._websocket, self._dialogue, self._ears = websocket, dialogue, ears
        self._limits = limits
        self._outbox = _Outbox(limits.outbox_frames)
        self._work = anyio.create_task_group()
        self._session: LiveSession | None = None
        self._sound: _Sound
        self._began_s = 0.0
        self._waiting_since_s: float | None = None

    def close(self, close: Close) -> None:
        """Say goodbye, after all that was to be sent before, and end everything else at once."""
        self._outbox.put(close)
        self._work.cancel_scope.cancel()

    async def run(self) -> None:
        """Returns when the socket is closed, by whomever."""
        self._began_s = anyio.current_time()
        async with anyio.create_task_group() as writing:
            writing.start_soon(self._write)
            async with self._work:
                self._work.start_soon(self._guarded, self._tick)
                self._work.start_soon(self._guarded, self._read)
            self._outbox.end()

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - told in full
            self._crash(error)

    def _crash(self, error: Exception) -> None:
        """A failure of our own ends the conversation, and nothing else."""
        log.error("conversation_raised", exc_info=error)
        with suppress(Exception):  # it may be the dialogue that raised
            for action in self._dialogue.fail(EngineFailed("Internal server error.")):
                if isinstance(action, Send | Close):
                    self._outbox.put(action)
        self.close(Close(INTERNAL_ERROR, "Internal server error."))

    async def _write(self) -> None:
        try:
            while (frame := await self._outbox.get()) is not None:
                if isinstance(frame, Close):
                    await anyio.sleep_until(self._began_s + frame.least_age_s)
                with anyio.fail_after(self._limits.stalled_s):
                    if isinstance(frame, Close):
                        await self._websocket.close(frame.code, frame.reason)
                    else:
                        await self._websocket.send_text(frame.text)
        except TimeoutError:
            log.warning("client_stalled", after_s=self._limits.stalled_s)
        except (WebSocketDisconnect, OSError, RuntimeError) as error:  # the last: the protocol below has closed it
            log.info("client_gone", error=type(error).__name__)
        finally:
            self._work.cancel_scope.cancel()

    async def _tick(self) -> None:
        while True:
            now_s = anyio.current_time()
            waiting_s = 0.0 if self._waiting_since_s is None else now_s - self._waiting_since_s
            await self._act(self._dialogue.tick(now_s - self._began_s, waiting_s))
            await anyio.sleep(self._limits.tick_s)

    async def _read(self) -> None:
        async with AsyncExitStack() as held:
            self._sound = _Sound(self._ears.decode, held)
            await self._act(self._dialogue.open())
            while (frame := await self._receive()) is not None:
                await self._act(self._dialogue.receive(frame))
        self._work.cancel_scope.cancel()

    async def _receive(self) -> str | bytes | None:
        """What the client sends; None when it is gone, or when it sent too much at once."""
        self._waiting_since_s = anyio.current_time()
        message = await self._websocket.receive()
        self._waiting_since_s = None
        if message["type"] == "websocket.disconnect":
            log.info("client_closed", code=message.get("code"))
            return None
        text: str | None = message.get("text")
        frame: str | bytes = message["bytes"] if text is None else text
        if len(frame) > self._limits.frame_bytes:
            self.close(Close(TOO_BIG, f"A frame may have {self._limits.frame_bytes} bytes."))
            return None
        return frame

    async def _act(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Send():
                    self._outbox.put(action)
                case Close():
                    self.close(action)
                    return
                case _:
                    await self._ask(action)
        await self._outbox.room()

    async def _ask(self, action: SessionAction) -> None:
        session = self._session
        try:
            match action:
                case Open(options=options, format=sound_format, model=model):
                    await self._sound.reformat(sound_format)
                    await self._work.start(self._live, options, model)
                case Reformat(format=sound_format):
                    await self._sound.reformat(sound_format)
                case _ if session is not None:  # else it broke just now, and the dialogue did not know when it asked
                    await self._pass_on(action, session)
        except MediaError as error:
            await self._act(self._dialogue.fail(error))
        except QasrError as error:
            await self._break(session, error)

    async def _pass_on(self, action: Feed | Commit | Clear | Configure | Finish, session: LiveSession) -> None:
        match action:
            case Feed(data=data):
                async with self._sound.decode(data) as pieces:
                    async for pcm in pieces:
                        await session.feed(pcm)
            case Commit():
                self._sound.complete()
                await session.commit()
            case Clear():
                await self._sound.forget()
                await session.clear()
            case Configure(options=options):
                await session.configure(options)
            case Finish():
                try:
                    async with self._sound.finish() as pieces:
                        async for pcm in pieces:
                            await session.feed(pcm)
                except MediaError as error:
                    await self._act(self._dialogue.fail(error))
                await session.finish()
            case unreachable:
                assert_never(unreachable)

    async def _live(self, options: LiveOptions, model: str, *, task_status: TaskStatus[None]) -> None:
        """One session, from its opening to its last event."""
        session = None
        try:
            async with self._ears.live(options, model=model) as session:
                self._session = session
                task_status.started()
                async for event in session.events():
                    await self._act(self._dialogue.hear(event))
            if self._session is session:
                self._session = None
                await self._act(self._dialogue.heard())
        except QasrError as error:
            await self._break(session, error)
            if session is None:
                task_status.started()
        except Exception as error:  # noqa: BLE001 - told in full
            self._crash(error)

    async def _break(self, session: LiveSession | None, error: QasrError) -> None:
        """Tell the dialogue, if it has not been told of this session yet."""
        if self._session is session:
            self._session = None
            await self._act(self._dialogue.fail(error))


class _Sound:
    """What a client sends, as samples; *held* closes the decoder in the end."""

    def __init__(
        self, decode: Callable[[LiveFormat], AbstractAsyncContextManager[LiveStream]], held: AsyncExitStack
    ) -> None:
        self._decode, self._held = decode, held
        self._format: LiveFormat | None = None
        self._stream: LiveStream | None = None
        self._is_complete = False

    async def reformat(self, sound_format: LiveFormat | None) -> None:
        """What comes next is in another format, or a stream of its own."""
        self._format, self._stream = sound_format, None
        await self._held.aclose()

    def complete(self) -> None:
        """An utterance ends here: what a filter still holds of it is no utterance of its own."""
        self._is_complete = True

    async def forget(self) -> None:
        """Half a sample that is held would shift all that comes; what has a header keeps it."""
        if self._format is not None and self._format.codec == "pcm":
            await self.reformat(self._format)

    @asynccontextmanager
    async def decode(self, data: bytes) -> AsyncIterator[AsyncIterator[Pcm]]:
        """Samples, piece by piece; a decoder is opened when there is something for it.

        Raises:
            MediaError: *data* is not in the format; what comes next is decoded anew.
        """
        assert self._format is not None
        self._is_complete = False
        if self._stream is None:
            self._stream = await self._held.enter_async_context(self._decode(self._format))
        try:
            async with aclosing(self._stream.feed(data)) as pieces:
                yield pieces
        except QasrError:
            await self.reformat(self._format)
            raise

    @asynccontextmanager
    async def finish(self) -> AsyncIterator[AsyncIterator[Pcm]]:
        """The last samples.

        Raises:
            MediaError: there were bytes, but no sound.
        """
        if self._stream is None or self._is_complete:
            yield _nothing()
            return
        async with aclosing(self._stream.finish()) as pieces:
            yield pieces


async def _nothing() -> AsyncIterator[Pcm]:
    return
    yield
