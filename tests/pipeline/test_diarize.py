"""Speakers come to words, and nothing else changes; in short recordings, in tasks, and after an interruption."""

import itertools
from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import Speech
from tests.conversation import WHO, conversation
from tests.pipeline.test_filed import LIMITS, PLACE, House, house, wav

from qasr.domain.errors import EngineFailed, EngineUnavailable
from qasr.domain.options import Hints, RecognitionOptions
from qasr.domain.speakers import Turns, Voice, turns_of
from qasr.domain.transcript import Sentence, Token, Word, join
from qasr.engines.room import Choice, EngineRoom
from qasr.engines.slots import Lane
from qasr.pipeline.diarize import attributed, diarizer_of
from qasr.pipeline.filed import Asked, Filed
from qasr.pipeline.recognize import Turn
from qasr.pipeline.recorded import transcription
from qasr.pipeline.segment import SegmentPolicy
from qasr.pipeline.words import make_words, split_words

__all__ = ["house"]

SPEAKERS = RecognitionOptions(hints=Hints(language="en"), word_times="words", speakers=True)


def turns(*spans: tuple[int, int, int]) -> Turns:
    voices = [Voice(begin_ms=begin, end_ms=end, embedding=b"", clear_ms=1) for begin, end, _ in spans]
    return Turns(turns_of(voices, [speaker for _, _, speaker in spans]))


def sentence(text: str, *, word_ms: int = 100) -> Sentence:
    pieces = split_words(text)
    times = [(place * word_ms, (place + 1) * word_ms) for place in range(len(pieces))]
    words = make_words(pieces, times, estimated=False)
    tokens = tuple(Token(id=0, text=f"{word} ".encode(), logprob=-0.1) for word in text.split())
    return Sentence(text=text, begin_ms=0, end_ms=len(pieces) * word_ms, words=words, tokens=tokens, language="en")


def test_a_sentence_is_parted_where_the_speaker_changes() -> None:
    """Text, words, times and tokens go along."""
    said = sentence("How are you, I am fine.")

    asks, answers = attributed(said, turns((0, 300, 0), (300, 600, 1)))

    assert ("How are you,", 0, 300, 0) == (asks.text, asks.begin_ms, asks.end_ms, asks.speaker)
    assert ("I am fine.", 300, 600, 1) == (answers.text, answers.begin_ms, answers.end_ms, answers.speaker)
    assert ["I", "am", "fine"] == [word.text for word in answers.words]
    assert [b"I ", b"am ", b"fine. "] == [token.text for token in answers.tokens]


def test_a_single_word_in_a_clause_does_not_change_hands() -> None:
    """Where a sign parts it, it does."""
    (whole,) = attributed(sentence("Neither did I"), turns((0, 200, 0), (200, 300, 1)))
    yes, no = attributed(sentence("Hello, hello"), turns((0, 100, 0), (100, 200, 1)))

    assert 0 == whole.speaker
    assert ("Hello,", 0, "hello", 1) == (yes.text, yes.speaker, no.text, no.speaker)


@pytest.mark.parametrize(
    ("text", "n_before", "begins"),
    [("他说“你好”我说「再见」。", 6, "「再"), ('(He) said: "Go on!" (He went.)', 2, '"Go')],
)
def test_opening_signs_stay_with_their_word(text: str, n_before: int, begins: str) -> None:
    """In scripts with blanks and without."""
    first, second = attributed(sentence(text), turns((0, n_before * 100, 0), (n_before * 100, 10_000, 1)))

    assert second.text.startswith(begins)
    assert "".join(text.split()) == "".join((first.text + second.text).split())


def test_what_has_no_words_with_times_stays_whole() -> None:
    """It is whose most of it is; and nobody's where nobody was heard."""
    said = Sentence(text="One two three", begin_ms=0, end_ms=300)
    other_words = Sentence(text="One two", begin_ms=0, end_ms=300, words=(Word(text="Two", begin_ms=0, end_ms=1),))

    assert [1] == [part.speaker for part in attributed(said, turns((0, 50, 0), (50, 300, 1)))]
    assert [1] == [part.speaker for part in attributed(other_words, turns((0, 50, 0), (50, 300, 1)))]
    assert (said,) == attributed(said, None)


_texts = st.lists(
    st.text(alphabet=st.sampled_from("aàb1'’-,.?!“”¿( 你好。，「」"), min_size=1, max_size=8), min_size=1, max_size=12
).map(lambda pieces: " ".join(" ".join(pieces).split()))
_spans = st.lists(
    st.tuples(st.integers(0, 2000), st.integers(0, 900), st.integers(0, 3)).map(lambda s: (s[0], s[0] + s[1], s[2])),
    max_size=12,
)


