"""Routes of the 1min.ai dialect: bytes in, bytes out; what they mean stands in ``features.py``."""

from contextlib import AsyncExitStack
from functools import partial
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from qasr.domain.access import Caller, Scope
from qasr.domain.audio import FileSource, Source, UrlSource
from qasr.domain.errors import InvalidParameter
from qasr.faces.forms import file_form
from qasr.faces.http import decode, endpoint, external_url, json_answer, told, while_connected
from qasr.faces.onemin import features, wire
from qasr.faces.onemin.context import Context
from qasr.faces.onemin.errors import to_wire
from qasr.pipeline.spool import spooled
from qasr.storage.tasks import now_ms

LONGEST_NAME: Final = 255
"""Characters of a file's name that are told again."""


def routes(context: Context) -> list[BaseRoute]:
    """All paths of this face."""
    ours = endpoint(to_wire)
    return [
        Route("/api/assets", ours(partial(_upload, context)), methods=["POST"]),
        Route("/api/features", ours(partial(_feature, context)), methods=["POST"]),
        Route("/api/features/{uuid}", ours(partial(_record, context)), methods=["GET"]),
    ]


async def _caller(context: Context, request: Request) -> Caller:
    return await context.keys.caller(request.headers.get("api-key"))


async def _upload(context: Context, request: Request) -> Response:
    caller = await _caller(context, request)
    async with file_form(request, "asset", context.spool, max_bytes=context.max_asset_bytes) as form:
        if form.path is None:
            raise InvalidParameter("The file part 'asset' is required.", parameter="asset")
        name = (form.filename or "file")[:LONGEST_NAME]
        asset = await context.service().books.assets.store(caller.owner, features.FOLDER, name, form.path)
    base = external_url(request, context.external_url)
    return json_answer(features.uploaded(asset, name, form.content_type, caller.owner, base))


async def _feature(context: Context, request: Request) -> Response:
    caller = await _caller(context, request)
    async with AsyncExitStack() as held:
        held.enter_context(context.service().expected(caller.owner))
        call = decode(await held.enter_async_context(context.bodies.read(request)), wire.FeatureRequest)
        prompt = features.check(call)
        model = context.catalogue.resolve(call.model)
        path = await held.enter_async_context(spooled(context.spool))
        url = str(prompt.audioUrl)
        source: Source = UrlSource(url=url) if features.is_address(url) else FileSource(path=path)
        order = features.order(prompt, source, model, caller.owner, context.answer_s)
        books = context.service().books
        if isinstance(source, FileSource):
            await books.assets.fetch(caller.owner, url, path, max_bytes=model.limits.max_bytes)
        visit = context.gate.visit(caller, call.model, Scope.ONEMIN)
        transcript = await while_connected(request, partial(visit.transcribe, order))
    at_ms = now_ms()
    answer = features.record(call, prompt, transcript.text, caller.owner, at_ms)
    await books.records.add(answer.ai_record.uuid, caller.owner, at_ms, msgspec.json.encode(answer))
    return json_answer(answer, told(transcript))


async def _record(context: Context, request: Request) -> Response:
    caller = await _caller(context, request)
    body = await context.service().books.records.get(request.path_params["uuid"], caller.owner)
    return Response(body, media_type="application/json")
