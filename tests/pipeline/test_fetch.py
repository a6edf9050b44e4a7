"""Fetching: what is read, what is refused, and what an origin may not do to us. Every server here is on 127.0.0.1."""

import asyncio
import ipaddress
import re
import socket
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeAlias

import anyio
import pytest

from qasr.domain.errors import FetchFailed, FetchIncomplete, FetchRefused, FetchStatus, FetchTimeout, TooLarge
from qasr.pipeline.fetch import LONGEST_URL, Fetcher, FetchPolicy

pytestmark = pytest.mark.anyio

Answer: TypeAlias = Callable[[str, asyncio.StreamWriter], Awaitable[None]]
"""What a server does about one request; it gets the request's head."""

LOOPBACK: Final = (ipaddress.ip_network("127.0.0.0/8"),)
LOCAL: Final = FetchPolicy(allow_networks=LOOPBACK)
MEGABYTE: Final = 2**20


class Origin:
    """A server that answers by path, and remembers what it was asked."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self.answers = dict(answers)
        self.requests: list[str] = []
        self.port = 0

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Origin"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(head)
            path = head.split(" ")[1].partition("?")[0]
            await self.answers[path](head, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def says(status: int, body: bytes = b"", **headers: str) -> Answer:
    """A plain answer; ``_`` in a header's name stands for ``-``."""

    async def answer(_: str, writer: asyncio.StreamWriter) -> None:
        fields = {"Content-Length": str(len(body)), **{key.replace("_", "-"): value for key, value in headers.items()}}
        head = "".join(f"{key}: {value}\r\n" for key, value in fields.items())
        writer.write(f"HTTP/1.1 {status} whatever\r\n{head}\r\n".encode() + body)

    return answer


async def endless(_: str, writer: asyncio.StreamWriter) -> None:
    """Sends as fast as it can, and does not say how much."""
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(bytes(65_536))
        await writer.drain()


async def dripping(_: str, writer: asyncio.StreamWriter) -> None:
    """One byte every 20 ms."""
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def silent(_: str, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3)
    writer.close()


