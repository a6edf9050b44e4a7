"""Paths and methods that nobody serves, and what no face has caught, in the shape of the dialect whose root they lie
under.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from qasr.domain.errors import EngineFailed
from qasr.faces.dashscope import wire as dashscope
from qasr.faces.dashscope.errors import to_wire as native_to_wire
from qasr.faces.http import error_answer, request_id
from qasr.faces.openai import wire as openai
from qasr.faces.openai.errors import to_wire as compatible_to_wire

NATIVE: Final = ("/api/", "/api-ws/")
"""Roots of DashScope's own dialect."""


def handlers() -> Mapping[Any, Any]:
    """Exception handlers for the application."""
    return {HTTPException: _answer, Exception: _failed}


async def _failed(request: Request, _error: Exception) -> Response:
    """A fault of ours; who serves us logs it. This answer is made outside of all middleware."""
    identity = request_id(request)
    to_wire = native_to_wire if request.url.path.startswith(NATIVE) else compatible_to_wire
    answer = error_answer(EngineFailed("Internal server error."), to_wire, identity)
    answer.headers["X-Request-Id"] = identity
    return answer


async def _answer(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    identity = request_id(request)
    message = f"{request.method} {request.url.path[:200]}: {error.detail}"
    if request.url.path.startswith(NATIVE):
        code = {404: "NotFound", 405: "MethodNotAllowed"}.get(error.status_code, "InvalidParameter")
        body = msgspec.json.encode(dashscope.Failure(code=code, message=message, request_id=identity))
    else:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_parameter_error")
        detail = openai.FailureDetail(message=message, type="invalid_request_error", param=None, code=code)
        body = msgspec.json.encode(openai.Failure(error=detail, request_id=identity))
    return Response(body, status_code=error.status_code, media_type="application/json", headers=error.headers)
