"""Health: ``/livez`` (the process answers), ``/readyz`` (requests can be served, and by what; if not, why not)."""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from qasr.service import Service


def routes(service: Callable[[], Service]) -> list[BaseRoute]:
    """Both paths; no key is asked for, and nothing is told that a stranger could use."""

    async def livez(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_request: Request) -> Response:
        problem = service().problem
        if problem is None:
            engines = [
                {"engine": one.engine, "checkpoint": one.checkpoint, "state": one.state} for one in service().engines()
            ]
            return JSONResponse({"status": "ok", "engines": engines})
        return JSONResponse({"status": "unavailable", "reasons": [problem]}, status_code=503)

    return [Route("/livez", livez), Route("/readyz", readyz)]
