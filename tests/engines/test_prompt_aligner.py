"""Live speech does not wait for word times."""

from collections.abc import Sequence

import anyio
import numpy as np
import pytest

from qasr.domain.audio import Pcm
from qasr.engines.prompt_aligner import PATIENCE_S, PromptAligner

SOUND = np.zeros(16_000, np.float32)


class Slow:
    """An aligner that answers when it is told to."""

    languages = frozenset({"en"})

    def __init__(self) -> None:
        self.go, self.n_begun = anyio.Event(), 0

    async def align(self, pcm: Pcm, words: Sequence[str]) -> list[tuple[int, int]] | None:  # noqa: ARG002
        self.n_begun += 1
        await self.go.wait()
        return [(0, 10)] * len(words)


@pytest.mark.anyio
async def test_gives_no_times_while_others_have_waited_for_long_and_gives_them_again_afterwards() -> None:
    """Also after a call that was cancelled."""
    slow, now = Slow(), 0.0
    prompt = PromptAligner(slow, clock=lambda: now)
    answers: list[list[tuple[int, int]] | None] = []

    async def ask() -> None:
        answers.append(await prompt.align(SOUND, ["word"]))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        now = PATIENCE_S
        group.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        now += 0.1
        assert await prompt.align(SOUND, ["word"]) is None
        group.cancel_scope.cancel()
    slow.go.set()

    assert prompt.languages == {"en"}
    assert answers == []
    assert slow.n_begun == 2
    assert await prompt.align(SOUND, ["one", "two"]) == [(0, 10)] * 2
