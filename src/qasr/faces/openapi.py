"""The OpenAPI document, generated from the wire types, and a page that shows it without anything from outside."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from qasr import __version__
from qasr.faces.admin import wire as admin
from qasr.faces.dashscope import task_wire as tasks
from qasr.faces.dashscope import wire as native
from qasr.faces.onemin import wire as onemin
from qasr.faces.openai import wire as openai

_REFERENCES: Final = "#/components/schemas/{name}"
_FORM_FIELDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "file": {"type": "string", "format": "binary"},
    "model": {"type": "string", "example": "whisper-1"},
    "language": {"type": "string"},
    "prompt": {"type": "string"},
    "response_format": {"type": "string", "enum": ["json", "text", "srt", "verbose_json", "vtt"], "default": "json"},
    "timestamp_granularities[]": {"type": "array", "items": {"type": "string", "enum": ["word", "segment"]}},
    "include[]": {"type": "array", "items": {"type": "string", "enum": ["logprobs"]}},
    "temperature": {"type": "number"},
    "stream": {"type": "boolean", "default": False},
}

_PAGE_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page's own style and script stand in it; it shows our document, and nothing that a stranger wrote."""
_SECURITY: Final[Mapping[str, Any]] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "onemin": {"type": "apiKey", "in": "header", "name": "API-KEY"},
}

_LIST_PARAMETERS: Final[Mapping[str, str]] = {
    "task_id": "8fab76d0-0eed-4d20-9f6a-3b1c5d7e9f02",
    "start_time": "20261120000000",
    "end_time": "20261121000000",
    "model_name": "fun-asr",
    "status": "SUCCEEDED",
    "page_no": "1",
    "page_size": "10",
}


def routes() -> list[BaseRoute]:
    """The document and its page."""

    async def document(_request: Request) -> Response:
        return Response(msgspec.json.encode(openapi()), media_type="application/json")

    async def page(_request: Request) -> Response:
        return HTMLResponse(
            (files(__package__) / "docs.html").read_text(encoding="utf-8"),
            headers={"Content-Security-Policy": _PAGE_POLICY},
        )

    return [Route("/openapi.json", document), Route("/docs", page)]


@cache
def openapi() -> Mapping[str, Any]:
    """OpenAPI 3.1."""
    named: dict[str, type[msgspec.Struct]] = {
        "ChatRequest": openai.ChatRequest,
        "ChatCompletion": openai.ChatCompletion,
        "Chunk": openai.Chunk,
        "ModelList": openai.ModelList,
        "OpenaiModelEntry": openai.ModelEntry,
        "Transcription": openai.Transcription,
        "VerboseTranscription": openai.VerboseTranscription,
        "OpenaiFailure": openai.Failure,
        "GenerationRequest": native.GenerationRequest,
        "GenerationAnswer": native.GenerationAnswer,
        "FunAnswer": native.FunAnswer,
        "UploadPolicyAnswer": native.UploadPolicyAnswer,
        "ModelsAnswer": native.ModelsAnswer,
        "TaskRequest": tasks.TaskRequest,
        "TaskAnswer": tasks.TaskAnswer,
        "TaskPage": tasks.TaskPage,
        "CancelAnswer": tasks.CancelAnswer,
        "NativeFailure": native.Failure,
        "AssetAnswer": onemin.AssetAnswer,
        "FeatureRequest": onemin.FeatureRequest,
        "RecordAnswer": onemin.RecordAnswer,
        "OneminFailure": onemin.Failure,
        "NewKey": admin.NewKey,
        "Rotation": admin.Rotation,
        "KeyAnswer": admin.KeyAnswer,
        "KeyList": admin.KeyList,
        "UsageList": admin.UsageList,
        "AdminFailure": admin.Failure,
    }
    (*schemas,), components = msgspec.json.schema_components(named.values(), ref_template=_REFERENCES)
    schema = dict(zip(named, schemas, strict=True))
    chat = _operation(
        "Recognize a recording (OpenAI chat completions with input_audio)",
        _json(schema["ChatRequest"]),
        {"application/json": {"schema": schema["ChatCompletion"]}, "text/event-stream": {"schema": schema["Chunk"]}},
        schema["OpenaiFailure"],
    )
    transcribe = _operation(
        "Recognize an uploaded file (OpenAI audio transcriptions)",
        {"multipart/form-data": {"schema": _form()}},
        {
            "application/json": {"schema": {"anyOf": [schema["Transcription"], schema["VerboseTranscription"]]}},
            "text/plain": {"schema": {"type": "string"}},
        },
        schema["OpenaiFailure"],
    )
    generate = _operation(
        "Recognize a recording (DashScope; X-DashScope-SSE: enable streams)",
        _json(schema["GenerationRequest"]),
        _json({"anyOf": [schema["GenerationAnswer"], schema["FunAnswer"]]}),
        schema["NativeFailure"],
    )
    models = _operation("Model names", None, _json(schema["ModelList"]), schema["OpenaiFailure"])
    paths: dict[str, Any] = {}
    for root in ("/compatible-mode/v1", "/v1"):
        paths[f"{root}/chat/completions"] = {"post": chat}
        paths[f"{root}/audio/transcriptions"] = {"post": transcribe}
        paths[f"{root}/models"] = {"get": models}
    paths["/api/v1/services/aigc/multimodal-generation/generation"] = {"post": generate}
    policy = _operation(
        "Permission to upload a file", None, _json(schema["UploadPolicyAnswer"]), schema["NativeFailure"]
    )
    policy["parameters"] = [_query("action", "getPolicy"), _query("model", "qwen3-asr-flash")]
    paths["/api/v1/uploads"] = {"get": policy}
    paths["/api/v1/models"] = {
        "get": _operation("Model names", None, _json(schema["ModelsAnswer"]), schema["NativeFailure"])
    }
    paths |= _task_paths(schema) | _onemin_paths(schema) | _admin_paths(schema)
    for path, text in (("/livez", "The process answers"), ("/readyz", "Requests can be served")):
        responses = {"200": {"description": "yes"}}
        if path == "/readyz":
            responses["503"] = {"description": "not yet, or no more; with the reasons"}
        paths[path] = {"get": {"summary": text, "security": [], "responses": responses}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "qasr", "version": __version__, "description": "Self-hosted speech-to-text."},
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SECURITY},
    }


