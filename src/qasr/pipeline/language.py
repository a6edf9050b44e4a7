"""Is this a language that the engine can hear? Asked where the client named none.

An engine of one language writes down other languages as nonsense, word for word and unsure of each. How unsure tells
them apart once there is enough to judge by: see docs/decisions/0005 for the figures. What is judged is the beginning of
the speech; when it has passed, the rest of the recording is never refused.
"""

from collections import deque
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Final, NamedTuple

from qasr.domain.audio import Segment
from qasr.domain.errors import UnsupportedLanguage
from qasr.domain.transcript import Sentence
from qasr.engines.base import Capabilities

ENOUGH_MS: Final = 5_000
"""Speech to judge by; single words of any language may be unsure."""


async def in_known_language(
    heard: AsyncIterator[tuple[Sentence, ...]], capabilities: Capabilities
) -> AsyncIterator[tuple[Sentence, ...]]:
    """Pass sentences on, once those at the beginning sound like a language of the engine.

    Raises:
        UnsupportedLanguage: they do not.
    """
    if capabilities.least_logprob is None or capabilities.languages is None:
        async for sentences in heard:
            yield sentences
        return
    held: list[tuple[Sentence, ...]] = []
    judged = False
    async for sentences in heard:
        held.append(sentences)
        if not judged and _length_ms(held) >= ENOUGH_MS:
            _judge(held, capabilities, capabilities.least_logprob)
            judged = True
        if judged:
            for passed in held:
                yield passed
            held.clear()
    for passed in held:
        yield passed


def _length_ms(held: list[tuple[Sentence, ...]]) -> int:
    return sum(sentence.end_ms - sentence.begin_ms for sentences in held for sentence in sentences)


def _judge(held: list[tuple[Sentence, ...]], capabilities: Capabilities, least_logprob: float) -> None:
    logprobs = [token.logprob for sentences in held for sentence in sentences for token in sentence.tokens]
    if logprobs and sum(logprobs) / len(logprobs) < least_logprob:
        raise _unknown_to(capabilities)


def _unknown_to(capabilities: Capabilities) -> UnsupportedLanguage:
    known = ", ".join(sorted(capabilities.languages or ()))
    return UnsupportedLanguage(
        f"The speech does not sound like a language that the loaded engine {capabilities.name!r} recognizes "
        f"({known}). Name the language if it is one of these; else it needs another engine (docs/engines.md: which "
        "there are, how one is added; QASR_ENGINES__DEFAULT chooses it).",
        parameter="language",
    )


class LiveJudge:
    """The same question about live speech, asked of each utterance anew: people come and go.

    An utterance that is too short to be judged is judged together with those before it, as far as they are needed.
    """

    def __init__(self, capabilities: Capabilities) -> None:
        self._capabilities = capabilities
        self._evidence: deque[_Evidence] = deque()

    def judge(self, sentences: tuple[Sentence, ...]) -> UnsupportedLanguage | None:
        """Why what was said in an utterance cannot be told; None if it can."""
        logprobs = [token.logprob for sentence in sentences for token in sentence.tokens]
        if not logprobs:
            return None
        length_ms = _length_ms([sentences])
        self._evidence.append(_Evidence(length_ms, sum(logprobs), len(logprobs)))
        while sum(one.length_ms for one in self._evidence) - self._evidence[0].length_ms >= ENOUGH_MS:
            self._evidence.popleft()
        return _unknown_to(self._capabilities) if self._is_foreign(self._evidence) else None

    def doubts(self, sentences: tuple[Sentence, ...], growing: Segment | None, logprobs: Sequence[float]) -> bool:
        """Whether the beginning of an utterance had better not be told.

        Args:
            sentences: what was heard of it so far.
            growing: what is being said.
            logprobs: of the tokens heard in that.
        """
        if self._capabilities.least_logprob is None:
            return False
        heard = [token.logprob for sentence in sentences for token in sentence.tokens] + list(logprobs)
        length_ms = _length_ms([sentences]) + (growing.end_ms - growing.begin_ms if growing else 0)
        here = _Evidence(length_ms, sum(heard), len(heard))
        return bool(heard) and self._is_foreign([*self._evidence, here] if length_ms < ENOUGH_MS else [here])

    def _is_foreign(self, evidence: Collection["_Evidence"]) -> bool:
        least, known = self._capabilities.least_logprob, self._capabilities.languages
        if least is None or known is None or sum(one.length_ms for one in evidence) < ENOUGH_MS:
            return False
        return sum(one.logprob for one in evidence) / sum(one.n_tokens for one in evidence) < least


class _Evidence(NamedTuple):
    """How sure an engine was of one utterance."""

    length_ms: int
    logprob: float
    """Of all tokens."""
    n_tokens: int
