"""Two hubs on this machine, Hugging Face and ModelScope, with what tests put there; they misbehave on request."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT: Final = "5eb144179a02acc5e5ba31e748d22b0cf3e303b0"


@dataclass
class Hub:
    """Repositories by name, their files by path."""

    base: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    commit: str = COMMIT
    break_after: dict[str, list[int]] = field(default_factory=dict)
    """By path: the connection ends after so many bytes, once per number."""
    lies: dict[str, bytes] = field(default_factory=dict)
    """By path: what is sent in truth."""
    gated: bool = False
    ranges: list[str] = field(default_factory=list)
    """Ranges that were asked for."""
    fetched: list[str] = field(default_factory=list)
    """Paths of files that were asked for."""


@contextmanager
def running() -> Iterator[Hub]:
    """A hub, until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.base = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield hub
    server.shutdown()
    server.server_close()
    thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self) -> None:
        with suppress(OSError):
            self._answer()

    def _answer(self) -> None:
        url = urlsplit(self.path)
        path, query = unquote(url.path), {key: values[0] for key, values in parse_qs(url.query).items()}
        if path.startswith("/api/models/"):
            self._hugging_face(path.removeprefix("/api/models/").partition("/revision/")[0])
        elif path.startswith("/api/v1/models/") and path.endswith("/repo/files"):
            self._modelscope(path.removeprefix("/api/v1/models/").removesuffix("/repo/files"))
        elif path.startswith("/api/v1/models/") and path.endswith("/repo"):
            self._file(path.removeprefix("/api/v1/models/").removesuffix("/repo"), query["FilePath"])
        elif f"/resolve/{self.hub.commit}/" in path:
            repository, _, name = path.partition(f"/resolve/{self.hub.commit}/")
            self._file(repository.removeprefix("/"), name)
        else:
            self._send(404, b"{}")

    def _hugging_face(self, repository: str) -> None:
        if self.hub.gated:
            self._send(403, b"{}", **{"X-Error-Code": "GatedRepo"})
        elif (files := self.hub.repositories.get(repository)) is None:
            self._send(404, b"{}", **{"X-Error-Code": "RepoNotFound"})
        else:
            siblings = [_sibling(path, data) for path, data in files.items()]
            card = {"license": "apache-2.0"}
            self._json({"id": repository, "sha": self.hub.commit, "siblings": siblings, "cardData": card})

    def _modelscope(self, repository: str) -> None:
        if (files := self.hub.repositories.get(repository)) is None:
            self._json({"Code": 404, "Success": False, "Message": "no"}, status=404)
            return
        entries: list[dict[str, object]] = [{"Path": "folder", "Type": "tree"}]
        for path, data in files.items():
            digest = hashlib.sha256(data).hexdigest()
            entries.append({"Path": path, "Type": "blob", "Size": len(data), "Sha256": digest, "Revision": "r1"})
        self._json({"Code": 200, "Success": True, "Data": {"Files": entries}})

    def _file(self, repository: str, path: str) -> None:
        self.hub.fetched.append(path)
        data = self.hub.repositories[repository][path]
        data = self.hub.lies.get(path, data)
        wanted = self.headers.get("Range")
        begin = 0
        if wanted is not None:
            self.hub.ranges.append(wanted)
            begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
        self.send_response(200 if wanted is None else 206)
        self.send_header("Content-Length", str(len(data) - begin))
        self.end_headers()
        breaks = self.hub.break_after.get(path)
        self.wfile.write(data[begin : begin + breaks.pop(0)] if breaks else data[begin:])

    def _json(self, value: object, *, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode())

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def _sibling(path: str, data: bytes) -> dict[str, object]:
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    found: dict[str, object] = {"rfilename": path, "size": len(data), "blobId": blob}
    if not path.endswith((".json", ".txt")):
        found["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return found
