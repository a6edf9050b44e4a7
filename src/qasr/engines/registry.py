"""Engines by name: entry points of the group ``qasr.engines``, loaded once and shared.

``auto`` takes the first of ``PREFERENCE`` that loads; an engine that cannot (package missing, files changed) is told in
the log, and the next one is tried. Loading goes on beside the server's start, so being ready may come later than the
socket.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Final

import anyio
import structlog

from qasr.domain.errors import EngineUnavailable
from qasr.engines.base import Aligner, EngineFactory, LiveVad, Recognizer
from qasr.engines.prompt_aligner import PromptAligner
from qasr.engines.silero_vad import SileroVad
from qasr.engines.slots import EngineSlots
from qasr.engines.vad_batcher import VadBatcher

GROUP: Final = "qasr.engines"
AUTO: Final = "auto"
PREFERENCE: Final = ("moonshine",)
"""Order of ``auto``: engines that work without a download."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedEngines:
    """All that hears, ready to use."""

    slots: EngineSlots
    vad: SileroVad
    live_vad: LiveVad
    aligner: Aligner | None
    live_aligner: Aligner | None = None
    """The same, for those who do not wait for it."""

    @property
    def name(self) -> str:
        """Of the recognizer, for logs and the ``X-Qasr-Engine`` header."""
        return self.slots.capabilities.name


def installed() -> Mapping[str, EntryPoint]:
    """Engines that could be loaded, by name."""
    return {point.name: point for point in entry_points(group=GROUP)}


@asynccontextmanager
async def loaded(
    default: str, settings: Mapping[str, Mapping[str, str]], *, queue_audio_s: float, aligners: int
) -> AsyncIterator[LoadedEngines]:
    """Load the engine called *default* (or the first of ``auto``) and what goes with it.

    Args:
        default: ``auto``, or an engine's name.
        settings: per engine name, handed to its factory.
        queue_audio_s: seconds of audio that may wait, per lane.
        aligners: processes that find word times; 0: they are estimated.

    Raises:
        EngineUnavailable: none could be loaded; the message names each with its reason.
    """
    async with AsyncExitStack() as stack:
        vad = asyncio.get_running_loop().run_in_executor(None, SileroVad)  # beside the recognizer
        recognizer = await _first_that_loads(stack, default, settings)
        aligner = await _aligner(stack, recognizer, aligners)
        slots = await stack.enter_async_context(EngineSlots(recognizer, queue_audio_s=queue_audio_s))
        batcher = await stack.enter_async_context(VadBatcher(await vad))
        prompt = None if aligner is None else PromptAligner(aligner)
        yield LoadedEngines(slots, await vad, batcher, aligner, prompt)


async def _first_that_loads(
    stack: AsyncExitStack, default: str, settings: Mapping[str, Mapping[str, str]]
) -> Recognizer:
    points = installed()
    reasons = []
    for name in PREFERENCE if default == AUTO else (default,):
        if name not in points:
            reasons.append(f"{name}: no such engine is installed (installed: {', '.join(sorted(points))})")
            continue
        try:
            factory: EngineFactory = points[name].load()
            recognizer = await stack.enter_async_context(factory(settings.get(name, {})))
        except (EngineUnavailable, ImportError, ValueError) as error:
            reasons.append(f"{name}: {error}")
            log.warning("engine_unavailable", engine=name, reason=str(error))
            continue
        log.info("engine_loaded", engine=name)
        return recognizer
    raise EngineUnavailable("no speech engine could be loaded: " + "; ".join(reasons))


async def _aligner(stack: AsyncExitStack, recognizer: Recognizer, processes: int) -> Aligner | None:
    """Word times for what the recognizer hears, if it does not give them itself."""
    from qasr.engines import pocketsphinx_aligner  # noqa: PLC0415 - only where one is wanted

    capabilities = recognizer.capabilities
    hears_english = capabilities.languages is None or "en" in capabilities.languages
    if capabilities.word_times or not hears_english or not processes:
        return None
    try:
        return await stack.enter_async_context(pocketsphinx_aligner.aligner(processes))
    except EngineUnavailable as error:
        log.warning("aligner_unavailable", reason=str(error), consequence="word times are estimated")
        return None


class EnginesInLoading:
    """Engines that are loaded beside the server's start; ``get`` waits for them."""

    def __init__(self) -> None:
        self._future: asyncio.Future[LoadedEngines] = asyncio.get_running_loop().create_future()

    async def hold(self, default: str, settings: Mapping[str, Mapping[str, str]], **options: float) -> None:
        """Load, and keep loaded until cancelled. A failure is kept for ``get`` and ``problem``."""
        try:
            async with loaded(
                default, settings, queue_audio_s=options["queue_audio_s"], aligners=int(options["aligners"])
            ) as engines:
                self._future.set_result(engines)
                await anyio.sleep_forever()
        except EngineUnavailable as error:
            log.error("no_engine", reason=str(error))  # noqa: TRY400 - the reason says it all
            self._fail(error)
        except Exception:  # an engine's own bug: told to those who ask, the server stays up
            log.exception("engine_raised_in_loading", engine=default)
            self._fail(EngineUnavailable(f"the speech engine {default!r} failed while it was loaded"))

    def _fail(self, error: EngineUnavailable) -> None:
        if not self._future.done():
            self._future.set_exception(error)
            self._future.exception()  # it may never be asked for

    @property
    def problem(self) -> str | None:
        """Why requests cannot be served now; None if they can."""
        if not self._future.done():
            return "the speech engine is loading"
        error = self._future.exception()
        return None if error is None else str(error)

    async def get(self) -> LoadedEngines:
        """The engines.

        Raises:
            EngineUnavailable: none could be loaded.
        """
        return await asyncio.shield(self._future)
