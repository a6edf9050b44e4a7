"""Under which names a server without keys answers: those of this machine.

Such a server listens to this machine only, but a browser on this machine runs pages of strangers. Two ways lead from
such a page to us, and both end here:

* a name of the stranger's that resolves to 127.0.0.1 (DNS rebinding) makes us part of the page's own site: ``Host``
  tells it. Nobody on the Internet has a name without a dot, so those are taken for somebody's of this house;
* a WebSocket is opened without asking us first, and a browser lets pages choose a subprotocol, which is one way to give
  a key: ``Origin`` tells it.

Everything else asks for the header ``Authorization``, which browsers send to another site only if that site agrees; we
never do.
"""

import ipaddress
import re
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

import structlog
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from qasr.faces.unknown import refusal

REMEDY: Final = "without API keys this server is for this machine only; set QASR_AUTH__KEYS, or server.external_url."

log = structlog.get_logger(__name__)


class OwnNames:
    """Middleware: refuses what was not sent to one of our names, or by a page of another.

    Args:
        app: what is behind.
        external_url: another name that we have.
    """

    def __init__(self, app: ASGIApp, *, external_url: str | None = None) -> None:
        self.app = app
        self._external = None if external_url is None else _host_of(external_url)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        asked = HTTPConnection(scope)
        host, origin = asked.headers.get("host"), asked.headers.get("origin")
        name, site = _host_of(f"//{host}"), _host_of(origin or "")
        if host is not None and not self._is_ours(name) and (not name or not re.fullmatch(r"[a-z0-9_-]+", name)):
            message = f"The name {host[:100]!r} is not one of ours: {REMEDY}"
        elif origin is not None and not self._is_ours(site) and (not site or site != name):
            message = f"Pages of {origin[:100]!r} may not ask: {REMEDY}"
        else:
            await self.app(scope, receive, send)
            return
        log.warning("foreign_name", path=asked.url.path)
        answer = refusal(asked, 403, message)
        if scope["type"] == "websocket":
            await WebSocket(scope, receive, send).send_denial_response(answer)
        else:
            await answer(scope, receive, send)

    def _is_ours(self, host: str | None) -> bool:
        if host is None:
            return False
        if host in ("localhost", self._external) or host.endswith(".localhost"):
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False


def _host_of(url: str) -> str | None:
    """The name in *url*, in small letters; None: there is none."""
    with suppress(ValueError):
        return urlsplit(url).hostname
    return None
