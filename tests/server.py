"""The real program behind a real socket, the way a user starts it, and an origin that behaves badly on request.

Each server is started once per session and stopped by SIGTERM; stopping is itself a test: the exit is clean, the log
holds no traceback, and no spooled recording is left behind.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

DATA: Final = Path(__file__).parent / "data"
JFK: Final = DATA / "jfk.flac"
READY_S: Final = 60.0
STOP_S: Final = 30.0
KEY: Final = "sk-right"
OTHER_KEY: Final = "sk-other"


@dataclass(frozen=True)
class Server:
    """A running ``qasr serve``."""

    base: str
    data_dir: Path
    log: Path
    process: "subprocess.Popen[bytes]"

    @property
    def compatible(self) -> str:
        """What OpenAI's SDK takes as ``base_url``."""
        return f"{self.base}/compatible-mode/v1"

    @property
    def native(self) -> str:
        """What DashScope's SDK takes as its HTTP address."""
        return f"{self.base}/api/v1"

    @property
    def address(self) -> tuple[str, int]:
        """For those who write their own bytes."""
        host, _, port = self.base.removeprefix("http://").partition(":")
        return host, int(port)

    @property
    def spooled(self) -> list[str]:
        """Recordings that lie in the spool now."""
        return sorted(path.name for path in (self.data_dir / "spool").iterdir())

    def post(
        self,
        path: str,
        value: object = None,
        *,
        key: str | None = KEY,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
        **options: Any,
    ) -> httpx2.Response:
        """Send *value* as JSON, or what *options* say."""
        sent = {"Content-Type": "application/json"} if value is not None or "content" in options else {}
        sent |= {"Authorization": f"Bearer {key}"} if key is not None else {}
        sent |= headers or {}
        if value is not None:
            options["content"] = json.dumps(value).encode()
        return httpx2.post(self.base + path, headers=sent, timeout=timeout_s, **options)

    def get(self, path: str, *, key: str | None = KEY) -> httpx2.Response:
        """Ask for *path*."""
        return httpx2.get(
            self.base + path, headers={"Authorization": f"Bearer {key}"} if key is not None else {}, timeout=60
        )


@contextmanager
def serving(
    directory: Path, settings: Mapping[str, str], *, ready: bool = True, packages: Path | None = None
) -> Iterator[Server]:
    """A server with *settings* (``SECTION__KEY`` to value), until the block ends.

    Args:
        directory: for its data and its log.
        settings: nothing else of ours is taken from the environment.
        ready: wait until it can serve; else until it listens.
        packages: a folder whose packages stand before those that are installed.
    """
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QASR_")}
    data_dir, log = directory / "data", directory / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "qasr.cli", "serve", "--port", str(port)],
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=kept
            | {f"QASR_{name}": value for name, value in settings.items()}
            | {"QASR_DATA_DIR": str(data_dir)}
            | ({} if packages is None else {"PYTHONPATH": str(packages)}),
        )
    server = Server(f"http://127.0.0.1:{port}", data_dir, log, process)
    try:
        _wait_until_answering(server, "/readyz" if ready else "/livez")
        yield server
        process.terminate()
        code = process.wait(STOP_S)
        text = log.read_text(errors="replace")
        assert 0 == code, text[-4000:]
        assert "Traceback" not in text, text[-4000:]
        assert [] == server.spooled
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(STOP_S)


def _wait_until_answering(server: Server, path: str) -> None:
    end = time.monotonic() + READY_S
    while time.monotonic() < end and server.process.poll() is None:
        with suppress(httpx2.TransportError):
            if httpx2.codes.OK == httpx2.get(server.base + path, timeout=5).status_code:
                return
        time.sleep(0.05)
    pytest.fail(f"the server is not ready: {server.log.read_text(errors='replace')[-4000:]}")


