"""The ports: what an engine is to the rest of the house.

An engine is a factory under the entry point group ``qasr.engines``::

    def factory(settings: Mapping[str, str]) -> AbstractAsyncContextManager[Recognizer]

Entering loads the model, leaving frees it. Policy (which segments go together) lives in ``slots.py`` and never touches
tensors; an engine never decides.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from qasr.domain.audio import Pcm, Segment
from qasr.domain.options import Hints
from qasr.domain.transcript import Hypothesis, Tags, Word


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an engine can do; what is not claimed here is refused by name, or bridged by an adapter."""

    name: str
    languages: frozenset[str] | None
    """Codes it hears; None means any."""
    longest_s: float
    """The longest segment it takes, in seconds."""
    parallel_calls: int = 1
    """How many calls may run at once."""
    largest_batch: int = 1
    """How many segments one call may hold."""
    least_logprob: float | None = None
    """Mean token log-probability below which speech is in none of ``languages``; None: it cannot be told by that."""
    punctuation: bool = False
    word_times: bool = False
    context: bool = False
    """It uses ``Hints.context``."""
    hotwords: bool = False
    itn: bool = False
    emotion: bool = False
    streaming: bool = False
    """It is a ``StreamingRecognizer``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One segment and what may help to hear it."""

    segment: Segment
    hints: Hints
    word_times: bool = False
    """``Hypothesis.words`` are wanted, if the engine has them: measuring them may cost it a pass."""
    itn: bool = False
    """Numbers, dates and units are wanted in digits and signs, if the engine does that."""
    is_open: bool = False
    """The segment is the beginning of one that is still being spoken; it will be heard again."""


class Recognizer(Protocol):
    """Turns segments into text. One instance serves many requests."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do; constant while it is loaded."""
        ...

    async def recognize(self, batch: Sequence[Request]) -> list[Hypothesis]:
        """Transcribe *batch*; the answer has its length and order.

        Cancelling the call frees the engine for the next one at once.

        Args:
            batch: 1 to ``capabilities.largest_batch`` requests; each segment at most ``capabilities.longest_s`` long.

        Raises:
            EngineFailed: this call failed and may be tried again.
            EngineUnavailable: the engine is gone; it is being restarted.
            RequestError: one of the requests cannot be heard as it is, say for a context too long for the model.
        """
        ...


class Tagger(Protocol):
    """Tells how something was said, beside a recognizer that does not."""

    @property
    def name(self) -> str:
        """Of the model, for logs and listings."""
        ...

    async def tag(self, segment: Segment) -> Tags:
        """What can be told of *segment*; nothing rather than a guess.

        Raises:
            EngineFailed, EngineUnavailable: the text is good without it.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamText:
    """What a stream has heard so far: the text is ``stable + tail``."""

    stable: str
    """Will not change any more."""
    tail: str
    language: str | None = None


class RecognizerStream(Protocol):
    """One growing segment, heard piece by piece."""

    async def feed(self, pcm: Pcm) -> StreamText:
        """Hear what follows; *pcm* is float32 ``[n_samples]``. A cancelled call may or may not have heard it: the
        stream is of no more use then, and is closed.

        Raises:
            EngineFailed: the stream is broken; another may be opened.
            EngineUnavailable: the engine is gone; it is being restarted.
        """
        ...

    def close(self) -> None:
        """Free what the stream holds, soon and without waiting; may be called in any state, and again."""
        ...


class StreamingRecognizer(Recognizer, Protocol):
    """A recognizer that hears a growing segment without hearing its beginning again; for partials."""

    def stream(self, hints: Hints) -> RecognizerStream:
        """A stream for one segment of at most ``capabilities.longest_s``."""
        ...


class VadChannel(Protocol):
    """Voice activity along the sound of one live session; fed in order, by one task."""

    async def feed(self, pcm: Pcm) -> npt.NDArray[np.float32]:
        """Probabilities of the windows that *pcm* completes, ``[n_windows]`` within [0, 1]; other blocks, same answers.

        Raises:
            EngineError: the channel has ended.
        """
        ...

    async def finish(self) -> npt.NDArray[np.float32]:
        """That of the last, incomplete window; nothing if none is open. Raises as ``feed`` does."""
        ...


class LiveVad(Protocol):
    """Voice activity of live sessions."""

    def start(self) -> VadChannel:
        """A fresh channel, for the first sound of a session."""
        ...


@runtime_checkable
class SelfWatching(Protocol):
    """A recognizer that may be away for a while and knows when it is: one that depends on other machines."""

    @property
    def problem(self) -> str | None:
        """Why nothing can be recognized now, fit for strangers; None if it can."""
        ...


class Aligner(Protocol):
    """Finds the times of known words."""

    @property
    def languages(self) -> frozenset[str]:
        """Codes it can align."""
        ...

    async def align(self, pcm: Pcm, words: Sequence[str]) -> list[tuple[int, int]] | None:
        """Begin and end in ms from the start of *pcm* for each of *words*, never going backwards.

        None where the words do not fit the sound; the caller estimates then.
        """
        ...


EngineFactory: TypeAlias = Callable[[Mapping[str, str]], AbstractAsyncContextManager[Recognizer]]
"""What an entry point of the group ``qasr.engines`` names."""

__all__ = [
    "Aligner",
    "Capabilities",
    "EngineFactory",
    "LiveVad",
    "Recognizer",
    "RecognizerStream",
    "Request",
    "SelfWatching",
    "StreamText",
    "StreamingRecognizer",
    "Tagger",
    "Tags",
    "VadChannel",
    "Word",
]
