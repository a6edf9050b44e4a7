"""A live session: sound comes in while it is spoken, events go out while it is spoken::

    feed ─▶ inbox ─▶ VAD ─▶ divider ─▶ utterance ─┬─ complete segments ─▶ slots, lane LIVE ─▶ Final, in order
        (seconds of                               └─ the open segment ──▶ guesser ──────────▶ Partial
         sound, bounded)

One task listens; one task hears each complete segment, in parallel with what follows; at most one task hears what is
still being spoken. That is not begun while finals wait for the engine, and cancelled when its segment is complete:
partials may be skipped, finals never are. Leaving the block of a session ends all of them, in whatever state it is.

What a session holds is bounded: by ``queue_audio_s`` what was fed and not heard, by the longest segment what is being
spoken, by ``MOST_EVENTS`` what nobody reads. Beyond the first or the last, ``feed`` waits.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import anyio
import anyio.lowlevel
import numpy as np
import structlog
from anyio.abc import TaskGroup

from qasr.domain import telemetry
from qasr.domain.audio import SAMPLE_RATE, Pcm, Segment, to_ms
from qasr.domain.errors import EngineError, EngineFailed, QasrError, TooLong, WrongState
from qasr.domain.live import Failed, LiveEvent, LiveOptions, LiveSession, Partial, SpeechStarted, SpeechStopped
from qasr.domain.live import Final as Finished
from qasr.domain.options import RecognitionOptions
from qasr.domain.telemetry import EventTaken, PartialSkipped
from qasr.domain.transcript import Sentence
from qasr.engines.base import Capabilities, VadChannel
from qasr.engines.registry import LoadedEngines
from qasr.engines.slots import Lane
from qasr.pipeline.divide import Committed, Completed, Detected, Divider, Grown, Opened
from qasr.pipeline.flow import background
from qasr.pipeline.guess import Guesser, guesser
from qasr.pipeline.language import LiveJudge
from qasr.pipeline.recognize import Turn, recognize
from qasr.pipeline.utterance import Piece, Utterance

BLOCK: Final = SAMPLE_RATE
"""Samples that are listened to at once, at most: a second. More would hold up the event loop."""
MOST_EVENTS: Final = 256
"""Events that may wait for their reader."""
MOST_ORDERS: Final = 1024
"""Blocks, commits and the like that may wait to be listened to."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveLimits:
    """What live sessions may cost."""

    most_sessions: int = 256
    queue_audio_s: float = 30.0
    """Sound of one session that was fed and not heard yet."""
    partial_ms: int = 400
    """New sound after which a partial is worth its while."""
    session_s: float = 7200.0
    """Sound of one session in all."""


Prepare: TypeAlias = Callable[[LiveOptions, Capabilities], Awaitable[LiveOptions]]
"""Options as the session uses them; raises where an engine cannot honor them."""


async def _as_given(options: LiveOptions, _capabilities: Capabilities) -> LiveOptions:
    """Whatever is asked is tried."""
    return options


@asynccontextmanager
async def live_session(
    options: LiveOptions,
    engines: LoadedEngines,
    limits: LiveLimits,
    *,
    owner: str,
    prepare: Prepare = _as_given,
) -> AsyncIterator[LiveSession]:
    """A session for as long as the block lasts; leaving it ends all that the session does.

    Args:
        options: that it begins with.
        engines: what hears.
        limits: what the session may cost.
        owner: who asks, for the engine slots.
        prepare: what ``configure`` does with options first; raises what it is to raise.
    """
    async with background() as group:
        session = _Session(options, engines, limits, owner, prepare, group)
        group.start_soon(session.listen)
        try:
            yield session
        finally:
            session.close()


class _Commit:
    """What was fed is an utterance."""


class _Clear:
    """What was fed is to be forgotten."""


class _Finish:
    """No more will be fed."""


_Order: TypeAlias = Pcm | LiveOptions | _Commit | _Clear | _Finish


