"""Shapes of the administration. Source: docs/keys.md. Times are Unix seconds; unknown fields are refused."""

import msgspec


class Limits(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """See ``domain/access.py``."""

    requests_per_minute: float | None = None
    requests_per_second: float | None = None
    live_sessions: float | None = None
    queued_audio_minutes: float | None = None
    audio_hours_per_day: float | None = None


class NewKey(msgspec.Struct, forbid_unknown_fields=True):
    """``POST /admin/v1/keys``."""

    name: str
    scopes: list[str] | None = None
    expires_at: int | None = None
    limits: Limits = msgspec.field(default_factory=Limits)
    model_limits: dict[str, Limits] = {}


class Rotation(msgspec.Struct, forbid_unknown_fields=True):
    """``POST /admin/v1/keys/{id}/rotate``."""

    grace_s: int = 0


class Key(msgspec.Struct, kw_only=True):
    """What is known of a key."""

    id: str
    name: str
    state: str
    scopes: list[str]
    limits: Limits
    model_limits: dict[str, Limits]
    created_at: int
    expires_at: int | None
    revoked_at: int | None


class KeyAnswer(msgspec.Struct, omit_defaults=True):
    """One key; ``secret`` is told when it is made, and never again."""

    key: Key
    secret: str | None = None


class KeyList(msgspec.Struct):
    """All keys, newest first."""

    keys: list[Key]


class UsageLine(msgspec.Struct, kw_only=True):
    """What one key used of one model, through one interface, on one day."""

    day: str
    key: str
    model: str
    interface: str
    requests: int
    errors: int
    audio_s: float
    speech_s: float
    mean_latency_s: float
    longest_latency_s: float


class UsageList(msgspec.Struct):
    """Lines, newest first."""

    usage: list[UsageLine]


class FailureDetail(msgspec.Struct):
    """Why."""

    code: str
    message: str


class Failure(msgspec.Struct):
    """An error."""

    error: FailureDetail
    request_id: str
