"""One server process: take the data directory, bind, listen, and say so once it can answer."""

import asyncio
import signal
import socket
import ssl
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import httpx2
import structlog
import uvicorn
import uvloop
from starlette.applications import Starlette

from qasr import __version__, log
from qasr.app import build
from qasr.cli import configuration
from qasr.cli.connections import ConnectionLimits, LimitedHttp, most_connections
from qasr.cli.failure import FAILED, fail
from qasr.cli.memory import keep_small, spare_what_stays
from qasr.cli.websocket import LARGEST_MESSAGE, PING_S, LiveWebSocket
from qasr.config import Settings
from qasr.domain.errors import InvalidParameter, QasrError
from qasr.storage.lock import exclusive

GRACE_S: Final = 25
"""How long requests under way may take after we were told to stop; orchestrators kill after 30."""
BACKLOG: Final = 2048
LISTENERS: Final = 8
"""On the one socket. Each takes one new connection per turn of the event loop, as libuv has it, and under load a turn
takes 5 to 10 ms: with one listener, who came anew waited 0.3 to 0.8 s to be looked at, however soon refused then."""
SETTLE_S: Final = 0.2
"""Between two looks whether the start is over."""
SETTLED_S: Final = 60.0
"""After that it is over as far as it goes: a database may be away for long."""
SAMPLE: Final = Path("tests/data/jfk.flac")

logger = structlog.get_logger(__name__)


def run(flags: Mapping[str, object], config_file: Path | None) -> None:
    """Serve until told to stop. Ends the program if it cannot start."""
    keep_small()
    settings = configuration.load(configuration.nested(flags), config_file)
    log.set_up(settings.log.level, json_lines=settings.log.json_lines)
    for variable, meant in configuration.unknown_variables().items():
        logger.warning("unknown_setting", variable=variable, **({"did_you_mean": meant} if meant else {}))
    try:
        check_certificate(settings)
        app = build(settings)
        with exclusive(settings.data_dir), closing(listen(settings.server.host, settings.server.port)) as sock:
            started = _serve(app, sock, settings)
    except QasrError as error:
        fail(error)
    if not started:
        fail("the server could not start; the log above tells why", FAILED)


def check_certificate(settings: Settings) -> None:
    """See that the files of TLS can be used, before anything is started.

    Raises:
        InvalidParameter: they cannot; the message tells which.
    """
    certificate, key = settings.server.tls_certificate, settings.server.tls_key
    if certificate is None:
        if key is not None:
            raise InvalidParameter("server.tls_key is set, and server.tls_certificate is not")
        return
    try:  # an empty password: else a key that has one is asked for on the terminal
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except OSError as error:  # ssl.SSLError is one
        names = str(certificate) if key is None else f"{certificate} and {key}"
        reason = getattr(error, "reason", None) or error.strerror or str(error)
        raise InvalidParameter(f"server.tls_certificate: {names} cannot be used: {reason}") from error


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on *host* and *port* (0: any free one).

    Raises:
        InvalidParameter: the address is taken, not ours, or unknown.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InvalidParameter(f"cannot listen on {host}: {error.strerror}") from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise InvalidParameter(
            f"cannot listen on {host} port {port}: {error.strerror}. Choose another with --host and --port."
        ) from error
    return sock


def _serve(app: Starlette, sock: socket.socket, settings: Settings) -> bool:
    """Whether it started."""
    limits = ConnectionLimits(
        most=most_connections(settings.server.most_connections), patience_s=settings.server.patience_s
    )
    tempfile.tempdir = str(settings.data_dir / "spool")  # parts of forms; not on a disk that nobody thought of
    make_connection: Any = partial(LimitedHttp, limits)  # uvicorn wants a class, and only calls it
    server = _Server(
        uvicorn.Config(
            app,
            http=make_connection,
            ssl_certfile=settings.server.tls_certificate,
            ssl_keyfile=settings.server.tls_key,
            ws=LiveWebSocket,
            ws_max_size=LARGEST_MESSAGE,
            ws_ping_interval=PING_S,
            ws_ping_timeout=PING_S,
            ws_per_message_deflate=False,  # costs memory for each session, and sound does not shrink
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=True,
            timeout_graceful_shutdown=GRACE_S,
            backlog=BACKLOG,
        )
    )
    server.before_shutdown = app.state.close_sockets
    welcome = greeting(
        base_url(settings.server.host, sock.getsockname()[1], tls=settings.server.tls_certificate is not None),
        settings,
        is_open=app.state.is_open,
    )

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(_announce, server, app, welcome)
            group.start_soon(_settle, server, app)
            group.start_soon(_wind_down, server, app)
            await server.serve(sockets=[sock, *(sock.dup() for _ in range(LISTENERS - 1))])
            group.cancel_scope.cancel()

    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it again when all is done; that is no failure
    with suppress(KeyboardInterrupt):  # the same, for Ctrl-C
        anyio.run(main, backend_options={"loop_factory": partial(_loop, handshake_s=settings.server.patience_s)})
    return server.started