async def short(_: str, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this")


async def chunked(_: str, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")


async def half_chunked(_: str, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n wo")


async def nonsense(_: str, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail.example.com ESMTP\r\n")


async def huge_head(_: str, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-Filler: " + b"x" * 65_536 + b"\r\n")
        await writer.drain()


ANSWERS: Final[Mapping[str, Answer]] = {
    "/a.wav": says(200, b"sound"),
    "/missing": says(404, b"no"),
    "/broken": says(503),
    "/none": says(200),
    "/gzip": says(200, b"sound", Content_Encoding="gzip"),
    "/identity": says(200, b"sound", Content_Encoding="identity"),
    "/cookie": says(302, Location="/a.wav", Set_Cookie="session=1"),
    "/relative": says(303, Location="a.wav?x=1#part"),
    "/loop": says(301, Location="/loop"),
    "/nowhere": says(302),
    "/to-file": says(302, Location="file:///etc/passwd"),
    "/to-ftp": says(307, Location="ftp://127.0.0.1/a.wav"),
    "/to-metadata": says(302, Location="http://169.254.169.254/latest/meta-data/"),
    "/to-malformed": says(308, Location="http://[oops/"),
    "/endless": endless,
    "/huge": says(200, b"x", Content_Length=str(10 * 2**30)),
    "/drip": dripping,
    "/silent": silent,
    "/short": short,
    "/chunked": chunked,
    "/half-chunked": half_chunked,
    "/nonsense": nonsense,
    "/huge-head": huge_head,
    "/big": says(200, b"0123456789" * 500_000),
}


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin(ANSWERS).running() as origin:
        yield origin


async def fetched(url: str, directory: Path, *, policy: FetchPolicy = LOCAL, max_bytes: int = 64 * MEGABYTE) -> bytes:
    async with Fetcher(policy) as fetcher, fetcher.fetch(url, directory, max_bytes=max_bytes) as path:
        return await anyio.Path(path).read_bytes()


def left_in(directory: Path) -> list[Path]:
    return list(directory.iterdir())


def sizes_in(directory: Path) -> list[int]:
    return [path.stat().st_size for path in directory.iterdir()]


class TestReading:
    async def test_the_file_is_there_inside_the_block_and_nowhere_after(self, origin: Origin, tmp_path: Path) -> None:
        """The contents lie in the given directory, for us alone, until the block is left."""
        async with (
            Fetcher(LOCAL) as fetcher,
            fetcher.fetch(origin.url("/a.wav"), tmp_path, max_bytes=100) as path,
        ):
            contents = await anyio.Path(path).read_bytes()
            mode = (await anyio.Path(path).stat()).st_mode

        assert b"sound" == contents
        assert tmp_path == path.parent
        assert 0o600 == stat.S_IMODE(mode)
        assert [] == left_in(tmp_path)

    @pytest.mark.parametrize(
        ("path", "contents"),
        [
            ("/none", b""),
            ("/identity", b"sound"),
            ("/chunked", b"hello world"),
            ("/cookie", b"sound"),
            ("/relative", b"sound"),
            ("/big", b"0123456789" * 500_000),
        ],
    )
    async def test_every_way_of_sending_is_read(
        self, origin: Origin, tmp_path: Path, path: str, contents: bytes
    ) -> None:
        """Empty, long, chunked and redirected answers arrive whole."""
        assert contents == await fetched(origin.url(path), tmp_path)

    async def test_nothing_is_sent_that_was_not_meant_for_the_origin(
        self, origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Requests carry our name, and neither cookies nor credentials; proxies of the environment are not used."""
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
        async with Fetcher(LOCAL) as fetcher:
            for _ in range(2):
                async with fetcher.fetch(origin.url("/cookie"), tmp_path, max_bytes=100):
                    pass
        names = {line.partition(":")[0].lower() for head in origin.requests for line in head.splitlines()[1:] if line}

        assert 4 == len(origin.requests)
        assert {"host", "user-agent", "accept", "accept-encoding"} == names
        assert all(re.search(r"\r\nUser-Agent: qasr/\d", head) for head in origin.requests)
        assert all(f"\r\nHost: 127.0.0.1:{origin.port}\r\n" in head for head in origin.requests)

    @pytest.mark.parametrize(
        ("written", "sent"),
        [
            ("/a b.wav", "/a%20b.wav"),
            ("/一.wav?名=值", "/%E4%B8%80.wav?%E5%90%8D=%E5%80%BC"),
            ("/a%20b%2Fc.wav?sig=a%2Bb/c==&x=1+2", "/a%20b%2Fc.wav?sig=a%2Bb/c==&x=1+2"),
            ("/{a}|b", "/%7Ba%7D%7Cb"),
            ("/a#fragment", "/a"),
            ("", "/"),
            ("?x=1", "/?x=1"),
        ],
    )
    async def test_what_is_escaped_stays_and_what_must_be_is(
        self, origin: Origin, tmp_path: Path, written: str, sent: str
    ) -> None:
        """Signed addresses are sent letter for letter; blanks and other alphabets are escaped."""
        origin.answers[sent.partition("?")[0]] = says(200, b"sound")

        await fetched(origin.url(written), tmp_path)

        assert sent == origin.requests[0].split(" ")[1]

    async def test_a_name_in_another_alphabet(self, origin: Origin, tmp_path: Path) -> None:
        """International names are asked for in their ASCII form."""
        asked: list[str] = []

        async def resolve(host: str, _: int) -> Sequence[str]:
            asked.append(host)
            return ["127.0.0.1"]

        async with (
            Fetcher(LOCAL, resolve=resolve) as fetcher,
            fetcher.fetch(origin.url("/a.wav", "bücher.例え.jp"), tmp_path, max_bytes=100),
        ):
            pass

        assert ["xn--bcher-kva.xn--r8jz45g.jp"] == asked

    async def test_an_address_that_does_not_answer_is_not_the_last(self, origin: Origin, tmp_path: Path) -> None:
        """A host with several addresses is read from the first that accepts."""

        async def resolve(_: str, __: int) -> Sequence[str]:
            return ["127.0.0.2", "127.0.0.1"]

        async with (
            Fetcher(LOCAL, resolve=resolve) as fetcher,
            fetcher.fetch(origin.url("/a.wav", "both.example"), tmp_path, max_bytes=100) as path,
        ):
            assert b"sound" == await anyio.Path(path).read_bytes()


INSIDE: Final = (
    "http://127.0.0.1/",
    "http://localhost/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0177.0.0.1/",
    "http://127.1/",
    "http://0/",
    "http://[::1]/",
    "http://[::]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[64:ff9b:1::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/",
    "http://[fe80::1]/",
    "http://[fc00::1]/",
    "http://[fec0::1]/",
    "http://[ff02::1]/",
    "http://[2001:db8::1]/",
    "http://[3fff::1]/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.1.1/",
    "http://100.64.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://192.0.0.192/",
    "http://192.88.99.1/",
    "http://198.18.0.1/",
    "http://224.0.0.1/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://１２７.0.0.1/",
)


class TestRefusing:
    @pytest.mark.parametrize("url", INSIDE)
    async def test_what_is_not_public_is_refused(self, tmp_path: Path, url: str) -> None:
        """Loopback, private, link-local, multicast and reserved addresses are refused in every spelling."""
        with pytest.raises(FetchRefused):
            await fetched(url, tmp_path, policy=FetchPolicy(connect_timeout_s=0.5))

        assert [] == left_in(tmp_path)

    @pytest.mark.parametrize(
        ("address", "allowed"),
        [
            ("8.8.8.8", True),
            ("2606:4700::1111", True),
            ("64:ff9b::808:808", True),
            ("64:ff9b::a00:1", False),
            ("2002:808:808::1", True),
            ("2002:a00:1::1", False),
            ("::ffff:8.8.8.8", True),
            ("10.0.0.1", False),
            ("fe80::1%eth0", False),
            ("2606:4700::1111%eth0", False),
            ("not an address", False),
            ("192.168.7.1", True),
            ("::ffff:192.168.7.1", True),
            ("64:ff9b::c0a8:701", True),
            ("192.168.8.1", False),
            ("fd00:7::1", True),
            ("fd00:8::1", False),
        ],
    )
    def test_addresses_are_judged_by_where_they_end(self, address: str, *, allowed: bool) -> None:
        """IPv4 inside IPv6 counts as what it is; allowed networks are exceptions."""
        policy = FetchPolicy(
            allow_networks=(ipaddress.ip_network("192.168.7.0/24"), ipaddress.ip_network("fd00:7::/32"))
        )

        assert allowed is policy.allows_address(address)

    @pytest.mark.parametrize(
        "url",
        [
            "file:///etc/passwd",
            "/etc/passwd",
            "ftp://example.com/a.wav",
            "gopher://example.com/",
            "data:audio/wav;base64,AAAA",
            "concat:a.wav",
            "http://",
            "http:///a.wav",
            "http:a.wav",
            "",
            "http://user:secret@example.com/",
            "http://user@example.com/",
            "http://example.com\\@127.0.0.1/",
            "http://127.0.0.1:99999/",
            "http://127.0.0.1:x/",
            "http://[::1/",
            "http://[fe80::1%25eth0]/",
            "http://exa mple.com/",
            "http://example.com/\r\nX-Injected: 1",
            "http://example.com/\n",
            "http://exam\tple.com/",
            "http://example.com/\x00",
            "http://a..b/",
            f"http://{'a' * 64}.com/",
            "http://example.com/" + "a" * LONGEST_URL,
        ],
    )
    async def test_what_is_not_a_plain_web_address_is_refused(self, tmp_path: Path, url: str) -> None:
        """Other schemes, credentials, control characters and malformed addresses never reach the network."""

        async def resolve(_: str, __: int) -> Sequence[str]:
            pytest.fail("it was resolved")

        async with Fetcher(FetchPolicy(), resolve=resolve) as fetcher:
            with pytest.raises(FetchRefused):
                async with fetcher.fetch(url, tmp_path, max_bytes=100):
                    pass

    @pytest.mark.parametrize("path", ["/to-file", "/to-ftp", "/to-metadata", "/to-malformed"])
    async def test_a_redirect_is_judged_like_any_address(self, origin: Origin, tmp_path: Path, path: str) -> None:
        """No origin can send us where its address could not."""
        with pytest.raises(FetchRefused):
            await fetched(origin.url(path), tmp_path)

    async def test_redirects_have_an_end(self, origin: Origin, tmp_path: Path) -> None:
        """A loop is followed as often as the policy says."""
        with pytest.raises(FetchFailed, match="too often"):
            await fetched(origin.url("/loop"), tmp_path)

        assert 1 + LOCAL.max_redirects == len(origin.requests)

    async def test_one_private_address_among_public_ones_is_enough(self, tmp_path: Path) -> None:
        """A host is refused if any of its addresses is."""

        async def resolve(_: str, __: int) -> Sequence[str]:
            return ["203.0.114.1", "10.0.0.1"]

        async with Fetcher(FetchPolicy(), resolve=resolve) as fetcher:
            with pytest.raises(FetchRefused):
                async with fetcher.fetch("http://mixed.example/", tmp_path, max_bytes=100):
                    pass

    async def test_a_name_that_changes_its_mind_gains_nothing(self, origin: Origin, tmp_path: Path) -> None:
        """The address that was looked at is the one connected to; a name is resolved once for each request."""
        answers = iter([["127.0.0.1"], ["10.0.0.1"]])

        async def resolve(_: str, __: int) -> Sequence[str]:
            return next(answers)

        async with Fetcher(LOCAL, resolve=resolve) as fetcher:
            async with fetcher.fetch(origin.url("/a.wav", "rebind.example"), tmp_path, max_bytes=100) as path:
                assert b"sound" == await anyio.Path(path).read_bytes()
            with pytest.raises(FetchRefused):
                async with fetcher.fetch(origin.url("/a.wav", "rebind.example"), tmp_path, max_bytes=100):
                    pass

    async def test_a_redirect_to_the_same_name_is_resolved_again(self, origin: Origin, tmp_path: Path) -> None:
        """Also between redirects a name may not move inside."""
        answers = iter([["127.0.0.1"], ["10.0.0.1"]])

        async def resolve(_: str, __: int) -> Sequence[str]:
            return next(answers)

        async with Fetcher(LOCAL, resolve=resolve) as fetcher:
            with pytest.raises(FetchRefused):
                async with fetcher.fetch(origin.url("/cookie", "rebind.example"), tmp_path, max_bytes=100):
                    pass

    @pytest.mark.parametrize(
        ("host", "allowed"),
        [
            ("files.example.com", True),
            ("FILES.example.com", True),
            ("files.example.com.", True),
            ("a.b.inner.example", True),
            ("inner.example", False),
            ("notinner.example", False),
            ("example.com", False),
            ("files.example.com.evil.org", False),
        ],
    )
    def test_names_may_be_allowed(self, host: str, *, allowed: bool) -> None:
        """A name, or all names below one, may lead anywhere."""
        policy = FetchPolicy(allow_hosts=frozenset({"files.example.com", "*.inner.example"}))

        assert allowed is policy.allows_host(host)

    async def test_an_allowed_name_is_read_from_inside(self, origin: Origin, tmp_path: Path) -> None:
        """``allow_hosts`` opens private addresses for its names."""
        policy = FetchPolicy(allow_hosts=frozenset({"localhost"}))

        async def resolve(_: str, __: int) -> Sequence[str]:
            return ["127.0.0.1"]

        async with (
            Fetcher(policy, resolve=resolve) as fetcher,
            fetcher.fetch(origin.url("/a.wav", "localhost"), tmp_path, max_bytes=100) as path,
        ):
            assert b"sound" == await anyio.Path(path).read_bytes()

    async def test_a_refusal_tells_nothing_about_our_network(self, origin: Origin, tmp_path: Path) -> None:
        """Neither the address that a name leads to nor the query with its signature stands in the message."""

        async def resolve(_: str, __: int) -> Sequence[str]:
            return ["10.11.12.13"]

        async with Fetcher(FetchPolicy(connect_timeout_s=0.2), resolve=resolve) as fetcher:
            with pytest.raises(FetchRefused) as caught:
                async with fetcher.fetch("http://secret.example/a?Signature=abc", tmp_path, max_bytes=100):
                    pass

        assert "10.11" not in str(caught.value)
        assert "Signature" not in str(caught.value)
        with pytest.raises(FetchStatus) as status:
            await fetched(origin.url("/missing?Signature=abc"), tmp_path)
        assert "Signature" not in str(status.value)


class TestBounds:
    @pytest.mark.parametrize("path", ["/endless", "/huge", "/big"])
    async def test_too_much_is_stopped_at_the_limit(self, origin: Origin, tmp_path: Path, path: str) -> None:
        """Ten gigabytes, announced or not, cost us no more than the limit."""
        largest = 0
        async with Fetcher(LOCAL) as fetcher, anyio.create_task_group() as group:

            async def watch() -> None:
                nonlocal largest
                while True:
                    largest = max([largest, *sizes_in(tmp_path)])
                    await anyio.sleep(0.001)

            group.start_soon(watch)
            with pytest.raises(TooLarge):
                async with fetcher.fetch(origin.url(path), tmp_path, max_bytes=3 * MEGABYTE):
                    pass
            group.cancel_scope.cancel()

        assert largest <= 3 * MEGABYTE
        assert [] == left_in(tmp_path)

    async def test_exactly_the_limit_is_allowed(self, origin: Origin, tmp_path: Path) -> None:
        """As many bytes as allowed are not too many."""
        assert b"sound" == await fetched(origin.url("/a.wav"), tmp_path, max_bytes=5)

    async def test_slow_drip_ends_with_the_total_time(self, origin: Origin, tmp_path: Path) -> None:
        """Who sends a byte now and then is left all the same."""
        begin = time.monotonic()

        with pytest.raises(FetchTimeout):
            await fetched(
                origin.url("/drip"), tmp_path, policy=FetchPolicy(allow_networks=LOOPBACK, total_timeout_s=0.4)
            )

        assert time.monotonic() - begin < 1.5
        assert [] == left_in(tmp_path)

    async def test_silence_ends_with_the_idle_time(self, origin: Origin, tmp_path: Path) -> None:
        """A server that accepts and says nothing is left."""
        begin = time.monotonic()

        with pytest.raises(FetchTimeout):
            await fetched(
                origin.url("/silent"), tmp_path, policy=FetchPolicy(allow_networks=LOOPBACK, idle_timeout_s=0.2)
            )

        assert time.monotonic() - begin < 1.5

    async def test_resolving_ends_with_the_connect_time(self, tmp_path: Path) -> None:
        """A name server that does not answer is not waited for longer than a connection."""

        async def resolve(_: str, __: int) -> Sequence[str]:
            await anyio.sleep(30)
            return []

        async with Fetcher(FetchPolicy(connect_timeout_s=0.2), resolve=resolve) as fetcher:
            with pytest.raises(FetchTimeout):
                async with fetcher.fetch("http://slow.example/", tmp_path, max_bytes=100):
                    pass

    async def test_a_full_backlog_ends_with_the_connect_time(self, tmp_path: Path) -> None:
        """A server that never accepts is left."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            port = listener.getsockname()[1]
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            begin = time.monotonic()
            with pytest.raises(FetchTimeout):
                await fetched(
                    f"http://127.0.0.1:{port}/",
                    tmp_path,
                    policy=FetchPolicy(allow_networks=LOOPBACK, connect_timeout_s=0.3),
                )
            for filler in fillers:
                filler.close()

        assert time.monotonic() - begin < 1.5

    @pytest.mark.parametrize("path", ["/short", "/half-chunked", "/nonsense", "/huge-head", "/gzip", "/nowhere"])
    async def test_broken_answers_fail(self, origin: Origin, tmp_path: Path, path: str) -> None:
        """Less than announced, no HTTP, an endless head, compression, a redirect to nowhere: all are failures."""
        with pytest.raises(FetchFailed):
            await fetched(origin.url(path), tmp_path)

        assert [] == left_in(tmp_path)

    async def test_less_than_announced_is_told(self, origin: Origin, tmp_path: Path) -> None:
        """It is the origin's fault, and a new address may help."""
        with pytest.raises(FetchIncomplete):
            await fetched(origin.url("/short"), tmp_path)

    @pytest.mark.parametrize(("path", "status"), [("/missing", 404), ("/broken", 503)])
    async def test_the_status_of_the_origin_is_told(
        self, origin: Origin, tmp_path: Path, path: str, status: int
    ) -> None:
        """The client learns what its own server said."""
        with pytest.raises(FetchStatus, match=str(status)) as caught:
            await fetched(origin.url(path), tmp_path)

        assert status == caught.value.status

    async def test_nobody_listens(self, tmp_path: Path) -> None:
        """A refused connection is a failure."""
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))

            with pytest.raises(FetchFailed, match="could not be reached"):
                await fetched(f"http://127.0.0.1:{unused.getsockname()[1]}/", tmp_path)

    async def test_an_unknown_name(self, tmp_path: Path) -> None:
        """A name without an address is a failure, not a refusal."""

        async def resolve(host: str, _: int) -> Sequence[str]:
            raise socket.gaierror(-2, f"{host}: Name or service not known")

        async with Fetcher(FetchPolicy(), resolve=resolve) as fetcher:
            with pytest.raises(FetchFailed, match="could not be reached") as caught:
                async with fetcher.fetch("http://no.example/", tmp_path, max_bytes=100):
                    pass

        assert FetchFailed is type(caught.value)

    async def test_no_tls_where_none_is_spoken(self, origin: Origin, tmp_path: Path) -> None:
        """https to a server that speaks http fails."""
        with pytest.raises(FetchFailed):
            await fetched(
                origin.url("/a.wav").replace("http:", "https:"),
                tmp_path,
                policy=FetchPolicy(allow_networks=LOOPBACK, connect_timeout_s=0.3),
            )

    async def test_leaving_early_leaves_nothing(self, origin: Origin, tmp_path: Path) -> None:
        """A cancelled download removes its file and closes its connection."""
        async with Fetcher(LOCAL) as fetcher:
            with anyio.move_on_after(0.2) as scope:
                async with fetcher.fetch(origin.url("/drip"), tmp_path, max_bytes=100):
                    pytest.fail("it came to an end")

        assert scope.cancelled_caught
        assert [] == left_in(tmp_path)

    async def test_many_at_once(self, origin: Origin, tmp_path: Path) -> None:
        """Downloads do not wait for each other, nor mix."""
        contents: list[bytes] = []

        async def one(fetcher: Fetcher, path: str) -> None:
            async with fetcher.fetch(origin.url(path), tmp_path, max_bytes=MEGABYTE) as file:
                contents.append(await anyio.Path(file).read_bytes())

        async with Fetcher(LOCAL) as fetcher, anyio.create_task_group() as group:
            for path in ["/a.wav", "/chunked"] * 20:
                group.start_soon(one, fetcher, path)

        assert [b"hello world"] * 20 + [b"sound"] * 20 == sorted(contents)
