"""What a client may ask of a recognition, in our words; each face translates its parameters into these."""

from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Hotword:
    """One phrase to favor; the weight's range is the dialect's (1-5, or 50 for forced)."""

    text: str
    weight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """What an engine may use to hear better. All of it is optional; an engine takes what it can.

    ``language`` is a code such as ``en``, or None when the client did not say.
    """

    language: str | None = None
    context: str = ""
    hotwords: tuple[Hotword, ...] = ()


WordTimes: TypeAlias = Literal["none", "words"]
"""Whether words need times: they cost an alignment for engines that do not give them."""


SentenceEnds: TypeAlias = Literal["punctuation", "pauses"]
"""Where sentences end: at pauses and at punctuation, or at pauses only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HiddenWords:
    """Words of the client's own that its transcripts must not show; applied where a transcript is written out."""

    starred: tuple[str, ...] = ()
    """Shown as asterisks."""
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecognitionOptions:
    """All that decides a result besides the sound itself."""

    hints: Hints = Hints()
    itn: bool = False
    drop_fillers: bool = False
    """Without *um* and 嗯."""
    punctuation: bool = True
    """False: words alone; applied where a transcript is written out."""
    word_times: WordTimes = "none"
    sentence_ends: SentenceEnds = "punctuation"
    hidden: HiddenWords = HiddenWords()
    channels: tuple[int, ...] | None = None
    """Tracks to recognize apart from each other, from 0; None mixes all of them to one."""

    speakers: bool = False
    """Tell who says what; words are wanted with times then."""
    speaker_count: int | None = None
    """How many speakers there are; None: that is to be found out."""
    emotion: bool = False
