"""What is kept of an engine's answer when the model behind it fails, and that each such step is counted."""

from collections.abc import AsyncIterator, Sequence
from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import Speech
from tests.pipeline.sessions import LoudVad

from qasr.domain.audio import SAMPLE_RATE, Pcm, Segment
from qasr.domain.options import Hints, Hotword, RecognitionOptions
from qasr.domain.transcript import Hypothesis, Sentence, Token, Word
from qasr.engines.base import Capabilities, Request
from qasr.engines.registry import LoadedEngines
from qasr.engines.silero_vad import SileroVad
from qasr.engines.slots import EngineSlots, Lane
from qasr.pipeline import guards
from qasr.pipeline.recognize import Turn, recognize
from qasr.pipeline.recorded import transcription
from qasr.pipeline.segment import SegmentPolicy

NOISE: Final = np.random.default_rng(1).normal(scale=0.05, size=24 * SAMPLE_RATE).astype(np.float32)
TURN: Final = Turn(lane=Lane.SYNC, owner="test")


def segment_of(seconds: float, *, probability: float = 0.9, gain: float = 1.0) -> Segment:
    return Segment(pcm=gain * NOISE[: int(seconds * SAMPLE_RATE)], begin_ms=1_000, speech_probability=probability)


class Told:
    """A recognizer that says what it is told, by the length of a segment; it notes what it was given."""

    capabilities = Capabilities(name="told", languages=None, longest_s=30, word_times=True, itn=True)

    def __init__(self, *answers: tuple[float, Hypothesis]) -> None:
        self._answers = answers
        self.requests: list[Request] = []

    async def recognize(self, batch: Sequence[Request]) -> list[Hypothesis]:
        self.requests += batch
        return [
            next(answer for longest_s, answer in self._answers if request.segment.duration_s <= longest_s)
            for request in batch
        ]


async def hear(
    told: Told, segment: Segment, options: RecognitionOptions | None = None
) -> tuple[tuple[Sentence, ...], dict[str, int]]:
    async with EngineSlots(told, queue_audio_s=600) as slots:
        engines = LoadedEngines(slots, SileroVad(), LoudVad(), None)
        sentences = await recognize(segment, options or RecognitionOptions(), engines, TURN)
        return sentences, dict(engines.interventions)


# ---- loops


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("We go " + "to the park " * 9, "We go to the park"),
        ("We go " + "to the park, " * 9 + "and then home.", "We go to the park, and then home."),
        ("The end. " * 12, "The end."),
        ("哈哈哈" * 8 + "好", "哈好"),
        ("今天天气不错" * 5, "今天天气不错"),
        ("Good. " + "thank you " * 8 + "so much, " + "thank you " * 8, "Good. thank you so much, thank you"),
    ],
)
def test_a_phrase_said_over_and_over_stays_once(text: str, expected: str) -> None:
    """The loop goes, what stands around it stays, punctuation included."""
    assert guards.without_loops(text).strip() == expected


@pytest.mark.parametrize(
    "text",
    [
        "No, no, no, no.",
        "Row, row, row your boat, gently down the stream. Merrily, merrily, merrily, merrily.",
        "one two three one two three one two three",
        "哈哈哈哈",
        "0 0 0 0 0 0 0",
        "",
        "...",
    ],
)
def test_speech_that_repeats_itself_stays(text: str) -> None:
    """People do say things more than once."""
    assert text == guards.without_loops(text)


@given(
    before=st.lists(st.sampled_from("abc"), max_size=8),
    phrase=st.lists(st.sampled_from("xyz"), min_size=1, max_size=guards.LONGEST_PERIOD),
    copies=st.integers(guards.LOOP_WORDS, guards.LOOP_WORDS + 5),
)
def test_no_loop_is_left(before: list[str], phrase: list[str], copies: int) -> None:
    """However long the phrase is, and wherever it begins: nothing grows, and a second look finds nothing."""
    text = " ".join(before + phrase * copies)

    cut = guards.without_loops(text)

    assert len(cut.split()) < len(text.split())
    assert cut.startswith(" ".join(before))
    assert cut == guards.without_loops(cut)


