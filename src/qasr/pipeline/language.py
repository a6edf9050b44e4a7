"""Is this a language that the engine can hear? Asked where the client named none.

An engine of one language writes down other languages as nonsense, word for word and unsure of each. How unsure tells
them apart once there is enough to judge by: see docs/decisions/0005 for the figures. What is judged is the beginning of
the speech; when it has passed, the rest of the recording is never refused.
"""

from collections.abc import AsyncIterator
from typing import Final

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
        known = ", ".join(sorted(capabilities.languages or ()))
        raise UnsupportedLanguage(
            f"The speech does not sound like a language that the loaded engine {capabilities.name!r} recognizes "
            f"({known}). Name the language if it is one of these; else it needs another engine (docs/engines.md: which "
            "there are, how one is added; QASR_ENGINES__DEFAULT chooses it).",
            parameter="language",
        )
