"""What the wire says in our own words, and the other way round. The command line tells keys and usage alike."""

from collections.abc import Mapping
from dataclasses import asdict

import msgspec

from qasr.catalogue import Catalogue
from qasr.domain.access import Allowance, Limits, Scope
from qasr.domain.errors import InvalidParameter
from qasr.domain.use import Account, Use
from qasr.faces.admin import wire
from qasr.storage.keys import Key
from qasr.storage.tasks import now_ms


def scopes(names: list[str]) -> frozenset[Scope]:
    """The scopes that *names* name.

    Raises:
        InvalidParameter: there is no such scope.
    """
    if unknown := sorted(set(names) - set(Scope)):
        there_are = ", ".join(Scope)
        raise InvalidParameter(f"There is no scope {unknown[0][:50]!r}; there are {there_are}.", parameter="scopes")
    return frozenset(map(Scope, names))


def allowance(total: wire.Limits, models: Mapping[str, wire.Limits], catalogue: Catalogue) -> Allowance:
    """The limits of a new key.

    Raises:
        UnknownModel: there is no such model.
        InvalidParameter: a limit is below 0.
    """
    return Allowance(
        total=_limits(total),
        models={catalogue.resolve(name).name: _limits(limits) for name, limits in models.items()},
    )


def _limits(limits: wire.Limits) -> Limits:
    return Limits(**msgspec.structs.asdict(limits))


def shown(key: Key) -> wire.Key:
    """A key as it is told."""
    return wire.Key(
        id=key.id,
        name=key.name,
        state=key.state(now_ms()),
        scopes=sorted(key.scopes),
        limits=wire.Limits(**asdict(key.allowance.total)),
        model_limits={name: wire.Limits(**asdict(limits)) for name, limits in key.allowance.models.items()},
        created_at=key.created_ms // 1000,
        expires_at=None if key.expires_ms is None else key.expires_ms // 1000,
        revoked_at=None if key.revoked_ms is None else key.revoked_ms // 1000,
    )


def line(account: Account, use: Use) -> wire.UsageLine:
    """A line of the book as it is told."""
    return wire.UsageLine(
        day=account.day,
        key=account.owner,
        model=account.model,
        interface=account.interface,
        requests=use.requests,
        errors=use.errors,
        audio_s=use.audio_ms / 1000,
        speech_s=use.speech_ms / 1000,
        mean_latency_s=round(use.latency_ms / max(1, use.requests) / 1000, 3),
        longest_latency_s=use.slowest_ms / 1000,
    )
