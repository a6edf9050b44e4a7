"""What a client may ask of a recognition, in our words; each face translates its parameters into these."""

from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Hotword:
    """One phrase to favor, or to suppress."""

    text: str
    weight: int
    """1 to 5: the more, the less like the phrase it needs to sound. 50: wherever it could be. Below 0: the phrase is
    to be taken for something else where that sounds nearly as likely. 0 changes nothing."""
    language: str | None = None
    """It is said in this language alone; None: in any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VocabularyName:
    """A stored vocabulary, as a request names it."""

    id: str
    models: tuple[str, ...]
    """Names of the model that is asked; the vocabulary must have been made for one of them."""
    parameter: str
    """Where the name stands, in the dialect's own words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """What an engine may use to hear better. All of it is optional; an engine takes what it can.

    ``language`` is a code such as ``en``, or None when the client did not say.
    """

    language: str | None = None
    context: str = ""
    hotwords: tuple[Hotword, ...] = ()
    vocabulary: VocabularyName | None = None
    """Further hotwords; the service looks them up, so that an engine meets none."""


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
