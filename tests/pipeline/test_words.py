"""Text into words and sentences."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qasr.domain.transcript import Word
from qasr.pipeline.words import refit, split_sentences, split_words, spread


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, world.", [("Hello", ","), ("world", ".")]),
        ("I don't know", [("I", ""), ("don't", ""), ("know", "")]),
        ("今天天气不错。", [("今", ""), ("天", ""), ("天", ""), ("气", ""), ("不", ""), ("错", "。")]),
        ("用 Python 写", [("用", ""), ("Python", ""), ("写", "")]),
        ("well - yes", [("well", "-"), ("yes", "")]),
        ("“Quoted,” he said", [("Quoted", ",”"), ("he", ""), ("said", "")]),
        ("", []),
        ("...", []),
    ],
)
def test_words_and_their_punctuation(text: str, words: list[tuple[str, str]]) -> None:
    """Punctuation belongs to the word before it; unspaced scripts have one word a character."""
    assert words == split_words(text)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Mr. Hale said so. Then he left", ["Mr. Hale said so.", "Then he left"]),
        ("It costs 3.5 dollars.", ["It costs 3.5 dollars."]),
        ("你好。再见！", ["你好。", "再见！"]),
        ('He said "go." She went.', ['He said "go."', "She went."]),
        ("no end", ["no end"]),
        ("", []),
    ],
)
def test_sentences_end_at_their_marks(text: str, sentences: list[str]) -> None:
    """Titles and decimal points end no sentence."""
    assert sentences == split_sentences(text)


@given(st.text(alphabet="abc .!?,'今天。\n\"-", max_size=60))
def test_sentences_lose_no_word(text: str) -> None:
    """The words of the sentences are the words of the text."""
    words = [word for sentence in split_sentences(text) for word, _ in split_words(sentence)]

    assert [word for word, _ in split_words(text)] == words


@given(st.lists(st.text(min_size=1, max_size=9), max_size=20), st.integers(0, 10**7), st.integers(0, 10**5))
def test_estimated_times_never_go_backwards(parts: list[str], begin_ms: int, length_ms: int) -> None:
    """They fill the stretch, in order."""
    times = spread(parts, begin_ms, begin_ms + length_ms)
    flat = [begin_ms, *(ms for pair in times for ms in pair), begin_ms + length_ms]

    assert sorted(flat) == flat
    assert all(a[1] == b[0] for a, b in pairwise(times))


def timed(*pieces: tuple[str, int, int]) -> list[Word]:
    return [Word(text=text, begin_ms=begin, end_ms=end) for text, begin, end in pieces]


@pytest.mark.parametrize(
    ("text", "pieces", "expected"),
    [
        ("Hello there.", [("Hello", 0, 400), ("there.", 400, 900)], [(0, 400), (400, 900)]),
        ("Hello there.", [("▁he", 0, 100), ("llo", 100, 400), ("▁there", 450, 900)], [(0, 400), (450, 900)]),
        ("今天好。", [("今天", 100, 500), ("好", 600, 700)], [(100, 300), (300, 500), (600, 700)]),
        ("It's 5 %", [("it's", 0, 200), ("5", 200, 300), ("%", 300, 400)], [(0, 200), (200, 300)]),
        ("a b", [("b", 0, 1), ("a", 1, 2)], None),
        ("more than was timed", [("more", 0, 100)], None),
    ],
)
def test_times_of_an_engine_s_pieces_become_times_of_words(
    text: str, pieces: list[tuple[str, int, int]], expected: list[tuple[int, int]] | None
) -> None:
    """Whatever it cuts a text into; only where the pieces are not that text there are no times."""
    assert expected == refit(split_words(text), timed(*pieces))


def test_times_never_go_backwards() -> None:
    """An engine's may."""
    assert [(0, 500), (500, 500), (500, 700)] == refit(
        split_words("one two three"), timed(("one", 0, 500), ("two", 300, 450), ("three", 400, 700))
    )
