"""What is said in one segment; recordings, tasks and live sessions come here::

    segment ─▶ engine slots ─▶ guards ─▶ language ─▶ emotion ─▶ words with times ─▶ sentences

One that was not heard to its end goes the same way again, in halves.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from qasr.domain import telemetry
from qasr.domain.audio import Segment
from qasr.domain.errors import EngineError
from qasr.domain.options import RecognitionOptions
from qasr.domain.transcript import Hypothesis, Sentence, Tags, Token, Word
from qasr.engines.base import Aligner, Request, Tagger
from qasr.engines.registry import LoadedEngines
from qasr.engines.slots import Lane
from qasr.pipeline import guards
from qasr.pipeline.text_language import with_language
from qasr.pipeline.words import make_words, refit, split_sentences, split_words, spread

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Whose work it is, for the engine slots."""

    lane: Lane
    owner: str


async def recognize(
    segment: Segment,
    options: RecognitionOptions,
    engines: LoadedEngines,
    turn: Turn,
    *,
    splits: int = guards.MOST_SPLITS,
) -> tuple[Sentence, ...]:
    """Wait for a turn at the engine and hear *segment*; one that the engine did not hear to its end is heard in halves,
    and these again in halves at most *splits* - 1 times.

    Raises:
        QueueFull, EngineError: as ``EngineSlots.recognize``.
    """
    with telemetry.stage("recognize", engine=engines.name, audio_s=round(segment.duration_s, 3)):
        return await _recognize(segment, options, engines, turn, splits)


async def _recognize(
    segment: Segment, options: RecognitionOptions, engines: LoadedEngines, turn: Turn, splits: int
) -> tuple[Sentence, ...]:
    request = Request(segment=segment, hints=options.hints, word_times=options.word_times == "words", itn=options.itn)
    answer = await engines.slots.recognize(request, lane=turn.lane, owner=turn.owner)
    hypothesis, acted = guards.kept(segment, answer, options.hints)
    _note(acted, segment, engines)
    if (answer.truncated or "loop" in acted) and splits and (parts := guards.halves(segment)):
        _note(("split",), segment, engines)
        first, second = [await recognize(part, options, engines, turn, splits=splits - 1) for part in parts]
        return first + second
    hypothesis = await with_language(hypothesis, options.hints.language, engines.slots.capabilities.languages)
    if engines.tagger is not None and hypothesis.text.strip() and hypothesis.emotion is None:
        tags = await _tags(segment, engines.tagger)
        hypothesis = replace(hypothesis, emotion=tags.emotion, events=hypothesis.events or tags.events)
    aligner = engines.live_aligner if turn.lane is Lane.LIVE else engines.aligner
    return await sentences_of(segment, hypothesis, options, aligner)


async def _tags(segment: Segment, tagger: Tagger) -> Tags:
    """What the tagger tells; nothing where it fails, as the text is good without it."""
    try:
        with telemetry.stage("tag"):
            return await tagger.tag(segment)
    except EngineError as error:
        log.warning("tagging_failed", tagger=tagger.name, reason=str(error), audio_s=round(segment.duration_s, 1))
        return Tags()


def _note(acted: Sequence[guards.Guard], segment: Segment, engines: LoadedEngines) -> None:
    for guard in acted:
        engines.interventions[guard] += 1
        telemetry.tell(telemetry.GuardActed(engine=engines.name, guard=guard))
        log.info("guard_acted", guard=guard, engine=engines.name, audio_s=round(segment.duration_s, 1))


async def sentences_of(
    segment: Segment, hypothesis: Hypothesis, options: RecognitionOptions, aligner: Aligner | None
) -> tuple[Sentence, ...]:
    """What was heard in *segment*, as sentences with times, and with words where *options* want them."""
    whole = hypothesis.text.strip()
    texts = split_sentences(whole) if options.sentence_ends == "punctuation" else [whole] * bool(whole)
    if not texts:
        return ()
    words = await _timed_words(segment, hypothesis, aligner) if options.word_times == "words" else ()
    if words:
        spans, estimated, shares = _by_words(texts, words), words[0].estimated, _share(texts, words)
    else:
        spans = spread(texts, segment.begin_ms, segment.end_ms)
        estimated, shares = len(texts) > 1, [()] * len(texts)
    return tuple(
        Sentence(
            text=text,
            begin_ms=begin,
            end_ms=end,
            channel=segment.channel,
            language=hypothesis.language,
            emotion=hypothesis.emotion,
            events=hypothesis.events,
            words=share,
            tokens=tokens,
            estimated=estimated,
            speech_probability=segment.speech_probability,
            truncated=hypothesis.truncated,
        )
        for text, (begin, end), share, tokens in zip(
            texts, spans, shares, share_tokens(texts, hypothesis.tokens), strict=True
        )
    )


async def _timed_words(segment: Segment, hypothesis: Hypothesis, aligner: Aligner | None) -> tuple[Word, ...]:
    """Words with times: the engine's own, else the aligner's, else estimated (and marked so)."""
    pieces = split_words(hypothesis.text)
    if not pieces:
        return ()
    if hypothesis.words is not None and (own := refit(pieces, hypothesis.words)) is not None:
        within = [[min(ms + segment.begin_ms, segment.end_ms) for ms in span] for span in own]
        shifted = [(begin, end) for begin, end in within]
        return make_words(pieces, shifted, estimated=any(word.estimated for word in hypothesis.words))
    if aligner is not None and hypothesis.language in aligner.languages:
        with telemetry.stage("align"):
            times = await aligner.align(segment.pcm, [word for word, _ in pieces])
        if times is not None:
            shifted = [(begin + segment.begin_ms, end + segment.begin_ms) for begin, end in times]
            return make_words(pieces, shifted, estimated=False)
    guessed = spread([word for word, _ in pieces], segment.begin_ms, segment.end_ms)
    return make_words(pieces, guessed, estimated=True)


def _share(texts: Sequence[str], words: Sequence[Word]) -> list[tuple[Word, ...]]:
    """The words of each sentence."""
    shares, start = [], 0
    for text in texts:
        count = len(split_words(text))
        shares.append(tuple(words[start : start + count]))
        start += count
    return shares


def _by_words(texts: Sequence[str], words: Sequence[Word]) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    last = words[0].begin_ms
    for share in _share(texts, words):
        spans.append((share[0].begin_ms, share[-1].end_ms) if share else (last, last))
        last = spans[-1][1]
    return spans


def share_tokens(texts: Sequence[str], tokens: Sequence[Token]) -> list[tuple[Token, ...]]:
    """The tokens of each sentence: each goes to the sentence in which its first byte lies."""
    shares: list[list[Token]] = [[] for _ in texts]
    ends, total = [], 0
    for text in texts:
        total += len("".join(text.split()).encode())
        ends.append(total)
    seen, sentence = 0, 0
    for token in tokens:
        while sentence < len(ends) - 1 and seen >= ends[sentence]:
            sentence += 1
        shares[sentence].append(token)
        seen += len(b"".join(token.text.split()))
    return [tuple(share) for share in shares]
