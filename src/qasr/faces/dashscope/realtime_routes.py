"""The socket of realtime events: who comes in, and with which model."""

from functools import partial

from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket

from qasr.domain.access import Scope
from qasr.domain.errors import QasrError, UnknownModel
from qasr.faces.dashscope.context import Context
from qasr.faces.dashscope.errors import to_wire
from qasr.faces.dashscope.realtime import Qwen
from qasr.faces.realtime import RealtimeDialogue, Turned
from qasr.faces.sockets import Dialogue, admit, refuse


def routes(context: Context) -> list[BaseRoute]:
    """One path."""
    return [WebSocketRoute("/api-ws/v1/realtime", partial(_realtime, context))]


async def _realtime(context: Context, websocket: WebSocket) -> None:
    caller = await admit(websocket, context.keys, to_wire)
    if caller is None:
        return
    live = context.live
    try:
        dialogue = await _dialogue(websocket.query_params.get("model", ""), context)
    except QasrError as error:
        await refuse(websocket, error, to_wire)
        return
    await live.sockets.converse(websocket, dialogue, live.ears(caller, Scope.DASHSCOPE), to_wire=to_wire)


async def _dialogue(name: str, context: Context) -> Dialogue:
    """The SDK cannot show a refused upgrade, so a wrong model is told behind it."""
    try:
        model = context.catalogue.resolve(name)
    except UnknownModel as error:
        return Turned("model_not_found", str(error))
    if model.kind != "realtime":
        return Turned("model_not_found", f"The model `{name[:100]}` is not served by this interface.")
    engine = await context.service().capabilities(model.name)
    return RealtimeDialogue(Qwen(name, model, engine), session_s=context.live.session_s, idle_s=context.live.idle_s)
