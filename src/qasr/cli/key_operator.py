"""What ``qasr keys`` and ``qasr usage`` do."""

import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.table import Table
from rich.text import Text

from qasr import catalogue
from qasr.cli.failure import fail, tell
from qasr.cli.operator import with_database
from qasr.cli.task_views import console
from qasr.domain.access import INTERFACES, LIMITS, Allowance
from qasr.domain.errors import QasrError
from qasr.domain.use import Account, Use
from qasr.faces.admin import wire
from qasr.faces.admin.shapes import allowance, line, scopes, shown
from qasr.storage.database import Database
from qasr.storage.keys import Key, KeyRing
from qasr.storage.tasks import now_ms
from qasr.storage.usage import UsageBook, UsageFilter, parse_day

MOST_LINES: Final = 100_000
NO_KEYS: Final = "there are no keys in"
_SPANS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SPAN: Final = re.compile(r"(\d{1,6})([smhd])")


def create(
    name: str,
    scope_names: Sequence[str],
    expires: str | None,
    limits: Sequence[str],
    *,
    as_json: bool,
    data_dir: Path | None,
    config_file: Path | None,
) -> None:
    """Make a key; its text alone goes to standard output."""
    try:
        allowed = _allowance(limits)
        opened = scopes(list(scope_names)) if scope_names else INTERFACES
    except (QasrError, ValueError) as error:
        fail(error)
    expires_ms = None if expires is None else _moment_ms(expires)

    async def work(database: Database) -> tuple[Key, str]:
        return await KeyRing(database).create(name, opened, allowance=allowed, expires_ms=expires_ms)

    key, secret = with_database(work, data_dir, config_file, missing=None)
    if as_json:
        _print_json(wire.KeyAnswer(shown(key), secret))
    else:
        _print_secret(key, secret)


def list_keys(*, as_json: bool, data_dir: Path | None, config_file: Path | None) -> None:
    """Print all keys."""
    found = with_database(lambda database: KeyRing(database).all(), data_dir, config_file, missing=NO_KEYS)
    if as_json:
        _print_json(wire.KeyList([shown(key) for key in found]))
    elif found:
        console().print(_key_table(found))
    else:
        tell("no keys")


def show(key_id: str, *, data_dir: Path | None, config_file: Path | None) -> None:
    """Print one key."""
    key = with_database(lambda database: KeyRing(database).get(key_id), data_dir, config_file, missing=NO_KEYS)
    _print_json(shown(key))


def revoke(key_id: str, *, data_dir: Path | None, config_file: Path | None) -> None:
    """Revoke a key; its state goes to standard output."""
    key = with_database(lambda database: KeyRing(database).revoke(key_id), data_dir, config_file, missing=NO_KEYS)
    sys.stdout.write(f"{key.state(now_ms())}\n")


def rotate(key_id: str, grace: str | None, *, data_dir: Path | None, config_file: Path | None) -> None:
    """Give a key a new text, which alone goes to standard output."""
    grace_ms = 0 if grace is None else _span_ms(grace)

    async def work(database: Database) -> tuple[Key, str]:
        return await KeyRing(database).rotate(key_id, grace_ms=grace_ms)

    _print_secret(*with_database(work, data_dir, config_file, missing=NO_KEYS))


def usage(
    since: str | None,
    until: str | None,
    owner: str | None,
    *,
    as_json: bool,
    data_dir: Path | None,
    config_file: Path | None,
) -> None:
    """Print lines of the book."""
    try:
        wanted = UsageFilter(from_day=parse_day(since, "--from"), to_day=parse_day(until, "--to"), owner=owner)
    except QasrError as error:
        fail(error)

    async def work(database: Database) -> tuple[list[tuple[Account, Use]], dict[str, str]]:
        names = {key.id: key.name for key in await KeyRing(database).all()}
        return await UsageBook(database).find(wanted, limit=MOST_LINES), names

    found, names = with_database(work, data_dir, config_file, missing="nothing was used in")
    lines = [line(account, use) for account, use in found]
    if as_json:
        _print_json(wire.UsageList(lines))
    elif lines:
        console().print(_usage_table(lines, names))
    else:
        tell("no usage")


def _print_secret(key: Key, secret: str) -> None:
    tell(f"key {key.id} ({key.name}); keep what follows: nobody can tell it again")
    sys.stdout.write(f"{secret}\n")


def _print_json(value: msgspec.Struct) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value)).decode() + "\n")


def _allowance(texts: Iterable[str]) -> Allowance:
    """Limits such as ``requests_per_minute=60`` and ``qwen3-asr-flash:live_sessions=2``.

    Raises:
        ValueError, QasrError: with what is wrong.
    """
    given: dict[str, dict[str, float]] = {}
    for text in texts:
        where, _, number = text.partition("=")
        model, _, name = where.rpartition(":")
        if name not in LIMITS:
            raise ValueError(f"there is no limit {name!r}; there are {', '.join(LIMITS)}")
        try:
            given.setdefault(model, {})[name] = float(number)
        except ValueError as error:
            raise ValueError(f"--limit {text!r}: {number!r} is no number") from error
    total = wire.Limits(**given.pop("", {}))
    return allowance(total, {model: wire.Limits(**one) for model, one in given.items()}, catalogue.built_in())


def _moment_ms(text: str) -> int:
    """A span from now, or a day: its beginning in UTC."""
    if _SPAN.fullmatch(text):
        return now_ms() + _span_ms(text)
    try:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)
    except ValueError:
        fail(f"{text!r} is neither a time such as 30d nor a day such as 2027-01-31")


def _span_ms(text: str) -> int:
    shape = _SPAN.fullmatch(text)
    if shape is None:
        fail(f"{text!r} is no time such as 30d, 12h, 10m or 30s")
    return int(timedelta(seconds=int(shape[1]) * _SPANS[shape[2]]).total_seconds() * 1000)


def _key_table(found: Sequence[Key]) -> Table:
    rows: list[Sequence[Any]] = [
        (
            key.id,
            key.name,
            key.state(now_ms()),
            ", ".join(sorted(key.scopes)),
            _day(key.created_ms),
            _day(key.expires_ms),
        )
        for key in found
    ]
    return _table(("id", "name", "state", "scopes", "made", "expires"), rows)


def _usage_table(lines: Sequence[wire.UsageLine], names: dict[str, str]) -> Table:
    rows: list[Sequence[Any]] = [
        (
            one.day,
            names.get(one.key, one.key),
            one.model,
            one.interface,
            one.requests,
            one.errors,
            f"{one.audio_s:.1f}",
            f"{one.mean_latency_s:.2f}",
            f"{one.longest_latency_s:.2f}",
        )
        for one in lines
    ]
    head = ("day", "key", "model", "interface", "requests", "errors", "audio s", "mean s", "longest s")
    return _table(head, rows, right=4)


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]], *, right: int | None = None) -> Table:
    """*right*: the first column of numbers."""
    found = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    for number, name in enumerate(head):
        is_number = right is not None and number >= right
        found.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        found.add_row(*(Text(str(cell)) for cell in row))
    return found


def _day(at_ms: int | None) -> str:
    return "-" if at_ms is None else f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M}"
