"""Routes of the native dialect: bytes in, bytes out."""

from contextlib import AsyncExitStack
from functools import partial

import msgspec
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from qasr.catalogue import Model
from qasr.domain.access import Scope
from qasr.domain.errors import AccessDenied, EngineUnavailable, InvalidParameter, QasrError
from qasr.domain.transcript import Sentence
from qasr.faces.dashscope import (
    generation,
    inference_routes,
    realtime_routes,
    task_routes,
    uploads,
    vocabulary_routes,
    wire,
)
from qasr.faces.dashscope.context import Context
from qasr.faces.dashscope.errors import to_fun_wire, to_wire
from qasr.faces.forms import file_form
from qasr.faces.gate import Visit
from qasr.faces.http import (
    Emit,
    EventStream,
    ToWire,
    decode,
    endpoint,
    error_answer,
    external_url,
    json_answer,
    request_id,
    told,
    while_connected,
)
from qasr.service import Order, Service

LARGEST_PAGE = 100


def routes(context: Context) -> list[BaseRoute]:
    """All paths of this face."""
    native, oss = endpoint(to_wire), endpoint(uploads.to_wire)
    generate = native(partial(_generation, context))
    return [
        Route("/api/v1/services/aigc/multimodal-generation/generation", generate, methods=["POST"]),
        Route("/api/v1/uploads", native(partial(_upload_policy, context)), methods=["GET"]),
        Route("/oss/{door}", oss(partial(_upload, context)), methods=["POST"]),
        Route("/api/v1/models", native(partial(_models, context)), methods=["GET"]),
        Route("/api/v1/models/{name:path}", native(partial(_models, context)), methods=["GET"]),
        *task_routes.routes(context),
        *realtime_routes.routes(context),
        *inference_routes.routes(context),
        *vocabulary_routes.routes(context),
    ]


async def _generation(context: Context, request: Request) -> Response:
    caller = await context.keys.bearer(request)
    if request.headers.get("x-dashscope-async", "").lower() == "enable":
        raise AccessDenied("current user api does not support asynchronous calls.")
    async with AsyncExitStack() as held:
        held.enter_context(context.service().expected(caller.owner))
        call = decode(await held.enter_async_context(context.bodies.read(request)), wire.GenerationRequest)
        model = context.catalogue.resolve(call.model)
        shape = to_fun_wire if model.kind == "fun-sync" else to_wire
        try:
            order = generation.parse(call, model, caller.owner, context.answer_s)
            answers = _answers(call, model, request_id(request))
            visit = context.gate.visit(caller, call.model, Scope.DASHSCOPE)
            if _wants_stream(request):
                return _stream(visit, order, answers, shape, request_id(request), held.pop_all())
            transcript = await while_connected(request, partial(visit.transcribe, order))
            return json_answer(answers.whole(transcript), told(transcript))
        except QasrError as error:
            return error_answer(error, shape, request_id(request))


def _answers(call: wire.GenerationRequest, model: Model, identity: str) -> generation.Answers:
    if model.kind == "fun-sync":
        return generation.FunAnswers(identity)
    parameters = call.parameters or wire.Parameters()
    return generation.QwenAnswers(identity, incremental=bool(parameters.incremental_output))


def _wants_stream(request: Request) -> bool:
    """The header decides (the new SDK sends ``Accept: */*`` with it); ``Accept: text/event-stream`` counts too."""
    asked = request.headers.get("x-dashscope-sse", "").lower() == "enable"
    return asked or request.headers.get("accept", "").split(";")[0].strip() == "text/event-stream"


def _stream(
    visit: Visit, order: Order, answers: generation.Answers, shape: ToWire, identity: str, held: AsyncExitStack
) -> EventStream:
    number = 0

    def frame(error: QasrError) -> bytes:
        return generation.error_frame(number + 1, *shape(error, identity))

    async def produce(emit: Emit, headers: MutableHeaders) -> None:
        nonlocal number
        heard: list[Sentence] = []

        async def send(newest: Sentence | None, duration_ms: int) -> None:
            nonlocal number
            for answer in answers.frames(heard, newest, duration_ms):
                number += 1
                await emit(generation.result_frame(number, msgspec.json.encode(answer)))

        async with visit.listen(order) as listening:
            headers.update(told(listening))
            async for sentence in listening.sentences():
                heard.append(sentence)
                await send(sentence, listening.duration_ms)
            await send(None, listening.duration_ms)

    return EventStream(produce, to_wire=shape, frame=frame, held=held, media_type="text/event-stream;charset=UTF-8")


async def _upload_policy(context: Context, request: Request) -> Response:
    caller = await context.keys.bearer(request)
    if request.query_params.get("action") != "getPolicy":
        raise InvalidParameter("action must be getPolicy.", parameter="action")
    name = request.query_params.get("model")
    if not name:
        raise InvalidParameter("Field required: model", parameter="model")
    context.catalogue.resolve(name)
    permit = await context.service().uploads.permit(caller.owner)
    data = uploads.policy(permit, external_url(request, context.external_url))
    return json_answer(wire.UploadPolicyAnswer(request_id=request_id(request), data=data))


async def _upload(context: Context, request: Request) -> Response:
    store = context.service().uploads
    most = store.check_door(request.path_params["door"])
    async with file_form(request, "file", context.spool, max_bytes=most) as form:
        fields = dict(form.fields)
        key = uploads.field(fields, "key")
        allowed = store.check(uploads.field(fields, "policy"), uploads.field(fields, "Signature"), key)
        if form.path is None:
            raise InvalidParameter("The file part 'file' is required.", parameter="file")
        await store.store(key.replace("${filename}", form.filename or "file"), form.path, allowed)
    return Response(status_code=200)


async def _models(context: Context, request: Request) -> Response:
    await context.keys.bearer(request)
    name = request.path_params.get("name") or request.query_params.get("model")
    names = [alias for model in context.catalogue.models for alias in (model.name, *model.aliases)]
    if name:
        context.catalogue.resolve(name)
        names = [name]
    number, size = _page(request, "page_no", 1, 10**6), _page(request, "page_size", 10, LARGEST_PAGE)
    shown = names[(number - 1) * size : number * size]
    entries = [wire.ModelEntry(model=n, name=n, description=_description(context.service(), n)) for n in shown]
    page = wire.ModelPage(total=len(names), page_no=number, page_size=size, models=entries)
    return json_answer(wire.ModelsAnswer(request_id=request_id(request), output=page))


def _description(service: Service, name: str) -> str:
    """What hears the model now: the documented entry has no field for it."""
    try:
        choice, loaded = service.served_by(name)
    except EngineUnavailable:
        return "speech to text; nothing that could serve it is installed"
    engine = choice.engine if choice.checkpoint is None else f"{choice.checkpoint} ({choice.engine})"
    if loaded is None:
        return f"speech to text by {engine}, not loaded"
    return f"speech to text by {engine}, loaded" + (", with emotion" if loaded.capabilities.emotion else "")


def _page(request: Request, name: str, default: int, most: int) -> int:
    text = request.query_params.get(name, str(default))
    if not text.isdecimal() or not int(text[:9]) >= 1:
        raise InvalidParameter(f"{name} must be a positive number.", parameter=name)
    return min(int(text[:9]), most)
