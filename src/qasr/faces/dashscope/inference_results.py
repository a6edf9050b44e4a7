"""What a live session tells, as ``result-generated`` frames tell it: one sentence after the other.

::

    session      started 1   partial 1   stopped 1   started 2   partial 2   final 1   final 2
    client                   1 …                                             1 end, 2 …   2 end

An utterance is a sentence; with semantic punctuation it is as many as its final has. A client shows one sentence at a
time, so what is known of an utterance waits until the one before it has ended: the latest partial only, since each
replaces the one before. Sentences are numbered from 1 as they are first shown; utterances without words are not shown.
"""

from collections.abc import Iterator
from typing import Final

from msgspec import UNSET

from qasr.domain.live import Failed, LiveEvent, Partial, SpeechStarted, SpeechStopped
from qasr.domain.live import Final as FinalText
from qasr.domain.transcript import Sentence
from qasr.faces.dashscope import inference_wire as wire
from qasr.faces.dashscope.inference_options import Asked
from qasr.faces.dashscope.spelling import spell
from qasr.pipeline.filters import without_marks
from qasr.pipeline.words import split_sentences, split_words, spread

EMOTIONS: Final = {
    "happy": "positive",
    "neutral": "neutral",
    "surprised": "neutral",
    "sad": "negative",
    "disgusted": "negative",
    "angry": "negative",
    "fearful": "negative",
}
"""Emotions as engines tell them, and as the 8 kHz model does."""


class Results:
    """The results of one task."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._open: dict[int, Partial | None] = {}
        """Utterances that have begun, in order, with the latest that is known of each."""
        self._next_id = 1
        self._shown = False
        """The client has seen an interim result of the sentence with the next id."""
        self._end_ms = 0
        """Where the last sentence ended."""

    @property
    def is_silent(self) -> bool:
        """Nobody speaks, and all that was said has been told."""
        return not self._open

    def hear(self, event: LiveEvent) -> Iterator[wire.Result]:
        """Results that *event* leads to. A ``Failed`` leads to none: the task has failed."""
        match event:
            case SpeechStarted(utterance=utterance):
                self._open.setdefault(utterance, None)
            case Partial(utterance=utterance):
                self._open[utterance] = event
                if utterance == next(iter(self._open)):
                    yield from self._interim(event)
            case FinalText(utterance=utterance):
                self._open.pop(utterance, None)
                yield from self._ended(event)
                if waiting := next(iter(self._open.values()), None):
                    yield from self._interim(waiting)
            case SpeechStopped() | Failed():
                pass

    def heartbeat(self) -> wire.Result | None:
        """Says that we are still there; Gummy's SDK knows no such result."""
        if self._asked.gummy:
            return None
        return _sentence_result(
            wire.LiveSentence(
                sentence_id=self._next_id, begin_time=self._end_ms, end_time=None, text="", heartbeat=True
            ),
            None,
        )

    @property
    def _is_over(self) -> bool:
        return self._asked.traits.one_sentence and self._next_id > 1

    def _interim(self, partial: Partial) -> Iterator[wire.Result]:
        text = (partial.confirmed + partial.tentative).strip()
        end_ms = max([partial.begin_ms, *(word.end_ms for word in partial.words)])
        sentence = Sentence(
            text=text, begin_ms=partial.begin_ms, end_ms=end_ms, language=partial.language, words=partial.words
        )
        shown, words = self._spelled(sentence)
        if not shown or self._is_over:
            return
        yield self._result(sentence, shown, words, ended=False)
        self._shown = True

    def _ended(self, final: FinalText) -> Iterator[wire.Result]:
        if self._is_over:
            return
        told = False
        for sentence in _sentences(final, semantic=self._asked.semantic):
            text, words = self._spelled(sentence)
            if text and not self._is_over:
                yield self._end(sentence, text, words)
                told = True
        if self._shown and not told:  # what was shown is taken back: it must not stand there for ever
            yield self._end(Sentence(text="", begin_ms=final.begin_ms, end_ms=final.end_ms), "", [])

    def _end(self, sentence: Sentence, text: str, words: list[wire.LiveWord]) -> wire.Result:
        result = self._result(sentence, text, words, ended=True)
        self._next_id, self._shown, self._end_ms = self._next_id + 1, False, sentence.end_ms
        return result

    def _spelled(self, sentence: Sentence) -> tuple[str, list[wire.LiveWord]]:
        if not self._asked.punctuation:
            sentence = without_marks(sentence)
        text, spelled = spell(sentence, self._asked.hidden)
        return text, [wire.LiveWord(w.begin_time, w.end_time, w.text, w.punctuation) for w in spelled]

    def _result(self, sentence: Sentence, text: str, words: list[wire.LiveWord], *, ended: bool) -> wire.Result:
        usage = wire.Usage(sentence.end_ms // 1000) if ended else None
        if self._asked.gummy:
            return self._gummy_result(sentence, text, words, usage)
        emotion = EMOTIONS.get(sentence.emotion or "") if self._asked.traits.emotion else None
        return _sentence_result(
            wire.LiveSentence(
                sentence_id=self._next_id,
                begin_time=sentence.begin_ms,
                end_time=sentence.end_ms if ended else None,
                text=text,
                sentence_begin=not self._shown,
                sentence_end=ended,
                emo_tag=emotion if ended and emotion else UNSET,
                words=[wire.LiveWord(w.begin_time, w.end_time, w.text, w.punctuation, ended) for w in words],
            ),
            usage,
        )

    def _gummy_result(
        self, sentence: Sentence, text: str, words: list[wire.LiveWord], usage: wire.Usage | None
    ) -> wire.Result:
        ended = usage is not None
        transcription = wire.GummyTranscription(
            sentence_id=self._next_id,
            begin_time=sentence.begin_ms,
            end_time=sentence.end_ms if ended else UNSET,
            current_time=UNSET if ended else sentence.end_ms,
            text=text,
            words=[wire.GummyWord(w.text + w.punctuation, w.begin_time, w.end_time, ended) for w in words],
            sentence_end=ended,
        )
        return wire.Result(wire.GummyOutput(transcription), usage)


def _sentence_result(sentence: wire.LiveSentence, usage: wire.Usage | None) -> wire.Result:
    return wire.Result(wire.SentenceOutput(sentence), usage)


def _sentences(final: FinalText, *, semantic: bool) -> list[Sentence]:
    """The sentences of an utterance, which they cover from its begin to its end."""
    whole = final.text.strip()
    texts = split_sentences(whole) if semantic else [whole]
    spans = spread(texts, final.begin_ms, final.end_ms)
    sentences: list[Sentence] = []
    begin_ms, words = final.begin_ms, final.words
    for number, (text, (_, guessed_ms)) in enumerate(zip(texts, spans, strict=True), 1):
        is_last = number == len(texts)
        count = len(words) if is_last else len(split_words(text))
        share, words = words[:count], words[count:]
        end_ms = share[-1].end_ms if share else guessed_ms
        end_ms = final.end_ms if is_last else min(final.end_ms, max(begin_ms, end_ms))
        sentences.append(
            Sentence(
                text=text,
                begin_ms=begin_ms,
                end_ms=end_ms,
                language=final.language,
                emotion=final.emotion,
                words=share,
            )
        )
        begin_ms = min(final.end_ms, max(end_ms, words[0].begin_ms)) if words else end_ms
    return sentences
