"""An aligner that does not keep live speech waiting."""

from collections.abc import Sequence

from qasr.domain.audio import Pcm
from qasr.engines.base import Aligner


class PromptAligner:
    """Gives no times while others wait already; they are estimated then. The text comes soon in any case.

    Args:
        aligner: behind it.
        most: calls that may be under way.
    """

    def __init__(self, aligner: Aligner, *, most: int) -> None:
        self._aligner, self._most, self._n_calls = aligner, most, 0

    @property
    def languages(self) -> frozenset[str]:
        """Codes it can align."""
        return self._aligner.languages

    async def align(self, pcm: Pcm, words: Sequence[str]) -> list[tuple[int, int]] | None:
        """See ``Aligner.align``; None also where it would take a while."""
        if self._n_calls >= self._most:
            return None
        self._n_calls += 1
        try:
            return await self._aligner.align(pcm, words)
        finally:
            self._n_calls -= 1
