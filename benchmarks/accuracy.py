"""Word error rate of what a client of the default server reads."""

import re
import unicodedata
from typing import Final

from benchmarks.bench import Bench
from benchmarks.client import send
from benchmarks.server import serving
from benchmarks.table import Row, at_most

CONCURRENCY: Final = 8
_JOINED: Final = re.compile(r"[-/‐‑‒–—]")
_PUNCTUATION: Final = re.compile(r"[^\w\s']")
_OUTER_APOSTROPHE: Final = re.compile(r"(?<!\w)'|'(?!\w)")


async def measure(bench: Bench) -> list[Row]:
    """All clips by ``audio/transcriptions``."""
    async with serving() as server:
        answers = await send(server.port, "form", bench.corpus.paths, concurrency=CONCURRENCY)
    pairs = [(words(clip.reference), words(text)) for clip, text in zip(bench.corpus.clips, answers.texts, strict=True)]
    wrong = sum(edits(wanted, heard) for wanted, heard in pairs)
    rate = 100 * wrong / sum(len(wanted) for wanted, _ in pairs)
    return [Row("accuracy", "word error rate, default engine, over HTTP", rate, "%", at_most(10.5))]


def words(text: str) -> list[str]:
    """Words of *text* as they are compared: NFKC, lower case, hyphens and slashes are blanks, no punctuation but
    apostrophes inside words. Numbers are not rewritten.
    """
    text = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    text = _PUNCTUATION.sub("", _JOINED.sub(" ", text))
    return _OUTER_APOSTROPHE.sub("", text).split()


def edits(wanted: list[str], heard: list[str]) -> int:
    """The fewest words to insert, delete or replace (Levenshtein)."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(wanted, start=1):
        last, row = row, [i]
        for j, other in enumerate(heard, start=1):
            row.append(min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (word != other)))
    return row[-1]
