"""Numbers of sentences in digits; their words keep the times that they were said at."""

from collections.abc import Sequence
from dataclasses import replace

from qasr.domain.transcript import Sentence, Word
from qasr.engines.base import Capabilities
from qasr.pipeline.itn import Rewriting, normalize
from qasr.pipeline.words import locate_words, make_words, spread


def written(sentences: tuple[Sentence, ...], engine: Capabilities, *, itn: bool) -> tuple[Sentence, ...]:
    """*sentences* as a client wants them: with numbers in digits, if *itn* says so and *engine* does not see to it."""
    return tuple(map(normalized, sentences)) if itn and not engine.itn else sentences


def normalized(sentence: Sentence) -> Sentence:
    """*sentence* as it is written. Engine tokens stay those of what was said."""
    rewriting = normalize(sentence.text, sentence.language)
    if not rewriting.edits:
        return sentence
    words = retimed(sentence.words, rewriting) if sentence.words else ()
    return replace(sentence, text=rewriting.text, words=words)


def retimed(words: Sequence[Word], rewriting: Rewriting) -> tuple[Word, ...]:
    """The words of the new text: each lasts from the first to the last of those it stands for.

    Where several stand for the same, or *words* are not those of the old text, times are spread and marked as such.
    """
    old = [(begin, end) for _, _, begin, end in locate_words(rewriting.source)]
    new = locate_words(rewriting.text)
    if len(old) != len(words):
        times = spread([word for word, _, _, _ in new], words[0].begin_ms, words[-1].end_ms)
        return make_words([(word, punctuation) for word, punctuation, _, _ in new], times, estimated=True)
    found: list[Word] = []
    for first, last, group in _groups(old, new, rewriting):
        said, pieces = words[first:last], [(word, punctuation) for word, punctuation in group]
        begin_ms, end_ms = said[0].begin_ms, max(word.end_ms for word in said)
        times = spread([word for word, _ in pieces], begin_ms, end_ms)
        estimated = len(pieces) > 1 or any(word.estimated for word in said)
        found += make_words(pieces, times, estimated=estimated)
    return tuple(found)


def _groups(
    old: Sequence[tuple[int, int]], new: Sequence[tuple[str, str, int, int]], rewriting: Rewriting
) -> list[tuple[int, int, list[tuple[str, str]]]]:
    """Stretches of old words, first and behind the last, and the new words that stand for each."""
    groups: list[tuple[int, int, list[tuple[str, str]]]] = []
    at = 0
    for word, punctuation, begin, end in new:
        source_begin, source_end = rewriting.origin(begin, end)
        while old[at][1] <= source_begin and at < len(old) - 1:
            at += 1
        first = last = at
        while last < len(old) and (last == first or old[last][0] < source_end):
            last += 1
        if groups and first < groups[-1][1]:
            before, behind, pieces = groups.pop()
            groups.append((before, max(behind, last), [*pieces, (word, punctuation)]))
        else:
            groups.append((first, last, [(word, punctuation)]))
    return groups
