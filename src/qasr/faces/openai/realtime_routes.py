"""The socket of transcription sessions: who comes in, and which schema they speak.

Who finds no room is refused before the upgrade: it costs least, and clients show the status. A browser does not; it is
told by an event.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final

from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket

from qasr.domain.access import Scope
from qasr.domain.errors import QasrError, UnknownModel
from qasr.faces.openai.context import Context
from qasr.faces.openai.errors import to_wire
from qasr.faces.openai.realtime import DEFAULT_MODEL, Transcribing
from qasr.faces.realtime import RealtimeDialogue, Turned
from qasr.faces.sockets import Dialogue, refuse

_KEY: Final = "openai-insecure-api-key."
"""Browsers cannot set headers: their key comes as a subprotocol, as documented."""
_BETA: Final = "openai-beta.realtime-v1"


def routes(context: Context, roots: Sequence[str]) -> list[BaseRoute]:
    """One path under each root."""
    return [WebSocketRoute(f"{root}/realtime", partial(_realtime, context)) for root in roots]


async def _realtime(context: Context, websocket: WebSocket) -> None:
    offered: list[str] = websocket.scope["subprotocols"]
    name = websocket.query_params.get("model")
    key = next((each.removeprefix(_KEY) for each in offered if each.startswith(_KEY)), None)
    service = context.service()
    try:
        if key is None:
            caller = await context.keys.bearer(websocket)
            service.check_live()
        else:
            caller = await context.keys.caller(key)
        engine = await service.capabilities(name or DEFAULT_MODEL)
    except QasrError as error:
        await refuse(websocket, error, to_wire)
        return
    live = context.live
    beta = _BETA in offered or "realtime=v1" in websocket.headers.get("openai-beta", "")
    dialogue: Dialogue
    try:
        dialect = Transcribing(name, context.catalogue, engine, session_s=live.session_s, beta=beta)
        dialogue = RealtimeDialogue(dialect, session_s=live.session_s, idle_s=None)
    except UnknownModel as error:
        dialogue = Turned("model_not_found", str(error))
    await live.sockets.converse(
        websocket,
        dialogue,
        live.ears(caller, Scope.OPENAI),
        to_wire=to_wire,
        subprotocol="realtime" if "realtime" in offered else None,
    )
