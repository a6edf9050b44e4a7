"""Expected phrases are found where they were said, and only there; without them nothing changes."""

from collections.abc import AsyncIterator
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import Speech

from qasr.domain.audio import Segment
from qasr.domain.options import Hints, Hotword
from qasr.domain.transcript import Hypothesis
from qasr.engines import moonshine
from qasr.engines.base import Recognizer, Request
from qasr.engines.moonshine import assets
from qasr.engines.moonshine.biasing import FORCED_WEIGHT, nearness
from qasr.engines.moonshine.hotwords import CONTEXT_TERMS, Hotwords, terms
from qasr.engines.moonshine.tokenizer import Tokenizer, text_of

pytestmark = pytest.mark.anyio

LJ4: Final = "LJ001-0004.flac"
AUSTEN: Final = "austen-0870.flac"
JFK: Final = "jfk.flac"
DISTRACTORS: Final = ("Gutenberg", "splinter", "purgatory", "triumphed", "Kennedy", "princess", "Chatterjee", "Norland")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def engine() -> AsyncIterator[Recognizer]:
    async with moonshine.factory({"threads": "1"}) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.read(assets.locate() / assets.TOKENIZER)


async def hear(engine: Recognizer, speech: Speech, name: str, hints: Hints | None = None) -> Hypothesis:
    (heard,) = await engine.recognize([Request(segment=Segment(pcm=speech(name), begin_ms=0), hints=hints or Hints())])
    return heard


def favoring(*phrases: str, weight: int = 4, language: str | None = None) -> Hints:
    return Hints(hotwords=tuple(Hotword(text=phrase, weight=weight, language=language) for phrase in phrases))


async def test_phrase_that_was_said_is_found(engine: Recognizer, speech: Speech) -> None:
    """Two words that are one without the list; all else stays, and every token still has a probability."""
    without = await hear(engine, speech, LJ4)
    heard = await hear(engine, speech, LJ4, favoring("block books", *DISTRACTORS))

    assert "blockbooks" in without.text
    assert without.text.replace("blockbooks", "block books") == heard.text
    assert heard.text == text_of(token.text for token in heard.tokens)
    assert all(token.logprob <= 0 for token in heard.tokens)


async def test_spelling_is_the_clients_own(engine: Recognizer, speech: Speech) -> None:
    """Where the client uses capitals; a phrase in small letters is written as it was heard."""
    heard = await hear(engine, speech, AUSTEN, favoring("John DashWood"))
    small = await hear(engine, speech, AUSTEN, favoring("dashwood"))

    assert "John DashWood had" in heard.text
    assert "John Dashwood had" in small.text


@pytest.mark.parametrize("name", [LJ4, AUSTEN, JFK])
async def test_phrases_that_were_not_said_change_nothing(engine: Recognizer, speech: Speech, name: str) -> None:
    """Not a token and not a probability, not even where they are forced."""
    without = await hear(engine, speech, name)

    assert without == await hear(engine, speech, name, favoring(*DISTRACTORS, weight=5))
    assert without == await hear(engine, speech, name, favoring("Chatterjee", "Norland", weight=FORCED_WEIGHT))


async def test_weight_decides_how_near_a_phrase_must_be(engine: Recognizer, speech: Speech) -> None:
    """What is forced is heard where something like it was said; a weight of 0 is none."""
    forced = await hear(engine, speech, AUSTEN, favoring("Jon", weight=FORCED_WEIGHT))
    nothing = await hear(engine, speech, AUSTEN, favoring("Jon", weight=0))

    assert "Jon Dashwood" in forced.text
    assert "John Dashwood" in nothing.text
    assert sorted(range(1, 6), key=nearness) == list(range(1, 6))
    assert nearness(5) < nearness(FORCED_WEIGHT)


async def test_negative_weight_suppresses_where_something_else_is_near(engine: Recognizer, speech: Speech) -> None:
    """A small one does nothing to what was clearly said."""
    assert "Printing" in (await hear(engine, speech, "LJ001-0001.flac", favoring("printing", weight=-1))).text
    assert "Printing" not in (await hear(engine, speech, "LJ001-0001.flac", favoring("printing", weight=-6))).text


