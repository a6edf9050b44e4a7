"""Errors in the compatible dialect. Source: docs/faces/openai.md#errors."""

from collections.abc import Mapping
from typing import Final

import msgspec

from qasr.domain.errors import (
    AccessDenied,
    BurstLimited,
    CapacityError,
    DeadlineExceeded,
    EngineError,
    EngineUnavailable,
    FetchRefused,
    InvalidParameter,
    MediaError,
    ModelNotServed,
    NotFound,
    QasrError,
    QuotaExceeded,
    RequestError,
    TooLarge,
    Unauthorized,
    UnknownModel,
)
from qasr.faces.openai import wire

SHAPES: Final[Mapping[type[QasrError], tuple[int, str, str]]] = {  # status, code, type
    RequestError: (400, "invalid_parameter_error", "invalid_request_error"),
    InvalidParameter: (400, "invalid_parameter_error", "invalid_request_error"),
    UnknownModel: (404, "model_not_found", "invalid_request_error"),
    ModelNotServed: (404, "model_not_supported", "invalid_request_error"),
    Unauthorized: (401, "invalid_api_key", "invalid_request_error"),
    AccessDenied: (403, "access_denied", "invalid_request_error"),
    NotFound: (404, "not_found", "invalid_request_error"),
    TooLarge: (400, "invalid_parameter_error", "invalid_request_error"),
    MediaError: (400, "invalid_parameter_error", "invalid_request_error"),
    FetchRefused: (400, "InvalidURL", "invalid_request_error"),
    CapacityError: (429, "limit_requests", "rate_limit_error"),
    BurstLimited: (429, "limit_burst_rate", "rate_limit_error"),
    QuotaExceeded: (429, "insufficient_quota", "insufficient_quota"),
    EngineError: (500, "internal_error", "internal_error"),
    EngineUnavailable: (503, "internal_error", "internal_error"),
    DeadlineExceeded: (500, "request_timeout", "internal_error"),
}


def failure(error: QasrError, request_id: str) -> tuple[int, wire.Failure]:
    """Status and body."""
    status, code, kind = next(SHAPES[cls] for cls in type(error).__mro__ if cls in SHAPES)
    parameter = error.parameter if isinstance(error, InvalidParameter) else None
    message = str(error)
    if isinstance(error, Unauthorized) and error.given:  # the dialect's own words
        message = "Incorrect API key provided."
    detail = wire.FailureDetail(message=message, type=kind, param=parameter, code=code)
    return status, wire.Failure(error=detail, request_id=request_id)


def to_wire(error: QasrError, request_id: str) -> tuple[int, bytes]:
    """Status and JSON."""
    status, body = failure(error, request_id)
    return status, msgspec.json.encode(body)


def to_audio_wire(error: QasrError, request_id: str) -> tuple[int, bytes]:
    """The same for ``audio/*``, where a file that is too large is 413 as OpenAI has it."""
    status, body = failure(error, request_id)
    return 413 if isinstance(error, TooLarge) else status, msgspec.json.encode(body)
