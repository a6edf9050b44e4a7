"""Ctrl-C, SIGTERM, a closed terminal as an ordinary end: work is cancelled and cleans up; the exit code tells."""

import signal
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import anyio
import typer
import uvloop

T = TypeVar("T")

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(work: Callable[[], Awaitable[T]], *, gently: Callable[[], None] | None = None) -> T:
    """What *work* returns; its error comes alone, without the groups that tasks wrap it in.

    Args:
        work: is cancelled at a signal.
        gently: called at the first Ctrl-C instead; the second one cancels.

    The loop is the server's: asyncio's own waits without end for a killed child whose output nobody reads any more.
    """
    try:
        result, number = anyio.run(_watched, work, gently, backend_options={"loop_factory": uvloop.new_event_loop})
    except BaseExceptionGroup as group:
        raise _only(group) from group
    if result is None:
        raise typer.Exit(128 + number)
    return result[0]


async def _watched(work: Callable[[], Awaitable[T]], gently: Callable[[], None] | None) -> tuple[tuple[T] | None, int]:
    result: tuple[T] | None = None
    caught = 0
    with anyio.open_signal_receiver(*SIGNALS) as signals:
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                nonlocal caught
                caught = await anext(signals)
                if gently is not None and caught == signal.SIGINT:
                    gently()
                    caught = await anext(signals)
                group.cancel_scope.cancel()

            group.start_soon(watch)
            result = (await work(),)
            group.cancel_scope.cancel()
    return result, caught


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
