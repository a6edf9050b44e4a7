"""How the engine is set up; made by the parent from settings, read by the child."""

import importlib.util
from collections.abc import Mapping
from typing import Annotated, Final, Literal, TypeAlias

import anyio
import msgspec
from msgspec import Meta

from qasr.domain.errors import EngineUnavailable
from qasr.workers import WorkerPool

Device: TypeAlias = Literal["auto", "cpu", "cuda"]
Precision: TypeAlias = Literal["bf16", "fp32", "int8"]

REMEDY: Final = "install 'qasr[qwen3]'"
LOAD_S: Final = 600.0
"""Loading takes seconds from a warm disk, and minutes from a slow one; a child that fails says so at once."""
TOKENS_PER_S: Final = 16
"""The most that an answer may have: English has 3.5, fast speech in scripts whose characters take several tokens 10."""
SPARE_TOKENS: Final = 32
"""... and so many more, for the language and for short exclamations."""
TEMPLATE_TOKENS: Final = 64
"""The prompt without context and sound; about 20."""
SOUND_TOKENS_PER_S: Final = 13
LOOKAHEAD: Final = 2
"""Segments beyond the rows that are under way to the child, so that a row never waits for one."""
STREAMS_AT_ONCE: Final = 16
"""Streams that are heard at the same moment; more take turns."""


class Setup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See ``config.Qwen3Asr`` for the meaning of each."""

    folder: str = ""
    device: Device = "auto"
    precision: Precision = "bf16"
    threads: Annotated[int, Meta(ge=0)] = 0
    rows: Annotated[int, Meta(ge=1, le=256)] = 8
    spare_rows: Annotated[int, Meta(ge=0, le=256)] = 4
    longest_s: Annotated[float, Meta(ge=1, le=1200)] = 30.0
    context_tokens: Annotated[int, Meta(ge=0, le=20_000)] = 2048

    @property
    def places(self) -> int:
        """Tokens of the longest row: prompt, sound and answer."""
        sound = int(self.longest_s * SOUND_TOKENS_PER_S) + SOUND_TOKENS_PER_S
        return TEMPLATE_TOKENS + self.context_tokens + sound + most_tokens(self.longest_s) + 1

    @property
    def parallel_calls(self) -> int:
        """Segments that the engine is given at once."""
        return self.rows + LOOKAHEAD


def most_tokens(duration_s: float) -> int:
    """Tokens that the answer for so much sound may have; beyond it, it counts as truncated."""
    return int(duration_s * TOKENS_PER_S) + SPARE_TOKENS


def read(settings: Mapping[str, str]) -> Setup:
    """A set-up from an engine's settings.

    Raises:
        ValueError: one is unknown, no number, or out of range.
    """
    try:
        return msgspec.convert(dict(settings), Setup, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"qwen3_asr engine: {error}") from error


def check_packages(engine: str) -> None:
    """See whether the extra is installed, without importing it.

    Raises:
        EngineUnavailable: it is not.
    """
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        raise EngineUnavailable(f"{engine} needs {' and '.join(missing)}; {REMEDY}")


async def wait_loaded(pool: WorkerPool, engine: str) -> Mapping[str, object]:
    """Wait for the child; what it says about itself.

    Raises:
        EngineUnavailable: it could not load its model.
    """
    about: Mapping[str, object] = {"problem": f"it did not load within {LOAD_S:g} s"}
    with anyio.move_on_after(LOAD_S):
        about = await pool.wait_ready()
    if "problem" in about:
        raise EngineUnavailable(f"{engine} cannot be loaded: {about['problem']}")
    return about
