"""What hotwords bring, and what they break: the embedded engine on the same clips, without a list and with one.

The list is made without looking at what helps: rare words of the references that the engine misses, and as many words
again, or five times as many, that nobody says. All clips are heard with the whole list, so that each word is a
distractor in all clips but its own.

``biasing.NEARNESS`` and its like were chosen on every second clip, in the order of their names; the other half was
looked at when that was done, and has figures of its own.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.accuracy import edits, words
from benchmarks.bench import Bench
from benchmarks.table import Row, at_least, at_most
from qasr.domain.options import Hints, Hotword
from qasr.engines import moonshine
from qasr.engines.base import Recognizer, Request
from qasr.engines.moonshine import assets
from qasr.engines.moonshine.tokenizer import Tokenizer

WEIGHT: Final = 4
"""The documented advice."""
DISTRACTORS: Final = (100, 500)
FEWEST_LETTERS: Final = 5
FEWEST_TOKENS: Final = 2
"""Of a rare word: the model has to spell it."""
FEWEST_TOKENS_OF_DISTRACTORS: Final = 3
WRITTEN_OTHERWISE: Final = frozenset(("mister", "missus", "doctor", "fourteen", "fifteen", "fifteenth", "seventeenth"))
"""The engine hears these and writes them as figures or abbreviations; they are not missed."""
TEN_MINUTES_S: Final = 600.0


async def measure(bench: Bench) -> list[Row]:
    """Recall, false insertions, word errors and cost."""
    order = sorted(range(len(bench.sounds)), key=lambda i: bench.corpus.paths[i].as_posix())
    tokenizer = Tokenizer.read(assets.locate() / assets.TOKENIZER)
    async with moonshine.factory({"threads": "1"}) as engine:
        before = await hear(bench, engine, dict.fromkeys(order, Hints()))
        missed = missed_words(bench, before.texts, order, tokenizer)
        rows = [Row("hotwords", "rare words that the engine misses", float(len(missed)), "")]
        for n_distractors in DISTRACTORS:
            listed = [*missed, *_distractors(bench, n_distractors, tokenizer)]
            hints = Hints(hotwords=tuple(Hotword(text=word, weight=WEIGHT) for word in listed))
            after = await hear(bench, engine, dict.fromkeys(order, hints))
            name = f"with {n_distractors} distractors"
            rows += _rows(bench, before, after, listed, order, f"all clips, {name}", targets=n_distractors == 100)
            rows += _rows(bench, before, after, listed, order[1::2], f"held-out half, {name}", targets=False)
            rows.append(Row("hotwords", f"engine time, {name}", after.wall_s / before.wall_s, "times without"))
    return rows


@dataclass(frozen=True)
class Heard:
    """Words of each clip."""

    texts: list[list[str]]
    wall_s: float


async def hear(bench: Bench, engine: Recognizer, hints: Mapping[int, Hints]) -> Heard:
    """Each clip that *hints* has a place for; the others are left empty."""
    began, texts = time.monotonic(), []
    for place, sound in enumerate(bench.sounds):
        segments = sound.segments if place in hints else ()
        requests = [Request(segment=one, hints=hints[place]) for one in segments]
        heard = [(await engine.recognize([request]))[0].text for request in requests]
        texts.append(words(" ".join(heard)))
    return Heard(texts, time.monotonic() - began)


def missed_words(
    bench: Bench, heard: Sequence[Sequence[str]], places: Iterable[int], tokenizer: Tokenizer
) -> list[str]:
    """Rare words of the references of these clips that are not in what was *heard*."""
    found: Counter[str] = Counter()
    for i in places:
        found += Counter(words(bench.corpus.clips[i].reference)) - Counter(heard[i])
    return sorted(
        word
        for word in found
        if word.isalpha()
        and len(word) >= FEWEST_LETTERS
        and len(tokenizer.encode(f" {word}")) >= FEWEST_TOKENS
        and word not in WRITTEN_OTHERWISE
    )


def _distractors(bench: Bench, count: int, tokenizer: Tokenizer) -> list[str]:
    """Rare words out of the dictionary of PocketSphinx, evenly spread; none of them is said."""
    import pocketsphinx  # noqa: PLC0415 - only here

    said = {word for clip in bench.corpus.clips for word in words(clip.reference)}
    lines = Path(pocketsphinx.get_model_path("en-us/cmudict-en-us.dict")).read_text(encoding="utf-8").splitlines()
    known = sorted({line.split()[0] for line in lines if line} - said)
    rare = [
        word
        for word in known[:: max(1, len(known) // 5000)]
        if word.isalpha()
        and len(word) > FEWEST_LETTERS
        and len(tokenizer.encode(f" {word.capitalize()}")) >= FEWEST_TOKENS_OF_DISTRACTORS
    ]
    return rare[:: max(1, len(rare) // count)][:count]


def _rows(
    bench: Bench,
    before: Heard,
    after: Heard,
    listed: Sequence[str],
    places: Sequence[int],
    name: str,
    *,
    targets: bool,
) -> list[Row]:
    known, audio_s = set(listed), sum(bench.sounds[i].audio_s for i in places)
    n_said = n_before = n_after = n_false = n_words = errors_before = errors_after = 0
    for i in places:
        reference = words(bench.corpus.clips[i].reference)
        said, without, with_list = (
            Counter(word for word in text if word in known) for text in (reference, before.texts[i], after.texts[i])
        )
        n_said += said.total()
        n_before += (said & without).total()
        n_after += (said & with_list).total()
        n_false += (with_list - (said | without)).total()
        n_words += len(reference)
        errors_before += edits(reference, before.texts[i])
        errors_after += edits(reference, after.texts[i])
    regained = 100 * (n_after - n_before) / max(1, n_said - n_before)
    per_ten = n_false * TEN_MINUTES_S / audio_s
    return [
        Row("hotwords", f"{name}: recall without the list", 100 * n_before / max(1, n_said), "%"),
        Row("hotwords", f"{name}: recall with it", 100 * n_after / max(1, n_said), "%"),
        Row("hotwords", f"{name}: regained of what was missing", regained, "%", at_least(50) if targets else None),
        Row("hotwords", f"{name}: false insertions", per_ten, "per 10 min", at_most(1) if targets else None),
        Row("hotwords", f"{name}: word error rate without the list", 100 * errors_before / n_words, "%"),
        Row("hotwords", f"{name}: word error rate with it", 100 * errors_after / n_words, "%"),
    ]