class _Loop(uvloop.Loop):  # type: ignore[misc]  # it has no types
    """Waits ``handshake_s`` for a client's part of TLS; by itself a minute, and uvicorn has no setting for it."""

    handshake_s: float

    async def create_server(self, *arguments: Any, **options: Any) -> asyncio.Server:
        """Listen."""
        if options.get("ssl") is not None:
            options["ssl_handshake_timeout"] = self.handshake_s
        listening: asyncio.Server = await super().create_server(*arguments, **options)
        return listening


def _loop(*, handshake_s: float) -> _Loop:
    loop = _Loop()
    loop.handshake_s = handshake_s
    return loop


class _Server(uvicorn.Server):
    """uvicorn closes sockets with 1012 and tells nobody; ours are closed before it comes to that."""

    before_shutdown: Callable[[], Awaitable[None]]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop."""
        with anyio.move_on_after(GRACE_S):
            await self.before_shutdown()
        await super().shutdown(sockets)


async def _wind_down(server: uvicorn.Server, app: Starlette) -> None:
    """Let tasks come to rest while requests under way are still answered, not after them."""
    while not server.should_exit:  # noqa: ASYNC110 - uvicorn has no event for it
        await anyio.sleep(0.1)
    if server.started:
        await app.state.wind_down()


async def _settle(server: uvicorn.Server, app: Starlette) -> None:
    """Spare what is there from the search for garbage, once all is there that the start brings."""
    with anyio.move_on_after(SETTLED_S):
        while not (server.started and app.state.is_complete()):  # noqa: ASYNC110 - it has no event
            await anyio.sleep(SETTLE_S)
    spare_what_stays()


async def _announce(server: uvicorn.Server, app: Starlette, welcome: str) -> None:
    """Print *welcome* once ``/readyz`` answers 200."""
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await anyio.sleep(0.02)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://localhost") as client:
        while (await client.get("/readyz")).status_code != httpx2.codes.OK:  # noqa: ASYNC110
            await anyio.sleep(0.05)
    sys.stdout.write(welcome)
    sys.stdout.flush()


def base_url(host: str, port: int, *, tls: bool = False) -> str:
    """How this machine reaches a server that listens on *host* and *port*."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - read, not bound
    scheme = "https" if tls else "http"
    return f"{scheme}://[{reached}]:{port}" if ":" in reached and "[" not in reached else f"{scheme}://{reached}:{port}"


def greeting(base: str, settings: Settings, *, is_open: bool) -> str:
    """What a person needs in order to send the first request; *is_open*: without a key."""
    bearer = "any" if is_open else "$QASR_API_KEY"
    live = base.replace("http", "ws", 1)
    sample = SAMPLE if SAMPLE.is_file() else "recording.mp3"
    return f"""\
qasr {__version__} is ready.

  OpenAI base URL      {base}/v1
                       {base}/compatible-mode/v1
  DashScope base URL   {base}/api/v1
  Live speech          {live}/v1/realtime
                       {live}/api-ws/v1/inference
                       {live}/api-ws/v1/realtime
  Documentation        {base}/docs

Try it:

  curl -s {base}/v1/audio/transcriptions -H "Authorization: Bearer {bearer}" -F model=whisper-1 -F file=@{sample}

{_about_keys(settings, is_open=is_open)}
Stop with Ctrl-C.
"""


def _about_keys(settings: Settings, *, is_open: bool) -> str:
    if is_open:
        return (
            "API key: none is set, so any is accepted, from this machine only. To ask for one, start with\n\n"
            "  export QASR_AUTH__KEYS=sk-$(openssl rand -hex 16) && echo $QASR_AUTH__KEYS\n"
        )
    where = "in QASR_AUTH__KEYS" if settings.auth.keys else "that qasr keys create has shown"
    return f"API key: clients send one of those {where}; put it into QASR_API_KEY for the line above.\n"
