"""The door that all faces knock on: a source and options in, sentences out; long recordings become tasks.

It fetches, checks that what was asked can be done at all, sees to limits and deadlines, and makes sure that a face
meets ``QasrError`` alone.
"""

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import anyio
import numpy as np
import numpy.typing as npt
import structlog

from qasr.catalogue import checkpoints
from qasr.domain import telemetry
from qasr.domain.audio import LiveFormat, MediaLimits, RawFormat, Source
from qasr.domain.errors import (
    DeadlineExceeded,
    EngineFailed,
    EngineUnavailable,
    InvalidParameter,
    NotFound,
    QasrError,
    QueueFull,
)
from qasr.domain.live import LiveOptions, LiveSession
from qasr.domain.options import Hints, Hotword, RecognitionOptions
from qasr.domain.task import Task, TaskId, TaskOrder, TaskState
from qasr.domain.telemetry import RecordingHeard
from qasr.domain.transcript import Sentence, Transcript
from qasr.engines.base import Capabilities
from qasr.engines.registry import LoadedEngines
from qasr.engines.room import DEFAULT, Choice, EngineRoom, EngineState
from qasr.engines.slots import Lane
from qasr.jobs.desk import Desk
from qasr.pipeline.decode import DecodedStream, Decoder
from qasr.pipeline.feasible import check_engine, check_live, check_suppression, promised
from qasr.pipeline.fetch import Fetcher
from qasr.pipeline.live import LiveLimits, Prepare, live_session
from qasr.pipeline.live_decode import LiveDecoders, LiveStream
from qasr.pipeline.recognize import Turn
from qasr.pipeline.recorded import Memory, transcription
from qasr.pipeline.seats import Seats
from qasr.pipeline.segment import SegmentPolicy
from qasr.pipeline.sources import Sources
from qasr.storage.books import Books
from qasr.storage.outages import cause, outage
from qasr.storage.tasks import TaskCount, TaskFilter
from qasr.storage.transcripts import Transcripts
from qasr.storage.uploads import Uploads
from qasr.storage.vocabularies import Vocabularies

WHOLE_MS: Final = 600_000
"""Recordings of models with at most this limit are decoded whole before the first word is answered: what is too long or
broken gets its status, and the parser is free for the next. 10 minutes are 38 MB."""

SEATS: Final = 64
"""Recordings that are decoded or recognized at once; more wait. 64 of 5 minutes are 1.2 GB of samples."""
FOR_OTHERS: Final = 8
"""One of so many places is for others, however much one owner sends at once."""

WAITING: Final = 256
"""Recordings that wait for that; more are told to come later. 64 short clips at once never fill the engine's queue."""

Blocks: TypeAlias = AsyncIterator[npt.NDArray[np.float32]]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """All that a face knows about one recognition."""

    source: Source
    options: RecognitionOptions
    limits: MediaLimits
    owner: str
    """Who asks; a hash of the key."""
    model: str = DEFAULT
    """Public name of the model that is asked for."""
    languages: frozenset[str] | None = None
    """Codes that the asked model knows; None: any."""
    raw: RawFormat | None = None
    lane: Lane = Lane.SYNC
    policy: Callable[[SegmentPolicy], SegmentPolicy] = lambda policy: policy
    """Changes to how the recording is cut."""
    deadline_s: float | None = None
    memory: Memory | None = None


AnyOrder = TypeVar("AnyOrder", Order, TaskOrder)


