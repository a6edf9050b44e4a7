"""A model in a child process, seen from the server: what all engines that live in one have in common.

Decoding holds memory and cores that the server must be able to take back, and libraries that end the process on a bad
file must not end ours. What goes over is one method, a body that both sides know, and the samples of a batch.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import msgspec
import numpy as np
import numpy.typing as npt

from qasr.domain.audio import Pcm
from qasr.domain.errors import EngineFailed, EngineUnavailable
from qasr.workers import CallFailed, WorkerDied, WorkerPool


@asynccontextmanager
async def loaded(
    target: str, config: Mapping[str, object], *, what: str, parallel: int, load_s: float, grace_s: float
) -> AsyncIterator[tuple[WorkerPool, Mapping[str, object]]]:
    """The child that ``target`` (``module:factory``) names, ready, and what it says about itself.

    Args:
        target: of the handler, see ``workers/child.py``; its ``Refusal`` while loading is told as it is.
        config: given to it.
        what: it is, for messages: "the Whisper model".
        parallel: calls that it answers at once.
        load_s: how long loading may take.
        grace_s: how long a cancelled call may go on before the process is killed.

    Raises:
        EngineUnavailable: it does not load.
    """
    async with WorkerPool(target, config, size=1, parallel=parallel, grace_s=grace_s) as pool:
        try:
            async with asyncio.timeout(load_s):
                about = await pool.wait_ready()
        except CallFailed as refusal:
            raise EngineUnavailable(f"{what} does not load: {refusal}") from refusal
        except WorkerDied as error:
            raise EngineUnavailable(
                f"{what} does not load: its process ended; its last words stand in the log, at worker_died"
            ) from error
        except TimeoutError as error:
            raise EngineUnavailable(f"{what} did not load within {load_s:g} s") from error
        yield pool, about


async def ask(pool: WorkerPool, method: str, body: object, segments: Sequence[Pcm]) -> list[msgspec.Raw]:
    """Call *method* for *segments*; the bodies of the answer. The child finds their lengths with ``split``.

    Raises:
        EngineFailed: the call failed, or the child died, and may be tried again.
    """
    samples = [np.asarray(segment, np.float32) for segment in segments]
    call = ([len(one) for one in samples], body)
    try:
        async with pool.call(method, call, np.concatenate(samples).tobytes()) as replies:
            return [answer async for answer, _ in replies]
    except CallFailed as error:
        raise EngineFailed("the engine could not recognize this segment; retry") from error
    except WorkerDied as error:
        raise EngineFailed("the engine ended unexpectedly; retry") from error


async def tell(pool: WorkerPool, method: str, body: object) -> None:
    """Call *method* without expecting anything; a child that is gone has forgotten all of it anyway."""
    with suppress(CallFailed, WorkerDied):
        async with pool.call(method, body) as replies:
            async for _ in replies:
                pass


def split(lengths: Sequence[int], payload: bytes) -> list[npt.NDArray[np.float32]]:
    """The segments that ``ask`` was given, on the child's side."""
    return np.split(np.frombuffer(payload, np.float32), np.cumsum(lengths)[:-1])
