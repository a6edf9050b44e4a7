"""The service as one caller meets it: within the limits of the key, and with everything written into the book.

::

    face ──▶ Gate.visit(caller, model, interface) ──▶ Visit.listen, transcribe, live, submit ──▶ service
                                                        │ requests per second and minute: token buckets
                                                        │ audio of the day: the book; of the queue: the tasks
                                                        │ live sessions: places that are held
                                                        └ afterwards: a line in the book

Each limit counts twice: over all models of the key, and for the one that is asked for. What a request will take is not
known before it is heard, so the one that crosses a limit of audio is still served.
"""

import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

from qasr.catalogue import Catalogue
from qasr.domain.access import Allowance, Caller, Limits, Scope
from qasr.domain.audio import Pcm, to_ms
from qasr.domain.bucket import MINUTE_S, Rate, Refusal
from qasr.domain.errors import BurstLimited, QuotaExceeded, RateLimited
from qasr.domain.live import LiveEvent, LiveOptions, LiveSession
from qasr.domain.task import TaskId, TaskOrder
from qasr.domain.transcript import Transcript
from qasr.domain.use import Use
from qasr.service import Listening, Order, Service
from qasr.storage.sessions import NoPlace
from qasr.storage.tasks import now_ms

DAY_S: Final = 86_400
HOUR_MS: Final = 3_600_000
MINUTE_MS: Final = 60_000
ALL: Final = ""
"""Stands where a model's name would, for all of them together."""
SOON_S: Final = 10
"""When to come back where nobody knows: a live session or a queue ends when it ends."""


