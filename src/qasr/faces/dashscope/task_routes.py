"""Routes of asynchronous transcription: bytes in, bytes out."""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from qasr.domain.access import Scope
from qasr.domain.errors import NotFound, WrongState
from qasr.domain.task import Subtask
from qasr.faces.dashscope import results, submission, task_wire, tasks
from qasr.faces.dashscope.context import Context
from qasr.faces.dashscope.documents import document
from qasr.faces.dashscope.errors import to_wire
from qasr.faces.http import decode, endpoint, external_url, json_answer, request_id
from qasr.storage.tasks import now_ms

WEBHOOK = "x-qasr-webhook"


def routes(context: Context) -> list[BaseRoute]:
    """All paths of tasks and their results."""
    native, oss = endpoint(to_wire), endpoint(results.to_wire)
    find = native(partial(_list, context))
    return [
        Route("/api/v1/services/audio/asr/transcription", native(partial(_submit, context)), methods=["POST"]),
        Route("/api/v1/tasks", find, methods=["GET"]),
        Route("/api/v1/tasks/", find, methods=["GET"]),
        Route("/api/v1/tasks/{id}", native(partial(_query, context)), methods=["GET", "POST"]),
        Route("/api/v1/tasks/{id}/cancel", native(partial(_cancel, context)), methods=["POST"]),
        Route("/results/{id}/{number:int}.json", oss(partial(_result, context)), methods=["GET"]),
    ]


async def _submit(context: Context, request: Request) -> Response:
    caller = await context.keys.bearer(request)
    submission.check_header(request.headers.get("x-dashscope-async"))
    service = context.service()
    service.check_tasks(caller.owner)
    async with context.bodies.read(request) as body:
        call = decode(body, task_wire.TaskRequest)
    model = context.catalogue.resolve(call.model)
    able = submission.Abilities(
        engine=await service.capabilities(model.name), timed=await service.timed_languages(model.name)
    )
    order = submission.parse(call, model, caller.owner, able, webhook=request.headers.get(WEBHOOK))
    unused = order.options.hints.context and not able.engine.context
    found = {
        "X-Qasr-Engine": able.engine.name,
        "X-Qasr-Checkpoint": service.served_by(model.name)[0].checkpoint,
        "X-Qasr-Unused": "context" if unused else None,
    }
    headers = {name: value for name, value in found.items() if value}
    visit = context.gate.visit(caller, call.model, Scope.DASHSCOPE)
    return json_answer(tasks.submitted(await visit.submit(order), request_id(request)), headers)


async def _query(context: Context, request: Request) -> Response:
    caller = await context.keys.bearer(request)
    task_id = request.path_params["id"]
    task = await context.service().query(task_id, caller.owner)
    if task is None:
        return json_answer(tasks.unknown(task_id, request_id(request)))
    base, ended_ms = external_url(request, context.external_url), task.ended_ms or now_ms()

    def link(subtask: Subtask) -> str:
        return context.links.link(base, task.id, subtask.number, ended_ms=ended_ms)

    return json_answer(tasks.answer(task, request_id(request), link))


async def _list(context: Context, request: Request) -> Response:
    caller = await context.keys.bearer(request)
    wanted, number, size = tasks.parse_list(request.query_params, caller.owner, now_ms())
    total, found = await context.service().list_tasks(wanted, offset=(number - 1) * size, limit=size)
    return json_answer(tasks.page(total, found, number, size, request_id(request)))


async def _cancel(context: Context, request: Request) -> Response:
    caller = await context.keys.bearer(request)
    if not await context.service().cancel(request.path_params["id"], caller.owner):
        raise WrongState("Failed to cancel the task, please confirm if the task is in PENDING status.")
    return json_answer(task_wire.CancelAnswer(request_id(request)))


async def _result(context: Context, request: Request) -> Response:
    """No key: the address is signed."""
    task_id, number = request.path_params["id"], request.path_params["number"]
    query = request.query_params
    context.links.check(task_id, number, query.get("Expires", ""), query.get("Signature", ""))
    service = context.service()
    task = await service.query(task_id, None)
    if task is None:
        raise NotFound("The specified key does not exist.")
    header = await service.transcripts.header(task_id, number)  # told before the answer begins: it may be gone
    sentences = partial(service.transcripts.sentences, task_id, number)
    body = document(header, sentences, task.order.dialect, task.order.options)
    return StreamingResponse(body, media_type="application/json")