LOOPBACK: Final = {"FETCH__ALLOW_NETWORKS": "127.0.0.0/8"}
IMPATIENT: Final = {"FETCH__IDLE_TIMEOUT_S": "1", "FETCH__TOTAL_TIMEOUT_S": "8", "FETCH__CONNECT_TIMEOUT_S": "2"}
SCRIPTED: Final = {"ENGINES__DEFAULT": "scripted", "ENGINES__DECODERS": "1"}
KEYS: Final = {"AUTH__KEYS": f"{KEY},{OTHER_KEY}"}
SLOW_S: Final = 2.4
DEADLINE_S: Final = 3.6
"""Of the slow server: one engine call fits, two in a row do not."""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The embedded English engine, no keys: what a user has after the first command."""
    with serving(tmp_path_factory.mktemp("moonshine"), LOOPBACK | IMPATIENT) as running:
        yield running


@pytest.fixture(scope="session")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An engine that answers at once; two keys; uploads of at most two million bytes, assets of twelve."""
    limits = {"UPLOADS__MAX_BYTES": "2000000", "ONEMIN__MAX_ASSET_BYTES": "12000000"}
    with serving(tmp_path_factory.mktemp("scripted"), SCRIPTED | KEYS | LOOPBACK | IMPATIENT | limits) as running:
        yield running


@pytest.fixture(scope="session")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Reads no private address, takes uploads for one second, and holds hardly any body."""
    limits = {"UPLOADS__POLICY_S": "1", "SERVER__MAX_BODIES_BYTES": "1000000"}
    with serving(tmp_path_factory.mktemp("strict"), SCRIPTED | KEYS | IMPATIENT | limits) as running:
        yield running


@pytest.fixture(scope="session")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An engine with one slot, which each call takes for ``SLOW_S``; answers must come within ``DEADLINE_S``."""
    limits = {
        "SCRIPTED__SLOTS": "1",
        "SCRIPTED__LATENCY_MS": str(int(SLOW_S * 1000)),
        "SERVER__ANSWER_S": str(DEADLINE_S),
    }
    with serving(tmp_path_factory.mktemp("slow"), SCRIPTED | KEYS | limits) as running:
        yield running


@dataclass
class Origin:
    """A web server on this machine: files under ``/files/``, misbehavior elsewhere."""

    port: int
    stopped: threading.Event = field(default_factory=threading.Event)
    requests: list[str] = field(default_factory=list)
    """Paths that were asked for."""
    files: dict[str, Path] = field(default_factory=dict)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def serve(self, path: Path) -> str:
        """The address of the file at *path*."""
        self.files[path.name] = path
        return self.url(f"/files/{path.name}")


REDIRECTS: Final = {
    "/to/metadata": "http://169.254.169.254/latest/meta-data/",
    "/to/file": "file:///etc/passwd",
    "/to/private": "http://10.0.0.1/a.wav",
    "/to/ftp": "ftp://127.0.0.1/a.wav",
    "/to/itself": "/to/itself",
    "/to/jfk": "/files/jfk.flac",
}


class _Handler(BaseHTTPRequestHandler):
    origin: Origin

    def do_GET(self) -> None:
        self.origin.requests.append(self.path)
        with suppress(OSError):  # they may hang up
            self._answer()

    def _answer(self) -> None:
        if self.path in REDIRECTS:
            self._head(302, Location=REDIRECTS[self.path])
        elif self.path == "/silent":
            self.origin.stopped.wait(20)
        elif self.path == "/endless":
            self._head(200, length=None)
            while not self.origin.stopped.is_set():
                self.wfile.write(bytes(65_536))
        elif self.path == "/broken":
            self._head(200, length=10**6)
            self.wfile.write(b"only this")
        elif self.path == "/page":
            self._send(b"<!DOCTYPE html><html><body>Hello</body></html>")
        elif self.path == "/error":
            self._head(500)
        elif self.path.startswith("/files/") and (name := self.path.removeprefix("/files/")) in self.origin.files:
            self._send(self.origin.files[name].read_bytes())
        else:
            self._head(404)

    def _send(self, body: bytes) -> None:
        self._head(200, length=len(body))
        self.wfile.write(body)

    def _head(self, status: int, *, length: int | None = 0, **headers: str) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="session")
def origin() -> Iterator[Origin]:
    """Strangers' web server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    found = Origin(server.server_address[1], files={path.name: path for path in DATA.glob("*.flac")})
    _Handler.origin = found
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield found
    found.stopped.set()
    server.shutdown()
    server.server_close()
    thread.join(10)
