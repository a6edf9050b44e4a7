"""What was heard: tokens, words, sentences, transcripts."""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One token of an engine's answer; ``logprob`` is natural, at most 0."""

    id: int
    text: bytes
    logprob: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One recognized word; times count from the start of the recording.

    ``text`` carries no punctuation; what follows the word stands in ``punctuation``.
    """

    text: str
    punctuation: str = ""
    begin_ms: int
    end_ms: int
    estimated: bool = False
    """True where no aligner measured the times: they were spread over the sentence by length."""

    def __post_init__(self) -> None:
        if not 0 <= self.begin_ms <= self.end_ms:
            raise ValueError(f"word {self.text!r} spans {self.begin_ms}-{self.end_ms} ms")


Emotion: TypeAlias = Literal["surprised", "neutral", "happy", "sad", "disgusted", "angry", "fearful"]
"""The seven documented labels."""

EMOTIONS: Final[frozenset[Emotion]] = frozenset(get_args(Emotion))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tags:
    """How a segment was said and what else was heard; None and empty where it is not known."""

    emotion: Emotion | None = None
    events: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypothesis:
    """An engine's guess for one segment.

    ``words``, if given, are the pieces of ``text`` that the engine timed, in order: tokens, or words with their
    punctuation. They count from the start of the *segment*.
    """

    text: str
    language: str | None = None
    tokens: tuple[Token, ...] = ()
    words: tuple[Word, ...] | None = None
    emotion: Emotion | None = None
    events: tuple[str, ...] = ()
    """Sounds beside the speech, such as ``music`` or ``laughter``, from engines that tell them."""
    truncated: bool = False
    """The engine stopped at its token limit; the text is incomplete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """Text with times, as clients see it. ``text`` has no surrounding blanks."""

    text: str
    begin_ms: int
    end_ms: int
    channel: int = 0
    language: str | None = None
    emotion: Emotion | None = None
    events: tuple[str, ...] = ()
    speaker: int | None = None
    words: tuple[Word, ...] = ()
    tokens: tuple[Token, ...] = ()
    estimated: bool = False
    """True where begin and end were not measured but spread over the segment by length."""
    speech_probability: float = 1.0
    truncated: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.begin_ms <= self.end_ms:
            raise ValueError(f"sentence {self.text!r} spans {self.begin_ms}-{self.end_ms} ms")


UNSPACED = frozenset({"zh", "yue", "ja", "th", "wuu", "nan"})
"""Languages written without blanks between words."""


def separator(language: str | None) -> str:
    """What stands between two sentences of a text."""
    return "" if language in UNSPACED else " "


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """A whole recording, recognized."""

    sentences: tuple[Sentence, ...]
    duration_ms: int
    engine: str
    checkpoint: str | None = None
    """What the engine was loaded from, by its name in the catalogue."""

    language: str | None = None
    damaged_packets: int = 0
    """Packets of the media stream that could not be decoded and were skipped."""

    speech_ms: int = 0
    """Length of all sentences."""
    unused: tuple[str, ...] = ()
    """Hints that the engine could not use."""

    @property
    def text(self) -> str:
        """The whole text."""
        return join(self.sentences)


def join(sentences: tuple[Sentence, ...]) -> str:
    """The text of *sentences*, with blanks where the language has them."""
    parts: list[str] = []
    for sentence in sentences:
        if parts:
            parts.append(separator(sentence.language))
        parts.append(sentence.text)
    return "".join(parts)