class _Session:
    """Order of the house: the listener alone changes what is open; the tasks that hear only add what they heard.

    Invariant: ``_untold`` holds the utterances whose final was not told, in order; the open one is the last of them.
    """

    def __init__(
        self,
        options: LiveOptions,
        engines: LoadedEngines,
        limits: LiveLimits,
        owner: str,
        prepare: Prepare,
        group: TaskGroup,
    ) -> None:
        self._options, self._engines, self._limits, self._owner = options, engines, limits, owner
        self._prepare, self._group = prepare, group
        self._judge = LiveJudge(engines.slots.capabilities)
        self._inbox: deque[_Order] = deque()
        self._outbox: deque[LiveEvent] = deque()
        self._arrived, self._room, self._news = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._n_fed = 0  # samples, in all
        self._n_listened = 0  # of these, those that left the inbox
        self._n_unheard = 0  # in the inbox, or in segments that were not heard yet
        self._is_finished = False
        self._is_listening = True
        self._is_closed = False

        self._vad: VadChannel = self._new_vad()
        self._divider = self._new_divider()
        self._open: Utterance | None = None
        self._untold: deque[Utterance] = deque()
        self._n_numbered = 0
        self._hearing: dict[Piece, anyio.CancelScope] = {}
        self._guesser: Guesser | None = None  # of the open utterance
        self._guessing: anyio.CancelScope | None = None
        self._guessed_ms = 0  # of the open segment
        self._is_put_off = False  # a partial is due, and finals wait for the engine
        self._complete_s: dict[int, float] = {}  # when utterances were found to have ended, till finals are taken
        self._begun_s: dict[int, float] = {}  # when their newest partials were begun, the same

    # What clients of the session call

    @property
    def engine(self) -> str:
        return self._engines.name

    async def feed(self, pcm: Pcm) -> None:
        if self._n_fed + len(pcm) > self._limits.session_s * SAMPLE_RATE:
            raise TooLong(f"A session is limited to {self._limits.session_s:g} seconds of audio.")
        for first in range(0, len(pcm), BLOCK):
            block = pcm[first : first + BLOCK]
            await self._give(block)
            self._n_fed += len(block)
            self._n_unheard += len(block)

    async def commit(self) -> None:
        await self._give(_Commit())

    async def clear(self) -> None:
        await self._give(_Clear())

    async def configure(self, options: LiveOptions) -> None:
        await self._give(await self._prepare(options, self._engines.capabilities))

    async def finish(self) -> None:
        if not self._is_finished:
            self._inbox.append(_Finish())
            self._arrived.set()
            self._is_finished = True

    async def events(self) -> AsyncIterator[LiveEvent]:
        while True:
            while self._outbox:
                event = self._outbox.popleft()
                self._make_room()
                self._note_taken(event)
                yield event
            if self._is_closed or (not self._is_listening and not self._untold):
                return
            self._news.clear()
            await self._news.wait()

    def close(self) -> None:
        """The block is left: who still waits for room or news waits no longer."""
        self._is_finished = self._is_closed = True
        self._turn()
        self._room.set()
        self._news.set()

    async def _give(self, order: _Order) -> None:
        while not self._is_finished and not self._has_room():
            self._room.clear()
            await self._room.wait()
        if self._is_finished:
            raise WrongState("The session takes no more audio.")
        self._inbox.append(order)
        self._arrived.set()

    def _has_room(self) -> bool:
        return (
            self._n_unheard < self._limits.queue_audio_s * SAMPLE_RATE
            and len(self._outbox) < MOST_EVENTS
            and len(self._inbox) < MOST_ORDERS
        )

    def _make_room(self) -> None:
        if self._has_room():
            self._room.set()

    # The listener

    async def listen(self) -> None:
        """Divide what is fed into utterances, until the end."""
        while True:
            while not self._inbox:
                self._arrived.clear()
                await self._arrived.wait()
            order = self._inbox.popleft()
            if isinstance(order, np.ndarray):
                await self._listen(self._with_more(order))
            elif isinstance(order, LiveOptions):
                await self._configure(order)
            elif isinstance(order, _Commit):
                if self._options.endpointing is None or self._open is not None:
                    await self._complete()
            elif isinstance(order, _Clear):
                self._clear()
            else:
                await self._complete()
                break
            self._make_room()
        self._is_listening = False
        self._news.set()

    def _with_more(self, pcm: Pcm) -> Pcm:
        """*pcm* with what came behind it in the meantime: one look at a second costs less than ten."""
        blocks, n_samples = [pcm], len(pcm)
        while self._inbox and isinstance(more := self._inbox[0], np.ndarray) and n_samples + len(more) <= BLOCK:
            self._inbox.popleft()
            blocks.append(more)
            n_samples += len(more)
        return np.concatenate(blocks) if len(blocks) > 1 else pcm

    async def _listen(self, pcm: Pcm) -> None:
        probabilities = await self._vad.feed(pcm)
        self._n_listened += len(pcm)
        self._n_unheard -= len(pcm)
        self._apply(self._divider.feed(pcm, probabilities))
        self._guess()

    async def _configure(self, options: LiveOptions) -> None:
        if self._divider.configure(options.endpointing):
            self._options = options
        else:  # another way of finding ends: what is open ends here
            await self._complete(options)

    async def _complete(self, options: LiveOptions | None = None) -> None:
        """All that was fed is complete; start anew, with *options* if there are others."""
        self._apply(self._divider.finish(await self._vad.finish()))
        self._options = options or self._options
        self._vad, self._divider = self._new_vad(), self._new_divider()

    def _clear(self) -> None:
        """Forget what is open; start anew."""
        if (utterance := self._open) is not None:
            self._close_open()
            for piece in utterance.pieces:
                if piece in self._hearing:
                    self._hearing[piece].cancel()
            utterance.drop(self._n_listened)
            if utterance.number is None:
                self._untold.remove(utterance)
            else:
                self._tell(SpeechStopped(utterance=utterance.number, at_ms=to_ms(self._n_listened)))
                self._advance()
        self._vad, self._divider = self._new_vad(), self._new_divider()

    def _apply(self, changes: "list[Opened | Grown | Completed]") -> None:
        for change in changes:
            match change:
                case Opened(sample):
                    self._open_at(sample)
                case Grown(pcm, probabilities):
                    assert self._open is not None
                    self._hear_all(self._open, self._open.feed(pcm, probabilities))
                case Completed(sample):
                    self._complete_at(sample)

    def _open_at(self, sample: int) -> None:
        slots, options = self._engines.slots, self._options
        self._open = utterance = Utterance(options, sample, slots.capabilities.longest_s)
        self._untold.append(utterance)
        if options.endpointing is not None:
            utterance.number = self._next_number()
            self._tell(SpeechStarted(utterance=utterance.number, at_ms=utterance.begin_ms))
            if options.partials:
                self._guesser = guesser(slots, options.hints, self._owner, itn=options.itn)
                self._guessed_ms = 0

    def _complete_at(self, sample: int) -> None:
        assert self._open is not None
        utterance = self._open
        self._close_open()
        if utterance.number is None:
            utterance.number = self._next_number()
        pieces = utterance.end(sample)
        self._complete_s[utterance.number] = time.monotonic()
        self._tell(SpeechStopped(utterance=utterance.number, at_ms=to_ms(sample)))
        self._hear_all(utterance, pieces)
        self._advance()

    def _close_open(self) -> None:
        self._turn()
        self._open = self._guesser = None

    def _next_number(self) -> int:
        self._n_numbered += 1
        return self._n_numbered

    def _new_vad(self) -> VadChannel:
        return self._engines.live_vad.start()

    def _new_divider(self) -> Divider:
        found = self._options.endpointing
        return Committed(self._n_listened) if found is None else Detected(found, self._n_listened)

    # What is complete

    def _hear_all(self, utterance: Utterance, pieces: list[Piece]) -> None:
        for piece in pieces:
            assert piece.segment is not None
            self._n_unheard += len(piece.segment.pcm)
            self._hearing[piece] = anyio.CancelScope()
            self._group.start_soon(self._hear, utterance, piece)
        if pieces:
            self._turn()

    async def _hear(self, utterance: Utterance, piece: Piece) -> None:
        """Hear one piece, and tell what can be told then."""
        assert piece.segment is not None
        n_samples = len(piece.segment.pcm)
        with self._hearing[piece] as scope:
            await anyio.lowlevel.checkpoint_if_cancelled()  # before the engine is asked for nothing
            try:
                piece.heard(await self._sentences(utterance, piece))
            except QasrError as error:
                utterance.error = utterance.error or error
            except Exception:  # an engine's or aligner's own bug: this utterance is lost, the session is not
                log.exception("live_segment_failed", engine=self.engine)
                utterance.error = utterance.error or EngineFailed("The speech engine failed.")
        del self._hearing[piece]
        self._n_unheard -= n_samples
        self._make_room()
        if not scope.cancel_called:
            self._advance()
            self._guess()

    async def _sentences(self, utterance: Utterance, piece: Piece) -> tuple[Sentence, ...]:
        assert piece.segment is not None
        asked = utterance.options
        options = RecognitionOptions(
            hints=asked.hints, word_times=asked.word_times, itn=asked.itn, sentence_ends="pauses"
        )
        return await recognize(piece.segment, options, self._engines, Turn(lane=Lane.LIVE, owner=self._owner))

    def _advance(self) -> None:
        """Tell the finals whose turn it is, and what is certain now of the first utterance without one."""
        while self._untold and (first := self._untold[0]).end_ms is not None and first.is_heard:
            self._untold.popleft()
            if first.error is None and first.options.hints.language is None:
                first.error = self._judge.judge(first.sentences())
            self._tell(first.final(self._engines.slots.capabilities))
        if self._untold:
            first = self._untold[0]
            if first.settle() and first.number is not None and first.options.partials:
                self._tell_partial(first)
        self._news.set()

    # What is being said

    def _guess(self) -> None:
        """Hear the open segment once more, if that is worth its while and takes nothing from others."""
        utterance = self._open
        if self._guesser is None or self._guessing is not None or utterance is None:
            return
        if utterance.error is not None or not utterance.is_heard:
            return
        length_ms = utterance.open_ms
        pause_ms = max(self._limits.partial_ms, self._guesser.pause_ms(length_ms))
        if length_ms - self._guessed_ms < pause_ms:
            return
        if self._engines.slots.has_waiting(Lane.LIVE):
            if not self._is_put_off:
                telemetry.tell(PartialSkipped(reason="busy"))
            self._is_put_off = True
        else:
            self._is_put_off = False
            segment = utterance.open()
            assert segment is not None
            self._guessing = anyio.CancelScope()
            self._guessed_ms = length_ms
            self._group.start_soon(self._hear_open, utterance, segment, self._guesser, self._guessing)

    async def _hear_open(
        self, utterance: Utterance, segment: Segment, guesser: Guesser, scope: anyio.CancelScope
    ) -> None:
        begun_s = time.monotonic()
        with scope:
            await anyio.lowlevel.checkpoint_if_cancelled()  # before a stream is opened for nothing
            try:
                guess = await guesser.hear(segment)
            except EngineError as error:  # the final will tell, or the next partial
                log.info("live_partial_failed", engine=self.engine, reason=str(error))
            except Exception:  # an engine's own bug
                log.exception("live_partial_failed", engine=self.engine)
            else:
                if not scope.cancel_called:
                    utterance.settle()
                    utterance.heard_open(guess)
                    self._tell_partial(utterance, segment, guess.logprobs, begun_s=begun_s)
        if self._guessing is scope:
            self._guessing = None
            self._guess()

    def _turn(self) -> None:
        """The open segment is complete: what is heard of it now is of no use."""
        if self._guessing is not None:
            telemetry.tell(PartialSkipped(reason="complete"))
            self._guessing.cancel()
            self._guessing = None
        if self._guesser is not None:
            self._guesser.turn()
        self._guessed_ms = 0

    # What is told

    def _tell_partial(
        self,
        utterance: Utterance,
        growing: Segment | None = None,
        logprobs: tuple[float, ...] = (),
        *,
        begun_s: float | None = None,
    ) -> None:
        """What is known of *utterance*, unless it sounds like a language that the engine cannot hear."""
        heard = utterance.sentences()
        if utterance.options.hints.language is None and self._judge.doubts(heard, growing, logprobs):
            return
        if (partial := utterance.partial(self._engines.slots.capabilities, growing)) is None:
            return
        last = self._outbox[-1] if self._outbox else None
        if isinstance(last, Partial) and last.utterance == partial.utterance:
            self._outbox.pop()  # nobody has read it, and the new one says more
            self._begun_s.pop(partial.utterance, None)
            telemetry.tell(PartialSkipped(reason="unread"))
        if begun_s is not None:
            self._begun_s[partial.utterance] = begun_s
        self._tell(partial)

    def _note_taken(self, event: LiveEvent) -> None:
        """How far behind the sound is what the client gets now?"""
        match event:
            case Partial(utterance=number):
                since_s = self._begun_s.pop(number, None)
            case Finished(utterance=number) | Failed(utterance=number):
                self._begun_s.pop(number, None)
                since_s = self._complete_s.pop(number, None)
            case _:
                return
        if since_s is not None:
            kind: Literal["partial", "final"] = "partial" if isinstance(event, Partial) else "final"
            telemetry.tell(EventTaken(event=kind, lag_s=time.monotonic() - since_s))

    def _tell(self, event: LiveEvent) -> None:
        self._outbox.append(event)
        self._news.set()
