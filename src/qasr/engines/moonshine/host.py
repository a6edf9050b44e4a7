"""The child process that holds the model: ``threads`` calls at once share one pair of sessions."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from qasr.engines import process
from qasr.engines.moonshine import assets
from qasr.engines.moonshine.biasing import Biasing
from qasr.engines.moonshine.hotwords import Hotwords
from qasr.engines.moonshine.model import Abandoned, Moonshine, Revision
from qasr.engines.moonshine.tokenizer import Tokenizer
from qasr.workers.child import Answer, Cancelled, Refusal

KNOWN_LISTS: Final = 32
"""Lists of hotwords that are kept ready for use; the segments of a recording come with the same."""


class Hints(msgspec.Struct, array_like=True, frozen=True):
    """What is known of the words of a segment."""

    phrases: tuple[tuple[str, int], ...] = ()
    context: str = ""


class Asked(msgspec.Struct, array_like=True):
    """A call on its way to the child: different hints, of which ``which`` names one for each segment."""

    hints: list[Hints]
    which: list[int]


_CALL: Final = msgspec.msgpack.Decoder(tuple[list[int], Asked])


class Heard(msgspec.Struct, array_like=True):
    """One segment's answer on its way to the parent; one entry per token."""

    ids: list[int]
    pieces: list[bytes]
    logprobs: list[float]
    truncated: bool


class Host:
    """Answers ``recognize``: the body is the lengths of segments and ``Asked``, the payload all samples, float32."""

    def __init__(self, folder: Path, threads: int) -> None:
        self.parallel = threads
        self._tokenizer = Tokenizer.read(folder / assets.TOKENIZER)
        self._model = Moonshine(folder / assets.ENCODER, folder / assets.DECODER)
        pieces = self._tokenizer.pieces(range(len(self._tokenizer)))
        self._inside = np.array([piece[:1].isalnum() or piece[:1] >= b"\x80" for piece in pieces])
        self._biasing = lru_cache(KNOWN_LISTS)(self._new_biasing)
        self.about: Mapping[str, object] = {"vocabulary": len(self._tokenizer)}

    def handle(self, method: str, body: msgspec.Raw, payload: bytes, cancelled: Cancelled) -> Iterator[Answer]:
        """Answer one call with one item: a list of ``Heard``."""
        if method != "recognize":
            raise Refusal("unknown_method", method)
        lengths, asked = _CALL.decode(body)
        segments = process.split(lengths, payload)
        revisions = [self._biasing(asked.hints[i]) for i in asked.which]
        try:
            decoded = self._model.recognize(segments, cancelled=cancelled, revisions=revisions)
        except Abandoned:
            return
        yield [Heard(d.ids, self._tokenizer.pieces(d.ids), d.logprobs, d.truncated) for d in decoded], b""

    def _new_biasing(self, hints: Hints) -> Revision | None:
        hotwords = Hotwords(hints.phrases, hints.context, self._tokenizer)
        return Biasing(hotwords, self._tokenizer, self._inside) if hotwords else None


def factory(config: Mapping[str, str]) -> Host:
    """The handler for ``qasr.workers.child``; *config* has ``folder`` and ``threads``."""
    return Host(Path(config["folder"]), int(config["threads"]))
