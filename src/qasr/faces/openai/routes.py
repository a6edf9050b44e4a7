"""Routes of the OpenAI dialect: bytes in, bytes out; what they mean stands in ``chat.py`` and ``transcriptions.py``."""

from contextlib import AsyncExitStack
from functools import partial

import msgspec
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from qasr.domain.access import Scope
from qasr.domain.audio import FileSource
from qasr.domain.errors import InvalidParameter, UnsupportedOption
from qasr.domain.transcript import Sentence, join, separator
from qasr.faces.forms import file_form
from qasr.faces.gate import Visit
from qasr.faces.http import (
    Emit,
    EventStream,
    decode,
    endpoint,
    json_answer,
    request_id,
    told,
    while_connected,
)
from qasr.faces.openai import chat, realtime_routes, transcriptions, wire
from qasr.faces.openai.context import Context
from qasr.faces.openai.errors import to_audio_wire, to_wire
from qasr.service import Order

ROOTS = ("/compatible-mode/v1", "/v1")


def routes(context: Context) -> list[BaseRoute]:
    """All paths of this face."""
    served = {
        "/chat/completions": (endpoint(to_wire)(partial(_chat, context)), "POST"),
        "/audio/transcriptions": (endpoint(to_audio_wire)(partial(_transcriptions, context)), "POST"),
        "/audio/translations": (endpoint(to_audio_wire)(partial(_translations, context)), "POST"),
        "/models": (endpoint(to_wire)(partial(_models, context)), "GET"),
        "/models/{name:path}": (endpoint(to_wire)(partial(_model, context)), "GET"),
    }
    return [
        *(
            Route(root + path, handler, methods=[method])
            for root in ROOTS
            for path, (handler, method) in served.items()
        ),
        *realtime_routes.routes(context, ROOTS),
    ]


async def _chat(context: Context, request: Request) -> Response:
    caller = await context.keys.bearer(request)
    async with AsyncExitStack() as held:
        held.enter_context(context.service().expected(caller.owner))
        call = decode(await held.enter_async_context(context.bodies.read(request)), wire.ChatRequest)
        order = chat.parse(call, context.catalogue.resolve(call.model), caller.owner, context.answer_s)
        visit = context.gate.visit(caller, call.model, Scope.OPENAI)
        if call.stream:
            return _chat_stream(visit, order, call, request_id(request), held.pop_all())
        transcript = await while_connected(request, partial(visit.transcribe, order))
    return json_answer(chat.answer(call.model, transcript), told(transcript))


def _chat_stream(
    visit: Visit, order: Order, call: wire.ChatRequest, identity: str, held: AsyncExitStack
) -> EventStream:
    async def produce(emit: Emit, headers: MutableHeaders) -> None:
        include_usage = call.stream_options is not None and bool(call.stream_options.include_usage)
        chunks = chat.Chunks(call.model, include_usage=include_usage)
        async with visit.listen(order) as listening:
            headers.update(told(listening))
            await emit(chunks.begin())
            async for sentence in listening.sentences():
                await emit(chunks.text(sentence))
            for frame in chunks.end(listening.duration_ms):
                await emit(frame)

    return EventStream(produce, to_wire=to_wire, frame=lambda error: chat.error_frame(error, identity), held=held)


async def _transcriptions(context: Context, request: Request) -> Response:
    caller = await context.keys.bearer(request)
    most = max(model.limits.max_bytes for model in context.catalogue.models if model.kind == "openai-audio")
    async with AsyncExitStack() as held:
        held.enter_context(context.service().expected(caller.owner))
        form = await held.enter_async_context(file_form(request, "file", context.spool, max_bytes=most))
        name = next((value for key, value in form.fields if key == "model"), None)
        if not name:
            raise InvalidParameter("The field 'model' is required.", parameter="model")
        if form.path is None:
            raise InvalidParameter("The file part 'file' is required.", parameter="file")
        order, wanted = transcriptions.parse(
            form.fields, FileSource(path=form.path), context.catalogue.resolve(name), caller.owner, context.answer_s
        )
        visit = context.gate.visit(caller, name, Scope.OPENAI)
        if wanted.stream:
            return _transcription_stream(visit, order, wanted, request_id(request), held.pop_all())
        transcript = await while_connected(request, partial(visit.transcribe, order))
    body, content_type = transcriptions.render(transcript, wanted)
    return Response(body, headers={"Content-Type": content_type} | told(transcript))


def _transcription_stream(
    visit: Visit, order: Order, wanted: transcriptions.Wanted, identity: str, held: AsyncExitStack
) -> EventStream:
    async def produce(emit: Emit, headers: MutableHeaders) -> None:
        heard: list[Sentence] = []
        async with visit.listen(order) as listening:
            headers.update(told(listening))
            async for sentence in listening.sentences():
                piece = (separator(sentence.language) if heard else "") + sentence.text
                heard.append(sentence)
                for event in transcriptions.events(piece, len(heard), sentence, wanted):
                    await emit(chat.data_frame(msgspec.json.encode(event)))
            done = transcriptions.done(join(tuple(heard)), heard, listening.duration_ms, wanted)
            await emit(chat.data_frame(msgspec.json.encode(done)))
            await emit(b"data: [DONE]\n\n")

    return EventStream(produce, to_wire=to_audio_wire, frame=lambda error: chat.error_frame(error, identity), held=held)


async def _translations(context: Context, request: Request) -> Response:
    await context.keys.bearer(request)
    raise UnsupportedOption("This server transcribes and does not translate; use audio/transcriptions.")


async def _models(context: Context, request: Request) -> Response:
    await context.keys.bearer(request)
    entries = [
        wire.ModelEntry(id=name, created=model.created)
        for model in context.catalogue.models
        for name in (model.name, *model.aliases)
    ]
    return json_answer(wire.ModelList(data=entries))


async def _model(context: Context, request: Request) -> Response:
    await context.keys.bearer(request)
    name = request.path_params["name"]
    return json_answer(wire.ModelEntry(id=name, created=context.catalogue.resolve(name).created))
