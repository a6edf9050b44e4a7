"""A live session on a server, over DashScope's realtime protocol: our own server, or the service itself.

The server's events come back as those of a local session, so that the rest of the program knows no difference. Of the
silence that ends an utterance, and of its start, the server tells times; the text's own are not in this protocol.
"""

import base64
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from qasr.domain.audio import SAMPLE_RATE, Pcm
from qasr.domain.errors import EngineFailed
from qasr.domain.live import Failed, LiveEvent, LiveOptions, Partial, SpeechStarted, SpeechStopped
from qasr.domain.live import Final as Whole
from qasr.domain.transcript import Emotion

PATH: Final = "/api-ws/v1/realtime"
LARGEST_FRAME: Final = 1024 * 1024
_ITEM: Final = "conversation.item.input_audio_transcription."


class _Error(msgspec.Struct, frozen=True):
    message: str = "the server told no reason"


class _Event(msgspec.Struct, frozen=True):
    """The fields that we read, of all kinds of events."""

    type: str
    item_id: str = ""
    audio_start_ms: int = 0
    audio_end_ms: int = 0
    text: str = ""
    stash: str = ""
    transcript: str = ""
    language: str | None = None
    emotion: Emotion | None = None
    error: _Error = _Error()


class ServerLost(Exception):
    """The server cannot be reached, refuses us, or has left; the message tells which."""


class RemoteSession:
    """A ``LiveSession``, but for ``commit``, ``clear`` and ``configure``, which nobody here needs."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._utterances: dict[str, int] = {}
        self._spans: dict[str, tuple[int, int]] = {}

    async def feed(self, pcm: Pcm) -> None:
        """See ``LiveSession.feed``."""
        samples = np.rint(np.clip(pcm, -1, 1) * 32767).astype("<i2").tobytes()
        await self._send({"type": "input_audio_buffer.append", "audio": base64.b64encode(samples).decode()})

    async def finish(self) -> None:
        """See ``LiveSession.finish``."""
        await self._send({"type": "session.finish"})

    async def _send(self, message: dict[str, Any]) -> None:
        try:
            await self._socket.send(msgspec.json.encode(message).decode())
        except ConnectionClosed as error:
            raise ServerLost(_reason(error)) from error

    async def events(self) -> AsyncGenerator[LiveEvent]:
        """See ``LiveSession.events``.

        Raises:
            ServerLost: before the session had ended.
        """
        try:
            async for frame in self._socket:
                event = msgspec.json.decode(frame, type=_Event)
                if event.type == "session.finished":
                    return
                if event.type == "error":
                    raise ServerLost(event.error.message)
                if (told := self._told(event)) is not None:
                    yield told
        except ConnectionClosed as error:
            raise ServerLost(_reason(error)) from error
        except msgspec.MsgspecError as error:
            raise ServerLost("the server sent something of an unknown shape") from error
        raise ServerLost("the server left before it had answered")

    def _told(self, event: _Event) -> LiveEvent | None:
        number = self._utterances.setdefault(event.item_id, len(self._utterances) + 1) if event.item_id else 0
        begin_ms, end_ms = self._spans.get(event.item_id, (0, 0))
        match event.type.removeprefix(_ITEM):
            case "input_audio_buffer.speech_started":
                self._spans[event.item_id] = (event.audio_start_ms, event.audio_start_ms)
                return SpeechStarted(utterance=number, at_ms=event.audio_start_ms)
            case "input_audio_buffer.speech_stopped":
                self._spans[event.item_id] = (begin_ms, event.audio_end_ms)
                return SpeechStopped(utterance=number, at_ms=event.audio_end_ms)
            case "text":
                return Partial(
                    utterance=number,
                    begin_ms=begin_ms,
                    confirmed=event.text,
                    tentative=event.stash,
                    language=event.language,
                )
            case "completed":
                self._spans.pop(event.item_id, None)
                return Whole(
                    utterance=number,
                    begin_ms=begin_ms,
                    end_ms=end_ms,
                    text=event.transcript,
                    language=event.language,
                    emotion=event.emotion,
                )
            case "failed":
                return Failed(utterance=number, error=EngineFailed(event.error.message))
            case _:
                return None


@asynccontextmanager
async def session(
    server: str, api_key: str | None, model: str, options: LiveOptions, *, threshold: float = 0.2
) -> AsyncIterator[RemoteSession]:
    """A session at *server*, with its own detector of voices.

    Raises:
        ServerLost: it cannot be reached, or refuses us.
    """
    assert options.endpointing is not None
    address = server.rstrip("/").removesuffix("/v1").removesuffix("/compatible-mode").replace("http", "ws", 1)
    transcription: dict[str, Any] = {}
    if options.hints.language:
        transcription["language"] = options.hints.language
    if options.hints.context:
        transcription["corpus"] = {"text": options.hints.context}
    wanted = {
        "modalities": ["text"],
        "input_audio_format": "pcm",
        "sample_rate": SAMPLE_RATE,
        "input_audio_transcription": transcription,
        "turn_detection": {
            "type": "server_vad",
            "threshold": threshold,
            "silence_duration_ms": options.endpointing.silence_ms,
        },
    }
    try:
        async with connect(
            f"{address}{PATH}?model={model}",
            additional_headers={"Authorization": f"Bearer {api_key or 'any'}"},
            max_size=LARGEST_FRAME,
        ) as socket:
            heard = RemoteSession(socket)
            await socket.send(msgspec.json.encode({"type": "session.update", "session": wanted}).decode())
            yield heard
    except (InvalidHandshake, InvalidURI, OSError, TimeoutError) as error:
        raise ServerLost(f"{server} does not answer: {error or type(error).__name__}") from error


def _reason(error: ConnectionClosed) -> str:
    frame = error.rcvd
    return f"the server left: {frame.reason or frame.code}" if frame is not None else "the connection broke"
