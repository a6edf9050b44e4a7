"""The durable engine on DBOS: the one file that knows it. Facts about it and their sources: docs/decisions/0009.

A task is a workflow with the task's id, a step is a step. Workflows run on our own event loop, so that steps use our
objects directly. DBOS recovers at its start what *this* executor had left and looks after nobody else's; the rest is
``reaper.py``, through ``take_over`` and ``pick_up``.

Errors never become part of a workflow's history: a step that raises is as if it had not been begun, and a workflow that
raises stays pending, to be picked up again. (A recorded error would come back at each replay, for ever.) What belongs
into the history, failures of recordings, are values.

There are two queues: one for tasks whose owner has no other, with places of its own, and one for all others. So who has
handed in hours by the hundred keeps nobody waiting who comes with one recording.
"""

import asyncio
import importlib
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio
import anyio.to_thread
import msgspec
import sqlalchemy as sa
import structlog

from qasr.domain.task import TaskId
from qasr.jobs.port import ALONE, JobEngine, Stopping, Work

if TYPE_CHECKING:
    from dbos import DBOS

VERSION: Final = "asr-tasks-1"
"""Of the order of steps; raise it when that changes. Workflows are gone on with by processes of their own version."""
QUEUE: Final = "tasks"
ALONE_QUEUE: Final = "tasks-alone"
ALONE_AT_ONCE: Final = 16
"""Tasks of owners who have no other. What they do at once is bounded anyway, see ``pipeline/filed.py``."""
POLL_S: Final = 0.1
BATCH: Final = 50
"""Workflows that are taken over at once."""
THREADS: Final = 16
"""In which DBOS talks to its database."""
SELDOM_S: Final = 30.0
"""Between two messages of DBOS that begin alike."""
KIND: Final = 30
"""Characters by which they are told apart."""
CANCEL_S: Final = 3.0
"""How long canceled steps may take to clean up."""
LAST: Final = 2**31 - 1
"""The highest priority that DBOS takes. Tasks behind it go in the order in which they came."""

T = TypeVar("T", bound=msgspec.Struct)

log = structlog.get_logger(__name__)


class _Steps:
    """Runs steps inside the workflow that calls it."""

    def __init__(self, engine: "_Engine") -> None:
        self._engine = engine

    async def step(self, name: str, work: Callable[[], Awaitable[T]], kind: type[T]) -> T:
        """See ``port.Steps``."""
        if self._engine.is_stopping:
            await self._engine.in_flight().idle.wait()  # to raise earlier would cancel the steps beside this one
            raise Stopping
        errors: list[Exception] = []

        async def run() -> object:
            try:
                return msgspec.to_builtins(await work())
            except Exception as error:
                errors.append(error)
                raise asyncio.CancelledError from error  # the one thing that DBOS does not record

        try:
            with self._engine.in_flight():
                return msgspec.convert(await self._engine.dbos.run_step_async({"name": name}, run), kind)
        except asyncio.CancelledError:
            if errors:
                raise errors[0] from None
            raise


class _InFlight:
    """Counts steps under way."""

    def __init__(self) -> None:
        self.count = 0
        self.idle = asyncio.Event()
        self.idle.set()

    def __enter__(self) -> None:
        self.count += 1
        self.idle.clear()

    def __exit__(self, *exc: object) -> None:
        self.count -= 1
        if not self.count:
            self.idle.set()