@pytest.mark.anyio
async def test_a_loop_is_cut_and_counted() -> None:
    """The words and times of the first copy stay."""
    spoken = ["hello"] + ["la"] * 20
    words = tuple(Word(text=word, begin_ms=100 * i, end_ms=100 * i + 90) for i, word in enumerate(spoken))
    told = Told((30, Hypothesis(text=" ".join(spoken), words=words, tokens=(Token(id=1, text=b"hello", logprob=-1),))))

    sentences, counts = await hear(told, segment_of(2), RecognitionOptions(word_times="words"))

    assert [sentence.text for sentence in sentences] == ["hello la"]
    assert [("hello", 1_000, 1_090), ("la", 1_100, 1_190)] == [
        (word.text, word.begin_ms, word.end_ms) for word in sentences[0].words
    ]
    assert {"loop": 1} == counts


# ---- noise


@pytest.mark.parametrize(
    "text", ["[Music]", "(applause) [laughter]", "♪ la la la ♪", "<|nospeech|>", "...", "*coughs*"]
)
@pytest.mark.anyio
async def test_descriptions_of_sounds_are_no_speech(text: str) -> None:
    """However sure the detector of speech was."""
    sentences, counts = await hear(Told((30, Hypothesis(text=text))), segment_of(2))

    assert sentences == ()
    assert {"noise": 1} == counts


@pytest.mark.parametrize(
    "text", ["Thanks for watching!", "Thank you for watching.", "ご視聴ありがとうございました", "You"]
)
@pytest.mark.anyio
async def test_stock_phrases_are_dropped_where_speech_is_doubtful(text: str) -> None:
    """They come from subtitles; whoever says them aloud is heard."""
    told = Told((30, Hypothesis(text=text)))

    assert ((), {"noise": 1}) == await hear(told, segment_of(2, probability=0.4))
    assert ((), {"noise": 1}) == await hear(told, segment_of(2, gain=0.001))
    said, counts = await hear(told, segment_of(2))
    assert [sentence.text for sentence in said] == [text]
    assert counts == {}


@pytest.mark.parametrize("text", ["The [Music] began.", "(555) 123", "Bye bye, Tom.", "5 %"])
def test_speech_with_signs_in_it_stays(text: str) -> None:
    """Brackets alone make no noise."""
    assert not guards.is_noise(text, doubtful=True)


# ---- echo


CONTEXT: Final = Hints(context="Minutes of the meeting between Dr. Tessier and Ms. Ashworth about the Zephyr project")


@pytest.mark.anyio
async def test_a_prompt_written_down_for_silence_is_dropped() -> None:
    """Word for word from the context, where the sound holds no speech."""
    told = Told((30, Hypothesis(text="Dr. Tessier and Ms. Ashworth")))
    options = RecognitionOptions(hints=CONTEXT)

    assert ((), {"echo": 1}) == await hear(told, segment_of(2, probability=0.4), options)
    said, counts = await hear(told, segment_of(2), options)
    assert [sentence.text for sentence in said] == ["Dr. Tessier and Ms. Ashworth"]
    assert counts == {}


@pytest.mark.anyio
async def test_a_prompt_faster_than_anybody_speaks_is_dropped() -> None:
    """A long context after a short noise, though the detector took it for speech."""
    told = Told((30, Hypothesis(text=CONTEXT.context)))

    assert ((), {"echo": 1}) == await hear(told, segment_of(0.5), RecognitionOptions(hints=CONTEXT))


@pytest.mark.anyio
async def test_hotwords_that_nobody_said_are_dropped() -> None:
    """A list of them alone is an echo where there is no speech; one that is said is heard."""
    hints = Hints(hotwords=(Hotword(text="Zephyr", weight=4), Hotword(text="Qwen ASR", weight=4)))
    told = Told((30, Hypothesis(text="Zephyr, Qwen ASR.")))

    assert ((), {"echo": 1}) == await hear(told, segment_of(2, gain=0), RecognitionOptions(hints=hints))
    said, _ = await hear(told, segment_of(2), RecognitionOptions(hints=hints))
    assert [sentence.text for sentence in said] == ["Zephyr, Qwen ASR."]


