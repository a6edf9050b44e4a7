"""Live speech: what a session is told, what it tells, and in which order. No I/O.

A session hears one speaker's sound while it is spoken and divides it into utterances, numbered from 1. What it tells of
one utterance comes in this order, and nothing about it comes after the last line::

    SpeechStarted     where the session itself finds the ends of utterances (``endpointing`` is set)
    Partial …         any number, also none; ``confirmed`` only ever grows within an utterance
    SpeechStopped     its sound is complete; in manual mode this is all that a commit is answered with
    Partial …
    Final | Failed    exactly one

Starts and stops of utterances come in the order of their numbers, and so do finals. Times count in milliseconds from
the first sample that the session was ever fed, and never go backwards.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from qasr.domain.audio import Pcm
from qasr.domain.errors import QasrError
from qasr.domain.options import Hints, WordTimes
from qasr.domain.transcript import Emotion, Word


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpointing:
    """How a session finds where utterances begin and end. Times in milliseconds."""

    threshold: float
    """Speech begins where its probability passes this, within (0, 1)."""
    silence_ms: int
    """Silence that ends an utterance."""
    prefix_ms: int
    """Sound before the first speech that still belongs to the utterance."""
    longest_ms: int
    """An utterance that grows longer ends at its next short pause, or at last at its quietest point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveOptions:
    """All that decides what a session tells, besides the sound itself."""

    hints: Hints = Hints()  # noqa: RUF009 - frozen
    endpointing: Endpointing | None = None
    """None: manual mode; an utterance is what was fed between two commits."""
    word_times: WordTimes = "none"
    itn: bool = False
    partials: bool = True
    emotion: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechStarted:
    """An utterance begins. ``at_ms`` includes the prefix."""

    utterance: int
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechStopped:
    """The sound of an utterance is complete: by silence, by length, by a commit or by the end of the session.

    ``at_ms`` lies a little behind its last speech; the silence that ended it is not part of it.
    """

    utterance: int
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Partial:
    """What is known of an utterance so far: the text is ``confirmed + tentative``."""

    utterance: int
    begin_ms: int
    confirmed: str
    """Will not change any more: a prefix of all later partials of the utterance; the final may still differ from it
    only where the engine hears the whole utterance otherwise."""
    tentative: str
    language: str | None = None
    words: tuple[Word, ...] = ()
    """Of the text so far, if word times were asked for; estimated or measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Final:
    """What was said in an utterance, heard as a whole; ``text`` is empty where no word was."""

    utterance: int
    begin_ms: int
    end_ms: int
    text: str
    language: str | None = None
    emotion: Emotion | None = None
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The utterance could not be recognized; the session goes on."""

    utterance: int
    error: QasrError


LiveEvent: TypeAlias = SpeechStarted | SpeechStopped | Partial | Final | Failed


class LiveSession(Protocol):
    """One live session, as ``Service.live`` opens it. Feeding and reading go on in different tasks."""

    @property
    def engine(self) -> str:
        """What hears."""
        ...

    async def feed(self, pcm: Pcm) -> None:
        """Hear more. Returns once the session has room for the sound: seconds later where the engine is slow, which is
        how a client that sends faster than we hear is slowed down.

        Raises:
            TooLong: the session would hear more sound in all than a session may.
            WrongState: it is finished. The other orders raise it too.
        """
        ...

    async def commit(self) -> None:
        """Manual mode: what was fed since the last commit is an utterance. Nothing happens if nothing was fed.

        Where the session finds the ends itself, an open utterance ends here; nothing happens if none is open.
        """
        ...

    async def clear(self) -> None:
        """Forget what was fed and belongs to no complete utterance; an utterance that has been told to have started
        still gets its ``SpeechStopped`` and an empty ``Final``.
        """
        ...

    async def configure(self, options: LiveOptions) -> None:
        """Applies to what is fed from now on; an open utterance keeps the hints it has until it ends. It ends here if
        ``endpointing`` is set now and was not before, or the other way round.

        Raises:
            UnsupportedLanguage, UnsupportedOption: the loaded engine cannot do it; nothing has changed.
        """
        ...

    async def finish(self) -> None:
        """No more sound will come: an open utterance is complete (in manual mode, what was not committed too). Returns
        at once; ``events`` ends after the last final.
        """
        ...

    def events(self) -> AsyncIterator[LiveEvent]:
        """All that the session tells; to be read by one reader, once."""
        ...


__all__ = [
    "Endpointing",
    "Failed",
    "Final",
    "LiveEvent",
    "LiveOptions",
    "LiveSession",
    "Partial",
    "SpeechStarted",
    "SpeechStopped",
]