class Listening:
    """A recognition under way."""

    def __init__(
        self, engines: LoadedEngines, order: Order, stream: DecodedStream, heard: AsyncIterator[tuple[Sentence, ...]]
    ) -> None:
        self.capabilities = engines.capabilities
        self.checkpoint = engines.checkpoint
        """What the engine was loaded from, by its name in the catalogue."""
        self.unused = ("context",) if order.options.hints.context and not self.capabilities.context else ()
        """Hints of the order that this engine cannot use; the text is as good as without them."""
        self._stream, self._heard = stream, heard
        self.speech_ms = 0
        """Length of the sentences so far."""

    @property
    def engine(self) -> str:
        """Name of the engine that hears."""
        return self.capabilities.name

    async def sentences(self) -> AsyncIterator[Sentence]:
        """Sentences as their segments are finished, in order of time."""
        async for sentences in self._heard:
            for sentence in sentences:
                self.speech_ms += sentence.end_ms - sentence.begin_ms
                yield sentence

    @property
    def duration_ms(self) -> int:
        """Length of what was decoded; final when ``sentences`` has ended."""
        return self._stream.duration_ms

    @property
    def claimed_ms(self) -> int | None:
        """What the recording says of its own length; to show how far the work is."""
        return self._stream.info.claimed_ms

    @property
    def damaged_packets(self) -> int:
        """Packets that were skipped; final when ``sentences`` has ended."""
        return self._stream.damaged_packets


