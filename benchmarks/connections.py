"""HTTP/1.1 to one server for many who ask at once, cheaply: the client shares the processors with what it measures."""

import asyncio
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

KEPT_S: Final = 2.0
"""How long an idle connection is used again; the server closes it after 5 s."""
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass
class Connections:
    """Connections to *port* that are kept open; each takes one request at a time."""

    port: int
    _idle: deque[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=deque)

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to *request*, which has its head; the server tells the length of its answer.

        Raises:
            OSError, EOFError: the connection broke.
        """
        now = asyncio.get_running_loop().time
        while self._idle and self._idle[0][0] < now() - KEPT_S:
            self._idle.popleft()[2].close()
        if self._idle:
            _, reader, writer = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            found = _LENGTH.search(head)
            assert found is not None, head
            body = await reader.readexactly(int(found[1]))
        except BaseException:
            writer.transport.abort()
            raise
        self._idle.append((now(), reader, writer))
        return int(head.split(b" ", 2)[1]), body

    async def aclose(self) -> None:
        """Close what is idle."""
        while self._idle:
            self._idle.pop()[2].close()


def encoded(method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """A request as it goes over the wire."""
    fields = {"Host": "127.0.0.1", **headers, "Content-Length": str(len(body))}
    head = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(head).encode() + body
