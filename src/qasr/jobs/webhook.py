"""Webhooks: a task has ended, and whoever asked to be told is told. Documented for receivers in docs/webhooks.md.

::

    task ends ─▶ due ─▶ claimed, POST ─▶ 2xx: done
                  ▲            │
                  └── pause ◀──┴─▶ 429, 5xx, no answer: again, ``PAUSES_S`` apart;  anything else: given up

That a call is due stands in the task's own row, so calls survive the process, are made by any server of a database, and
take no place among the tasks. A call is made at least once: receivers tell repeated ones by their idempotency key.
"""

import hashlib
import hmac
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from time import time
from typing import Final, Protocol

import anyio
import msgspec
import structlog

from qasr.domain.errors import FetchFailed, FetchRefused
from qasr.domain.task import Task, TaskState
from qasr.storage.callbacks import Callback, Callbacks
from qasr.storage.tasks import Tasks

PAUSES_S: Final = (5.0, 15.0, 60.0, 180.0, 480.0, 900.0, 1800.0)
"""Before a call is made again: 8 calls within an hour."""
AT_ONCE: Final = 16
POLL_S: Final = 1.0
ANSWER_S: Final = 15.0
"""For one call, from the name of the host to the status."""
LEASE_S: Final = 2 * ANSWER_S + 10
TRY_LATER: Final = frozenset({408, 425, 429})

log = structlog.get_logger(__name__)


class Metrics(msgspec.Struct, frozen=True):
    """Numbers of recordings."""

    TOTAL: int
    SUCCEEDED: int
    FAILED: int


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """The body. Times are ISO 8601 in UTC. No text that was heard, and no addresses."""

    task_id: str
    task_status: str
    model: str
    submit_time: str
    end_time: str
    task_metrics: Metrics


class Poster(Protocol):
    """Sends a body to a stranger's address: ``pipeline/fetch.py``."""

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, within_s: float) -> int:
        """The status of the answer.

        Raises:
            FetchRefused: it is not an address that this server may call.
            FetchFailed: there was no answer.
        """
        ...


class Courier:
    """Makes the calls that are due.

    Args:
        callbacks: knows them.
        tasks: what is told.
        poster: sends it.
        secret: signs it.
        clock: Unix seconds.
        pauses_s: before a call is made again; when they are used up, it is not.
    """

    def __init__(
        self,
        callbacks: Callbacks,
        tasks: Tasks,
        poster: Poster,
        *,
        secret: bytes,
        clock: Callable[[], float] = time,
        pauses_s: tuple[float, ...] = PAUSES_S,
    ) -> None:
        self._callbacks, self._tasks, self._poster, self._secret = callbacks, tasks, poster, secret
        self._clock, self._pauses_s = clock, pauses_s
        self._free = AT_ONCE

    async def work(self, *, poll_s: float = POLL_S) -> None:
        """Make calls until canceled."""
        async with anyio.create_task_group() as group:
            while True:
                try:
                    due = await self._callbacks.claim(limit=self._free, lease_ms=int(LEASE_S * 1000))
                except Exception:
                    log.exception("webhooks_unreadable")
                    due = []
                for callback in due:
                    self._free -= 1
                    group.start_soon(self._attempt, callback)
                await anyio.sleep(poll_s)

    async def _attempt(self, callback: Callback) -> None:
        try:
            await self.call(callback)
        except Exception:  # the claim ends by itself, and the call is made again
            log.exception("webhook_raised", task_id=callback.task_id)
        finally:
            self._free += 1

    async def call(self, callback: Callback) -> None:
        """Make one call, and write down what follows from its answer."""
        if callback.calls > len(self._pauses_s):  # claimed again and again, and nobody came to write that down
            await self._callbacks.settle(callback.task_id)
            log.error("webhook_given_up", task_id=callback.task_id, calls=callback.calls)
            return
        task = await self._tasks.get(callback.task_id)
        if task is None:
            return
        status, is_final = await self._post(callback, notice(task))
        known = {"task_id": task.id, "calls": callback.calls + 1, "status": status}
        if status is not None and 200 <= status < 300:
            await self._callbacks.settle(task.id)
            log.info("webhook_delivered", **known)
        elif is_final or callback.calls >= len(self._pauses_s):
            await self._callbacks.settle(task.id)
            log.warning("webhook_given_up", **known)
        else:
            pause_s = self._pauses_s[callback.calls]
            await self._callbacks.postpone(task.id, int(pause_s * 1000))
            log.info("webhook_postponed", **known, pause_s=pause_s)

    async def _post(self, callback: Callback, body: bytes) -> tuple[int | None, bool]:
        """The status, if there was an answer, and whether another call is of no use."""
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": callback.task_id,
            "X-Qasr-Signature": signature(self._secret, int(self._clock()), body),
        }
        try:
            status = await self._poster.post(callback.url, body, headers, within_s=ANSWER_S)
        except FetchRefused as error:
            log.warning("webhook_refused", task_id=callback.task_id, reason=str(error))
            return None, True
        except FetchFailed:
            return None, False
        return status, status < 500 and status not in TRY_LATER


def notice(task: Task) -> bytes:
    """What is sent of *task*, which has ended."""
    return msgspec.json.encode(
        Notice(
            task_id=task.id,
            task_status=task.state,
            model=task.order.model,
            submit_time=_moment(task.submitted_ms),
            end_time=_moment(task.ended_ms or task.submitted_ms),
            task_metrics=Metrics(len(task.subtasks), task.count(TaskState.SUCCEEDED), task.count(TaskState.FAILED)),
        )
    )


def signature(secret: bytes, unix_s: int, body: bytes) -> str:
    """``t=<unix seconds>,v1=<hex>``: HMAC-SHA256 of the time, a dot and the body."""
    digest = hmac.new(secret, b"%d." % unix_s + body, hashlib.sha256).hexdigest()
    return f"t={unix_s},v1={digest}"


def derived_secret(server_secret: bytes) -> bytes:
    """What signs where no secret is set. Not the server's own: who verifies webhooks could sign results with that."""
    return hmac.new(server_secret, b"webhook", hashlib.sha256).hexdigest().encode()


def _moment(ms: int) -> str:
    moment = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
