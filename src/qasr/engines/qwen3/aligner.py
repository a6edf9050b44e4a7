"""Qwen3-ForcedAligner behind the ``Aligner`` port: word times in eleven languages, in a child process."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
import structlog
from msgspec import Meta

from qasr.domain.audio import Pcm
from qasr.domain.errors import EngineUnavailable
from qasr.engines.base import Aligner
from qasr.engines.qwen3.languages import ALIGNED
from qasr.engines.qwen3.setup import Device, check_packages, wait_loaded
from qasr.workers import CallFailed, WorkerDied, WorkerPool

GRACE_S: Final = 60.0
"""An alignment cannot be interrupted; it takes about as long as hearing the first token of the same sound."""

log = structlog.get_logger(__name__)


class AlignerSetup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See ``config.Qwen3Aligner`` for the meaning of each."""

    folder: str
    device: Device = "auto"
    precision: Literal["bf16", "fp32"] = "bf16"
    threads: Annotated[int, Meta(ge=0)] = 0


class _Qwen3Aligner:
    """Our end of the child process."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool

    @property
    def languages(self) -> frozenset[str]:
        return ALIGNED

    async def align(self, pcm: Pcm, words: Sequence[str]) -> list[tuple[int, int]] | None:
        if not words:
            return []
        samples = np.ascontiguousarray(pcm, np.float32)
        try:
            async with self._pool.call("align", list(words), samples.tobytes()) as replies:
                spans = [_DECODER.decode(body) async for body, _ in replies]
        except (CallFailed, WorkerDied) as error:
            log.warning("alignment_failed", error=type(error).__name__, reason=str(error), n_words=len(words))
            return None  # times can be estimated: no reason to lose the text
        return spans[0]


_DECODER: msgspec.msgpack.Decoder[list[tuple[int, int]] | None] = msgspec.msgpack.Decoder(list[tuple[int, int]] | None)


@asynccontextmanager
async def aligner(settings: Mapping[str, str]) -> AsyncIterator[Aligner]:
    """The aligner, loaded.

    Args:
        settings: the fields of ``AlignerSetup``, as text.

    Raises:
        EngineUnavailable: torch or transformers is not installed, or the model does not load.
        ValueError: a setting is unknown or out of range.
    """
    try:
        setup = msgspec.convert(dict(settings), AlignerSetup, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"qwen3_aligner: {error}") from error
    check_packages("Qwen3-ForcedAligner")
    async with WorkerPool(
        "qasr.engines.qwen3.aligner_host:factory", msgspec.to_builtins(setup), grace_s=GRACE_S
    ) as pool:
        try:
            await wait_loaded(pool, "Qwen3-ForcedAligner")
        except EngineUnavailable as error:
            raise EngineUnavailable(f"{error} (QASR_QWEN3_ALIGNER__FOLDER)") from error
        yield _Qwen3Aligner(pool)
