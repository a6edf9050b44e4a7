"""Moonshine tiny-en, the embedded English engine: no download, two cores are enough.

``model.py`` is the decode loop, ``host.py`` the child process around it, ``assets.py`` the files, ``tokenizer.py`` the
vocabulary. The model lives in a child: decoding holds memory and cores that the server must be able to take back.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from qasr.domain.transcript import Hypothesis, Token
from qasr.engines import process
from qasr.engines.base import Capabilities, Recognizer, Request
from qasr.engines.moonshine import assets
from qasr.engines.moonshine.host import Heard
from qasr.engines.moonshine.tokenizer import text_of
from qasr.workers import WorkerPool, available_cpus

LARGEST_BATCH: Final = 8
"""A row of a step costs 3.2 ms alone, 1.45 ms among 8 and 1.4 ms among 16, whose answers come later; measured."""
LEAST_LOGPROB: Final = -0.8
"""Of 5 s of English and more, 95 clips from read speech to meetings, the least sure had -0.6; 34 of 37 clips in nine
other languages lay below -0.8; measured, see docs/decisions/0005."""
GRACE_S: Final = 60.0
"""A cancelled call ends at its next step, which on a busy machine may take seconds; the other calls must not pay."""
LOAD_S: Final = 60.0
"""Loading takes half a second; a child that is not ready by then never will be."""


class _Moonshine:
    """Our end of the child process."""

    def __init__(self, pool: WorkerPool, threads: int) -> None:
        self._pool = pool
        self._capabilities = Capabilities(
            name="moonshine",
            languages=frozenset({"en"}),
            longest_s=30,
            parallel_calls=threads,
            largest_batch=LARGEST_BATCH,
            least_logprob=LEAST_LOGPROB,
            punctuation=True,
        )

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def recognize(self, batch: Sequence[Request]) -> list[Hypothesis]:
        answers = await process.ask(self._pool, "recognize", None, [request.segment.pcm for request in batch])
        return [_hypothesis(one) for answer in answers for one in _DECODER.decode(answer)]


_DECODER: Final = msgspec.msgpack.Decoder(list[Heard])


def _hypothesis(heard: Heard) -> Hypothesis:
    tokens = (
        Token(id=i, text=piece, logprob=min(0.0, logprob))
        for i, piece, logprob in zip(heard.ids, heard.pieces, heard.logprobs, strict=True)
    )
    return Hypothesis(text=text_of(heard.pieces), language="en", tokens=tuple(tokens), truncated=heard.truncated)


@asynccontextmanager
async def factory(settings: Mapping[str, str]) -> AsyncIterator[Recognizer]:
    """The embedded English engine, loaded.

    Args:
        settings: ``threads``, the calls that run at once, each on one core (all cores that we may use).

    Raises:
        EngineUnavailable: the model's package is missing or changed, or it does not load.
        ValueError: ``threads`` is not a number, or out of range.
    """
    threads = int(settings.get("threads") or available_cpus())
    if threads < 1:
        raise ValueError(f"moonshine engine: threads={threads} is out of range")
    folder = assets.locate()
    await asyncio.to_thread(assets.check, folder)
    config = {"folder": str(folder), "threads": str(threads)}
    async with process.loaded(
        "qasr.engines.moonshine.host:factory",
        config,
        what="the embedded English engine",
        parallel=threads,
        load_s=LOAD_S,
        grace_s=GRACE_S,
    ) as (pool, _):
        yield _Moonshine(pool, threads)
