"""The child process that tells voices apart."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from qasr.domain.errors import EngineUnavailable
from qasr.engines import process
from qasr.engines.diarizer import clustering, community
from qasr.engines.diarizer.models import CommunityEars
from qasr.engines.diarizer.sherpa import load as load_sherpa
from qasr.engines.diarizer.windows import Ears, voices
from qasr.workers.child import Answer, Cancelled, Refusal


class Heard(msgspec.Struct, array_like=True):
    """A voice on its way to the parent; times in ms from the start of the segment."""

    begin_ms: int
    end_ms: int
    clear_ms: int
    embedding: bytes


class Asked(msgspec.Struct, array_like=True):
    """Of ``identify``; the payload holds the embeddings."""

    clear_ms: list[int]
    count: int | None


_SOUND: Final = msgspec.msgpack.Decoder(tuple[list[int], None])
_ASKED: Final = msgspec.msgpack.Decoder(Asked)


class Host:
    """Answers ``voices``, one item of ``Heard`` per voice, and ``identify``, one item with a speaker per voice."""

    def __init__(self, ears: Ears, threads: int) -> None:
        self.parallel = threads
        self.about: Mapping[str, object] = {"name": ears.name}
        self._ears = ears

    def handle(self, method: str, body: msgspec.Raw, payload: bytes, cancelled: Cancelled) -> Iterator[Answer]:
        """Answer one call."""
        match method:
            case "voices":
                lengths, _ = _SOUND.decode(body)
                for pcm in process.split(lengths, payload):
                    for one in voices(np.nan_to_num(pcm, posinf=0.0, neginf=0.0), self._ears):
                        if cancelled():
                            return
                        yield Heard(one.begin_ms, one.end_ms, one.clear_ms, one.embedding.tobytes()), b""
            case "identify":
                asked = _ASKED.decode(body)
                n_voices = len(asked.clear_ms)
                embeddings = np.frombuffer(payload, np.float32).reshape(n_voices, -1)
                yield self._identified(embeddings, asked), b""
            case _:
                raise Refusal("unknown_method", method)

    def _identified(self, embeddings: Any, asked: Asked) -> list[int]:
        threshold = self._ears.threshold
        return clustering.identify(embeddings, asked.clear_ms, threshold=threshold, count=asked.count)


def factory(config: Mapping[str, Any]) -> Host:
    """The handler for ``qasr.workers.child``; *config* has ``folder`` (empty: the embedded models) and ``threads``.

    Raises:
        Refusal: the models are not there.
    """
    if config["folder"]:
        return Host(load_sherpa(Path(config["folder"]), threshold=config["threshold"]), config["threads"])
    library = community.locate()
    if library is None:
        raise Refusal("package", f"the embedded models that tell speakers apart are not installed; {community.REMEDY}")
    try:
        return Host(CommunityEars(*community.load(library)), config["threads"])
    except EngineUnavailable as error:
        raise Refusal("package", str(error)) from error
