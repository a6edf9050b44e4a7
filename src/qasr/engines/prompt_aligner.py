"""An aligner that does not keep live speech waiting."""

from collections.abc import Callable, Sequence
from typing import Final

import anyio

from qasr.domain.audio import Pcm
from qasr.engines.base import Aligner

PATIENCE_S: Final = 2.0
"""So old may the oldest call be that others wait with it. Alignment takes milliseconds where the words fit the sound,
half a second where they do not."""


class PromptAligner:
    """Gives no times while others have waited for long already; they are estimated then, and the text comes soon.

    Args:
        aligner: behind it.
        clock: seconds.
    """

    def __init__(self, aligner: Aligner, *, clock: Callable[[], float] = anyio.current_time) -> None:
        self._aligner, self._clock = aligner, clock
        self._begun: dict[object, float] = {}  # calls under way, oldest first

    @property
    def languages(self) -> frozenset[str]:
        """Codes it can align."""
        return self._aligner.languages

    async def align(self, pcm: Pcm, words: Sequence[str]) -> list[tuple[int, int]] | None:
        """See ``Aligner.align``; None also where it would take a while."""
        now = self._clock()
        if now - next(iter(self._begun.values()), now) > PATIENCE_S:
            return None
        call = object()
        self._begun[call] = now
        try:
            return await self._aligner.align(pcm, words)
        finally:
            del self._begun[call]
