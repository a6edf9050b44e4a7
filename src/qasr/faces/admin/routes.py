"""Routes of the administration: bytes in, bytes out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from qasr.catalogue import Catalogue
from qasr.domain.access import INTERFACES
from qasr.domain.errors import (
    AccessDenied,
    CapacityError,
    EngineError,
    EngineUnavailable,
    InvalidParameter,
    NotFound,
    QasrError,
    Unauthorized,
)
from qasr.faces.admin import wire
from qasr.faces.admin.shapes import allowance, line, scopes, shown
from qasr.faces.http import Bodies, decode, endpoint, json_answer
from qasr.faces.keys import Keys
from qasr.service import Service
from qasr.storage.usage import UsageFilter, parse_day

MOST_LINES: Final = 10_000
"""Of usage, in one answer."""
LONGEST_GRACE_S: Final = 30 * 86_400
LATEST_S: Final = 253_402_300_799
"""The end of the year 9999, in Unix seconds."""

_SHAPES: Final[Mapping[type[QasrError], tuple[int, str]]] = {
    QasrError: (400, "invalid_parameter"),
    Unauthorized: (401, "invalid_api_key"),
    AccessDenied: (403, "access_denied"),
    NotFound: (404, "not_found"),
    CapacityError: (429, "too_many_requests"),
    EngineError: (500, "internal_error"),
    EngineUnavailable: (503, "unavailable"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """All that its routes share."""

    service: Callable[[], Service]
    catalogue: Catalogue
    keys: Keys
    bodies: Bodies


def to_wire(error: QasrError, request_id: str) -> tuple[int, bytes]:
    """Status and JSON."""
    status, code = next(_SHAPES[cls] for cls in type(error).__mro__ if cls in _SHAPES)
    return status, msgspec.json.encode(wire.Failure(wire.FailureDetail(code, str(error)), request_id))


def routes(context: Context) -> list[BaseRoute]:
    """All paths of this face."""
    ours = endpoint(to_wire)
    return [
        Route("/admin/v1/keys", ours(partial(_create, context)), methods=["POST"]),
        Route("/admin/v1/keys", ours(partial(_list, context)), methods=["GET"]),
        Route("/admin/v1/keys/{id}", ours(partial(_show, context)), methods=["GET"]),
        Route("/admin/v1/keys/{id}", ours(partial(_revoke, context)), methods=["DELETE"]),
        Route("/admin/v1/keys/{id}/rotate", ours(partial(_rotate, context)), methods=["POST"]),
        Route("/admin/v1/usage", ours(partial(_usage, context)), methods=["GET"]),
    ]


async def _create(context: Context, request: Request) -> Response:
    await context.keys.bearer(request)
    async with context.bodies.read(request) as body:
        call = decode(body, wire.NewKey)
    if call.expires_at is not None and not 0 <= call.expires_at <= LATEST_S:
        raise InvalidParameter("expires_at must be Unix seconds.", parameter="expires_at")
    key, secret = await context.service().books.keys.create(
        call.name,
        INTERFACES if call.scopes is None else scopes(call.scopes),
        allowance=allowance(call.limits, call.model_limits, context.catalogue),
        expires_ms=None if call.expires_at is None else call.expires_at * 1000,
    )
    return json_answer(wire.KeyAnswer(shown(key), secret))


async def _list(context: Context, request: Request) -> Response:
    await context.keys.bearer(request)
    return json_answer(wire.KeyList([shown(key) for key in await context.service().books.keys.all()]))


async def _show(context: Context, request: Request) -> Response:
    await context.keys.bearer(request)
    return json_answer(wire.KeyAnswer(shown(await context.service().books.keys.get(request.path_params["id"]))))


async def _revoke(context: Context, request: Request) -> Response:
    await context.keys.bearer(request)
    return json_answer(wire.KeyAnswer(shown(await context.service().books.keys.revoke(request.path_params["id"]))))


async def _rotate(context: Context, request: Request) -> Response:
    await context.keys.bearer(request)
    async with context.bodies.read(request) as body:
        call = decode(body, wire.Rotation) if body.strip() else wire.Rotation()
    if not 0 <= call.grace_s <= LONGEST_GRACE_S:
        raise InvalidParameter(f"grace_s must lie within 0 and {LONGEST_GRACE_S}.", parameter="grace_s")
    ring = context.service().books.keys
    key, secret = await ring.rotate(request.path_params["id"], grace_ms=call.grace_s * 1000)
    return json_answer(wire.KeyAnswer(shown(key), secret))


async def _usage(context: Context, request: Request) -> Response:
    await context.keys.bearer(request)
    query = request.query_params
    wanted = UsageFilter(
        from_day=parse_day(query.get("from"), "from"), to_day=parse_day(query.get("to"), "to"), owner=query.get("key")
    )
    book = context.service().books.usage
    await book.flush()  # else what was used just now would be missing
    return json_answer(wire.UsageList([line(*one) for one in await book.find(wanted, limit=MOST_LINES)]))