async def test_phrases_of_another_language_are_not_looked_for(engine: Recognizer, speech: Speech) -> None:
    """They are tied to it by the client."""
    without = await hear(engine, speech, LJ4)

    assert without == await hear(engine, speech, LJ4, favoring("block books", language="de"))
    assert without == await hear(engine, speech, LJ4, favoring("通义千问", "日本", weight=5))
    assert without != await hear(engine, speech, LJ4, favoring("block books", language="en"))


async def test_rare_words_of_a_context_are_looked_for(engine: Recognizer, speech: Speech) -> None:
    """As hotwords of little weight."""
    heard = await hear(engine, speech, AUSTEN, Hints(context="They wrote to mister DashWood of Norland."))

    assert "John DashWood had" in heard.text


async def test_each_segment_of_a_call_has_hints_of_its_own(engine: Recognizer, speech: Speech) -> None:
    """Company changes nothing but the last digits of probabilities."""
    segment = Segment(pcm=speech(LJ4), begin_ms=0)
    hints = (Hints(), favoring("block books"), Hints(), favoring(*DISTRACTORS))
    heard = await engine.recognize([Request(segment=segment, hints=one) for one in hints])

    assert [False, True, False, False] == ["block books" in one.text for one in heard]


async def test_silence_and_long_lists_are_fine(engine: Recognizer, speech: Speech) -> None:
    """2000 phrases are looked for, in what is nothing."""
    many = favoring(*(f"word{number} Phrase" for number in range(2000)))
    silent = Request(segment=Segment(pcm=speech(JFK)[:8000] * 0, begin_ms=0), hints=many)

    assert "" == (await engine.recognize([silent]))[0].text
    assert "my fellow Americans" in (await hear(engine, speech, JFK, many)).text


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_encoded_text_is_decoded_to_itself(text: str) -> None:
    """Whatever the script; the model's own blank sign is a blank."""
    tokenizer = Tokenizer.read(assets.locate() / assets.TOKENIZER)

    assert text.replace("▁", " ") == b"".join(tokenizer.pieces(tokenizer.encode(text.replace("▁", " ")))).decode()


async def test_encoding_is_the_models_own(engine: Recognizer, speech: Speech, tokenizer: Tokenizer) -> None:
    """Else a phrase would be looked for by tokens that never come."""
    for name in (LJ4, AUSTEN, JFK):
        heard = await hear(engine, speech, name)
        assert [token.id for token in heard.tokens] == tokenizer.encode(f" {heard.text}")


@pytest.mark.parametrize(
    ("context", "found"),
    [
        ("We met Margaret Thornton. She left.", ["Margaret", "Thornton"]),
        ("Words like these are known. All of them.", []),
        ("the eunuch slept; EphraimX and mp3 files, 1455", ["eunuch", "EphraimX", "mp3"]),
        ("Names: Quilter, O'Brien", ["Quilter", "O'Brien"]),
        ("", []),
    ],
)
def test_terms_of_a_context_are_names_and_rare_words(tokenizer: Tokenizer, context: str, found: list[str]) -> None:
    """A capital at the beginning of a sentence says nothing."""
    assert found == terms(context, tokenizer)


def test_terms_of_a_long_context_are_the_last_ones(tokenizer: Tokenizer) -> None:
    """What was said lately is more likely to be said again."""
    found = terms(" ".join(f"x Zw{number}q" for number in range(1000)), tokenizer)

    assert (CONTEXT_TERMS, "Zw999q") == (len(found), found[-1])


def test_nothing_to_look_for_is_nothing(tokenizer: Tokenizer) -> None:
    """So that it costs nothing."""
    assert not Hotwords((), "", tokenizer)
    assert not Hotwords((("word", 0), ("  ", 4)), "and so on", tokenizer)
    assert Hotwords((("word", -1),), "", tokenizer)
