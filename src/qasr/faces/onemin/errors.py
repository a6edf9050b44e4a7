"""Errors in the dialect of 1min.ai, which documents none. Ours: docs/faces/onemin.md#errors."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import msgspec

from qasr.domain.errors import (
    AccessDenied,
    CapacityError,
    EngineError,
    EngineUnavailable,
    MediaError,
    NotFound,
    QasrError,
    RequestError,
    TooLarge,
    Unauthorized,
)
from qasr.faces.onemin import wire

SHAPES: Final[Mapping[type[QasrError], HTTPStatus]] = {
    RequestError: HTTPStatus.BAD_REQUEST,
    Unauthorized: HTTPStatus.UNAUTHORIZED,
    AccessDenied: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    MediaError: HTTPStatus.BAD_REQUEST,
    CapacityError: HTTPStatus.TOO_MANY_REQUESTS,
    EngineError: HTTPStatus.INTERNAL_SERVER_ERROR,
    EngineUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}


def to_wire(error: QasrError, _request_id: str) -> tuple[int, bytes]:
    """Status and JSON; the request's id stands in the header alone."""
    status = next(SHAPES[cls] for cls in type(error).__mro__ if cls in SHAPES)
    return status, body(status, str(error))


def body(status: int, message: str) -> bytes:
    """JSON."""
    return msgspec.json.encode(wire.Failure(message, int(status), HTTPStatus(status).phrase))
