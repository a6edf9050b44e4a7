"""Token and second counts as the services report them."""

from dataclasses import dataclass
from typing import Final

from qasr.domain.transcript import Sentence

AUDIO_TOKENS_PER_S: Final = 25
"""Documented rate; recordings below one second count as one second."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one recognition used."""

    duration_ms: int
    output_tokens: int

    @property
    def audio_tokens(self) -> int:
        """``ceil(seconds * 25)``, at least 25: reproduces the published sample (42 tokens for 1.68 s)."""
        return max(AUDIO_TOKENS_PER_S, -(-self.duration_ms * AUDIO_TOKENS_PER_S // 1000))

    @property
    def seconds(self) -> int:
        """Whole seconds, rounded down, at least 1."""
        return max(1, self.duration_ms // 1000)


def count_tokens(sentence: Sentence) -> int:
    """The engine's own tokens; without them, words (or characters of unspaced scripts)."""
    return len(sentence.tokens) or count_words(sentence.text)


def count_words(text: str) -> int:
    """Words, or characters of unspaced scripts."""
    return max(len(text.split()), sum(ord(c) > 0x2E7F for c in text))
