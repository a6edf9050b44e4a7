"""What is told of live speech has gone the way of recordings: guarded, in its language, with its emotion."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import pytest
from tests.pipeline.sessions import FOUND, FRAME, Act, Led, LedStream, LedStreams, engines, loud, quiet, sound, talk

from qasr.domain.audio import Pcm, Segment
from qasr.domain.live import Final as Told
from qasr.domain.live import LiveEvent, Partial
from qasr.domain.options import Hints
from qasr.domain.transcript import Hypothesis, Tags
from qasr.engines.base import Request, StreamText
from qasr.pipeline.guess import guesser

pytestmark = pytest.mark.anyio

_SOUND = sound(quiet(0.96), loud(1.92), quiet(0.96))
SPOKEN: Final[Sequence[Act]] = [
    one for first in range(0, len(_SOUND), FRAME) for one in (_SOUND[first : first + FRAME], "settle")
]
"""An utterance, each frame heard before the next comes, so that there are partials."""


class Says(Led):
    """Whatever it hears, it says this."""

    def __init__(self, text: str, language: str | None = "en") -> None:
        super().__init__()
        self._answer = Hypothesis(text=text, language=language)

    async def recognize(self, batch: Sequence[Request]) -> list[Hypothesis]:
        """The same for whole and growing segments."""
        self.asked += batch
        return [self._answer for _ in batch]


class Streams(LedStreams):
    """Whatever it hears, its streams say this."""

    def __init__(self, stable: str, tail: str, language: str | None = "en") -> None:
        super().__init__()
        self._says = StreamText(stable=stable, tail=tail, language=language)

    def stream(self, hints: Hints) -> LedStream:  # noqa: ARG002 - the port's
        return Same(self, self._says)


class Same(LedStream):
    def __init__(self, engine: LedStreams, says: StreamText) -> None:
        super().__init__(engine)
        self._says = says

    async def feed(self, pcm: Pcm) -> StreamText:
        await super().feed(pcm)
        return self._says


class Glad:
    """A tagger that finds everybody happy."""

    name = "glad"

    async def tag(self, segment: Segment) -> Tags:
        assert len(segment.pcm)
        return Tags(emotion="happy")


def texts(told: list[LiveEvent]) -> tuple[set[str], list[str]]:
    """Of partials and of finals."""
    partials = {event.confirmed + event.tentative for event in told if isinstance(event, Partial)}
    return partials, [event.text for event in told if isinstance(event, Told)]


async def test_loops_and_noises_are_told_neither_before_nor_at_the_end() -> None:
    """Whole segments are counted; growing ones come back anyway."""
    async with engines(Says("la " * 30)) as heard:
        assert ({"la"}, ["la"]) == texts(await talk(heard, FOUND, *SPOKEN))
        assert {"loop": 1} == dict(heard.interventions)
    async with engines(Says("[Music]")) as heard:
        assert (set(), [""]) == texts(await talk(heard, FOUND, *SPOKEN))


@pytest.mark.parametrize(
    ("stable", "tail", "expected"),
    [
        ("so it", " is", {"so it is"}),
        ("so it", " is" * 30, {"so it is"}),
        ("is " * 20, "is " * 20, set()),
        ("", "[Music]", set()),
    ],
)
async def test_streams_are_guarded_too(stable: str, tail: str, expected: set[str]) -> None:
    """What was told as certain stays; what comes behind it is cut."""
    async with engines(Streams(stable, tail)) as heard:
        partials, _ = texts(await talk(heard, FOUND, *SPOKEN))

    assert expected == partials


async def test_the_text_tells_the_language_where_the_engine_does_not() -> None:
    """In partials and finals alike; a client who named it is believed."""
    text = "今天的天气真不错"
    for engine in Says(text, None), Streams("", text, None):
        async with engines(engine) as heard:
            for hints, language in (Hints(), "zh"), (Hints(language="yue"), "yue"):
                guess = await guesser(heard.slots, hints, "me", itn=False).hear(Segment(pcm=loud(2), begin_ms=0))
                assert language == guess.language
    async with engines(Says(text, None)) as heard:
        told = await talk(heard, FOUND, *SPOKEN)
    assert ["zh"] == [event.language for event in told if isinstance(event, Told)]


async def test_a_tagger_tells_the_emotion_of_finals() -> None:
    """And then the session may be asked for it."""
    async with engines(Says("Hello there")) as heard:
        told = await talk(replace(heard, tagger=Glad()), replace(FOUND, emotion=True), *SPOKEN)

    assert ["happy"] == [event.emotion for event in told if isinstance(event, Told)]


async def test_numbers_are_written_alike_before_and_at_the_end() -> None:
    """The wish for digits reaches the engine with each segment, whole or growing."""
    engine = Says("three")
    async with engines(engine) as heard:
        await talk(heard, replace(FOUND, itn=True), *SPOKEN)

    assert engine.partials
    assert all(request.itn for request in engine.asked)
