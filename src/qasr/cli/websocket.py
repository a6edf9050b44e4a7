"""uvicorn's WebSocket protocol, as live sessions need it."""

from typing import Any, Final

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

LARGEST_MESSAGE: Final = 32 * 1024**2
"""Bytes. More than the faces allow: those read a frame that is too large to its end, so that the client is still there
to be told (close 1009); only what is far too large is cut off while it is being sent.
"""
PING_S: Final = 20.0
ABORT_S: Final = 12.0
"""After the application is done; uvicorn waits 10 s for the client's part of the closing."""


class LiveWebSocket(WebSocketsSansIOProtocol):
    """Differs from its parent in three ways.

    A client whose sound we take slowly is not taken for dead: while reading is paused its answers to our pings lie
    unread. And a client that reads nothing cannot keep its connection: the parent waits until all is sent, which may be
    never. And a refused upgrade is an answer like any other: the parent takes it for an application that forgot to give
    one, and logs an error.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._alive_at = self.loop.time()
        self._abort: Any = None

    def data_received(self, data: bytes) -> None:
        """Anything that comes is a sign of life."""
        self._alive_at = self.loop.time()
        super().data_received(data)

    async def receive(self) -> ASGIReceiveEvent:
        """The application takes the next message; what waits behind it is read only now."""
        message = await super().receive()
        self._alive_at = self.loop.time()
        return message

    async def send(self, message: ASGISendEvent) -> None:
        """The application says something."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True

    def keepalive_timeout(self) -> None:
        """No answer to a ping."""
        assert self.ping_timeout is not None
        silent_s = self.loop.time() - self._alive_at
        if self.read_paused or silent_s < self.ping_timeout:
            self.pong_timer = self.loop.call_later(self.ping_timeout, self.keepalive_timeout)
        else:
            super().keepalive_timeout()

    async def run_asgi(self) -> None:
        """The application, and then the end."""
        await super().run_asgi()
        self._abort = self.loop.call_later(ABORT_S, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        if self._abort is not None:
            self._abort.cancel()
        super().connection_lost(exc)
