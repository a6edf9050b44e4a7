"""Speech in a language that the engine cannot hear is refused and not written down as nonsense."""

from collections.abc import AsyncIterator

import numpy as np
import pytest

from qasr.domain.audio import SAMPLE_RATE, Segment
from qasr.domain.errors import UnsupportedLanguage
from qasr.domain.transcript import Sentence, Token
from qasr.engines.base import Capabilities
from qasr.pipeline.language import LiveJudge, in_known_language

pytestmark = pytest.mark.anyio

ENGLISH_ONLY = Capabilities(name="one", languages=frozenset({"en"}), longest_s=30, least_logprob=-0.8)
ANY = Capabilities(name="all", languages=None, longest_s=30)


async def stream(*parts: tuple[int, float]) -> AsyncIterator[tuple[Sentence, ...]]:
    """One sentence for each (length in ms, mean log-probability)."""
    begin = 0
    for length_ms, logprob in parts:
        token = Token(id=1, text=b"x", logprob=logprob)
        yield (Sentence(text="x", begin_ms=begin, end_ms=begin + length_ms, tokens=(token,)),)
        begin += length_ms


async def count(source: AsyncIterator[tuple[Sentence, ...]], capabilities: Capabilities) -> int:
    return len([part async for part in in_known_language(source, capabilities)])


async def test_unsure_speech_is_refused_with_the_remedy() -> None:
    """Five seconds of guessing are not English, and the message says what to do."""
    with pytest.raises(UnsupportedLanguage, match="needs another engine"):
        await count(stream((3000, -1.2), (3000, -1.1)), ENGLISH_ONLY)


async def test_single_words_are_never_refused() -> None:
    """Below five seconds there is too little to judge by."""
    assert 1 == await count(stream((2000, -2.0)), ENGLISH_ONLY)


async def test_a_good_beginning_is_enough() -> None:
    """Noise later in a recording does not take back what was said before."""
    assert 3 == await count(stream((6000, -0.1), (9000, -2.0), (9000, -2.0)), ENGLISH_ONLY)


async def test_engines_of_any_language_are_not_asked() -> None:
    """An engine that claims all languages is taken at its word."""
    assert 1 == await count(stream((9000, -3.0)), ANY)


# Live


def said(length_ms: int, logprob: float) -> tuple[Sentence, ...]:
    """An utterance."""
    token = Token(id=1, text=b"x", logprob=logprob)
    return (Sentence(text="x", begin_ms=0, end_ms=length_ms, tokens=(token,)),)


def verdicts(capabilities: Capabilities, *utterances: tuple[int, float]) -> list[bool]:
    """Whether each was refused."""
    judge = LiveJudge(capabilities)
    return [judge.judge(said(*one)) is not None for one in utterances]


def test_live_utterances_are_judged_one_by_one() -> None:
    """People come and go: English after German is told, German after English is not."""
    assert [False, True, False] == verdicts(ENGLISH_ONLY, (6_000, -0.2), (6_000, -1.3), (6_000, -0.2))


def test_short_live_utterances_are_judged_with_those_before() -> None:
    """The first few of a stranger pass; from five seconds on it is known."""
    assert [False, False, True, True] == verdicts(ENGLISH_ONLY, *[(2_000, -1.3)] * 4)
    assert [False, False] == verdicts(ENGLISH_ONLY, (20_000, -0.2), (1_000, -1.3))


def test_live_engines_of_any_language_are_not_asked() -> None:
    """As with recordings."""
    assert [False] == verdicts(ANY, (9_000, -3.0))


@pytest.mark.parametrize(("length_s", "logprob", "doubted"), [(6, -1.3, True), (6, -0.2, False), (3, -1.3, False)])
def test_what_is_being_said_is_judged_too(length_s: int, logprob: float, doubted: bool) -> None:
    """Nonsense is not shown for a minute before the final refuses it."""
    growing = Segment(pcm=np.zeros(length_s * SAMPLE_RATE, np.float32), begin_ms=0)

    assert doubted == LiveJudge(ENGLISH_ONLY).doubts((), growing, [logprob] * 20)