class _Engine:
    """A ``JobEngine``."""

    def __init__(self, dbos: "DBOS", executor_id: str, *, is_shared: bool) -> None:
        self.dbos, self._executor_id, self._is_shared = dbos, executor_id, is_shared
        self.is_stopping = False
        self._steps = _InFlight()
        self._running: dict[str, asyncio.Task[Any]] = {}
        self._workflow: Callable[[str], Any] | None = None
        self._left: frozenset[str] = frozenset()
        self._stopped: asyncio.Future[None] | None = None

    def in_flight(self) -> _InFlight:
        """Around each step, until it is recorded."""
        return self._steps

    def register(self, work: Work) -> None:
        """Make *work* known under a name that stays the same."""

        async def task(task_id: str) -> None:
            current = asyncio.current_task()
            assert current is not None
            if self.is_stopping:
                raise asyncio.CancelledError
            self._running[task_id] = current
            try:
                await work(TaskId(task_id), _Steps(self))
            except BaseExceptionGroup as group:
                raise _verdict(group) from group
            except Stopping as stopping:
                raise asyncio.CancelledError from stopping
            except Exception as error:
                raise _verdict(error) from error
            finally:
                if self._running.get(task_id) is current:
                    del self._running[task_id]

        self._workflow = self.dbos.workflow(name="task", max_recovery_attempts=None)(task)

    async def enqueue(self, task_id: TaskId, *, priority: int) -> None:
        """See ``port.JobEngine``."""
        from dbos import SetEnqueueOptions, SetWorkflowID  # noqa: PLC0415 - see ``durable``

        assert self._workflow is not None
        queue = ALONE_QUEUE if priority <= ALONE else QUEUE
        with SetWorkflowID(task_id), SetEnqueueOptions(priority=min(priority, LAST)):
            await self.dbos.enqueue_workflow_async(queue, self._workflow, task_id)

    async def cancel(self, task_id: TaskId) -> None:
        """See ``port.JobEngine``."""
        await self.dbos.cancel_workflow_async(task_id)

    async def take_over(self, executor_id: str) -> int:
        """See ``port.JobEngine``."""
        total = 0
        while found := await self._pending(executor_id):
            await self._resume(found)
            total += len(found)
        return total

    async def pick_up(self) -> int:
        """See ``port.JobEngine``: those that were left alone at the last look, too; others may just be starting."""
        if self.is_stopping:
            return 0
        found = await self._pending(self._executor_id, limit=None)
        left = found.keys() - self._running.keys()
        again, self._left = sorted(left & self._left), frozenset(left)
        await self._resume({task_id: found[task_id] for task_id in again})
        return len(again)

    async def vanished(self, task_ids: Sequence[TaskId]) -> list[TaskId]:
        """See ``port.JobEngine``."""
        found = await self.dbos.list_workflows_async(
            workflow_ids=list(task_ids),
            status=["PENDING", "ENQUEUED", "DELAYED"],
            load_input=False,
            load_output=False,
        )
        alive = {status.workflow_id for status in found}
        return [task_id for task_id in task_ids if task_id not in alive]

    async def forget(self, task_ids: Sequence[TaskId]) -> None:
        """See ``port.JobEngine``."""
        await self.dbos.delete_workflows_async(list(task_ids))

    async def stop(self, grace_s: float) -> None:
        """See ``port.JobEngine``."""
        if self._stopped is None:
            self._stopped = asyncio.ensure_future(self._stop(grace_s))
        await asyncio.shield(self._stopped)

    async def _stop(self, grace_s: float) -> None:
        self.is_stopping = True
        for event in self.dbos.background_thread_stop_events:  # nothing is claimed any more
            event.set()
        if self._steps.count:
            log.info("tasks_stopping", steps=self._steps.count, grace_s=grace_s)
        with anyio.move_on_after(grace_s):
            await self._steps.idle.wait()
            await asyncio.sleep(2 * POLL_S)  # a claim on its way has arrived
        for task in list(self._running.values()):
            task.cancel()
        if self._running:
            await asyncio.wait(list(self._running.values()), timeout=CANCEL_S)

    async def leave(self) -> None:
        """Hand on what is not finished, where others may take it."""
        if self._is_shared:
            await self.take_over(self._executor_id)

    async def _resume(self, found: Mapping[str, str]) -> None:
        """Each in the queue that it came from."""
        by_queue: defaultdict[str, list[str]] = defaultdict(list)
        for task_id, queue in found.items():
            by_queue[queue].append(task_id)
        for queue, task_ids in by_queue.items():
            await self.dbos.resume_workflows_async(task_ids, queue_name=queue)

    async def _pending(self, executor_id: str, *, limit: int | None = BATCH) -> dict[str, str]:
        """Tasks that *executor_id* has begun, with their queues."""
        found = await self.dbos.list_workflows_async(
            executor_id=executor_id, status="PENDING", limit=limit, load_input=False, load_output=False
        )
        return {status.workflow_id: status.queue_name or QUEUE for status in found}