@pytest.mark.anyio
async def test_what_the_prompt_does_not_say_is_no_echo() -> None:
    """A doubtful segment with words of its own stays."""
    told = Told((30, Hypothesis(text="Tessier is late.")))

    said, counts = await hear(told, segment_of(2, probability=0.4), RecognitionOptions(hints=CONTEXT))

    assert [sentence.text for sentence in said] == ["Tessier is late."]
    assert counts == {}


# ---- truncation


@pytest.mark.anyio
async def test_a_truncated_segment_is_heard_in_parts() -> None:
    """The engine stopped early: the halves are heard by themselves, and their sentences stand in order of time."""
    pcm = NOISE[: 12 * SAMPLE_RATE].copy()
    pcm[int(4.9 * SAMPLE_RATE) : int(5.1 * SAMPLE_RATE)] = 0  # the quietest place
    told = Told(
        (6, Hypothesis(text="First.")), (8, Hypothesis(text="Last.")), (30, Hypothesis(text="F", truncated=True))
    )

    sentences, counts = await hear(told, Segment(pcm=pcm, begin_ms=1_000, speech_probability=0.9))

    assert [("First.", 1_000), ("Last.", sentences[0].end_ms)] == [(s.text, s.begin_ms) for s in sentences]
    assert 5_900 <= sentences[0].end_ms <= 6_100
    assert sentences[1].end_ms == 13_000
    assert not any(sentence.truncated for sentence in sentences)
    assert {"split": 1} == counts


@pytest.mark.anyio
async def test_splitting_has_an_end() -> None:
    """An engine that truncates whatever it gets is asked seven times; its text is marked as incomplete."""
    told = Told((30, Hypothesis(text="and", truncated=True)))

    sentences, counts = await hear(told, segment_of(24))

    assert len(sentences) == 4
    assert all(sentence.truncated for sentence in sentences)
    assert len(told.requests) == 7
    assert {"split": 3} == counts


@pytest.mark.anyio
async def test_a_short_segment_is_not_split() -> None:
    """Parts too short to be understood help nobody."""
    told = Told((30, Hypothesis(text="and", truncated=True)))

    sentences, counts = await hear(told, segment_of(3.9))

    assert [True] == [sentence.truncated for sentence in sentences]
    assert counts == {}


@given(seconds=st.floats(4.1, 12), seed=st.integers(0, 99))
def test_halves_make_the_whole(seconds: float, seed: int) -> None:
    """No sample is lost or heard twice, and no part is shorter than an engine can use."""
    pcm: Pcm = np.random.default_rng(seed).normal(size=int(seconds * SAMPLE_RATE)).astype(np.float32)

    parts = guards.halves(Segment(pcm=pcm, begin_ms=500))

    assert parts is not None
    first, second = parts
    assert np.array_equal(np.concatenate([first.pcm, second.pcm]), pcm)
    assert min(first.duration_s, second.duration_s) >= guards.LEAST_PART_S
    assert (500, first.end_ms) == (first.begin_ms, second.begin_ms)


# ---- what the engine is asked for


@pytest.mark.anyio
async def test_guards_stand_in_every_recording_s_way(speech: Speech) -> None:
    """The whole pipeline: what the client wants reaches the engine, what the guards cut does not reach the client."""
    told = Told((30, Hypothesis(text="la " * 30)))
    pcm = speech("LJ001-0002.flac")

    async def blocks() -> AsyncIterator[Pcm]:
        yield pcm[None]

    async with EngineSlots(told, queue_audio_s=600) as slots:
        engines = LoadedEngines(slots, SileroVad(), LoudVad(), None)
        options = RecognitionOptions(itn=True, word_times="words")
        policy = SegmentPolicy(longest_ms=30_000)
        async with transcription(blocks(), options, engines, policy, TURN) as heard:
            texts = [sentence.text async for sentences in heard for sentence in sentences]

    assert texts == ["la"]
    assert [(True, True)] == [(request.word_times, request.itn) for request in told.requests]
    assert {"loop": 1} == dict(engines.interventions)
