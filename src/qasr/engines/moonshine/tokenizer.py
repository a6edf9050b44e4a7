"""Moonshine's vocabulary: ids to bytes.

``tokenizer.bin`` is one record per id: a length ``n`` in one byte, or from 128 up in two
(``second * 128 + first - 128``), then ``n`` bytes. "▁" stands for a blank; ids 3 to 258 are single bytes, so a letter
may be spread over several tokens: only the whole sequence is UTF-8.
"""

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

    @classmethod
    def read(cls, path: Path) -> "Tokenizer":
        """The tokenizer in the file at *path*."""
        return cls(path.read_bytes())

    def __len__(self) -> int:
        return len(self._pieces)

    def pieces(self, ids: Iterable[int]) -> list[bytes]:
        """The bytes of each token."""
        return [self._pieces[i] for i in ids]


def text_of(pieces: Iterable[bytes]) -> str:
    """The text that *pieces* make together, without surrounding blanks; broken UTF-8 becomes U+FFFD."""
    return b"".join(pieces).decode("utf-8", "replace").strip()
