"""Times for known English words: PocketSphinx's forced alignment, in child processes as it holds the interpreter lock.

One second of speech costs about 14 ms. A child keeps one decoder; after anything unexpected it takes a new one, because
a decoder that failed within an utterance refuses all later ones.
"""

import importlib.util
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
import structlog

from qasr.domain.audio import SAMPLE_RATE, Pcm, to_ms
from qasr.domain.errors import EngineUnavailable
from qasr.engines.base import Aligner
from qasr.engines.english_words import pronunciation, spoken
from qasr.workers import CallFailed, WorkerDied, WorkerPool
from qasr.workers.child import Answer, Cancelled, Refusal

GRACE_S: Final = 60.0
"""An alignment cannot be interrupted; it takes half a second, on a busy machine more."""
FRAME_MS: Final = 10
LEAST_SAMPLES: Final = SAMPLE_RATE // 10
"""Below that there is no speech to align, and the decoder fails on a handful of frames."""
FASTEST: Final = 12.0
"""Words per second; more cannot have been spoken (a phone takes three frames at least)."""
MOST_ADDED: Final = 2_000
"""Words that a decoder learns beyond its dictionary before it is replaced."""
SEARCH: Final = {"beam": 1e-80, "pbeam": 1e-80, "wbeam": 1e-60, "bestpath": False}
"""Beams wider than the defaults (1e-48, 1e-48, 7e-29), which give up at one wrong word in the text; a fifth slower.
The second pass over the word lattice is left out: it lost the alignment of every twentieth clip."""

Span: TypeAlias = tuple[int, int]
"""Begin and end in ms."""

log = structlog.get_logger(__name__)


class _PocketSphinxAligner:
    """Our end of the child processes."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool

    @property
    def languages(self) -> frozenset[str]:
        return frozenset({"en"})

    async def align(self, pcm: Pcm, words: Sequence[str]) -> list[Span] | None:
        if not words:
            return []
        samples = (np.clip(np.nan_to_num(pcm), -1, 1) * 32_767).astype("<i2")
        try:
            async with self._pool.call("align", list(words), samples.tobytes()) as replies:
                spans = [_DECODER.decode(body) async for body, _ in replies]
        except (CallFailed, WorkerDied) as error:
            log.warning("alignment_failed", error=type(error).__name__, n_words=len(words))
            return None  # times can be estimated: no reason to lose the text
        return spans[0]


_DECODER: msgspec.msgpack.Decoder[list[Span] | None] = msgspec.msgpack.Decoder(list[Span] | None)


@asynccontextmanager
async def aligner(size: int) -> AsyncIterator[Aligner]:
    """An aligner for English over *size* child processes, about 80 MB each. They load beside whatever comes next; the
    first call waits for them.

    Raises:
        EngineUnavailable: PocketSphinx is not installed.
    """
    if importlib.util.find_spec("pocketsphinx") is None:
        raise EngineUnavailable("word times need PocketSphinx, which is not installed; install pocketsphinx")
    async with WorkerPool("qasr.engines.pocketsphinx_aligner:child", {}, size=size, grace_s=GRACE_S) as pool:
        yield _PocketSphinxAligner(pool)


class _Child:
    """Answers ``align``: the body is the words, the payload the samples, signed 16 bit."""

    parallel = 1
    about: Mapping[str, object] = {}

    def __init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        import pocketsphinx  # noqa: PLC0415 - heavy, and for the child process only

        self._decoder: Any = pocketsphinx.Decoder(lm=None, loglevel="FATAL", **SEARCH)
        self._n_added = 0

    def handle(self, method: str, body: msgspec.Raw, payload: bytes, cancelled: Cancelled) -> Iterator[Answer]:
        """Answer one call with one item: the words' spans, or None."""
        if method != "align":
            raise Refusal("unknown_method", method)
        words = msgspec.msgpack.decode(body, type=list[str])
        if not cancelled():
            yield self._align(words, payload), b""

    def _align(self, words: Sequence[str], samples: bytes) -> list[Span] | None:
        n_samples = len(samples) // 2
        forms = [spoken(word, self._knows) for word in words]
        flat = [form for some in forms for form in some or ()]
        if None in forms or not flat or n_samples < LEAST_SAMPLES or len(flat) > FASTEST * n_samples / SAMPLE_RATE:
            return None
        if self._n_added > MOST_ADDED:
            self._renew()
        self._teach(flat)
        spans = self._times(flat, samples)
        if spans is None:
            return None
        return _merge([len(some or ()) for some in forms], spans, end_ms=to_ms(n_samples))

    def _knows(self, word: str) -> bool:
        return self._decoder.lookup_word(word) is not None

    def _teach(self, forms: Sequence[str]) -> None:
        for form in forms:
            if not self._knows(form):  # to add a known word is an error
                self._decoder.add_word(form, self._pronounce(form), update=False)
                self._n_added += 1

    def _pronounce(self, form: str) -> str:
        base, apostrophe, ending = form.rpartition("'")
        phones = self._decoder.lookup_word(base) if apostrophe and ending == "s" else None
        return f"{phones} Z" if phones else pronunciation(form)

    def _times(self, forms: Sequence[str], samples: bytes) -> list[Span] | None:
        """Begin and end of each form; None, and a fresh decoder, where they do not fit the sound."""
        decoder = self._decoder
        try:
            decoder.reinit_feat()  # else its estimate of the noise goes on from the last call, and moves times
            decoder.set_align_text(" ".join(forms))
            decoder.start_utt()
            decoder.process_raw(samples, full_utt=True)
            decoder.end_utt()
            heard = [
                (part.word.partition("(")[0], (part.start_frame * FRAME_MS, (part.end_frame + 1) * FRAME_MS))
                for part in decoder.seg() or ()
                if not part.word.startswith(("<", "[", "+"))  # silence and noise
            ]
        except (RuntimeError, IndexError):
            self._renew()
            return None
        return [span for _, span in heard] if [word for word, _ in heard] == list(forms) else None


def _merge(counts: Sequence[int], spans: Sequence[Span], *, end_ms: int) -> list[Span]:
    """One span per word from those of its forms; a word without any has no length and stands after the one before."""
    merged: list[Span] = []
    position = now_ms = 0
    for count in counts:
        begin_ms = spans[position][0] if count else now_ms
        position += count
        now_ms = min(spans[position - 1][1], end_ms) if count else now_ms
        merged.append((min(begin_ms, now_ms), now_ms))
    return merged


def child(_config: Mapping[str, object]) -> _Child:
    """The handler for ``qasr.workers.child``."""
    return _Child()
