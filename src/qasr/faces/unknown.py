"""Requests that no face answers, in the shape of the dialect whose root they lie under: paths and methods that nobody
serves, and failures that nobody foresaw.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from qasr.faces.dashscope import wire as dashscope
from qasr.faces.http import SAFE_HEADERS, request_id
from qasr.faces.onemin import errors as onemin
from qasr.faces.openai import wire as openai

ONEMIN: Final = ("/api/assets", "/api/features")
"""Roots of 1min.ai, which lie beside those of DashScope."""


def handlers() -> Mapping[Any, Any]:
    """Exception handlers for the application."""
    return {HTTPException: _answer, Exception: _crashed}


def refusal(
    connection: HTTPConnection, status: int, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    """An error in the dialect of the path that was asked for."""
    identity = request_id(connection)
    if connection.scope["path"].startswith(ONEMIN):
        body = onemin.body(status, message)
    elif connection.scope["path"].startswith(("/api/", "/api-ws/")):
        codes = {403: "AccessDenied", 404: "NotFound", 405: "MethodNotAllowed", 500: "InternalError"}
        code = codes.get(status, "InvalidParameter")
        body = msgspec.json.encode(dashscope.Failure(code=code, message=message, request_id=identity))
    else:
        codes = {403: "access_denied", 404: "not_found", 405: "method_not_allowed", 500: "internal_error"}
        code = codes.get(status, "invalid_parameter_error")
        kind = "internal_error" if status >= 500 else "invalid_request_error"
        detail = openai.FailureDetail(message=message, type=kind, param=None, code=code)
        body = msgspec.json.encode(openai.Failure(error=detail, request_id=identity))
    return Response(body, status_code=status, media_type="application/json", headers=headers)


async def _answer(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path[:200]}: {error.detail}"
    return refusal(request, error.status_code, message, error.headers)


async def _crashed(request: Request, _error: Exception) -> Response:
    """Starlette answers with this outside of all middleware, and raises the error again: it is logged."""
    return refusal(request, 500, "Internal server error.", {**SAFE_HEADERS, "X-Request-Id": request_id(request)})
