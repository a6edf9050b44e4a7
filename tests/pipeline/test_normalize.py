"""Numbers of sentences in digits, with the times of their words."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.pipeline.test_itn import ANY, CASES

from qasr.domain.live import Partial
from qasr.domain.transcript import Sentence, Word
from qasr.engines.base import Capabilities
from qasr.pipeline.itn import normalize
from qasr.pipeline.normalize import drafted, written
from qasr.pipeline.rewriting import retimed
from qasr.pipeline.words import make_words, split_words

PLAIN = Capabilities(name="plain", languages=None, longest_s=30)


def spoken(text: str, language: str | None = "en", step_ms: int = 100) -> Sentence:
    """*text*, a word each *step_ms*."""
    pieces = split_words(text)
    times = [(i * step_ms, (i + 1) * step_ms) for i in range(len(pieces))]
    words = make_words(pieces, times, estimated=False)
    return Sentence(text=text, begin_ms=0, end_ms=len(pieces) * step_ms, language=language, words=words)


def digits(sentence: Sentence) -> Sentence:
    (found,) = written((sentence,), PLAIN, itn=True, drop_fillers=False)
    return found


def timed(words: Sequence[Word]) -> list[tuple[str, str, int, int]]:
    return [(word.text, word.punctuation, word.begin_ms, word.end_ms) for word in words]


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        (
            spoken("About twenty five percent, they said."),
            [("About", "", 0, 100), ("25%", ",", 100, 400), ("they", "", 400, 500), ("said", ".", 500, 600)],
        ),
        (
            spoken("on March fifteenth twenty twenty six"),
            [("on", "", 0, 100), ("March", "", 100, 200), ("15", ",", 200, 300), ("2026", "", 300, 600)],
        ),
        (
            spoken("百分之三十五点六的人", "zh"),
            [("35.6%", "", 0, 800), ("的", "", 800, 900), ("人", "", 900, 1000)],
        ),
        (
            spoken("三月十五日。", "zh"),
            [("3", "", 0, 100), ("月", "", 100, 200), ("15", "", 200, 400), ("日", "。", 400, 500)],
        ),
    ],
)
def test_a_number_lasts_as_long_as_its_words(sentence: Sentence, words: list[tuple[str, str, int, int]]) -> None:
    """From the first to the last of them; all other words keep their times, and all stay measured."""
    found = digits(sentence)

    assert words == timed(found.words)
    assert not any(word.estimated for word in found.words)
    assert (sentence.begin_ms, sentence.end_ms) == (found.begin_ms, found.end_ms)


def test_words_that_share_their_origin_are_estimated() -> None:
    """Where the order changes, nobody measured what lies inside."""
    (money, million) = digits(spoken("three million dollars")).words

    assert ("$3", "million") == (money.text, million.text)
    assert money.estimated
    assert million.estimated
    assert (0, 300) == (money.begin_ms, million.end_ms)


def test_words_that_are_not_those_of_the_text() -> None:
    """An engine's own words may be cut otherwise; then times are spread over the same stretch, and marked."""
    words = (Word(text="twenty five people", begin_ms=500, end_ms=900),)
    found = retimed(words, normalize("twenty five people"))

    assert ["25", "people"] == [word.text for word in found]
    assert (500, 900) == (found[0].begin_ms, found[-1].end_ms)
    assert all(word.estimated for word in found)


@given(ANY | st.sampled_from([case["spoken"] for case in CASES]), st.integers(1, 500))
def test_words_follow_each_other(text: str, step_ms: int) -> None:
    """The words are those of the text, in order of time, within the sentence."""
    sentence = spoken(text, None, step_ms)
    found = digits(sentence)

    assert split_words(found.text) == [(word.text, word.punctuation) for word in found.words]
    for before, after in pairwise(found.words):
        assert before.end_ms <= after.begin_ms
    if sentence.words:
        assert found.words[0].begin_ms >= sentence.begin_ms
        assert found.words[-1].end_ms <= sentence.end_ms


def test_sentences_without_numbers_are_the_same() -> None:
    """Not copied, not touched."""
    sentence = spoken("Nothing to see.")

    assert sentence is digits(sentence)


@pytest.mark.parametrize(
    ("engine", "itn", "text"),
    [
        (PLAIN, True, "25"),
        (PLAIN, False, "twenty five"),
        (Capabilities(name="able", languages=None, longest_s=30, itn=True), True, "twenty five"),
    ],
)
def test_who_sees_to_it(engine: Capabilities, itn: bool, text: str) -> None:
    """We do, if asked; what an engine writes that does it itself is left alone."""
    (sentence,) = written((spoken("twenty five"),), engine, itn=itn, drop_fillers=False)

    assert text == sentence.text


def test_fillers_go_before_numbers_are_read() -> None:
    """Nobody says "twenty, um, five" and means two numbers; a sentence of fillers alone goes."""
    found = written((spoken("Twenty um five."), spoken("Uh.")), PLAIN, itn=True, drop_fillers=True)

    assert [[("25", ".", 0, 300)]] == [timed(sentence.words) for sentence in found]


def partial_of(confirmed: str, tentative: str = "", language: str | None = "en") -> Partial:
    words = spoken(confirmed + tentative, language).words
    return Partial(utterance=1, begin_ms=0, confirmed=confirmed, tentative=tentative, language=language, words=words)


@pytest.mark.parametrize(
    ("confirmed", "tentative", "told"),
    [
        ("twenty", "", ("", "20")),
        ("twenty", " five people", ("", "25 people")),
        ("Twenty five people. Um, and", " uh thirty", ("25 people.", " And 30")),
        ("Um. Twenty five. Uh. We", "", ("25.", " We")),
        ("Um", "", ("", "")),
        ("涨了百分之二十。呃然后", "是三十五", ("涨了20%。", "然后是35")),
        ("at three p.m. we", " meet", ("at 3 p.m.", " we meet")),
    ],
)
def test_what_is_being_said(confirmed: str, tentative: str, told: tuple[str, str]) -> None:
    """Sentences that are certain are written for good; what follows them may still become another number."""
    found = drafted(partial_of(confirmed, tentative), PLAIN, itn=True, drop_fillers=True)

    assert told == (found.confirmed, found.tentative)
    assert split_words("".join(told)) == [(word.text, word.punctuation) for word in found.words]


@given(st.lists(ANY, min_size=1, max_size=5), st.integers(0, 50), st.sampled_from(["en", "zh", None]))
def test_what_is_confirmed_only_grows(parts: list[str], behind: int, language: str | None) -> None:
    """Whatever is said next."""
    whole = ". ".join(parts).strip()
    told = ""
    for end in range(1, len(whole) + 1, 7):
        confirmed, tentative = whole[:end], whole[end : end + behind]
        found = drafted(partial_of(confirmed, tentative, language), PLAIN, itn=True, drop_fillers=True)

        assert found.confirmed.startswith(told)

        told = found.confirmed


def test_partials_are_told_as_they_are_unless_asked() -> None:
    """Nor is anything done twice."""
    partial = partial_of("twenty um", " five")
    able = Capabilities(name="able", languages=None, longest_s=30, itn=True)

    assert partial is drafted(partial, PLAIN, itn=False, drop_fillers=False)
    assert partial is drafted(partial, able, itn=True, drop_fillers=False)
