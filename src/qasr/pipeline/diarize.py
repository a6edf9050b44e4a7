"""Who says which words: the stage that must hear everything before it can tell anything::

    segments ─▶ voices of each (engine's child process) ─┐
                                                         ├─▶ all voices ─▶ speakers ─▶ turns ─▶ words ─▶ sentences
    segments ─▶ sentences with timed words ──────────────┘

Channels are told apart already, so each has its speakers, counted from 0. What is said by several at once gets one
speaker a word. Words are never lost, added or moved: a sentence in which the speaker changes becomes several.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from itertools import groupby, pairwise

from qasr.domain.audio import Segment
from qasr.domain.errors import EngineUnavailable
from qasr.domain.options import RecognitionOptions
from qasr.domain.speakers import Turns, Voice, turns_of
from qasr.domain.transcript import Sentence, Word
from qasr.engines.base import Diarizer
from qasr.engines.registry import LoadedEngines
from qasr.pipeline.recognize import share_tokens


async def turns_by_channel(
    voices: Sequence[Voice], diarizer: Diarizer, options: RecognitionOptions
) -> dict[int, Turns]:
    """Who speaks when on each channel on which somebody does.

    Raises:
        EngineFailed, EngineUnavailable: it cannot be told.
    """
    turns = {}
    for channel in sorted({voice.channel for voice in voices}):
        own = sorted((v for v in voices if v.channel == channel), key=lambda v: (v.begin_ms, v.end_ms, v.embedding))
        turns[channel] = Turns(turns_of(own, await diarizer.identify(own, options.speaker_count)))
    return turns


async def with_speakers(
    heard: AsyncIterator[tuple[Sentence, ...]],
    voices: Sequence[Voice],
    diarizer: Diarizer,
    options: RecognitionOptions,
) -> AsyncIterator[tuple[Sentence, ...]]:
    """The sentences of a whole recording, each with its speaker; the first comes when the last was heard.

    Args:
        heard: the sentences.
        voices: of the recording, in any order; looked at when *heard* has ended.
        diarizer: which found them.
        options: for the number of speakers.

    Raises:
        EngineFailed, EngineUnavailable: it cannot be told who speaks.
    """
    everything = [sentences async for sentences in heard]
    turns = await turns_by_channel(voices, diarizer, options)
    for sentences in everything:
        yield tuple(part for sentence in sentences for part in attributed(sentence, turns.get(sentence.channel)))


async def diarizer_of(engines: LoadedEngines) -> Diarizer:
    """What tells speakers apart, loaded.

    Raises:
        EngineUnavailable: there is nothing, or it does not load.
    """
    if engines.diarizer is None:
        raise EngineUnavailable("Nothing is loaded that tells speakers apart.")
    return await engines.diarizer()


async def voices_in(segment: Segment, diarizer: Diarizer) -> list[Voice]:
    """Who is heard in *segment*.

    Raises:
        EngineFailed, EngineUnavailable: it cannot be told.
    """
    return [replace(voice, channel=segment.channel) for voice in await diarizer.voices(segment)]


def attributed(sentence: Sentence, turns: Turns | None) -> tuple[Sentence, ...]:
    """*sentence*, parted where the speaker changes, each part with its speaker; words, text and order stay.

    Where there are no words with times, or other words than the text has, it stays whole and is whose most of it is.
    """
    if turns is None:
        return (sentence,)
    places = _places(sentence)
    if not places:
        return (replace(sentence, speaker=turns.speaker(sentence.begin_ms, sentence.end_ms)),)
    speakers: list[int | None] = []
    for word in sentence.words:
        speakers.append(turns.speaker(word.begin_ms, word.end_ms, speakers[-1] if speakers else None))
    speakers = _without_slips(speakers, sentence.words)
    runs = [list(run) for _, run in groupby(range(len(speakers)), key=speakers.__getitem__)]
    if len(runs) == 1:
        return (replace(sentence, speaker=speakers[0]),)
    cuts = [0, *(places[run[0]] for run in runs[1:]), len(sentence.text)]
    texts = [sentence.text[begin:end].strip() for begin, end in pairwise(cuts)]
    return tuple(
        replace(
            sentence,
            text=text,
            begin_ms=sentence.words[run[0]].begin_ms,
            end_ms=max(sentence.words[place].end_ms for place in run),
            speaker=speakers[run[0]],
            words=tuple(sentence.words[place] for place in run),
            tokens=tokens,
        )
        for run, text, tokens in zip(runs, texts, share_tokens(texts, sentence.tokens), strict=True)
    )


def _without_slips(speakers: Sequence[int | None], words: Sequence[Word]) -> list[int | None]:
    """A single word that no sign parts from its neighbor is the neighbor's: times of words are not exact to the tenth
    of a second, and nobody hands over in the middle of a clause for one word.
    """
    settled = list(speakers)
    for place, speaker in enumerate(speakers):
        before = settled[place - 1] if place and not words[place - 1].punctuation else speaker
        after = speakers[place + 1] if place + 1 < len(speakers) and not words[place].punctuation else speaker
        is_last_of_its_run = place + 1 == len(speakers) or speakers[place + 1] != speaker
        is_first_of_its_run = not place or settled[place - 1] != speaker
        if is_first_of_its_run and is_last_of_its_run:
            settled[place] = before if before != speaker else after
    return settled


def _places(sentence: Sentence) -> list[int]:
    """Where each word, with the signs that open it, begins in the text; nothing if they are not the text's words."""
    places, end = list[int](), 0
    for word in sentence.words:
        begin = sentence.text.find(word.text, end)
        between = sentence.text[end:begin]
        if begin < 0 or not word.text or any(sign.isalnum() for sign in between):
            return []
        opening = between.rpartition(" ")[2] if " " in between else _opening(between)
        places.append(begin - len(opening))
        end = begin + len(word.text)
    return [] if any(sign.isalnum() for sign in sentence.text[end:]) else places


def _opening(signs: str) -> str:
    """Those of *signs* that belong to the word behind them."""
    return signs[len(signs.rstrip("\"'“‘([¿¡「『《（【")) :]
