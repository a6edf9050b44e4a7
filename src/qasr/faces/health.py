"""Health: ``/livez`` (the process answers), ``/readyz`` (requests can be served, by what, and whether emotions are told
with them; if not, why not).
"""

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
        troubles = service().troubles
        told = {"troubles": troubles} if troubles else {}
        if problems := service().problems:
            return JSONResponse({"status": "unavailable", "reasons": problems, **told}, status_code=503)
        states = service().engines()
        engines = [{"engine": one.engine, "checkpoint": one.checkpoint, "state": one.state} for one in states]
        emotion = any(one.emotion for one in states)
        return JSONResponse({"status": "ok", "emotion": emotion, "engines": engines, **told})

    return [Route("/livez", livez), Route("/readyz", readyz)]
