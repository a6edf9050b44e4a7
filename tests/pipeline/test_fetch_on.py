"""Downloads that break off go on where they stopped, and never mix two versions of a file."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest
from tests.pipeline.test_fetch import LOCAL, MEGABYTE, Answer, Origin, left_in, says

from qasr.domain.errors import FetchFailed, FetchStatus, TooLarge
from qasr.pipeline import fetch
from qasr.pipeline.fetch import Fetcher, discard

pytestmark = pytest.mark.anyio

BODY = bytes(range(256)) * 8192


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "RETRY_S", (0.01, 0.01))


@pytest.fixture
async def fetcher() -> AsyncIterator[Fetcher]:
    async with Fetcher(LOCAL) as fetcher:
        yield fetcher


class Fragile:
    """Sends at most *most* bytes of its body per connection; honors ranges if *ranges*."""

    def __init__(self, body: bytes = BODY, *, most: int, ranges: bool = True, etag: str | None = '"1"') -> None:
        self.body, self.most, self.ranges, self.etag = body, most, ranges, etag
        self.sent = 0

    async def __call__(self, head: str, writer: asyncio.StreamWriter) -> None:
        begin, status = 0, "200 OK"
        wanted = re.search(r"^Range: bytes=(\d+)-\r$", head, re.MULTILINE)
        same = re.search(r"^If-Range: (.*)\r$", head, re.MULTILINE)
        fields = f"ETag: {self.etag}\r\n" if self.etag else ""
        if wanted and self.ranges and same and same[1] == self.etag:
            begin, status = int(wanted[1]), "206 Partial Content"
            fields += f"Content-Range: bytes {begin}-{len(self.body) - 1}/{len(self.body)}\r\n"
        rest = self.body[begin:]
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(rest)}\r\n{fields}\r\n".encode())
        writer.write(rest[: self.most])
        self.sent += len(rest[: self.most])
        await writer.drain()


async def fetched_on(fetcher: Fetcher, answer: Answer, path: Path, *, max_bytes: int = 64 * MEGABYTE) -> bytes:
    async with Origin({"/a.wav": answer}).running() as origin:
        await fetcher.fetch_on(origin.url("/a.wav"), path, max_bytes=max_bytes)
    return await anyio.Path(path).read_bytes()


async def test_a_connection_that_breaks_costs_no_byte_twice(fetcher: Fetcher, tmp_path: Path) -> None:
    origin = Fragile(most=300_000)

    assert BODY == await fetched_on(fetcher, origin, tmp_path / "a")
    assert len(BODY) == origin.sent


@pytest.mark.parametrize("origin", [lambda: Fragile(most=300_000, ranges=False), lambda: Fragile(most=0)])
async def test_one_that_never_gets_on_is_given_up(
    fetcher: Fetcher, tmp_path: Path, origin: Callable[[], Fragile]
) -> None:
    """Without ranges, or without a byte: a bounded number of attempts."""
    with pytest.raises(FetchFailed):
        await fetched_on(fetcher, origin(), tmp_path / "a")


async def test_an_origin_without_ranges_is_read_from_the_beginning_again(fetcher: Fetcher, tmp_path: Path) -> None:
    fragile, whole = Fragile(most=300_000, ranges=False), Fragile(most=len(BODY), ranges=False)
    answers = [fragile, whole]

    async def answer(head: str, writer: asyncio.StreamWriter) -> None:
        await answers.pop(0)(head, writer)

    assert BODY == await fetched_on(fetcher, answer, tmp_path / "a")


async def test_contents_that_changed_meanwhile_are_read_anew(fetcher: Fetcher, tmp_path: Path) -> None:
    """The beginning of the old file is thrown away."""
    new = BODY[::-1]
    answers = [Fragile(most=300_000), Fragile(new, most=len(new), etag='"2"')]

    async def answer(head: str, writer: asyncio.StreamWriter) -> None:
        await answers.pop(0)(head, writer)

    assert new == await fetched_on(fetcher, answer, tmp_path / "a")


async def test_a_new_process_goes_on_where_the_old_one_was_killed(fetcher: Fetcher, tmp_path: Path) -> None:
    """What lies on disk is all that is needed; and what is complete is not asked for again."""
    first, rest = Fragile(most=1_500_000), Fragile(most=len(BODY))

    async def hang(head: str, writer: asyncio.StreamWriter) -> None:
        await first(head, writer)
        await asyncio.sleep(10)

    with anyio.move_on_after(1):
        await fetched_on(fetcher, hang, tmp_path / "a")
    async with Fetcher(LOCAL) as another:
        assert BODY == await fetched_on(another, rest, tmp_path / "a")
        assert len(BODY) - 1_500_000 == rest.sent
        assert BODY == await fetched_on(another, says(500), tmp_path / "a")
    discard(tmp_path / "a")

    assert [] == left_in(tmp_path)


async def test_a_beginning_without_a_validator_is_worth_nothing(fetcher: Fetcher, tmp_path: Path) -> None:
    origin = Fragile(most=1_500_000, etag=None)

    with pytest.raises(FetchFailed):
        await fetched_on(fetcher, origin, tmp_path / "a")


async def test_weak_validators_do_not_count(fetcher: Fetcher, tmp_path: Path) -> None:
    """RFC 9110, 13.1.5: two files with the same weak ETag may differ in bytes."""
    seen: list[str] = []
    origin = Fragile(most=300_000, etag='W/"1"')

    async def answer(head: str, writer: asyncio.StreamWriter) -> None:
        seen.append(head)
        await origin(head, writer)

    with pytest.raises(FetchFailed):
        await fetched_on(fetcher, answer, tmp_path / "a")

    assert not any("Range:" in head for head in seen)


async def test_the_limit_counts_all_parts(fetcher: Fetcher, tmp_path: Path) -> None:
    with pytest.raises(TooLarge):
        await fetched_on(fetcher, Fragile(most=300_000), tmp_path / "a", max_bytes=len(BODY) - 1)


async def test_statuses_that_will_not_change_are_believed_at_once(fetcher: Fetcher, tmp_path: Path) -> None:
    async with Origin({"/gone": says(404), "/busy": says(503)}).running() as origin:
        for path, requests in (("/gone", 1), ("/busy", 1 + 3)):
            with pytest.raises(FetchStatus):
                await fetcher.fetch_on(origin.url(path), tmp_path / "a", max_bytes=MEGABYTE)

            assert requests == len(origin.requests)


async def test_another_part_than_was_asked_for_is_refused(fetcher: Fetcher, tmp_path: Path) -> None:
    answers: list[Answer] = [Fragile(most=1_500_000), *[says(206, b"x", Content_Range="bytes 0-0/2", ETag='"1"')] * 9]

    async def answer(head: str, writer: asyncio.StreamWriter) -> None:
        await answers.pop(0)(head, writer)

    with pytest.raises(FetchFailed):
        await fetched_on(fetcher, answer, tmp_path / "a")
