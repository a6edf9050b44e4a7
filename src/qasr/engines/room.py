"""The engine room: engines by model name, loaded when they are wanted, shared, and unloaded when they are not.

::

    lease(model) ─▶ choices(model), best first ─▶ the first that loads; names may lead to the same one

    waiting for memory ─▶ loading ─▶ loaded ──▶ idle for ``idle_s``, or its memory is wanted ─▶ unloaded
                             └─▶ failed: not tried again for ``RETRY_S``

Who hears holds a lease, and an engine with a lease is never unloaded. When a name comes to mean another choice (a
checkpoint was installed meanwhile), new leases are of that one, and the old engine goes once it is idle.
What all engines share (voice activity, aligners, the tagger) is loaded once. A model that crashes is not our business:
the pool of child processes that it lives in starts it again.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal, Self, TypeAlias, TypeVar

import anyio
import anyio.abc
import anyio.to_thread
import structlog

from qasr.domain import telemetry
from qasr.domain.errors import CapacityError, EngineUnavailable, QasrError, QueueFull
from qasr.engines.base import Aligner, Capabilities, Diarizer, EngineFactory, Tagger
from qasr.engines.prompt_aligner import PromptAligner
from qasr.engines.registry import LoadedEngines, installed
from qasr.engines.silero_vad import SileroVad
from qasr.engines.slots import EngineSlots, QueueState
from qasr.engines.vad_batcher import VadBatcher

DEFAULT: Final = ""
"""The name of no model in particular."""
RETRY_S: Final = 60.0
"""Before an engine that did not load is tried again."""
MEMORY_WAIT_S: Final = 30.0
"""How long to wait for engines in use to give memory back, before who asks is told to come later."""

log = structlog.get_logger(__name__)

Aid = TypeVar("Aid")
State: TypeAlias = Literal["waiting", "loading", "loaded", "unloading"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One way to serve a model: an engine and what its factory gets."""

    engine: str
    settings: Mapping[str, str] = field(default_factory=dict)
    checkpoint: str | None = None
    n_bytes: int = 0
    """Estimate of the memory that it takes: the size of its checkpoint."""

    @property
    def name(self) -> str:
        """What people call it."""
        return self.checkpoint or self.engine

    @property
    def key(self) -> tuple[str, str | None, frozenset[tuple[str, str]]]:
        """Choices with the same key share one engine."""
        return self.engine, self.checkpoint, frozenset(self.settings.items())


