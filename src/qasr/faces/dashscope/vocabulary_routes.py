"""Routes of stored hotwords: bytes in, bytes out."""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from qasr.domain.errors import InvalidParameter
from qasr.faces.dashscope import tasks, vocabularies
from qasr.faces.dashscope import vocabulary_wire as wire
from qasr.faces.dashscope.context import Context
from qasr.faces.http import decode, endpoint, json_answer, request_id
from qasr.storage.vocabularies import Kind, Vocabularies


def routes(context: Context) -> list[BaseRoute]:
    """All paths of vocabularies and phrase lists."""
    guarded = endpoint(vocabularies.to_wire)
    one = "/api/v1/fine-tunes/outputs/{id}"
    return [
        Route("/api/v1/services/audio/asr/customization", guarded(partial(_customize, context)), methods=["POST"]),
        Route("/api/v1/fine-tunes", guarded(partial(_compile, context)), methods=["POST"]),
        Route("/api/v1/fine-tunes/outputs", guarded(partial(_list, context)), methods=["GET"]),
        Route(one, guarded(partial(_query, context)), methods=["GET"]),
        Route(one, guarded(partial(_delete, context)), methods=["DELETE"]),
    ]


async def _customize(context: Context, request: Request) -> Response:
    caller = await context.keys.bearer(request)
    async with context.bodies.read(request) as body:
        call = decode(body, wire.CustomizationRequest)
    vocabularies.check_model(call.model)
    output = await _act(call.input, context, context.service().vocabularies, caller.owner)
    return json_answer(wire.CustomizationAnswer(output, request_id(request)))


async def _act(
    given: wire.CustomizationInput, context: Context, store: Vocabularies, owner: str
) -> wire.CreatedVocabulary | wire.VocabularyPage | wire.VocabularyContent | wire.Nothing:
    """Do what ``action`` says."""
    match vocabularies.required(given.action, "action"):
        case "create_vocabulary":
            made = await store.add(
                owner,
                Kind.WORDS,
                target_model=vocabularies.target_model(given.target_model, context.catalogue),
                prefix=vocabularies.prefix(given.prefix),
                hotwords=vocabularies.hotwords(given.vocabulary),
            )
            return wire.CreatedVocabulary(made.id)
        case "list_vocabulary":
            offset, limit = vocabularies.page(given.page_index, given.page_size)
            _, found = await store.find(owner, Kind.WORDS, prefix=given.prefix or None, offset=offset, limit=limit)
            return wire.VocabularyPage([vocabularies.entry(each) for each in found])
        case "query_vocabulary":
            return vocabularies.content(await store.get(owner, _named(given), Kind.WORDS))
        case "update_vocabulary":
            await store.replace(owner, _named(given), Kind.WORDS, vocabularies.hotwords(given.vocabulary))
            return wire.Nothing()
        case "delete_vocabulary":
            await store.delete(owner, _named(given), Kind.WORDS)
            return wire.Nothing()
        case action:
            raise InvalidParameter(f"Unknown action {action[:50]!r}.", parameter="action")


def _named(given: wire.CustomizationInput) -> str:
    return vocabularies.required(given.vocabulary_id, "vocabulary_id")


async def _compile(context: Context, request: Request) -> Response:
    caller = await context.keys.bearer(request)
    async with context.bodies.read(request) as body:
        call = decode(body, wire.FineTuneRequest)
    model = vocabularies.phrase_model(call.model, context.catalogue)
    hotwords, store = vocabularies.phrases(call), context.service().vocabularies
    if call.finetuned_output:
        await store.replace(caller.owner, call.finetuned_output, Kind.PHRASES, hotwords)
        made = await store.get(caller.owner, call.finetuned_output, Kind.PHRASES)
    else:
        made = await store.add(caller.owner, Kind.PHRASES, target_model=model, hotwords=hotwords)
    return json_answer(wire.PhraseAnswer(vocabularies.phrase_list(made), request_id(request)))


async def _query(context: Context, request: Request) -> Response:
    caller = await context.keys.bearer(request)
    found = await context.service().vocabularies.get(caller.owner, request.path_params["id"], Kind.PHRASES)
    return json_answer(wire.PhraseAnswer(vocabularies.phrase_list(found), request_id(request)))


async def _list(context: Context, request: Request) -> Response:
    caller = await context.keys.bearer(request)
    number = tasks.positive(request.query_params, "page_no", 1)
    size = min(tasks.positive(request.query_params, "page_size", vocabularies.PAGE), tasks.LARGEST_PAGE)
    total, found = await context.service().vocabularies.find(
        caller.owner, Kind.PHRASES, offset=(number - 1) * size, limit=size
    )
    page = wire.PhrasePage([vocabularies.phrase_list(each) for each in found], number, size, total)
    return json_answer(wire.PhraseAnswer(page, request_id(request)))


async def _delete(context: Context, request: Request) -> Response:
    caller = await context.keys.bearer(request)
    await context.service().vocabularies.delete(caller.owner, request.path_params["id"], Kind.PHRASES)
    return json_answer(wire.PhraseAnswer(wire.Deleted(vocabularies.SUCCEEDED), request_id(request)))
