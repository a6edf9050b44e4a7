"""The socket of the task protocol: who comes in, and what is loaded when they do."""

from dataclasses import replace
from functools import partial

from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket

from qasr.domain.access import Scope
from qasr.domain.errors import QasrError
from qasr.faces.dashscope.context import Context
from qasr.faces.dashscope.errors import to_wire
from qasr.faces.dashscope.inference_dialogue import InferenceDialogue
from qasr.faces.dashscope.submission import Abilities
from qasr.faces.sockets import admit, refuse


def routes(context: Context) -> list[BaseRoute]:
    """One path; the slash that older samples have at its end is taken off before."""
    return [WebSocketRoute("/api-ws/v1/inference", partial(_tasks, context))]


async def _tasks(context: Context, websocket: WebSocket) -> None:
    caller = await admit(websocket, context.keys, to_wire)
    if caller is None:
        return
    try:
        service = context.service()
        default = Abilities(engine=await service.capabilities(), timed=await service.timed_languages())
    except QasrError as error:
        await refuse(websocket, error, to_wire)
        return

    def able(model: str) -> Abilities:
        known = service.foreseen(model)
        return default if known is None else replace(default, engine=known)

    live = context.live
    dialogue = InferenceDialogue(context.catalogue, able, context.patience)
    await live.sockets.converse(websocket, dialogue, live.ears(caller, Scope.DASHSCOPE), to_wire=to_wire)
