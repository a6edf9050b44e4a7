"""How much is tried: little in CI, more by ``make fuzz``, which sets ``FUZZ_TIMES``."""

import os
from typing import Final

from hypothesis import HealthCheck, settings

TIMES: Final = int(os.environ.get("FUZZ_TIMES", "1"))


def tried(examples: int) -> settings:
    """*examples* in CI, each time the same ones; more of them, and others, with ``FUZZ_TIMES``."""
    return settings(
        max_examples=examples * TIMES,
        deadline=None,
        derandomize=TIMES == 1,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
