"""The only concurrency in the pipeline."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup

T = TypeVar("T")
R = TypeVar("R")


@asynccontextmanager
async def ordered_map(
    work: Callable[[T], Awaitable[R]], source: AsyncIterator[T], *, ahead: int
) -> AsyncIterator[AsyncIterator[R]]:
    """Run *work* on items concurrently, at most *ahead* + 1 at once; results keep the order of *source*.

    Leaving the block cancels what still runs. An error of *work* or *source* reaches the reader.
    """
    slots: asyncio.Queue[asyncio.Future[R] | None] = asyncio.Queue(ahead)

    async def one(item: T, slot: asyncio.Future[R]) -> None:
        try:
            result = await work(item)
        except Exception as error:  # noqa: BLE001 - handed to the reader, in its turn
            slot.set_exception(error)
            slot.exception()  # it may never be read: the reader can leave before
        else:
            slot.set_result(result)

    async def feed() -> None:
        try:
            async for item in source:
                slot: asyncio.Future[R] = asyncio.get_running_loop().create_future()
                await slots.put(slot)  # full: stop pulling, and so does all upstream
                group.start_soon(one, item, slot)
        except Exception as error:  # noqa: BLE001 - the same
            broken: asyncio.Future[R] = asyncio.get_running_loop().create_future()
            broken.set_exception(error)
            broken.exception()
            await slots.put(broken)
        await slots.put(None)

    async def read() -> AsyncIterator[R]:
        while (slot := await slots.get()) is not None:
            yield await asyncio.shield(slot)  # an impatient reader must not spoil the work

    async with anyio.create_task_group() as group:
        group.start_soon(feed)
        yield read()
        group.cancel_scope.cancel()  # the reader left: so do we


@asynccontextmanager
async def background() -> AsyncIterator[TaskGroup]:
    """Tasks that last as long as the block. The group's own end never hides that the block itself was cancelled, nor
    why it was left.
    """
    group = anyio.create_task_group()
    await group.__aenter__()
    try:
        yield group
    finally:
        group.cancel_scope.cancel()
        await group.__aexit__(None, None, None)
