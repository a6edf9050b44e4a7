"""Notices that an answer goes round in circles, which a model may do on noise until its token limit."""

from typing import Final

LONGEST_PERIOD: Final = 24
"""Tokens; a repeated phrase that is longer is left to the token limit."""
COPIES: Final = 8
"""A phrase written so often without a break is a loop ..."""
LOOP_TOKENS: Final = 24
"""... if the repetitions have at least so many tokens: "no, no, no, no" is speech."""


class Repetition:
    """Follows one answer. ``_echoes[p - 1]`` counts the last tokens that equal the one *p* places before each."""

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._echoes = [0] * LONGEST_PERIOD

    def superfluous(self, token: int) -> int:
        """Take the next token; how many of the last ones only repeat, 0 as long as it is no loop."""
        before = self._ids[: -LONGEST_PERIOD - 1 : -1]
        for i, earlier in enumerate(before):
            self._echoes[i] = self._echoes[i] + 1 if earlier == token else 0
        self._ids.append(token)
        for i, echoes in enumerate(self._echoes):
            if echoes >= max((i + 1) * (COPIES - 1), LOOP_TOKENS):
                return echoes
        return 0