Choices: TypeAlias = Callable[[str], Sequence[Choice]]
"""From a model's public name, or ``DEFAULT``, to what may serve it, best first; asked again for each lease."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineState:
    """One engine of the room, for those who look on."""

    engine: str
    checkpoint: str | None
    state: State
    leases: int
    emotion: bool
    """It is loaded, and tells them: by itself, or with the help of a tagger."""
    calls: int = 0
    """Under way."""
    most_calls: int = 0
    """That it takes at once; 0: it is not loaded."""
    queues: Sequence[QueueState] = ()
    """What waits for it."""


@dataclass(slots=True, eq=False)
class _Engine:
    choice: Choice
    loaded: asyncio.Future[LoadedEngines]
    state: State = "waiting"
    n_leases: int = 0
    used_at: float = 0.0
    unwanted: anyio.Event = field(default_factory=anyio.Event)
    timer: asyncio.TimerHandle | None = None

    @property
    def now(self) -> LoadedEngines | None:
        """What can be used at once."""
        return self.loaded.result() if self.state == "loaded" else None

    @property
    def is_idle(self) -> bool:
        return self.state == "loaded" and self.n_leases == 0


class EngineRoom:
    """Holds engines; an async context manager. Leaving it unloads all.

    Args:
        choices: what may serve a model.
        preload: names of models whose engines are loaded at once; ``problem`` tells how far that is.
        idle_s: after so long without a lease an engine is unloaded, unless it is the default one; None: never.
        memory_bytes: what all engines together may take, by the estimates of their choices; None: any.
        queue_audio_s: seconds of audio that may wait for one engine, per lane.
        aligners: processes that find word times.
        beside: from ``qwen3_aligner``, ``tagger`` and ``diarizer`` to what their factories get; without a ``folder``
            there is no aligner and no tagger.
    """

    def __init__(
        self,
        choices: Choices,
        *,
        preload: Sequence[str] = (DEFAULT,),
        idle_s: float | None = None,
        memory_bytes: int | None = None,
        queue_audio_s: float = 3600.0,
        aligners: int = 1,
        beside: Callable[[str], Mapping[str, str]] = lambda _: {},
    ) -> None:
        self._choices, self._preload = choices, preload
        self._idle_s, self._memory_bytes = idle_s, memory_bytes
        self._queue_audio_s, self._aligners, self._beside = queue_audio_s, aligners, beside
        self._current: dict[object, _Engine] = {}  # by key; those that new leases may be of
        self._all: set[_Engine] = set()  # also those that are being unloaded
        self._failures: dict[object, tuple[float, EngineUnavailable]] = {}
        self._changed = anyio.Event()
        self._aids: dict[str, asyncio.Future[Any]] = {}  # aligners and taggers, shared by all engines
        self._group: anyio.abc.TaskGroup | None = None
        self._problem: str | None = "the speech engine is loading" if preload else None
        self._tried = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._vad: asyncio.Future[tuple[SileroVad, VadBatcher]] = self._loop.create_future()
        self._group = await anyio.create_task_group().__aenter__()
        self._group.start_soon(self._hold_vad)
        self._group.start_soon(self._load_at_once)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._group is not None
        self._group.cancel_scope.cancel()
        await self._group.__aexit__(None, None, None)

    @asynccontextmanager
    async def lease(self, model: str = DEFAULT) -> AsyncIterator[LoadedEngines]:
        """The engines for *model*, loaded; they stay for as long as the block lasts.

        Raises:
            EngineUnavailable: none of those that may serve it could be loaded; the message names each with its reason.
            QueueFull: engines in use take all the memory there is.
        """
        engine = await self._take(model)
        try:
            yield engine.loaded.result()
        finally:
            self._give_back(engine)

    def chosen(self, model: str = DEFAULT) -> Choice:
        """What would be tried first for *model*; nothing is loaded for the answer.

        Raises:
            EngineUnavailable: nothing that could serve it is installed.
        """
        choices = self._choices(model)
        if not choices:
            raise EngineUnavailable("no speech engine is installed for this model")
        return choices[0]

    def loaded(self, choice: Choice) -> LoadedEngines | None:
        """What who takes *choice* gets at once; None: they have to wait."""
        engine = self._current.get(choice.key)
        return None if engine is None else engine.now

    async def tried(self) -> None:
        """Wait until the engines wanted from the start are loaded, or one of them did not load."""
        await self._tried.wait()

    @property
    def problem(self) -> str | None:
        """Why requests cannot be served now; None if they can."""
        if self._problem is not None:
            return self._problem
        choices = self._choices(DEFAULT)
        default = self.loaded(choices[0]) if choices else None
        return None if default is None else default.slots.problem

    def interventions(self) -> Counter[str]:
        """How often each guard has stepped in for the engines that are loaded."""
        return sum((engine.now.interventions for engine in self._all if engine.now is not None), Counter[str]())

    def states(self) -> list[EngineState]:
        """Every engine that is there, or on its way."""
        return [
            EngineState(
                engine=e.choice.engine,
                checkpoint=e.choice.checkpoint,
                state=e.state,
                leases=e.n_leases,
                emotion=e.now is not None and e.now.capabilities.emotion,
                calls=0 if e.now is None else e.now.slots.calls,
                most_calls=0 if e.now is None else e.now.slots.capabilities.parallel_calls,
                queues=() if e.now is None else e.now.slots.queues(),
            )
            for e in sorted(self._all, key=lambda engine: engine.choice.name)
        ]

    # Leases

    async def _take(self, model: str) -> _Engine:
        """An engine for *model*, loaded, with a lease more."""
        reasons = []
        for choice in self._choices(model):
            engine = self._current.get(choice.key)
            if engine is None:
                failed_at, failure = self._failures.get(choice.key, (0.0, None))
                if failure is not None and self._loop.time() < failed_at + RETRY_S:
                    reasons.append(f"{choice.name}: {failure}")
                    continue
                engine = self._start(choice)
            engine.n_leases += 1
            try:
                await asyncio.shield(engine.loaded)
            except EngineUnavailable as error:
                self._give_back(engine)
                reasons.append(f"{choice.name}: {error}")
            except BaseException:
                self._give_back(engine)
                raise
            else:
                return engine
        raise EngineUnavailable(
            "no speech engine could be loaded: " + ("; ".join(reasons) or "none is installed for this model")
        )

    def _give_back(self, engine: _Engine) -> None:
        engine.n_leases -= 1
        engine.used_at = self._loop.time()
        self._stir()
        self._watch(engine)

    def _watch(self, engine: _Engine) -> None:
        """Unload *engine* when it has been idle for long enough."""
        if engine.timer is not None:
            engine.timer.cancel()
        if engine.is_idle and self._idle_s is not None:
            engine.timer = self._loop.call_at(engine.used_at + self._idle_s, self._leave_if_idle, engine)

    def _leave_if_idle(self, engine: _Engine) -> None:
        if not engine.is_idle:
            return
        default = self._choices(DEFAULT)
        if default and default[0].key == engine.choice.key:  # it stays; but another may become the default
            engine.used_at = self._loop.time()
            self._watch(engine)
        else:
            self._unload(engine)

    def _unload(self, engine: _Engine) -> None:
        engine.state = "unloading"
        if self._current.get(engine.choice.key) is engine:
            del self._current[engine.choice.key]
        engine.unwanted.set()

    # Engines

    def _start(self, choice: Choice) -> _Engine:
        engine = _Engine(choice, self._loop.create_future())
        engine.loaded.add_done_callback(lambda future: future.cancelled() or future.exception())  # may go unread
        self._current[choice.key] = engine
        self._all.add(engine)
        assert self._group is not None
        self._group.start_soon(self._hold, engine)
        return engine

    async def _hold(self, engine: _Engine) -> None:
        """Load *engine*, and keep it until nobody wants it."""
        structlog.contextvars.clear_contextvars()  # it outlives the request that it is first loaded for
        choice = engine.choice
        try:
            async with AsyncExitStack() as stack:
                await self._find_memory(engine)
                with telemetry.stage("load", engine=choice.engine):
                    loaded = await self._load(stack, choice)
                log.info("engine_loaded", engine=choice.engine, checkpoint=choice.checkpoint)
                engine.used_at = self._loop.time()
                engine.loaded.set_result(loaded)
                engine.state = "loaded"
                self._failures.pop(choice.key, None)
                self._watch(engine)
                await engine.unwanted.wait()
            log.info("engine_unloaded", engine=choice.engine, checkpoint=choice.checkpoint)
        except (EngineUnavailable, ImportError, ValueError) as error:
            log.warning("engine_unavailable", engine=choice.engine, checkpoint=choice.checkpoint, reason=str(error))
            self._fail(engine, EngineUnavailable(str(error)))
        except CapacityError as error:
            self._end(engine, error)
        except Exception:  # an engine's own bug: told to those who ask, the server stays up
            log.exception("engine_raised_in_loading", engine=choice.engine, checkpoint=choice.checkpoint)
            self._fail(engine, EngineUnavailable(f"the speech engine {choice.name!r} failed while it was loaded"))
        finally:
            self._end(engine, EngineUnavailable("the server is stopping"))

    async def _load(self, stack: AsyncExitStack, choice: Choice) -> LoadedEngines:
        points = installed()
        if choice.engine not in points:
            raise EngineUnavailable(f"no such engine is installed (installed: {', '.join(sorted(points))})")
        factory: EngineFactory = points[choice.engine].load()
        recognizer = await stack.enter_async_context(factory(choice.settings))
        aligner = await self._aligner_for(recognizer.capabilities)
        tagger = await self._tagger_for(recognizer.capabilities)
        slots = await stack.enter_async_context(EngineSlots(recognizer, queue_audio_s=self._queue_audio_s))
        vad, batcher = await asyncio.shield(self._vad)
        prompt = None if aligner is None else PromptAligner(aligner)
        return LoadedEngines(
            slots, vad, batcher, aligner, prompt, tagger, self._diarizer_for(), checkpoint=choice.checkpoint
        )

    def _fail(self, engine: _Engine, error: EngineUnavailable) -> None:
        self._failures[engine.choice.key] = self._loop.time(), error
        self._end(engine, error)

    def _end(self, engine: _Engine, error: QasrError) -> None:
        """*engine* is no more; *error* is for those who still wait for it."""
        if not engine.loaded.done():
            engine.loaded.set_exception(error)
        if engine.timer is not None:
            engine.timer.cancel()
        self._all.discard(engine)
        if self._current.get(engine.choice.key) is engine:
            del self._current[engine.choice.key]
        self._stir()

    # Memory

    async def _find_memory(self, engine: _Engine) -> None:
        """Wait until there is memory for *engine*; idle engines give theirs, the least recently used one first."""
        wanted, most = engine.choice.n_bytes, self._memory_bytes
        if most is not None and wanted > most:
            raise EngineUnavailable(
                f"it takes about {wanted / 1e6:.0f} MB, and engines.memory_mb allows {most / 1e6:.0f} MB for all"
            )
        with anyio.move_on_after(MEMORY_WAIT_S):
            while most is not None and self._taken() + wanted > most:
                changed = self._changed
                idle = [other for other in self._all if other.is_idle]
                if idle and not any(other.state == "unloading" for other in self._all):
                    self._unload(min(idle, key=lambda other: other.used_at))
                await changed.wait()
            engine.state = "loading"
            return
        raise QueueFull("Speech engines that are in use take all the memory they may have; please try again later.")

    def _taken(self) -> int:
        return sum(engine.choice.n_bytes for engine in self._all if engine.state != "waiting")

    def _stir(self) -> None:
        """Wake those who wait for memory."""
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    # What is loaded once

    async def _load_at_once(self) -> None:
        """Engines that are wanted from the start; one that does not load is tried again until it does."""
        for model in self._preload:
            while True:
                try:
                    async with self.lease(model):
                        break
                except EngineUnavailable as error:
                    self._tried.set()
                    log.error("no_engine", model=model, reason=str(error))  # noqa: TRY400 - the reason says it all
                    self._problem = str(error)
                except CapacityError as error:
                    log.warning("engine_not_preloaded", model=model, reason=str(error))
                    break
                await anyio.sleep(RETRY_S)
        self._problem = None
        self._tried.set()

    async def _hold_vad(self) -> None:
        try:
            vad = await anyio.to_thread.run_sync(SileroVad)
            async with VadBatcher(vad) as batcher:
                self._vad.set_result((vad, batcher))
                await anyio.sleep_forever()
        except Exception as error:
            log.exception("vad_unavailable")
            self._vad.set_exception(EngineUnavailable(f"voice activity detection does not load: {error}"))
            self._vad.exception()

    async def _aligner_for(self, capabilities: Capabilities) -> Aligner | None:
        """Word times for what a recognizer hears, if it does not give them itself.

        Raises:
            EngineUnavailable, ValueError: one is set, and does not load.
        """
        if capabilities.word_times:
            return None
        if (given := self._beside("qwen3_aligner")).get("folder"):
            from qasr.engines.qwen3 import aligner as qwen3_aligner  # noqa: PLC0415 - only where one is set

            return await self._shared(f"qwen3_aligner {given['folder']}", partial(qwen3_aligner.aligner, given))
        hears_english = capabilities.languages is None or "en" in capabilities.languages
        if not hears_english or not self._aligners:
            return None
        from qasr.engines import pocketsphinx_aligner  # noqa: PLC0415 - only where one is wanted

        try:
            return await self._shared("aligner", partial(pocketsphinx_aligner.aligner, self._aligners))
        except EngineUnavailable as error:
            log.warning("aligner_unavailable", reason=str(error), consequence="word times are estimated")
            return None

    async def _tagger_for(self, capabilities: Capabilities) -> Tagger | None:
        """Emotions for what a recognizer hears, if one is set and the recognizer does not tell them itself.

        Raises:
            EngineUnavailable: it is set, and does not load.
        """
        given = self._beside("tagger")
        if not given.get("folder") or capabilities.emotion:
            return None
        from qasr.engines.sherpa.tagger import tagger  # noqa: PLC0415 - only where one is set

        try:
            return await self._shared("tagger", partial(tagger, given))
        except ValueError as error:
            raise EngineUnavailable(f"the emotion tagger: {error}") from error

    def _diarizer_for(self) -> Callable[[], Awaitable[Diarizer]] | None:
        """What tells speakers apart, loaded when somebody asks for it; None: it is switched off, or not installed."""
        from qasr.engines import diarizer  # noqa: PLC0415 - with numpy's linear algebra, for those who serve

        given = self._beside("diarizer")
        if given.get("enabled") == "false" or not diarizer.is_installed(given):
            return None
        return partial(self._loaded_diarizer, given)

    async def _loaded_diarizer(self, given: Mapping[str, str]) -> Diarizer:
        from qasr.engines.diarizer import diarizer  # noqa: PLC0415 - as above

        try:
            return await self._shared("diarizer", partial(diarizer, given))
        except ValueError as error:
            raise EngineUnavailable(str(error)) from error

    async def _shared(self, name: str, make: Callable[[], AbstractAsyncContextManager[Aid]]) -> Aid:
        """What *make* makes, once for all engines; if it fails, who wants it next tries again."""
        if name not in self._aids:
            self._aids[name] = self._loop.create_future()
            assert self._group is not None
            self._group.start_soon(self._hold_shared, name, make)
        aid: Aid = await asyncio.shield(self._aids[name])
        return aid

    async def _hold_shared(self, name: str, make: Callable[[], AbstractAsyncContextManager[object]]) -> None:
        structlog.contextvars.clear_contextvars()
        future = self._aids[name]
        try:
            async with make() as aid:
                future.set_result(aid)
                await anyio.sleep_forever()
        except Exception as error:  # told to those who wait; they know what to do without it
            del self._aids[name]
            if future.done():
                raise
            future.set_exception(error)
            future.exception()  # nobody may be waiting any more
