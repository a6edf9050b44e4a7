"""An engine that hears nothing: its text follows from where a segment lies and how long it is.

For tests, demonstrations and load measurements: the same recording always gives the same text, however its segments are
batched, on every machine and without a model.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from qasr.domain.transcript import Hypothesis
from qasr.engines.base import Capabilities, Recognizer, Request


class Scripted:
    """Answers after *latency_s* with *text*, or with a sentence made from each segment's times."""

    def __init__(self, *, latency_s: float, text: str, slots: int, batch: int) -> None:
        self._latency_s, self._text = latency_s, text
        self._capabilities = Capabilities(
            name="scripted",
            languages=None,
            longest_s=30,
            parallel_calls=slots,
            largest_batch=batch,
            punctuation=True,
        )

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        return self._capabilities

    async def recognize(self, batch: Sequence[Request]) -> list[Hypothesis]:
        """One text per segment, after the set latency."""
        await asyncio.sleep(self._latency_s)
        return [Hypothesis(text=self._say(request), language=request.hints.language or "en") for request in batch]

    def _say(self, request: Request) -> str:
        segment = request.segment
        return (
            self._text or f"Segment at {segment.begin_ms / 1000:.1f} seconds lasting {segment.duration_s:.1f} seconds."
        )


@asynccontextmanager
async def factory(settings: Mapping[str, str]) -> AsyncIterator[Recognizer]:
    """A scripted engine.

    Args:
        settings: ``latency_ms`` of each call (0), ``text`` for every segment (empty: derived from its times), ``slots``
            as parallel calls (4), ``batch`` as segments per call (8).

    Raises:
        ValueError: a setting is not a number, or out of range.
    """
    latency_ms, slots, batch = (
        float(settings.get("latency_ms", "0")),
        int(settings.get("slots", "4")),
        int(settings.get("batch", "8")),
    )
    if not 0 <= latency_ms <= 3_600_000 or slots < 1 or batch < 1:
        raise ValueError(f"scripted engine: latency_ms={latency_ms:g}, slots={slots}, batch={batch} is out of range")
    yield Scripted(latency_s=latency_ms / 1000, text=settings.get("text", ""), slots=slots, batch=batch)
