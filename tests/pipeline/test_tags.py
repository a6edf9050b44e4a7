"""Emotions told beside the recognizer: where they come from, and that nobody invents them."""

from collections.abc import Sequence

import numpy as np
import pytest
from tests.pipeline.sessions import LoudVad

from qasr.domain.audio import SAMPLE_RATE, Segment
from qasr.domain.errors import EngineFailed
from qasr.domain.options import RecognitionOptions
from qasr.domain.transcript import Emotion, Hypothesis, Tags
from qasr.engines.base import Capabilities, Request
from qasr.engines.registry import LoadedEngines
from qasr.engines.silero_vad import SileroVad
from qasr.engines.slots import EngineSlots, Lane
from qasr.pipeline.recognize import Turn, recognize

pytestmark = pytest.mark.anyio

SEGMENT = Segment(pcm=np.full(SAMPLE_RATE, 0.1, np.float32), begin_ms=0)


class Says:
    """A recognizer with one answer."""

    capabilities = Capabilities(name="says", languages=None, longest_s=30)

    def __init__(self, text: str, emotion: Emotion | None = None) -> None:
        self._answer = Hypothesis(text=text, emotion=emotion)

    async def recognize(self, batch: Sequence[Request]) -> list[Hypothesis]:
        return [self._answer] * len(batch)


class Feels:
    """A tagger with one answer; None: it fails."""

    name = "feels"

    def __init__(self, tags: Tags | None) -> None:
        self._tags, self.calls = tags, 0

    async def tag(self, segment: Segment) -> Tags:
        assert segment is SEGMENT
        self.calls += 1
        if self._tags is None:
            raise EngineFailed("it fails here")
        return self._tags


async def told(says: Says, feels: Feels | None) -> list[tuple[str, str | None, tuple[str, ...]]]:
    async with EngineSlots(says, queue_audio_s=60) as slots:
        engines = LoadedEngines(slots, SileroVad(), LoudVad(), None, tagger=feels)
        assert engines.capabilities.emotion == (feels is not None)
        turn = Turn(lane=Lane.SYNC, owner="test")
        sentences = await recognize(SEGMENT, RecognitionOptions(), engines, turn)
        return [(sentence.text, sentence.emotion, sentence.events) for sentence in sentences]


async def test_a_tagger_fills_what_the_recognizer_does_not_tell() -> None:
    """Each sentence of the segment has it."""
    tags = Tags(emotion="happy", events=("laughter",))

    assert [("Hi.", "happy", ("laughter",)), ("Bye.", "happy", ("laughter",))] == await told(
        Says("Hi. Bye."), Feels(tags)
    )


async def test_the_recognizer_knows_better() -> None:
    """What it tells itself is not asked for again."""
    feels = Feels(Tags(emotion="happy"))

    assert [("Hi.", "sad", ())] == await told(Says("Hi.", "sad"), feels)
    assert feels.calls == 0


async def test_no_tagger_no_emotion() -> None:
    """Never an invented neutral."""
    assert [("Hi.", None, ())] == await told(Says("Hi."), None)
    assert [("Hi.", None, ())] == await told(Says("Hi."), Feels(Tags()))


async def test_a_failing_tagger_does_not_cost_the_text() -> None:
    """The emotion is null then."""
    assert [("Hi.", None, ())] == await told(Says("Hi."), Feels(None))


async def test_where_nothing_is_said_nothing_is_tagged() -> None:
    """Silence costs no call."""
    feels = Feels(Tags(emotion="happy"))

    assert [] == await told(Says(""), feels)
    assert feels.calls == 0