class Gate:
    """One for a server.

    Args:
        service: what is behind it.
        allowance: of keys that have none of their own.
        catalogue: what names of models mean.
        clock: Unix milliseconds.
    """

    def __init__(
        self,
        service: Callable[[], Service],
        allowance: Allowance,
        catalogue: Catalogue,
        *,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self.service, self._allowance, self._catalogue, self.clock = service, allowance, catalogue, clock

    def visit(self, caller: Caller, model: str, interface: Scope) -> "Visit":
        """*caller* asks for *model* through *interface*."""
        return Visit(
            self, caller.owner, self._catalogue.family(model), interface, caller.allowance.over(self._allowance)
        )

    @asynccontextmanager
    async def seat(self, visit: "Visit") -> AsyncIterator[None]:
        """A live session, counted until the block ends where there is a limit.

        Raises:
            RateLimited: there are as many as there may be.
            EngineUnavailable: they are counted in the database, and it is away.
        """
        mine = f"{visit.owner}/"
        most = {
            mine + name: math.ceil(limits.live_sessions)
            for name, limits in visit.limits.items()
            if limits.live_sessions
        }
        async with AsyncExitStack() as held:
            try:
                await held.enter_async_context(self.service().books.sessions.hold(most))
            except NoPlace as full:
                message = (
                    f"This key may have {most[full.name]} live sessions at once{_of(full.name.removeprefix(mine))}."
                )
                raise RateLimited(message, retry_after_s=SOON_S) from full
            yield

    async def queued_ms(self, owner: str) -> Mapping[str, int]:
        """Speech of *owner*'s tasks that is still to be heard, by model."""
        queued: Counter[str] = Counter()
        for name, ms in (await self.service().unheard_ms(owner)).items():
            queued[self._catalogue.family(name)] += ms
        return queued


@dataclass(slots=True)
class _Bill:
    """What one visit takes, while it does."""

    audio_ms: int = 0
    speech_ms: int = 0
    failed: bool = False


class Visit:
    """The service for one caller and one model. Its methods raise what the service raises, and RateLimited."""

    def __init__(self, gate: Gate, owner: str, model: str, interface: Scope, allowance: Allowance) -> None:
        self._gate, self.owner, self.model, self._interface = gate, owner, model, interface
        self.limits: Mapping[str, Limits] = {ALL: allowance.total} | (
            {model: allowance.models[model]} if model in allowance.models else {}
        )
        """Over all models, and of this one."""

    @asynccontextmanager
    async def listen(self, order: Order) -> AsyncIterator[Listening]:
        """As ``Service.listen``."""
        async with self._billed() as bill:
            await self._admit()
            async with self._gate.service().listen(order) as listening:
                try:
                    yield listening
                finally:
                    bill.audio_ms, bill.speech_ms = listening.duration_ms, listening.speech_ms

    async def transcribe(self, order: Order) -> Transcript:
        """As ``Service.transcribe``."""
        async with self._billed() as bill:
            await self._admit()
            transcript = await self._gate.service().transcribe(order)
            bill.audio_ms, bill.speech_ms = transcript.duration_ms, transcript.speech_ms
            return transcript

    @asynccontextmanager
    async def live(self, options: LiveOptions) -> AsyncIterator[LiveSession]:
        """As ``Service.live``."""
        async with self._billed() as bill:
            await self._admit()
            async with (
                self._gate.seat(self),
                self._gate.service().live(options, owner=self.owner, model=self.model) as session,
            ):
                yield _Counted(session, bill)

    async def submit(self, order: TaskOrder) -> TaskId:
        """As ``Service.submit``. A task that is taken on stands in the book when it has ended."""
        try:
            await self._admit()
            await self._check_queue()
            return await self._gate.service().submit(order)
        except Exception:
            self._note(Use(errors=1))
            raise

    @asynccontextmanager
    async def _billed(self) -> AsyncIterator[_Bill]:
        bill, began_s = _Bill(), time.monotonic()
        try:
            yield bill
        except OSError:  # the client left
            raise
        except Exception:
            bill.failed = True
            raise
        finally:
            took_ms = int((time.monotonic() - began_s) * 1000)
            use = Use(latency_ms=took_ms, slowest_ms=took_ms)
            if bill.failed:
                self._note(replace(use, errors=1))
            else:
                self._note(replace(use, audio_ms=bill.audio_ms, speech_ms=bill.speech_ms))

    def _note(self, use: Use) -> None:
        self._gate.service().books.usage.note(self.owner, self.model, self._interface, use)

    async def _admit(self) -> None:
        rates: dict[str, Rate] = {}
        for name, limits in self.limits.items():
            for most, period_s in ((limits.requests_per_minute, MINUTE_S), (limits.requests_per_second, 1.0)):
                if most:
                    rates[f"{self.owner}/{name}/{period_s:g}"] = Rate(most, period_s)
        if rates and (refusal := await self._gate.service().books.buckets.take(rates)) is not None:
            raise _too_often(refusal, rates[refusal.name])
        if any(limits.audio_hours_per_day for limits in self.limits.values()):
            await self._check_day()

    async def _check_day(self) -> None:
        heard = await self._gate.service().books.usage.audio_today(self.owner)
        for name, limits in self.limits.items():
            used_ms = heard.get(name, 0) if name else sum(heard.values())
            if limits.audio_hours_per_day and used_ms >= limits.audio_hours_per_day * HOUR_MS:
                left_s = DAY_S - self._gate.clock() // 1000 % DAY_S
                message = f"Allocated quota exceeded: {limits.audio_hours_per_day:g} hours of audio a day{_of(name)}."
                raise QuotaExceeded(message, retry_after_s=left_s)

    async def _check_queue(self) -> None:
        if not any(limits.queued_audio_minutes for limits in self.limits.values()):
            return
        queued = await self._gate.queued_ms(self.owner)
        for name, limits in self.limits.items():
            waiting_ms = queued.get(name, 0) if name else sum(queued.values())
            if limits.queued_audio_minutes and waiting_ms >= limits.queued_audio_minutes * MINUTE_MS:
                message = (
                    f"Allocated quota exceeded: {limits.queued_audio_minutes:g} minutes of audio are queued{_of(name)}."
                )
                raise QuotaExceeded(message, retry_after_s=SOON_S)


class _Counted:
    """A live session that writes down how much it is fed."""

    def __init__(self, session: LiveSession, bill: _Bill) -> None:
        self._session, self._bill, self._n_fed = session, bill, 0
        self.engine = session.engine
        self.commit, self.clear, self.configure = session.commit, session.clear, session.configure
        self.finish = session.finish

    async def feed(self, pcm: Pcm) -> None:
        """See ``LiveSession.feed``."""
        await self._session.feed(pcm)
        self._n_fed += len(pcm)
        self._bill.audio_ms = to_ms(self._n_fed)

    def events(self) -> AsyncIterator[LiveEvent]:
        """See ``LiveSession.events``."""
        return self._session.events()


def _too_often(refusal: Refusal, rate: Rate) -> RateLimited:
    again_s = math.ceil(refusal.wait_s)
    if rate.period_s < MINUTE_S:
        return BurstLimited("Request rate increased too quickly, please slow down.", retry_after_s=again_s)
    return RateLimited("Requests rate limit exceeded, please try again later.", retry_after_s=again_s)


def _of(model: str) -> str:
    return f" with {model}" if model else ""
