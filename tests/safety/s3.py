"""As much of S3 as one server needs, in memory, and it can be away: for drills."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

BUCKET = "recordings"


@dataclass
class Store:
    """Objects by path; while it is ``away`` connections are closed without a word."""

    port: int = 0
    objects: dict[str, bytes] = field(default_factory=dict)
    away: threading.Event = field(default_factory=threading.Event)
    refused: threading.Event = field(default_factory=threading.Event)
    """Somebody has asked while it was away."""

    @property
    def environment(self) -> dict[str, str]:
        """For the server that uses it."""
        return {
            "QASR_STORE__URL": f"s3://{BUCKET}/qasr",
            "AWS_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "none",
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Store

    def parse_request(self) -> bool:
        if self.store.away.is_set():
            self.store.refused.set()
            self.close_connection = True
            return False
        return super().parse_request()

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("If-None-Match") == "*" and self._key in self.store.objects:
            self._answer(412)
            return
        self.store.objects[self._key] = body
        self._answer(200)

    def do_GET(self) -> None:
        if self._key == f"/{BUCKET}":
            self._list()
        elif (data := self.store.objects.get(self._key)) is None:
            self._answer(404)
        else:
            self._answer(200, data)

    do_HEAD = do_GET  # noqa: N815 - as the base class finds it

    def do_DELETE(self) -> None:
        self.store.objects.pop(self._key, None)
        self._answer(204)

    def do_POST(self) -> None:
        """Several to be deleted; what was asked for is told as done."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        keys = [part.partition("</Key>")[0] for part in body.split("<Key>")[1:]]
        for key in keys:
            self.store.objects.pop(f"/{BUCKET}/{key}", None)
        deleted = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
        self._answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())

    @property
    def _key(self) -> str:
        return urlsplit(self.path).path

    def _list(self) -> None:
        prefix = parse_qs(urlsplit(self.path).query).get("prefix", [""])[0]
        found = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00Z</LastModified>"
            f"<ETag>e</ETag><Size>{len(data)}</Size></Contents>"
            for path, data in self.store.objects.items()
            if (key := path.removeprefix(f"/{BUCKET}/")).startswith(prefix)
        )
        self._answer(200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>".encode())

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"e"')
        self.send_header("Last-Modified", formatdate(usegmt=True))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def object_store() -> Iterator[Store]:
    """An empty one, until the block ends."""
    store = Store()
    handler = type("Handler", (_Handler,), {"store": store})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    store.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
