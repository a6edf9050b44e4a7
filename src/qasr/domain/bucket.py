"""Token buckets: a rate on average, with a burst. Values; where they are kept is the affair of ``storage/buckets.py``.

A bucket that nobody knows is full, so full ones need not be kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

MINUTE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Rate:
    """*most* tokens within *period_s*; a bucket holds that many."""

    most: float
    period_s: float

    @property
    def capacity(self) -> float:
        """Tokens of a full bucket: at least one, or nothing could ever be taken."""
        return max(1.0, self.most)


@dataclass(frozen=True, slots=True)
class Bucket:
    """How full it was, at some time (Unix milliseconds)."""

    tokens: float
    at_ms: int

    def at(self, now_ms: int, rate: Rate) -> "Bucket":
        """How full it is now. A clock that went back adds nothing."""
        added = max(0, now_ms - self.at_ms) / 1000 * rate.most / rate.period_s
        return Bucket(min(rate.capacity, self.tokens + added), now_ms)

    def wait_s(self, rate: Rate) -> float:
        """Seconds until there is a token."""
        return max(0.0, 1.0 - self.tokens) * rate.period_s / rate.most


@dataclass(frozen=True, slots=True)
class Refusal:
    """Of several buckets, the one that is empty for longest."""

    name: str
    wait_s: float


def take(
    found: Mapping[str, Bucket], rates: Mapping[str, Rate], now_ms: int
) -> tuple[dict[str, Bucket], Refusal | None]:
    """One token of each bucket, or of none.

    Args:
        found: buckets that are known; others are full.
        rates: of all buckets to take from.
        now_ms: Unix milliseconds.

    Returns:
        The buckets as they are afterwards, and why nothing was taken.
    """
    now = {name: found.get(name, Bucket(rate.capacity, now_ms)).at(now_ms, rate) for name, rate in rates.items()}
    waits = {name: bucket.wait_s(rates[name]) for name, bucket in now.items()}
    slowest = max(waits, key=lambda name: waits[name], default=None)
    if slowest is not None and waits[slowest] > 0:
        return now, Refusal(slowest, waits[slowest])
    return {name: Bucket(bucket.tokens - 1, now_ms) for name, bucket in now.items()}, None