def _task_paths(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Asynchronous transcription. Result documents are reached by signed links only, which need no documentation."""
    failure, answer = schema["NativeFailure"], _json(schema["TaskAnswer"])
    submit = _operation("Transcribe files (DashScope)", _json(schema["TaskRequest"]), answer, failure)
    submit["parameters"] = [
        {**_query("X-DashScope-Async", "enable"), "in": "header"},
        {**_query("X-Qasr-Webhook", "https://example.com/done"), "in": "header", "required": False},
    ]
    query = _operation("State of a task", None, answer, failure)
    cancel = _operation("Cancel a pending task", None, _json(schema["CancelAnswer"]), failure)
    listed = _operation("Tasks of the last 24 hours", None, _json(schema["TaskPage"]), failure)
    listed["parameters"] = [{**_query(*pair), "required": False} for pair in _LIST_PARAMETERS.items()]
    for operation in (query, cancel):
        operation["parameters"] = [{**_query("id", "8fab76d0-0eed-4d20-9f6a-3b1c5d7e9f02"), "in": "path"}]
    return {
        "/api/v1/services/audio/asr/transcription": {"post": submit},
        "/api/v1/tasks": {"get": listed},
        "/api/v1/tasks/{id}": {"get": query},
        "/api/v1/tasks/{id}/cancel": {"post": cancel},
    }


def _onemin_paths(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Assets and features of 1min.ai."""
    failure, answer = schema["OneminFailure"], _json(schema["RecordAnswer"])
    form = {"type": "object", "required": ["asset"], "properties": {"asset": _FORM_FIELDS["file"]}}
    upload = _operation(
        "Upload a recording (1min.ai)", {"multipart/form-data": {"schema": form}}, _json(schema["AssetAnswer"]), failure
    )
    ask = _operation("Recognize a recording (1min.ai)", _json(schema["FeatureRequest"]), answer, failure)
    read = _operation("A record of before", None, answer, failure)
    read["parameters"] = [{**_query("uuid", "8fab76d0-0eed-4d20-9f6a-3b1c5d7e9f02"), "in": "path"}]
    for operation in (upload, ask, read):
        operation["security"] = [{"onemin": []}]
    return {
        "/api/assets": {"post": upload},
        "/api/features": {"post": ask},
        "/api/features/{uuid}": {"get": read},
    }


def _admin_paths(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Keys and usage."""
    failure, answer = schema["AdminFailure"], _json(schema["KeyAnswer"])
    key_id = {**_query("id", "0123456789abcdef"), "in": "path"}
    usage = _operation("What was used", None, _json(schema["UsageList"]), failure)
    examples = {"from": "2026-11-01", "to": "2026-11-30", "key": "0123456789abcdef"}
    usage["parameters"] = [{**_query(*pair), "required": False} for pair in examples.items()]
    one = _operation("One key", None, answer, failure)
    revoke = _operation("Revoke a key", None, answer, failure)
    rotate = _operation("Give a key a new text", _json(schema["Rotation"]), answer, failure)
    for operation in (one, revoke, rotate):
        operation["parameters"] = [key_id]
    return {
        "/admin/v1/keys": {
            "post": _operation("Make a key", _json(schema["NewKey"]), answer, failure),
            "get": _operation("All keys", None, _json(schema["KeyList"]), failure),
        },
        "/admin/v1/keys/{id}": {"get": one, "delete": revoke},
        "/admin/v1/keys/{id}/rotate": {"post": rotate},
        "/admin/v1/usage": {"get": usage},
    }


def _json(schema: object) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _query(name: str, example: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": True, "schema": {"type": "string"}, "example": example}


def _form() -> dict[str, Any]:
    return {"type": "object", "required": ["file", "model"], "properties": _FORM_FIELDS}


def _operation(
    summary: str, body: dict[str, Any] | None, answer: dict[str, Any], failure: dict[str, Any]
) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {
            "200": {"description": "done", "content": answer},
            "default": {"description": "an error in this dialect's shape", "content": _json(failure)},
        },
    }
    if body is not None:
        operation["requestBody"] = {"required": True, "content": body}
    return operation
