"""The OpenAPI document: valid, honest, and a source of requests that nobody thought of."""

from typing import Any, Final

import httpx2
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.safety.fuzz import tried
from tests.server import KEY, Server

from qasr.faces.openapi import openapi

EXAMPLES: Final = 12
"""For each operation: seconds, not minutes; more with ``make fuzz``."""

BEARER: Final = {"Authorization": f"Bearer {KEY}"}

schema = schemathesis.openapi.from_dict(dict(openapi()))


@schema.parametrize()
@tried(EXAMPLES)
def test_no_request_is_answered_with_a_failure_of_ours(case: Any, scripted: Server) -> None:
    """Requests made from the document, good and bad: never a 5xx, and the answer has the shape that is documented; it
    says which request it was, and is safe in a browser.
    """
    answer = case.call(base_url=scripted.base, headers={"Authorization": f"Bearer {KEY}"}, timeout=30)

    case.validate_response(
        answer,
        checks=(
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_headers_conformance,
            response_schema_conformance,
        ),
    )
    assert answer.headers["x-request-id"]
    assert ["nosniff"] == answer.headers["x-content-type-options"]


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/livez", "/readyz"])
def test_public_paths_need_no_key(scripted: Server, path: str) -> None:
    """Documentation and health are for everybody; no redirects, no secrets."""
    answer = scripted.get(path, key=None)

    assert 200 == answer.status_code
    assert KEY not in answer.text


def test_every_documented_path_is_served(scripted: Server) -> None:
    """Nothing is documented that would answer 404."""
    document = scripted.get("/openapi.json", key=None).json()

    for path, operations in document["paths"].items():
        for method in operations:
            answer = httpx2.request(method, scripted.base + path, headers=BEARER, timeout=30)
            assert answer.status_code not in (404, 405), (method, path)
