"""What a context brings, and what it breaks: the embedded engine on the same clips, with and without a text about them.

The context of a clip is all that is said in the clips of the same book, as minutes of the last meeting would be; or, to
see what harm it does, all that is said in the clips of another. References that are all in small letters get capitals
where the tokenizer has a shorter spelling for them: ``margaret`` is three tokens, ``Margaret`` one.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from benchmarks.accuracy import edits, words
from benchmarks.bench import Bench
from benchmarks.hotwords import TEN_MINUTES_S, Heard, hear, missed_words
from benchmarks.table import Row
from qasr.domain.options import Hints
from qasr.engines import moonshine
from qasr.engines.moonshine import assets
from qasr.engines.moonshine.hotwords import terms
from qasr.engines.moonshine.tokenizer import Tokenizer

FEWEST_CLIPS: Final = 4
"""Of a book; what is said in fewer says little more than the clip itself. Where there are no two such books, as in the
repository, each clip is one, and the figures say little.
"""


async def measure(bench: Bench) -> list[Row]:
    """Recall, false insertions and word errors."""
    tokenizer = Tokenizer.read(assets.locate() / assets.TOKENIZER)
    books = _books(bench)
    told = {book: _truecase(" ".join(_sentence(bench, i) for i in places), tokenizer) for book, places in books.items()}
    names = sorted(books)
    others = dict(zip(names, names[1:] + names[:1], strict=True))
    places = sorted(i for listed in books.values() for i in listed)
    book_of = {i: book for book, listed in books.items() for i in listed}
    async with moonshine.factory({"threads": "1"}) as engine:
        before = await hear(bench, engine, dict.fromkeys(places, Hints()))
        missed = set(missed_words(bench, before.texts, places, tokenizer))
        rows = [Row("context", "clips in books", float(len(places)), "")]
        for name, about in (("of the same book", {b: b for b in books}), ("of another book", others)):
            contexts = {i: told[about[book_of[i]]] for i in places}
            after = await hear(bench, engine, {i: Hints(context=text) for i, text in contexts.items()})
            expected = {i: _expected(text, tokenizer) for i, text in contexts.items()}
            rows += _rows(bench, before, after, expected, missed, name)
    return rows


def _books(bench: Bench) -> Mapping[str, Sequence[int]]:
    books: defaultdict[str, list[int]] = defaultdict(list)
    for i, path in enumerate(bench.corpus.paths):
        books[path.stem.rstrip("0123456789").rstrip("-_")].append(i)
    large = {book: places for book, places in books.items() if len(places) >= FEWEST_CLIPS}
    return large if len(large) > 1 else {path.stem: [i] for i, path in enumerate(bench.corpus.paths)}


def _sentence(bench: Bench, place: int) -> str:
    return bench.corpus.clips[place].reference.rstrip(".") + "."


def _truecase(text: str, tokenizer: Tokenizer) -> str:
    def cased(word: str) -> str:
        capital = word.capitalize()
        shorter = len(tokenizer.encode(f" {capital}")) < len(tokenizer.encode(f" {word}"))
        return capital if word.islower() and shorter else word

    return " ".join(cased(word) for word in text.split())


def _expected(context: str, tokenizer: Tokenizer) -> frozenset[str]:
    return frozenset(word for term in terms(context, tokenizer) for word in words(term))


def _rows(
    bench: Bench,
    before: Heard,
    after: Heard,
    expected: Mapping[int, frozenset[str]],
    missed: set[str],
    name: str,
) -> list[Row]:
    n_said = n_before = n_after = n_false = n_words = errors_before = errors_after = 0
    for i, own in expected.items():
        reference = words(bench.corpus.clips[i].reference)
        said, without, with_context = (Counter(text) for text in (reference, before.texts[i], after.texts[i]))
        for word in missed:
            n_said += said[word]
            n_before += min(said[word], without[word])
            n_after += min(said[word], with_context[word])
        n_false += sum((with_context - (said | without))[word] for word in own)
        n_words += len(reference)
        errors_before += edits(reference, before.texts[i])
        errors_after += edits(reference, after.texts[i])
    audio_s = sum(bench.sounds[i].audio_s for i in expected)
    terms_each = sum(map(len, expected.values())) / len(expected)
    return [
        Row("context", f"{name}: words taken out of it", terms_each, "per clip"),
        Row("context", f"{name}: recall of rare words without it", 100 * n_before / max(1, n_said), "%"),
        Row("context", f"{name}: recall of rare words with it", 100 * n_after / max(1, n_said), "%"),
        Row("context", f"{name}: false insertions", n_false * TEN_MINUTES_S / audio_s, "per 10 min"),
        Row("context", f"{name}: word error rate without it", 100 * errors_before / n_words, "%"),
        Row("context", f"{name}: word error rate with it", 100 * errors_after / n_words, "%"),
    ]
