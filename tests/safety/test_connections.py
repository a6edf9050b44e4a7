"""What strangers can cost before anybody knows who they are: connections, heads, bodies, unread answers."""

import socket
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Final

import httpx2
import pytest
from tests.faces.dialects import CHAT, CHAT_DIALECT, data_url
from tests.server import JFK, KEY, KEYS, SCRIPTED, Server, serving

PATIENCE_S: Final = 2
SOON_S: Final = 60.0
"""Far more than anything here may take; what is asserted is that it ends."""
HEAD: Final = f"POST {CHAT} HTTP/1.1\r\nHost: q\r\nAuthorization: Bearer {KEY}\r\n".encode()
MOST: Final = 1200


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Waits two seconds for whatever does not come."""
    settings = {"SERVER__PATIENCE_S": str(PATIENCE_S), "SERVER__MOST_CONNECTIONS": str(MOST)}
    with serving(tmp_path_factory.mktemp("impatient"), SCRIPTED | KEYS | settings) as running:
        yield running


def connect(server: Server) -> socket.socket:
    return socket.create_connection(server.address, timeout=SOON_S)


def told(connection: socket.socket) -> bytes:
    """All that the server says until it hangs up."""
    said = b""
    with suppress(ConnectionError):
        while data := connection.recv(65536):
            said += data
    return said


def say_until_cut_off(connection: socket.socket) -> None:
    end = time.monotonic() + SOON_S
    while time.monotonic() < end:
        connection.sendall(b"\r\n")
        time.sleep(0.1)


def is_well(server: Server) -> bool:
    return "lasting" in CHAT_DIALECT.text(CHAT_DIALECT.ask(server, data_url(JFK)))


@pytest.mark.parametrize("sent", [b"", b"\r\n\r\n", b"GET /li", HEAD, HEAD + b"X-Slow: "], ids=repr)
def test_a_head_that_does_not_come_is_not_waited_for(impatient: Server, sent: bytes) -> None:
    """Whoever connects and says nothing, or half of something, is told 408 and cut off."""
    with closing(connect(impatient)) as connection:
        connection.sendall(sent)

        assert told(connection).startswith(b"HTTP/1.1 408 ")


def test_a_head_that_trickles_is_not_waited_for_either(impatient: Server) -> None:
    """A byte now and then does not buy time: the head has one deadline."""
    with closing(connect(impatient)) as connection:
        connection.settimeout(0.1)
        end, said = time.monotonic() + SOON_S, b""
        with suppress(ConnectionError):
            connection.sendall(HEAD + b"X-Slow: ")
            while not said and time.monotonic() < end:
                connection.sendall(b"a")
                with suppress(TimeoutError):
                    said = connection.recv(100)

        assert said.startswith(b"HTTP/1.1 408 ")


def test_the_second_request_of_a_connection_has_a_deadline_too(impatient: Server) -> None:
    """Between two requests a connection may rest, but not in the middle of the second."""
    with closing(connect(impatient)) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: q\r\n\r\n")
        said = b""
        while not said.endswith(b"}"):  # head and body may come one after the other
            said += connection.recv(10_000)
        assert said.startswith(b"HTTP/1.1 200 ")
        connection.sendall(b"GET /livez HT")

        assert told(connection).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("sent", [b"", b'{"model":'], ids=repr)
def test_a_body_that_stops_is_not_waited_for(impatient: Server, sent: bytes) -> None:
    """Headers announce a body; after a while of silence the client is told 408 and cut off."""
    with closing(connect(impatient)) as connection:
        connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n" + sent)

        assert told(connection).startswith(b"HTTP/1.1 408 ")
    assert is_well(impatient)


def test_a_body_that_trickles_is_cut_off_and_nothing_is_kept(impatient: Server) -> None:
    """A form whose file comes byte by byte does not stay for hours."""
    head = (
        f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: q\r\nAuthorization: Bearer {KEY}\r\n"
        "Content-Length: 1000000\r\n"
        'Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\nContent-Disposition: form-data; name="file"; '
        'filename="a.wav"\r\n\r\n'
    )
    with closing(connect(impatient)) as connection:
        connection.settimeout(0.1)
        end, said = time.monotonic() + SOON_S, b""
        with suppress(ConnectionError):
            connection.sendall(head.encode())
            while not said and time.monotonic() < end:
                connection.sendall(b"a")
                with suppress(TimeoutError):
                    said = connection.recv(100)

    assert said.startswith(b"HTTP/1.1 408 ")
    assert [] == impatient.spooled


def test_a_slow_engine_is_no_slow_client(tmp_path: Path) -> None:
    """Who has sent all and waits for the answer is waited for, longer than the patience."""
    settings = {"SERVER__PATIENCE_S": "0.5", "SCRIPTED__LATENCY_MS": "2000"}
    with serving(tmp_path, SCRIPTED | KEYS | settings) as server:
        assert is_well(server)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: q\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nX-Long: " + b"a" * 70_000 + b"\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(200)) + b"\r\n",
        b"GET /livez HTTP/1.1\r\nX-Endless: " + b"a" * 1_000_000,
        b"GET /livez HTTP/1.1\r\n" + b"a" * 1_000_000,
        b"POST " + CHAT.encode() + b" HTTP/1.1\r\nHost: q\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"1\r\na\r\n0\r\nX-Trailer: " + b"a" * 1_000_000,
    ],
    ids=["line", "header", "headers", "endless header", "endless name", "endless trailer"],
)
def test_a_head_has_a_largest_size(impatient: Server, head: bytes) -> None:
    """Request line, headers and trailers are bounded before anybody looks at them."""
    with closing(connect(impatient)) as connection:
        with suppress(ConnectionError):  # it may hang up before it has heard all
            connection.sendall(head)
        said = told(connection)

    assert said == b"" or said.split()[1] in (b"431", b"400", b"401"), said
    assert is_well(impatient)


def test_large_cookies_are_no_reason_to_refuse(impatient: Server) -> None:
    """Proxies add headers; 60 kB of them are taken."""
    answer = httpx2.get(f"{impatient.base}/livez", headers={f"X-{n}": "a" * 1000 for n in range(60)}, timeout=SOON_S)

    assert 200 == answer.status_code


def test_a_thousand_half_open_connections_keep_nobody_out(impatient: Server) -> None:
    """While they wait for their end the server answers, and then it has let go of all of them."""
    with ExitStack() as held:
        half_open = [held.enter_context(closing(connect(impatient))) for _ in range(1000)]
        for number, connection in enumerate(half_open):
            with suppress(ConnectionError):  # the first ones may have been cut off by now
                connection.sendall(HEAD[: number % len(HEAD)])

        assert is_well(impatient)
        assert {b"HTTP/1.1 408 "} >= {told(connection)[:13] for connection in half_open if connection} - {b""}
    assert is_well(impatient)


def test_connections_have_a_most(impatient: Server) -> None:
    """One more than that is told 503 and cut off; when the others have gone, clients are served again."""
    with ExitStack() as held:
        said = {
            told(connection).split()[1]
            for connection in [held.enter_context(closing(connect(impatient))) for _ in range(MOST + 50)]
        }

        assert {b"503", b"408"} == said
    assert is_well(impatient)


def test_a_client_that_does_not_read_is_cut_off(impatient: Server) -> None:
    """Answers that nobody reads fill no memory and hold no connection."""
    with closing(socket.socket()) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(SOON_S)
        connection.connect(impatient.address)
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: q\r\n\r\n" * 500)
        with pytest.raises(ConnectionError):
            say_until_cut_off(connection)
    assert is_well(impatient)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
def test_compressed_bodies_are_not_unfolded(impatient: Server, coding: str) -> None:
    """A body of 10 MB in 10 kB stays 10 kB: what it would unfold to is never made, and it is no JSON."""
    packed = zlib.compress(b'{"model": "' + b"a" * 10_000_000 + b'"}')

    answer = impatient.post(CHAT, content=packed, headers={"Content-Encoding": coding})

    assert 400 == answer.status_code, answer.text
