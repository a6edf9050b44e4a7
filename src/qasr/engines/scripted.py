"""An engine that hears nothing: its text follows from where a segment lies and how long it is.

For tests, demonstrations and load measurements: the same recording always gives the same text, however its segments are
batched, on every machine and without a model. Of a segment that is still being spoken it hears the first words, one
more per ``WORD_MS``; so what it hears only ever grows, and the whole goes on from there.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio.to_thread

from qasr.domain.audio import SAMPLE_RATE, Pcm
from qasr.domain.errors import EngineFailed
from qasr.domain.options import Hints
from qasr.domain.transcript import Hypothesis
from qasr.engines.base import Capabilities, Recognizer, Request, StreamText

WORD_MS: Final = 300
"""People say about 200 words a minute."""


class Scripted:
    """Answers after *latency_s* with *text*, or with a sentence made from each segment's times.

    Args:
        call_log: a file that gets one line per segment heard whole, ``<begin_ms> <length_ms> <channel>``; for tests.
        fail_at_ms: a segment that begins at or after this moment of its recording fails, each time; for tests.
        word_ms: offer streams that hear a word per so many milliseconds, ``word 1``, ``word 2``; None: offer none.
    """

    def __init__(
        self,
        *,
        latency_s: float,
        text: str,
        slots: int,
        batch: int,
        call_log: Path | None = None,
        fail_at_ms: int | None = None,
        word_ms: int | None = None,
    ) -> None:
        self._latency_s, self._text = latency_s, text
        self._call_log, self._fail_at_ms, self._word_ms = call_log, fail_at_ms, word_ms
        self._capabilities = Capabilities(
            name="scripted",
            languages=None,
            longest_s=30,
            parallel_calls=slots,
            largest_batch=batch,
            punctuation=True,
            streaming=word_ms is not None,
        )

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        return self._capabilities

    async def recognize(self, batch: Sequence[Request]) -> list[Hypothesis]:
        """One text per segment, after the set latency.

        Raises:
            EngineFailed: it was set to.
        """
        await asyncio.sleep(self._latency_s)
        segments = [request.segment for request in batch]
        if self._call_log is not None:
            whole = [request.segment for request in batch if not request.is_open]
            lines = "".join(f"{s.begin_ms} {s.end_ms - s.begin_ms} {s.channel}\n" for s in whole)
            await anyio.to_thread.run_sync(_append, self._call_log, lines)
        if self._fail_at_ms is not None and any(s.begin_ms >= self._fail_at_ms for s in segments):
            raise EngineFailed("The scripted engine fails here, as it was told.")
        return [Hypothesis(text=self._say(request), language=request.hints.language or "en") for request in batch]

    def stream(self, hints: Hints) -> "ScriptedStream":
        """A stream that counts words."""
        assert self._word_ms is not None
        return ScriptedStream(self._word_ms, self._latency_s, hints.language or "en")

    def _say(self, request: Request) -> str:
        segment = request.segment
        begin = f"Segment at {segment.begin_ms / 1000:.1f} seconds lasting"
        if not request.is_open:
            return self._text or f"{begin} {segment.duration_s:.1f} seconds."
        text = self._text or begin
        blank = " " if " " in text else ""
        words = text.split() if blank else list(text)
        return blank.join(words[: int(segment.duration_s * 1000) // WORD_MS])


class ScriptedStream:
    """Counts the words that fit into what it was fed; the last one may still change."""

    def __init__(self, word_ms: int, latency_s: float, language: str) -> None:
        self._word_ms, self._latency_s, self._language = word_ms, latency_s, language
        self._n_samples = 0

    async def feed(self, pcm: Pcm) -> StreamText:
        """More words, after the set latency."""
        await asyncio.sleep(self._latency_s)
        self._n_samples += len(pcm)
        n_words = self._n_samples * 1000 // SAMPLE_RATE // self._word_ms
        words = [f"word {i + 1}" for i in range(n_words)]
        stable = " ".join(words[:-1])
        return StreamText(stable=stable, tail=" ".join([""] * bool(stable) + words[-1:]), language=self._language)

    def close(self) -> None:
        """It holds nothing."""


def _append(path: Path, lines: str) -> None:
    with path.open("a", encoding="ascii") as file:
        file.write(lines)


@asynccontextmanager
async def factory(settings: Mapping[str, str]) -> AsyncIterator[Recognizer]:
    """A scripted engine.

    Args:
        settings: ``latency_ms`` of each call (0), ``text`` for every segment (empty: derived from its times), ``slots``
            as parallel calls (4), ``batch`` as segments per call (8), ``call_log``, ``fail_at_ms`` and ``word_ms``
            (none).

    Raises:
        ValueError: a setting is not a number, or out of range.
    """
    latency_ms, slots, batch = (
        float(settings.get("latency_ms", "0")),
        int(settings.get("slots", "4")),
        int(settings.get("batch", "8")),
    )
    word_ms = int(settings["word_ms"]) if settings.get("word_ms") else None
    if not 0 <= latency_ms <= 3_600_000 or slots < 1 or batch < 1 or (word_ms is not None and word_ms < 1):
        raise ValueError(
            f"scripted engine: latency_ms={latency_ms:g}, slots={slots}, batch={batch} or "
            f"word_ms={word_ms} is out of range"
        )
    yield Scripted(
        latency_s=latency_ms / 1000,
        text=settings.get("text", ""),
        slots=slots,
        batch=batch,
        call_log=Path(settings["call_log"]) if settings.get("call_log") else None,
        fail_at_ms=int(settings["fail_at_ms"]) if settings.get("fail_at_ms") else None,
        word_ms=word_ms,
    )
