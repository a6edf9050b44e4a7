"""Moonshine's vocabulary: ids to bytes, and text to ids.

``tokenizer.bin`` is one record per id: a length ``n`` in one byte, or from 128 up in two
(``second * 128 + first - 128``), then ``n`` bytes. "▁" stands for a blank; ids 3 to 258 are single bytes, so a letter
may be spread over several tokens: only the whole sequence is UTF-8. Ids above these are in the order of the merges of
byte pair encoding: of two pieces that could be joined, those with the lowest id are, first.
"""

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Final

BEGIN: Final = 1
"""The token that every text begins with; never part of the answer."""
END: Final = 2
"""The token that every text ends with; never part of the answer."""


class Tokenizer:
    """What each token id stands for."""

    def __init__(self, data: bytes) -> None:
        self._pieces: list[bytes] = []
        position = 0
        while position < len(data):
            n_bytes, position = data[position], position + 1
            if n_bytes >= 128:
                n_bytes, position = data[position] * 128 + n_bytes - 128, position + 1
            self._pieces.append(data[position : position + n_bytes].replace("▁".encode(), b" "))
            position += n_bytes
        self._ids = {piece: i for i, piece in enumerate(self._pieces)}  # of equal ones the last: single bytes are first

    @classmethod
    def read(cls, path: Path) -> "Tokenizer":
        """The tokenizer in the file at *path*."""
        return cls(path.read_bytes())

    def encode(self, text: str) -> list[int]:
        """Ids of *text*, as the model would mostly write it; a word in the middle of a text begins with its blank.

        Raises:
            KeyError: it holds characters that are no Unicode text.
        """
        parts = [part for letter in text for part in self._parts(letter.encode())]
        while True:
            joined = [
                (self._ids.get(a + b, len(self._pieces)), i) for i, (a, b) in enumerate(itertools.pairwise(parts))
            ]
            lowest, first = min(joined, default=(len(self._pieces), 0))
            if lowest == len(self._pieces):
                return [self._ids[part] for part in parts]
            parts[first : first + 2] = [parts[first] + parts[first + 1]]

    def _parts(self, letter: bytes) -> list[bytes]:
        return [letter] if letter in self._ids else [letter[i : i + 1] for i in range(len(letter))]

    def __len__(self) -> int:
        return len(self._pieces)

    def pieces(self, ids: Iterable[int]) -> list[bytes]:
        """The bytes of each token."""
        return [self._pieces[i] for i in ids]


def text_of(pieces: Iterable[bytes]) -> str:
    """The text that *pieces* make together, without surrounding blanks; broken UTF-8 becomes U+FFFD."""
    return b"".join(pieces).decode("utf-8", "replace").strip()
