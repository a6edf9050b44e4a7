"""Errors in the native dialect. Source: docs/faces/dashscope.md#errors."""

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
    FetchFailed,
    FetchRefused,
    FetchTimeout,
    InvalidParameter,
    MediaError,
    ModelNotServed,
    NoSpeech,
    NotFound,
    QasrError,
    QueueFull,
    QuotaExceeded,
    RequestError,
    TooLarge,
    TooLong,
    TooManyObjects,
    Unauthorized,
    UnknownModel,
    WrongState,
)
from qasr.faces.dashscope import wire

SHAPES: Final[Mapping[type[QasrError], tuple[int, str]]] = {
    RequestError: (400, "InvalidParameter"),
    InvalidParameter: (400, "InvalidParameter"),
    UnknownModel: (404, "ModelNotFound"),
    ModelNotServed: (400, "InvalidParameter"),
    Unauthorized: (401, "InvalidApiKey"),
    AccessDenied: (403, "AccessDenied"),
    NotFound: (400, "InvalidParameter"),
    WrongState: (400, "UnsupportedOperation"),
    TooManyObjects: (400, "Throttling.AllocationQuota"),
    TooLarge: (400, "BadRequest.TooLarge"),
    MediaError: (400, "InvalidParameter"),
    FetchFailed: (400, "InvalidFile.DownloadFailed"),
    FetchRefused: (400, "InvalidURL"),
    FetchTimeout: (400, "InvalidURL.Timeout"),
    CapacityError: (429, "Throttling.RateQuota"),
    QueueFull: (429, "Throttling"),
    BurstLimited: (429, "Throttling.BurstRate"),
    QuotaExceeded: (429, "Throttling.AllocationQuota"),
    EngineError: (500, "InternalError"),
    EngineUnavailable: (503, "ModelUnavailable"),
    DeadlineExceeded: (500, "RequestTimeOut"),
}


FUN_SHAPES: Final[Mapping[type[QasrError], tuple[int, str]]] = {
    TooLong: (400, "AUDIO_DURATION_TOO_LONG"),
    NoSpeech: (400, "ASR_RESPONSE_HAVE_NO_WORDS"),
    **SHAPES,
}
"""The Fun-ASR-Flash dialect has codes of its own for these."""


def to_wire(
    error: QasrError, request_id: str, shapes: Mapping[type[QasrError], tuple[int, str]] = SHAPES
) -> tuple[int, bytes]:
    """Status and JSON."""
    status, code = next(shapes[cls] for cls in type(error).__mro__ if cls in shapes)
    return status, msgspec.json.encode(wire.Failure(code=code, message=str(error), request_id=request_id))


def to_fun_wire(error: QasrError, request_id: str) -> tuple[int, bytes]:
    """The same in the Fun-ASR-Flash dialect."""
    return to_wire(error, request_id, FUN_SHAPES)
