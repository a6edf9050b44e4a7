"""Hotwords as the decoder meets them: a tree of token sequences, and words worth knowing out of a context.

A phrase is looked for in the spellings that the model might give it: as the client writes it, in small letters, and
with a capital. It is written as the client does if the client uses capitals, else as it was heard.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from qasr.engines.moonshine.tokenizer import Tokenizer

CONTEXT_WEIGHT: Final = 2
"""Of a word that stands in a context: what the talk is about may be said, what is on a list is expected."""
CONTEXT_TERMS: Final = 200
"""The last ones of a context."""
RARE_TOKENS: Final = 3
"""A word of so many tokens is one that the model did not meet often."""
SHORTEST_TERM: Final = 3
"""Letters of a word out of a context."""

_WORD: Final = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_BEFORE_SENTENCE: Final = re.compile(r"(?:^|[.!?:\n])[\s\"'“”‘’(]*$")


@dataclass(frozen=True, slots=True)
class Spelling:
    """One way to hear a phrase.

    ``evidence`` are the tokens that it is looked for by, ``written`` those that stand for it in the text.
    """

    text: str
    weight: int
    evidence: tuple[int, ...]
    written: tuple[int, ...]


@dataclass(slots=True)
class Node:
    """A place in the tree; the root is the blank before a word."""

    weight: int = 0
    """The highest of all phrases from here on."""
    after: "dict[int, Node]" = field(default_factory=dict)
    spelling: Spelling | None = None
    """Of the phrase that ends here."""


class Hotwords:
    """All phrases of a request, ready for use.

    Args:
        phrases: with their weights, most important first; of equal ones the first counts.
        context: a text whose rare words are phrases, too.
        tokenizer: the model's.
    """

    def __init__(self, phrases: Sequence[tuple[str, int]], context: str, tokenizer: Tokenizer) -> None:
        self.root = Node()
        weights: dict[str, int] = {}
        for text, weight in (*phrases, *((term, CONTEXT_WEIGHT) for term in terms(context, tokenizer))):
            weights.setdefault(" ".join(text.split()), weight)
        self.suppressed: tuple[tuple[str, int], ...] = tuple((t.casefold(), w) for t, w in weights.items() if w < 0)
        for text, weight in weights.items():
            if text and weight > 0:
                for spelling in _spellings(text, weight, tokenizer):
                    self._add(spelling)

    def __bool__(self) -> bool:
        return bool(self.root.after or self.suppressed)

    def _add(self, spelling: Spelling) -> None:
        node = self.root
        for token in spelling.evidence:
            node = node.after.setdefault(token, Node())
            node.weight = max(node.weight, spelling.weight)
        node.spelling = node.spelling or spelling


def _spellings(text: str, weight: int, tokenizer: Tokenizer) -> Iterable[Spelling]:
    given = tuple(tokenizer.encode(f" {text}"))
    for form in dict.fromkeys((text, text.lower(), text[0].upper() + text[1:], text.title())):
        evidence = tuple(tokenizer.encode(f" {form}"))
        yield Spelling(text, weight, evidence, evidence if text.islower() else given)


def terms(context: str, tokenizer: Tokenizer) -> list[str]:
    """Words of *context* that an engine may not know: names, words with capitals or digits inside, and rare words."""
    found: dict[str, None] = {}
    for match in _WORD.finditer(context):
        word = match[0]
        if len(word) >= SHORTEST_TERM and _is_rare(word, context[: match.start()][-20:], tokenizer):
            found.pop(word, None)
            found[word] = None
    return list(found)[-CONTEXT_TERMS:]


def _is_rare(word: str, before: str, tokenizer: Tokenizer) -> bool:
    if word.isdecimal():
        return False
    if word[1:] != word[1:].lower() or any(letter.isdecimal() for letter in word):
        return True
    if word[0].isupper() and not _BEFORE_SENTENCE.search(before):
        return True
    return len(tokenizer.encode(f" {word}")) >= RARE_TOKENS
