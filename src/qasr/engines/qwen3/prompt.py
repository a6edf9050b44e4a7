"""What the decoder reads before it writes, and what its answer means.

::

    <|im_start|>system⏎{context}<|im_end|>⏎
    <|im_start|>user⏎<|audio_start|>▒▒▒▒▒▒▒▒<|audio_end|><|im_end|>⏎        ▒ one place per embedding of the sound
    <|im_start|>assistant⏎[language English<asr_text>]                      only where the language is forced

    answer, language found:    language English<asr_text>And so, my fellow …
    answer, language forced:   And so, my fellow …
    answer, nothing said:      language None<asr_text>

The context is a client's text. It is stripped of everything that the tokenizer reads as a token of its own until
nothing is left to strip, and the finished prompt is counted once more: a client cannot end its turn and begin another.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from qasr.engines.qwen3.languages import NAMES, find_code

_MARKS: Final = re.compile(r"<\|[^<>|]*\|>")
"""What looks like a special token, known or not."""


class ContextTooLong(Exception):
    """The context has more tokens than there is room for."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Ids around the sound."""

    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What an answer's tokens mean."""

    text: str
    language: str | None
    """A code; None: no speech, or a language without a code."""
    begin: int
    """The first token that belongs to ``text``."""


class Prompts:
    """Writes prompts and reads answers with a checkpoint's own tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._added: dict[str, int] = dict(tokenizer.get_added_vocab())
        self._added_ids = frozenset(self._added.values())
        self._longest_first = sorted(self._added, key=len, reverse=True)
        self._text_id = self._id("<asr_text>")
        self._pad_id = self._id("<|audio_pad|>")
        self._bytes = {char: byte for byte, char in _printable_bytes().items()}

    def _id(self, token: str) -> int:
        if token not in self._added:
            raise ValueError(f"the checkpoint's tokenizer does not know {token}")
        return self._added[token]

    def clean(self, context: str) -> str:
        """*context* without anything that could pass for a token of the template."""
        before = None
        while before != context:
            before = context
            context = _MARKS.sub("", context)
            for token in self._longest_first:
                context = context.replace(token, "")
        return context

    def build(self, context: str, language: str | None, *, most_context: int) -> Prompt:
        """The prompt of one segment.

        Args:
            context: a client's text; cleaned here.
            language: a code to force, or None.
            most_context: tokens that the context may have.

        Raises:
            ContextTooLong: it has more.
        """
        context = self.clean(context)
        forced = "" if language is None else f"language {NAMES[language]}<asr_text>"
        ids = self._ids(
            f"<|im_start|>system\n{context}<|im_end|>\n<|im_start|>user\n<|audio_start|><|audio_pad|><|audio_end|>"
            f"<|im_end|>\n<|im_start|>assistant\n{forced}"
        )
        n_marks = sum(i in self._added_ids for i in ids)
        if n_marks != 8 + (language is not None):
            raise AssertionError("a context broke out of its place")  # kept from happening by `clean`
        pad = ids.index(self._pad_id)
        if pad - len(self._ids("<|im_start|>system\n<|im_end|>\n<|im_start|>user\n<|audio_start|>")) > most_context:
            raise ContextTooLong
        return Prompt(tuple(ids[:pad]), tuple(ids[pad + 1 :]))

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def pieces(self, ids: Sequence[int]) -> list[bytes]:
        """The bytes of each token; of special ones, none."""
        tokens = self._tokenizer.convert_ids_to_tokens(list(ids))
        return [
            b"" if i in self._added_ids or token is None else bytes(self._bytes[char] for char in token)
            for i, token in zip(ids, tokens, strict=True)
        ]

    def read(self, ids: Sequence[int], forced: str | None) -> Answer:
        """What *ids* mean, which the model wrote after a prompt with *forced*."""
        begin, language = 0, forced
        if forced is None and self._text_id in ids:
            begin = list(ids).index(self._text_id) + 1
            language = _language(_decoded(self.pieces(ids[: begin - 1])))
        return Answer(_decoded(self.pieces(ids[begin:])).strip(), language, begin)


def _decoded(pieces: Sequence[bytes]) -> str:
    return b"".join(pieces).decode(errors="replace")


def _language(told: str) -> str | None:
    """The code of ``language English``; of several, the first."""
    name = told.strip().removeprefix("language").partition(",")[0].strip()
    return find_code(name)


def _printable_bytes() -> dict[int, str]:
    """How byte-level vocabularies write bytes: as themselves where they can be seen, else from U+0100 on."""
    seen = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in seen]
    return {byte: chr(byte) for byte in seen} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}
