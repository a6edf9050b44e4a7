"""The socket of transcription sessions: who comes in, and which schema they speak."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket

from qasr.domain.access import Caller, Scope
from qasr.domain.errors import QasrError, UnknownModel
from qasr.faces.keys import Keys
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
    try:
        caller = await _caller(websocket, offered, context.keys)
        engine = await context.service().capabilities(name or DEFAULT_MODEL)
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


async def _caller(websocket: WebSocket, offered: Sequence[str], keys: Keys) -> Caller:
    key = next((each.removeprefix(_KEY) for each in offered if each.startswith(_KEY)), None)
    return await (keys.bearer(websocket) if key is None else keys.caller(key))
