"""Every answer has an id, also where nobody expected what happened. Those of real traffic: ``test_logs.py``."""

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from qasr.faces.http import RequestIds
from qasr.faces.unknown import handlers

pytestmark = pytest.mark.anyio


async def broken(_request: Request) -> Response:
    raise OSError("/var/lib/secret")


@pytest.mark.parametrize(("path", "code"), [("/v1/x", "internal_error"), ("/api/v1/x", "InternalError")])
async def test_a_fault_of_ours_has_an_id_and_a_shape(path: str, code: str) -> None:
    """An endpoint that raises is answered in its dialect, and says nothing of why."""
    app = Starlette(routes=[Route(path, broken)], exception_handlers=handlers())
    app.add_middleware(RequestIds)
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://qasr") as client:
        answer = await client.get(path)

    body = answer.json()
    assert 500 == answer.status_code
    assert body["request_id"] == answer.headers["x-request-id"]
    assert code == body.get("error", body)["code"]
    assert "secret" not in answer.text
