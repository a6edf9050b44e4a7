"""What is being said right now: the open segment of an utterance, heard while it grows.

Engines that stream hear only what is new. All others hear the segment again from its beginning, and two decodes in a
row tell what is certain. So that this stays cheap, no segment is longer than ``segment.py`` makes it, and a long one is
heard less often: in all, at most ``MOST_REPEATS`` times its length is decoded. What is no speech is kept back here, too
(``guards.py``).
"""

from dataclasses import dataclass
from typing import Final, Protocol

from qasr.domain.audio import Segment
from qasr.domain.options import Hints
from qasr.domain.transcript import Hypothesis
from qasr.engines.base import RecognizerStream, Request, StreamingRecognizer
from qasr.engines.slots import EngineSlots, Lane
from qasr.pipeline import guards
from qasr.pipeline.text_language import with_language

MOST_REPEATS: Final = 10
"""A segment of 4 s is decoded anew every 0.4 s, one of 20 s every 2 s."""


@dataclass(frozen=True, slots=True)
class Guess:
    """What was heard of an open segment."""

    text: str
    language: str | None
    stable: str | None = None
    """What comes before ``text`` and will not change; None: the engine does not know, and ``text`` is all."""
    logprobs: tuple[float, ...] = ()
    """Of its tokens, if the engine tells them."""


class Guesser(Protocol):
    """Hears the open segments of one utterance, one after the other."""

    def pause_ms(self, length_ms: int) -> int:
        """New sound without which an open segment of *length_ms* is not worth hearing again."""
        ...

    async def hear(self, segment: Segment) -> Guess:
        """Hear the open *segment*, which begins where it began before.

        Raises:
            EngineError: not this time.
        """
        ...

    def turn(self) -> None:
        """The open segment is over, or a call was cancelled; what comes is heard from its beginning."""
        ...


class Redecoding:
    """For engines that hear whole segments."""

    def __init__(self, slots: EngineSlots, hints: Hints, owner: str, *, itn: bool) -> None:
        self._slots, self._hints, self._owner, self._itn = slots, hints, owner, itn

    def pause_ms(self, length_ms: int) -> int:
        """In proportion to what it costs."""
        return length_ms // MOST_REPEATS

    async def hear(self, segment: Segment) -> Guess:
        """Decode all of it; waits behind all finals."""
        request = Request(segment=segment, hints=self._hints, itn=self._itn, is_open=True)
        answer = await self._slots.recognize(request, lane=Lane.PARTIAL, owner=self._owner)
        hypothesis, _ = guards.kept(segment, answer, self._hints)
        languages = self._slots.capabilities.languages
        hypothesis = await with_language(hypothesis, self._hints.language, languages)
        return Guess(hypothesis.text, hypothesis.language, logprobs=tuple(token.logprob for token in hypothesis.tokens))

    def turn(self) -> None:
        """Nothing is kept."""


class Streaming:
    """For engines that hear growing segments by themselves."""

    def __init__(self, engine: StreamingRecognizer, hints: Hints) -> None:
        self._engine, self._hints = engine, hints
        self._stream: RecognizerStream | None = None
        self._n_fed = 0

    def pause_ms(self, length_ms: int) -> int:  # noqa: ARG002 - the same however long it is
        """Whatever is new is cheap."""
        return 0

    async def hear(self, segment: Segment) -> Guess:
        """Hear what is new."""
        if self._stream is None:
            self._stream = self._engine.stream(self._hints)
        stream, new = self._stream, segment.pcm[self._n_fed :]
        try:
            heard = await stream.feed(new)
        except BaseException:  # also cancelled: it may have heard the sound or not
            stream.close()
            if self._stream is stream:
                self.turn()
            raise
        self._n_fed += len(new)
        answer = Hypothesis(text=heard.stable + heard.tail, language=heard.language)
        hypothesis, _ = guards.kept(segment, answer, self._hints)
        hypothesis = await with_language(hypothesis, self._hints.language, self._engine.capabilities.languages)
        if not hypothesis.text.startswith(heard.stable):  # the guards cut into what was told: it stays
            return Guess("", hypothesis.language, stable="")
        return Guess(hypothesis.text[len(heard.stable) :], hypothesis.language, stable=heard.stable)

    def turn(self) -> None:
        """The stream is closed."""
        if self._stream is not None:
            self._stream.close()
        self._stream, self._n_fed = None, 0


def guesser(slots: EngineSlots, hints: Hints, owner: str, *, itn: bool) -> Guesser:
    """The cheapest way in which this engine hears what is not complete."""
    streaming = slots.streaming
    return Redecoding(slots, hints, owner, itn=itn) if streaming is None else Streaming(streaming, hints)
