"""Times of known words, on real speech whose pauses are known."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qasr.domain.audio import Pcm, to_ms
from qasr.domain.errors import EngineUnavailable
from qasr.engines.base import Aligner
from qasr.engines.english_words import pronunciation, spoken
from qasr.engines.pocketsphinx_aligner import aligner

PHONES = frozenset(
    "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH".split()  # noqa: SIM905 - phones, not quotation marks
)
"""What PocketSphinx's English model knows."""


@pytest.fixture
async def english() -> AsyncIterator[Aligner]:
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(aligner(1))


def assert_plausible(spans: list[tuple[int, int]] | None, pcm: Pcm, n_words: int) -> None:
    assert spans is not None
    assert n_words == len(spans)
    flat = [time for span in spans for time in span]
    assert sorted(flat) == flat
    assert flat[0] >= 0
    assert flat[-1] <= to_ms(len(pcm))


@pytest.mark.anyio
async def test_times_go_round_the_pauses(
    english: Aligner, speech: Callable[[str], Pcm], references: Mapping[str, str]
) -> None:
    """Kennedy pauses after "Americans", after "not" and after the first "you"; no word lies in the pauses."""
    pcm, words = speech("jfk.flac"), references["jfk.flac"].split()
    spans = await english.align(pcm, words)

    assert_plausible(spans, pcm, len(words))
    assert spans is not None
    times = dict(zip(words, spans, strict=True))  # of words said twice, the last
    (_, americans), (ask, _), (_, not_), (what, _) = spans[4], spans[5], spans[6], spans[7]
    assert 2_000 <= americans <= 2_500
    assert 3_100 <= ask <= 3_500
    assert 4_100 <= not_ <= 4_700
    assert 5_200 <= what <= 5_600
    assert 7_500 <= times["you,"][1] <= 8_000
    assert 10_300 <= times["country."][1] <= 10_700


@pytest.mark.anyio
async def test_every_word_of_every_clip_has_a_time(
    english: Aligner, speech: Callable[[str], Pcm], references: Mapping[str, str]
) -> None:
    """Text as it is written goes in, one span per word comes out, inside the sound and in order."""
    for name, text in references.items():
        assert_plausible(await english.align(speech(name), text.split()), speech(name), len(text.split()))


@pytest.mark.anyio
async def test_what_is_written_need_not_be_in_the_dictionary(english: Aligner, speech: Callable[[str], Pcm]) -> None:
    """Numbers, unknown names, typographic signs and bare punctuation keep their places."""
    pcm = speech("austen-0870.flac")
    words = (
        "And Mr. Jon Dashwoode had — then LEISURE-to consider, how much 4 might be prudently in his po’er 2 do 4 them!"
    )
    spans = await english.align(pcm, words.split())

    assert_plausible(spans, pcm, len(words.split()))
    assert spans is not None
    assert spans[5][0] == spans[5][1] == spans[4][1]


@pytest.mark.anyio
async def test_a_misheard_word_does_not_cost_the_others_their_times(
    english: Aligner, speech: Callable[[str], Pcm], references: Mapping[str, str]
) -> None:
    """Recognizers err; the words around an error stay where they are."""
    pcm, words = speech("jfk.flac"), references["jfk.flac"].split()
    right = await english.align(pcm, words)
    wrong = await english.align(pcm, ["42" if word == "fellow" else word for word in words])

    assert right is not None
    assert_plausible(wrong, pcm, len(words))
    assert wrong is not None
    assert right[5:] == wrong[5:]


@pytest.mark.anyio
async def test_what_cannot_fit_is_not_forced(
    english: Aligner, speech: Callable[[str], Pcm], references: Mapping[str, str]
) -> None:
    """None tells the caller to estimate; the aligner goes on as if nothing had been."""
    pcm, words = speech("jfk.flac"), references["jfk.flac"].split()
    before = await english.align(pcm, words)

    assert [] == await english.align(pcm, [])
    assert await english.align(pcm[:0], words) is None
    assert await english.align(pcm[:8_000], words) is None
    assert await english.align(pcm[:200], ["and"]) is None
    assert await english.align(np.zeros_like(pcm), words) is None
    assert await english.align(np.full_like(pcm, np.nan), words) is None
    assert await english.align(pcm, ["你好"]) is None
    assert await english.align(pcm, ["..."]) is None
    assert await english.align(pcm, words * 20) is None
    assert before is not None
    assert before == await english.align(pcm, words)


@pytest.mark.anyio
async def test_calls_do_not_know_of_each_other(
    english: Aligner, speech: Callable[[str], Pcm], references: Mapping[str, str]
) -> None:
    """The same question has the same answer, whatever was asked between."""
    name, other = "LJ001-0002.flac", "LJ001-0004.flac"
    first = await english.align(speech(name), references[name].split())
    await english.align(speech(other), ["Zzyxqland", *references[other].split()])

    assert first == await english.align(speech(name), references[name].split())


@pytest.mark.anyio
async def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator is told what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    with pytest.raises(EngineUnavailable, match="install pocketsphinx"):
        async with aligner(1):
            pass


DICTIONARY = frozenset({"don't", "nasa", "'em", "of"})


@pytest.mark.parametrize(
    ("written", "forms"),
    [
        ("42", "forty two"),
        ("1961", "nineteen sixty one"),
        ("1905", "nineteen oh five"),
        ("1900", "nineteen hundred"),
        ("2007", "two thousand seven"),
        ("2026", "twenty twenty six"),
        ("1960s", "nineteen sixties"),
        ("21st", "twenty first"),
        ("30th", "thirtieth"),
        ("1,234", "one thousand two hundred thirty four"),
        ("007", "zero zero seven"),
        ("$3.50", "three point five zero dollars"),
        ("50%", "fifty percent"),
        ("3:30", "three thirty"),
        ("Don’t", "don't"),
        ("’em,", "'em"),
        ("NASA", "nasa"),
        ("FBI", "f. b. i."),
        ("OF", "of"),
        ("well-known", "well known"),
        ("café", "cafe"),
        ("Straße", "strasse"),
        ("“—”", ""),
    ],
)
def test_written_words_become_spoken_ones(written: str, forms: str) -> None:
    """What stands in a transcript is looked up as it is said."""
    assert forms.split() == spoken(written, DICTIONARY.__contains__)


def test_a_foreign_script_is_not_english() -> None:
    """Nobody guesses how it sounds."""
    assert spoken("Москва", DICTIONARY.__contains__) is None


@given(st.text(max_size=60))
def test_any_text_can_be_spoken_and_pronounced(written: str) -> None:
    """No spelling breaks the alignment: forms are clean, and phones are the model's."""
    for form in spoken(written, DICTIONARY.__contains__) or []:
        assert form.strip("abcdefghijklmnopqrstuvwxyz'.") == ""
        assert set(pronunciation(form).split()) <= PHONES
        assert pronunciation(form)


@pytest.mark.parametrize(
    ("word", "phones"),
    [
        ("qasr", "K AE S R"),
        ("knight", "N AY T"),
        ("phaser", "F AE S ER"),
        ("nation", "N AE SH AH N"),
        ("brixton", "B R IH K S T AA N"),
    ],
)
def test_unknown_words_sound_as_they_are_written(word: str, phones: str) -> None:
    """The commonest reading of each group of letters."""
    assert phones == pronunciation(word)