def _verdict(error: BaseException) -> BaseException:
    """How a workflow ends that ended in *error*: as DBOS wants it where it is its own, else as if it were canceled."""
    rest, found = [error], []
    while rest:
        item = rest.pop()
        if isinstance(item, BaseExceptionGroup):
            rest += item.exceptions
        else:
            found.append(item)
    for item in found:
        if type(item).__module__.startswith("dbos") or not isinstance(item, Exception):
            return item
    if not any(isinstance(item, Stopping) for item in found):
        log.error("task_interrupted", errors=[repr(item) for item in found], exc_info=error)
    return asyncio.CancelledError()


@asynccontextmanager
async def durable(
    work: Work, engine: sa.Engine, *, executor_id: str, concurrency: int, grace_s: float
) -> AsyncIterator[JobEngine]:
    """The engine, for as long as the block lasts. One per process; at the end ``stop`` is called if it was not before.

    Args:
        work: what is done for a task.
        engine: of the database that keeps workflows; disposed at the end.
        executor_id: ours, the same after each start.
        concurrency: tasks that are done at once, besides those whose owners have no other.
        grace_s: for steps under way, at the end.
    """
    await anyio.to_thread.run_sync(importlib.import_module, "dbos")  # half a second
    from dbos import DBOS, DBOSPortableJSONSerializer  # noqa: PLC0415

    _quiet()
    dbos = DBOS(
        config={
            "name": "qasr",
            "system_database_engine": engine,
            "application_version": VERSION,
            "executor_id": executor_id,
            "serializer": DBOSPortableJSONSerializer(),
            "max_executor_threads": THREADS,
            "log_level": "WARNING",
            "enable_otlp": False,
        }
    )
    ours = _Engine(dbos, executor_id, is_shared=engine.dialect.name != "sqlite")
    ours.register(work)
    places = {QUEUE: concurrency, ALONE_QUEUE: ALONE_AT_ONCE}
    DBOS.listen_queues(list(places))
    try:  # what follows blocks the loop for some 0.2 s, at the very first start 0.5 s
        DBOS.launch()  # here, not in a thread: workflows run on the loop that launched it
        for queue, at_once in places.items():
            await DBOS.register_queue_async(
                queue, worker_concurrency=at_once, polling_interval_sec=POLL_S, on_conflict="always_update"
            )
        yield ours
    finally:
        with anyio.CancelScope(shield=True):
            await ours.stop(grace_s)
            await ours.leave()
            await anyio.to_thread.run_sync(lambda: DBOS.destroy(destroy_registry=True))
            engine.dispose()


def _quiet() -> None:
    """DBOS's own log goes the way of all logs; without a handler of its own it would make one."""
    logger = logging.getLogger("dbos")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
        logger.addFilter(_Seldom())


class _Seldom(logging.Filter):
    """Lets each kind of message pass now and then only: ten times a second it says that the database is away."""

    def __init__(self) -> None:
        super().__init__()
        self._next_s: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        kind = str(record.msg)[:KIND]
        if kind.startswith("Asyncio task cancelled"):  # our way to stop
            return False
        if record.exc_info and record.exc_info[0] is not None and "Cancelled" in record.exc_info[0].__name__:
            return False  # the workflow was canceled as it began; its row says so
        passes = record.created >= self._next_s.get(kind, 0.0)
        if passes:
            self._next_s[kind] = record.created + SELDOM_S
        return passes