@given(text=_texts, spans=_spans)
def test_no_word_is_lost_added_or_moved(text: str, spans: Sequence[tuple[int, int, int]]) -> None:
    """Whatever is said, and whoever says it when."""
    said = sentence(text)
    parts = attributed(said, turns(*spans))

    assert said.words == tuple(word for part in parts for word in part.words)
    assert said.tokens == tuple(token for part in parts for token in part.tokens)
    assert "".join(text.split()) == "".join("".join(part.text.split()) for part in parts)
    assert all(one.speaker != other.speaker for one, other in itertools.pairwise(parts))
    assert all(part.text == part.text.strip() for part in parts)
    assert [part.begin_ms for part in parts] == sorted(part.begin_ms for part in parts)
    if parts != (said,) and len(parts) > 1:
        assert text.split() == join(parts).split() or any(sign in text for sign in "你好「」。，“”")


@pytest.mark.anyio
async def test_speakers_of_a_recording_are_told_apart(house: House, speech: Speech) -> None:
    """Three people in four turns, through the whole pipeline: who speaks first is 0."""
    talk = conversation(speech)
    found = await _whole(house, wav(talk.pcm))

    words = [(word, sentence.speaker) for sentence in found for word in sentence.words]
    right = sum(talk.who(word.begin_ms, word.end_ms) == speaker for word, speaker in words)
    assert {0, 1, 2} == {sentence.speaker for sentence in found}
    assert right >= 0.8 * len(words), (right, len(words))  # their times are estimated here


async def _whole(house: House, data: bytes) -> list[Sentence]:
    path = house.folder / "whole.wav"
    await anyio.Path(path).write_bytes(data)
    async with house.engines.lease() as engines, house.decoder.decode(path, limits=LIMITS) as stream:
        turn = Turn(lane=Lane.FILE, owner="me")
        policy = SegmentPolicy(longest_ms=30_000)
        async with transcription(stream.blocks(), SPEAKERS, engines, policy, turn) as heard:
            return [sentence async for sentences in heard for sentence in sentences]


@pytest.mark.anyio
async def test_one_speaker_is_one(house: House, speech: Speech) -> None:
    """However often she stops."""
    found = await _whole(house, wav(*[speech("LJ001-0001.flac")]))

    assert found
    assert {0} == {sentence.speaker for sentence in found}


def _asked(house: House, data: bytes, **options: Any) -> Asked:
    plain = house.asked(data)
    wanted = RecognitionOptions(hints=Hints(language="en"), word_times="words", speakers=True, **options)
    return Asked(url=plain.url, owner=plain.owner, options=wanted, limits=plain.limits)


@pytest.mark.anyio
async def test_a_task_that_was_cut_off_ends_as_one_that_was_not(house: House, speech: Speech) -> None:
    """Another process goes on with what is stored: steps done twice, at any point, change nothing. Each channel has its
    own speakers; nothing but the transcript is left.
    """
    talk = conversation(speech)
    asked = _asked(house, wav(talk.pcm, speech("LJ001-0001.flac")), channels=(0, 1))
    plan, expected = await house.heard(asked)
    await house.filed.forget(PLACE.task_id)

    assert plan == await house.filed.cut(PLACE, asked)
    first, *rest = range(plan.groups)
    await house.filed.hear(PLACE, first, asked)
    again = _another(house)
    for group in (first, *rest):
        await again.hear(PLACE, group, asked)
    turned = await again._turns(PLACE, plan, asked)
    await again.merge(PLACE, plan, asked, "en")
    await _another(house).merge(PLACE, plan, asked, "en")
    found = [sentence async for sentence in house.transcripts.sentences(PLACE.task_id, PLACE.number)]

    assert expected == found
    assert sorted(set(WHO)) == sorted({s.speaker for s in found if s.channel == 0 and s.speaker is not None})
    assert {0} == {s.speaker for s in found if s.channel == 1}
    assert {0, 1} == set(turned)
    assert ["results/task-1/0/transcript.jsonl"] == house.objects()


def _another(house: House) -> Filed:
    """The steps as a process does them that knows nothing of what was."""
    own = house.filed
    return Filed(
        objects=own._objects,
        engines=house.engines,
        decoder=house.decoder,
        fetcher=own._fetcher,
        uploads=own._uploads,
        folder=own._folder,
        cuts=1,
    )


@pytest.mark.anyio
async def test_voices_of_other_models_are_not_compared(house: House, speech: Speech) -> None:
    """The operator exchanged the models in the middle of a task: it fails, and says why."""
    asked = _asked(house, wav(speech("jfk.flac")[:80_000]))
    plan = await house.filed.cut(PLACE, asked)
    await house.filed.hear(PLACE, 0, asked)
    path = house.folder / "objects" / PLACE.voices(0)
    path.write_bytes(path.read_bytes().replace(b"community-1", b"community-0"))

    with pytest.raises(EngineFailed, match="exchanged"):
        await house.filed.merge(PLACE, plan, asked, "en")


@pytest.mark.anyio
async def test_without_models_nothing_is_promised() -> None:
    """Switched off: the engine does not claim it, and who asks all the same is told."""
    off = {"diarizer": {"enabled": "false"}}
    async with (
        EngineRoom(lambda _: [Choice(engine="scripted")], beside=lambda name: off.get(name, {})) as room,
        room.lease() as engines,
    ):
        assert not engines.capabilities.speakers
        with pytest.raises(EngineUnavailable):
            await diarizer_of(engines)
