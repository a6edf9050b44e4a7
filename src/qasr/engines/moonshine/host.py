"""The child process that holds the model: ``threads`` calls at once share one pair of sessions."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from qasr.engines import process
from qasr.engines.moonshine import assets
from qasr.engines.moonshine.model import Abandoned, Moonshine
from qasr.engines.moonshine.tokenizer import Tokenizer
from qasr.workers.child import Answer, Cancelled, Refusal


class Heard(msgspec.Struct, array_like=True):
    """One segment's answer on its way to the parent; one entry per token."""

    ids: list[int]
    pieces: list[bytes]
    logprobs: list[float]
    truncated: bool


class Host:
    """Answers ``recognize``: the body is each segment's number of samples, the payload all samples, float32."""

    def __init__(self, folder: Path, threads: int) -> None:
        self.parallel = threads
        self._tokenizer = Tokenizer.read(folder / assets.TOKENIZER)
        self._model = Moonshine(folder / assets.ENCODER, folder / assets.DECODER)
        self.about: Mapping[str, object] = {"vocabulary": len(self._tokenizer)}

    def handle(self, method: str, body: msgspec.Raw, payload: bytes, cancelled: Cancelled) -> Iterator[Answer]:
        """Answer one call with one item: a list of ``Heard``."""
        if method != "recognize":
            raise Refusal("unknown_method", method)
        lengths, _ = msgspec.msgpack.decode(body, type=tuple[list[int], None])
        segments = process.split(lengths, payload)
        try:
            decoded = self._model.recognize(segments, cancelled=cancelled)
        except Abandoned:
            return
        yield [Heard(d.ids, self._tokenizer.pieces(d.ids), d.logprobs, d.truncated) for d in decoded], b""


def factory(config: Mapping[str, str]) -> Host:
    """The handler for ``qasr.workers.child``; *config* has ``folder`` and ``threads``."""
    return Host(Path(config["folder"]), int(config["threads"]))