class Service:
    """Recognizes recordings."""

    def __init__(
        self,
        *,
        engines: EngineRoom,
        decoder: Decoder,
        fetcher: Fetcher,
        uploads: Uploads,
        transcripts: Transcripts,
        spool: Path,
        desk: Desk | None = None,
        vocabularies: Vocabularies | None = None,
        sounds: LiveDecoders | None = None,
        live: LiveLimits = LiveLimits(),  # noqa: B008 - frozen
        books: Books | None = None,
        most_at_once: int = SEATS,
        most_waiting: int = WAITING,
    ) -> None:
        self._engines, self._decoder, self._desk, self._sounds = engines, decoder, desk, sounds
        self.uploads, self.transcripts, self._sources = uploads, transcripts, Sources(fetcher, uploads, spool)
        self._vocabularies = vocabularies
        self._seats = Seats(most_at_once, most_of_one=most_at_once - most_at_once // FOR_OTHERS)
        self._most_waiting = most_waiting
        self._live, self._n_live = live, 0
        self._books = books
        self._is_stopping = False

    @property
    def problems(self) -> list[str]:
        """Why requests cannot be served now; none if they can."""
        found = (
            "the server is stopping" if self._is_stopping else None,
            self._engines.problem,
            None if self._decoder.is_ready else "the media decoders are starting",
        )
        return [problem for problem in found if problem is not None]

    @property
    def troubles(self) -> list[str]:
        """What does not work as it should, although requests can be served."""
        trouble = None if self._desk is None else self._desk.trouble
        return [] if trouble is None else [trouble]

    @property
    def n_live(self) -> int:
        """Live sessions now."""
        return self._n_live

    @property
    def task_counts(self) -> Mapping[TaskState, TaskCount] | None:
        """Tasks by state, as of some seconds ago; None where that is not known."""
        return None if self._desk is None else self._desk.counts

    @property
    def vocabularies(self) -> Vocabularies:
        """Stored hotwords.

        Raises:
            EngineUnavailable: this process keeps none.
        """
        if self._vocabularies is None:
            raise EngineUnavailable("This process keeps no vocabularies.")
        return self._vocabularies

    def engines(self) -> list[EngineState]:
        """The engines that are loaded, or on their way."""
        return self._engines.states()

    def served_by(self, model: str) -> tuple[Choice, LoadedEngines | None]:
        """What would hear *model* now, and with what it would be heard at once; None: it is to be loaded first.

        Raises:
            EngineUnavailable: nothing that could is installed.
        """
        choice = self._engines.chosen(model)
        return choice, self._engines.loaded(choice)

    def foreseen(self, model: str) -> Capabilities | None:
        """What the engine that would hear *model* now can do; None: that shows only once it is loaded.

        Raises:
            EngineUnavailable: nothing that could is installed.
        """
        choice, loaded = self.served_by(model)
        if loaded is not None:
            return loaded.capabilities
        return None if choice.checkpoint is None else promised(checkpoints.built_in().find(choice.checkpoint))

    async def capabilities(self, model: str = DEFAULT) -> Capabilities:
        """What the engine that serves *model* can do, with those that help it.

        Raises:
            EngineUnavailable: none could be loaded.
        """
        async with self._engines.lease(model) as engines:
            return engines.capabilities

    def guard_counts(self) -> Mapping[str, int]:
        """How often each guard against failures of models has stepped in, for all engines that are loaded now."""
        return self._engines.interventions()

    async def timed_languages(self, model: str = DEFAULT) -> frozenset[str] | None:
        """Codes of the languages whose words get measured times, not estimated ones; None: all that are heard.

        Raises:
            EngineUnavailable: no engine could be loaded.
        """
        async with self._engines.lease(model) as engines:
            if engines.slots.capabilities.word_times:
                return engines.slots.capabilities.languages
            return frozenset() if engines.aligner is None else engines.aligner.languages

    @contextmanager
    def expected(self, owner: str) -> Iterator[None]:
        """Refuse what ``listen`` would refuse for want of room, before anything of it was read; which costs more than
        to refuse it. Else a place is kept until ``listen`` is called, within the block.

        Raises:
            QueueFull: as many recordings wait as may, and *owner* has a fair share of them.
        """
        self._check_seats(owner)
        with self._seats.expected(owner):
            yield

    def check_tasks(self, owner: str) -> None:
        """The same for ``submit``, as far as that is known without a question to the database.

        Raises:
            RateLimited: too many tasks of this owner were unfinished just now.
        """
        if self._desk is not None:
            self._desk.check_room(owner)

    def check_live(self) -> None:
        """The same for ``live``, whoever asks.

        Raises:
            QueueFull: there are as many sessions as there may be.
        """
        if self._n_live >= self._live.most_sessions:
            raise QueueFull("As many live sessions are open as this server takes; please try again later.")

    @asynccontextmanager
    async def listen(self, order: Order) -> AsyncIterator[Listening]:
        """Recognize; leaving the block early stops all work for it.

        Raises:
            QasrError: nothing else.
        """
        started = time.monotonic()
        try:
            with anyio.fail_after(order.deadline_s):
                async with self._engines.lease(order.model) as engines, self._listening(order, engines) as listening:
                    yield listening
                    audio_s, wall_s = listening.duration_ms / 1000, time.monotonic() - started
                    telemetry.tell(RecordingHeard(engine=engines.name, audio_s=audio_s, wall_s=wall_s))
                    log.info(
                        "recognized",
                        engine=engines.name,
                        checkpoint=engines.checkpoint,
                        audio_s=audio_s,
                        wall_s=round(wall_s, 3),
                        damaged_packets=listening.damaged_packets,
                    )
        except TimeoutError as error:
            raise DeadlineExceeded("The request was not answered in time.") from error
        except BaseExceptionGroup as group:
            raise _single(group) from group

    @asynccontextmanager
    async def _listening(self, order: Order, engines: LoadedEngines) -> AsyncIterator[Listening]:
        _check_feasible(order, engines)
        order = await self._with_hotwords(order, engines.capabilities)
        self._seats.arrive(order.owner)
        self._check_seats(order.owner)
        async with self._seats.seat(order.owner), self._decoded(order) as (stream, blocks):
            policy = order.policy(SegmentPolicy(longest_ms=int(engines.slots.capabilities.longest_s * 1000)))
            turn = Turn(lane=order.lane, owner=order.owner)
            async with transcription(blocks, order.options, engines, policy, turn, order.memory) as heard:
                yield Listening(engines, order, stream, heard)

    def _check_seats(self, owner: str) -> None:
        if self._seats.is_full(owner, most_waiting=self._most_waiting):
            raise QueueFull("The server is busy; please try again later.")

    async def transcribe(self, order: Order) -> Transcript:
        """Recognize to the end.

        Raises:
            QasrError: nothing else.
        """
        async with self.listen(order) as listening:
            sentences = tuple([sentence async for sentence in listening.sentences()])
            return Transcript(
                sentences=sentences,
                duration_ms=listening.duration_ms,
                engine=listening.engine,
                checkpoint=listening.checkpoint,
                language=next((s.language for s in sentences if s.language), order.options.hints.language),
                damaged_packets=listening.damaged_packets,
                unused=listening.unused,
                speech_ms=listening.speech_ms,
            )

    @asynccontextmanager
    async def live(self, options: LiveOptions, *, owner: str, model: str = DEFAULT) -> AsyncIterator[LiveSession]:
        """A live session for *owner*, for as long as the block lasts. ``configure`` refuses as this does.

        Args:
            options: that it begins with.
            owner: who asks; a hash of the key.
            model: public name of the model that is asked for.

        Raises:
            EngineUnavailable: no engine is loaded, or not yet.
            UnsupportedLanguage, UnsupportedOption: the loaded engine cannot do what was asked.
            InvalidParameter: there is no such vocabulary, or it is for another model.
            QueueFull: there are as many sessions as there may be.
        """
        if (problem := self._engines.problem) is not None:
            raise EngineUnavailable(problem)
        self.check_live()
        self._n_live += 1
        prepare = self._preparing(owner, model)
        theirs: BaseExceptionGroup[BaseException] | None = None
        try:
            async with self._engines.lease(model) as engines:
                options = await prepare(options, engines.capabilities)
                async with live_session(options, engines, self._live, owner=owner, prepare=prepare) as session:
                    try:
                        yield session
                    except BaseExceptionGroup as group:
                        theirs = group
                        raise
        except BaseExceptionGroup as group:
            if group is theirs:
                raise
            raise _single(group) from group
        finally:
            self._n_live -= 1

    def live_sound(self, form: LiveFormat) -> AbstractAsyncContextManager[LiveStream]:
        """What turns the bytes of a live client into samples, for as long as the block lasts.

        Raises:
            EngineUnavailable: this process decodes no live sound.
            InvalidParameter, QueueFull: as ``LiveDecoders.open``.
        """
        if self._sounds is None:
            raise EngineUnavailable("This process takes no live sound.")
        return self._sounds.open(form)

    async def submit(self, order: TaskOrder) -> TaskId:
        """Take on a task; once this returns it survives whatever happens to the process.

        Raises:
            UnsupportedLanguage, UnsupportedOption: the loaded engine cannot do what was asked.
            InvalidParameter: there is no such vocabulary, or it is for another model.
            EngineUnavailable: no engine could be loaded, or this process takes no tasks.
            RateLimited: too many tasks of this owner are unfinished.
        """
        capabilities = await self.capabilities(order.model)
        check_engine(order.options, capabilities, order.model)
        return await self._tasks.submit(await self._with_hotwords(order, capabilities))

    async def query(self, task_id: str, owner: str | None) -> Task | None:
        """The task with its subtasks; None if there is none, or if it is not *owner*'s.

        An *owner* of None is for those who were let in by other means than a key.
        """
        return await self._tasks.query(task_id, owner)

    async def list_tasks(self, wanted: TaskFilter, *, offset: int, limit: int) -> tuple[int, list[Task]]:
        """How many there are, and one page of them, newest first; without their subtasks."""
        return await self._tasks.find(wanted, offset=offset, limit=limit)

    async def cancel(self, task_id: str, owner: str) -> bool:
        """Cancel a pending task of *owner*; False if there is none, or if it is not pending any more."""
        return await self._tasks.cancel(task_id, owner)

    async def wind_down(self) -> None:
        """The process is to end: no task is begun any more, and groups under way get some time to be finished."""
        self._is_stopping = True
        if self._desk is not None:
            await self._desk.wind_down()

    async def unheard_ms(self, owner: str) -> Mapping[str, int]:
        """Speech of *owner*'s unfinished tasks that is still to be heard, by the names of models asked for."""
        return await self._tasks.unheard_ms(owner)

    @property
    def books(self) -> Books:
        """Keys, usage, rate limits, assets and records.

        Raises:
            EngineUnavailable: this process keeps none.
        """
        if self._books is None:
            raise EngineUnavailable("This process keeps no books.")
        return self._books

    @property
    def _tasks(self) -> Desk:
        if self._desk is None:
            raise EngineUnavailable("This process takes no tasks.")
        return self._desk

    async def _with_hotwords(self, order: AnyOrder, capabilities: Capabilities) -> AnyOrder:
        """*order* with the words of the vocabulary that it names: a task keeps them, whatever becomes of the list."""
        hints = await self._resolved(order.options.hints, order.owner)
        check_suppression(order.options.hints, hints, capabilities)
        return replace(order, options=replace(order.options, hints=hints))

    def _preparing(self, owner: str, model: str) -> Prepare:
        """What makes options of one live session ready; each vocabulary is looked up once."""
        known: dict[Hints, tuple[Hotword, ...]] = {}

        async def prepare(options: LiveOptions, capabilities: Capabilities) -> LiveOptions:
            check_live(options, capabilities, model)
            key = Hints(hotwords=options.hints.hotwords, vocabulary=options.hints.vocabulary)
            if key not in known:
                known.clear()
                known[key] = (await self._resolved(key, owner)).hotwords
            resolved = replace(options.hints, hotwords=known[key], vocabulary=None)
            check_suppression(key, resolved, capabilities)
            return replace(options, hints=resolved)

        return prepare

    async def _resolved(self, hints: Hints, owner: str) -> Hints:
        """*hints* with the words of the vocabulary that they name; words of the request's own win over stored ones.

        Raises:
            InvalidParameter: *owner* has no such vocabulary, or it is for another model.
        """
        if (named := hints.vocabulary) is None:
            return hints
        try:
            found = await self.vocabularies.get(owner, named.id)
        except NotFound as error:
            raise InvalidParameter(
                f"{named.parameter}: there is no vocabulary {named.id!r}.", parameter=named.parameter
            ) from error
        if found.target_model not in named.models:
            raise InvalidParameter(
                f"{named.parameter}: the vocabulary {named.id!r} is for the model `{found.target_model}`, not for "
                f"`{named.models[0]}`.",
                parameter=named.parameter,
            )
        own = {hotword.text for hotword in hints.hotwords}
        stored = tuple(hotword for hotword in found.usable if hotword.text not in own)
        return replace(hints, hotwords=hints.hotwords + stored, vocabulary=None)

    @asynccontextmanager
    async def _decoded(self, order: Order) -> AsyncIterator[tuple[DecodedStream, Blocks]]:
        """The recording as samples; a short one is decoded whole first, and file and parser are free again."""
        async with AsyncExitStack() as held:
            recording = await held.enter_async_context(
                self._sources.local(order.source, order.owner, max_bytes=order.limits.max_bytes)
            )
            stream = await held.enter_async_context(
                self._decoder.decode(recording, limits=order.limits, channels=order.options.channels, raw=order.raw)
            )
            blocks = stream.blocks()
            if order.limits.max_ms <= WHOLE_MS:
                blocks = _replay([block async for block in blocks])
                await held.aclose()
            yield stream, blocks


async def _replay(blocks: list[npt.NDArray[np.float32]]) -> Blocks:
    for block in blocks:
        yield block


def _single(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error that tells a client most; task groups wrap."""
    leaves: list[BaseException] = []
    rest: list[BaseException] = [group]
    while rest:
        error = rest.pop()
        if isinstance(error, BaseExceptionGroup):
            rest += error.exceptions
        else:
            leaves.append(error)
    ours = [error for error in leaves if isinstance(error, QasrError)]
    if ours:
        return ours[0]
    if all(isinstance(error, TimeoutError) for error in leaves):
        return DeadlineExceeded("The request was not answered in time.")
    if (away := next(filter(None, map(outage, leaves)), None)) is not None:
        log.error("storage_unavailable", errors=[f"{type(error).__name__}: {cause(error)}" for error in leaves])
        return away
    log.error("recognition_failed", errors=[repr(error) for error in leaves], exc_info=group)
    return EngineFailed("The recognition failed for a reason of our own.")


def _check_feasible(order: Order, engines: LoadedEngines) -> None:
    """Refuse by name what the asked model or the loaded engine cannot do."""
    language = order.options.hints.language
    if language is not None and order.languages is not None and language not in order.languages:
        raise InvalidParameter(f"Language {language!r} is not supported by this model.", parameter="language")
    check_engine(order.options, engines.capabilities, order.model)
