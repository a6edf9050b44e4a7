"""What an engine heard becomes sentences and words."""

import numpy as np
import pytest

from qasr.domain.audio import SAMPLE_RATE, Segment
from qasr.domain.options import RecognitionOptions
from qasr.domain.transcript import Hypothesis, Word
from qasr.pipeline.recognize import sentences_of

pytestmark = pytest.mark.anyio

SEGMENT = Segment(pcm=np.zeros(2 * SAMPLE_RATE, np.float32), begin_ms=10_000)
OPTIONS = RecognitionOptions(word_times="words")


def timed(*words: tuple[str, int, int], estimated: bool = False) -> tuple[Word, ...]:
    return tuple(Word(text=text, begin_ms=begin, end_ms=end, estimated=estimated) for text, begin, end in words)


async def words_of(hypothesis: Hypothesis) -> list[Word]:
    return [word for sentence in await sentences_of(SEGMENT, hypothesis, OPTIONS, None) for word in sentence.words]


@pytest.mark.parametrize("estimated", [False, True])
async def test_times_of_the_engine_are_taken_with_the_words_of_the_text(estimated: bool) -> None:
    """However it writes them; none lies behind the segment, and an estimate stays one."""
    words = timed(("hello,", 100, 500), ("World!", 600, 2400), estimated=estimated)

    found = await words_of(Hypothesis(text="Hello, world!", language="en", words=words))

    assert [
        Word(text="Hello", punctuation=",", begin_ms=10_100, end_ms=10_500, estimated=estimated),
        Word(text="world", punctuation="!", begin_ms=10_600, end_ms=12_000, estimated=estimated),
    ] == found


@pytest.mark.parametrize("words", [(), timed(("Hello there", 100, 500))])
async def test_words_that_do_not_fit_the_text_are_not_taken(words: tuple[Word, ...]) -> None:
    """Times of another text would give each sentence the words of its neighbor."""
    found = await words_of(Hypothesis(text="Hello, world!", language="en", words=words))

    assert [("Hello", True), ("world", True)] == [(word.text, word.estimated) for word in found]
