"""Paths and methods that nobody serves, in the shape of the dialect whose root they lie under."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from qasr.faces.dashscope import wire as dashscope
from qasr.faces.http import request_id
from qasr.faces.onemin import errors as onemin
from qasr.faces.openai import wire as openai

ONEMIN: Final = ("/api/assets", "/api/features")
"""Roots of 1min.ai, which lie beside those of DashScope."""


def handlers() -> Mapping[Any, Any]:
    """Exception handlers for the application."""
    return {HTTPException: _answer}


async def _answer(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    identity = request_id(request)
    message = f"{request.method} {request.url.path[:200]}: {error.detail}"
    if request.url.path.startswith(ONEMIN):
        body = onemin.body(error.status_code, message)
    elif request.url.path.startswith(("/api/", "/api-ws/")):
        code = {404: "NotFound", 405: "MethodNotAllowed"}.get(error.status_code, "InvalidParameter")
        body = msgspec.json.encode(dashscope.Failure(code=code, message=message, request_id=identity))
    else:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_parameter_error")
        detail = openai.FailureDetail(message=message, type="invalid_request_error", param=None, code=code)
        body = msgspec.json.encode(openai.Failure(error=detail, request_id=identity))
    return Response(body, status_code=error.status_code, media_type="application/json", headers=error.headers)
