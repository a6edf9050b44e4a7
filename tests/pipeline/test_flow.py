"""The pipeline's only concurrency."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from qasr.pipeline.flow import ordered_map

pytestmark = pytest.mark.anyio


async def numbers(n: int, pulled: list[int]) -> AsyncIterator[int]:
    for i in range(n):
        pulled.append(i)
        yield i


async def test_results_keep_their_order() -> None:
    """Work that ends out of order is read in order."""

    async def work(i: int) -> int:
        await asyncio.sleep((5 - i) / 1000)
        return i

    async with ordered_map(work, numbers(5, []), ahead=4) as results:
        assert [0, 1, 2, 3, 4] == [result async for result in results]


async def test_the_source_is_pulled_only_so_far_ahead() -> None:
    """A slow reader holds back everything upstream."""
    pulled: list[int] = []

    async def work(i: int) -> int:
        return i

    async with ordered_map(work, numbers(100, pulled), ahead=3) as results:
        assert 0 == await anext(results)
        await asyncio.sleep(0.02)

        assert len(pulled) <= 6


async def test_leaving_stops_all_work() -> None:
    """A reader that leaves takes everything with it."""
    running = 0

    async def work(_: int) -> None:
        nonlocal running
        running += 1
        try:
            await asyncio.sleep(60)
        finally:
            running -= 1

    async with ordered_map(work, numbers(10, []), ahead=3):
        await asyncio.sleep(0.01)
        assert running > 0

    assert 0 == running


async def test_an_error_comes_in_its_turn() -> None:
    """What came before a failure is read, then the failure is raised as it was."""

    async def work(i: int) -> int:
        if i == 2:
            raise KeyError(i)
        return i

    read: list[int] = []

    async def run() -> None:
        async with ordered_map(work, numbers(5, []), ahead=4) as results:
            async for result in results:
                read.append(result)  # noqa: PERF401 - what was read before the error is the point

    with pytest.raises(BaseExceptionGroup) as caught:
        await run()

    assert [0, 1] == read
    assert caught.group_contains(KeyError)


async def test_an_error_of_the_source_reaches_the_reader() -> None:
    """A recording that breaks in its middle is not mistaken for its end."""

    async def broken() -> AsyncIterator[int]:
        yield 1
        raise OSError("gone")

    async def work(i: int) -> int:
        return i

    async def run() -> list[int]:
        async with ordered_map(work, broken(), ahead=4) as results:
            return [result async for result in results]

    with pytest.raises(BaseExceptionGroup) as caught:
        await run()

    assert caught.group_contains(OSError)
