"""Features: the request becomes an order, the text becomes a record. No I/O here."""

import mimetypes
import uuid
from datetime import UTC, datetime
from typing import Final

from msgspec import UNSET

from qasr.catalogue import Kind, Model
from qasr.domain.audio import Source
from qasr.domain.errors import InvalidParameter, ModelNotServed, UnsupportedOption
from qasr.domain.options import Hints, RecognitionOptions
from qasr.faces.audio import LONGEST_URL
from qasr.faces.languages import parse_language
from qasr.faces.onemin import wire
from qasr.service import Order
from qasr.storage.assets import Asset

SPEECH_TO_TEXT: Final = "SPEECH_TO_TEXT"
FOLDER: Final = "development/audios"
"""Of all assets: whatever is uploaded here is a recording."""
KINDS: Final[frozenset[Kind]] = frozenset({"qwen-sync", "fun-sync", "openai-audio"})
"""Of models that hear a recording within one request."""
TEXTS: Final = ("", "text", "json")
"""Response formats of ``whisper-1`` whose result is the text."""
NAMES: Final = uuid.UUID("7a1d8f0e-0f5c-4a57-9d0c-6b1f5f7f2a10")
"""Any; ids of users and teams are made under it."""


def check(call: wire.FeatureRequest) -> wire.PromptObject:
    """What is asked, if it is speech to text.

    Raises:
        InvalidParameter.
    """
    if call.type != SPEECH_TO_TEXT:
        raise InvalidParameter(f"type must be {SPEECH_TO_TEXT}; this server has no other feature.", parameter="type")
    if not call.model:
        raise InvalidParameter("model is required.", parameter="model")
    prompt = call.prompt_object
    if prompt is None or prompt.audioUrl is UNSET or not 0 < len(prompt.audioUrl) <= LONGEST_URL:
        raise InvalidParameter("promptObject.audioUrl is required.", parameter="promptObject.audioUrl")
    return prompt


def is_address(audio_url: str) -> bool:
    """Whether it is to be fetched from elsewhere; else it is an asset's path."""
    return audio_url.lower().startswith(("http://", "https://"))


def order(prompt: wire.PromptObject, source: Source, model: Model, owner: str, deadline_s: float) -> Order:
    """The order that *prompt* means; *source* is what its ``audioUrl`` names.

    Raises:
        ModelNotServed, InvalidParameter, UnsupportedOption.
    """
    if model.kind not in KINDS:
        raise ModelNotServed(f"The model {model.name} is not served by this interface.")
    if (prompt.response_format or "") not in TEXTS:
        raise UnsupportedOption(
            "response_format must be text or json: the result is a text.", parameter="response_format"
        )
    return Order(
        source=source,
        options=RecognitionOptions(
            hints=Hints(language=parse_language(prompt.language or None)), itn=bool(prompt.enable_itn)
        ),
        limits=model.limits,
        languages=model.languages,
        owner=owner,
        model=model.name,
        deadline_s=deadline_s,
    )


def record(
    call: wire.FeatureRequest, prompt: wire.PromptObject, text: str, owner: str, at_ms: int
) -> wire.RecordAnswer:
    """The answer."""
    return wire.RecordAnswer(
        wire.Record(
            uuid=str(uuid.uuid4()),
            user_id=user_id(owner),
            team_id=team_id(owner),
            model=call.model,
            type=call.type,
            created_at=iso(at_ms),
            ai_record_detail=wire.RecordDetail(prompt_object=prompt, result_object=[text]),
        )
    )


def uploaded(asset: Asset, name: str, content_type: str | None, owner: str, base_url: str) -> wire.AssetAnswer:
    """The answer to an upload; *name* is the file's, as the client calls it."""
    kind = content_type or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return wire.AssetAnswer(
        wire.Asset(
            originalname=name,
            mimetype=kind,
            size=asset.n_bytes,
            key=asset.path,
            content_type=kind,
            metadata=wire.Metadata(team_id=team_id(owner), user_id=user_id(owner)),
            location=f"{base_url}/assets/{asset.path}",
            etag=f'"{asset.md5}"',
        ),
        wire.FileContent(uuid=asset.id, path=asset.path, name=name),
    )


def user_id(owner: str) -> str:
    """A key is a user, and a team of one: always the same, and it tells nothing of the key."""
    return str(uuid.uuid5(NAMES, f"user:{owner}"))


def team_id(owner: str) -> str:
    """See ``user_id``."""
    return str(uuid.uuid5(NAMES, f"team:{owner}"))


def iso(at_ms: int) -> str:
    """``2026-01-12T09:39:12.997Z``."""
    return f"{datetime.fromtimestamp(at_ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03}Z"
