"""Shapes of 1min.ai. Source: docs/faces/onemin.md. Names on the wire are those of the documentation."""

import msgspec
from msgspec import UNSET, UnsetType


class Metadata(msgspec.Struct, rename={"team_id": "team-id", "user_id": "user-id"}):
    """Whose asset it is."""

    team_id: str
    user_id: str


class Asset(msgspec.Struct, rename="camel", kw_only=True):
    """An asset as the object store of the service describes it; some names have no capitals there."""

    fieldname: str = "asset"
    originalname: str
    encoding: str = "7bit"
    mimetype: str
    size: int
    bucket: str = "local"
    key: str
    acl: str = "private"
    content_type: str
    content_disposition: str | None = None
    content_encoding: str | None = None
    storage_class: str = "STANDARD"
    server_side_encryption: str | None = None
    metadata: Metadata
    location: str
    etag: str


class FileContent(msgspec.Struct, kw_only=True):
    """What later calls need: ``path``."""

    uuid: str
    path: str
    type: str = "AUDIO"
    name: str


class AssetAnswer(msgspec.Struct, rename="camel"):
    """After an upload."""

    asset: Asset
    file_content: FileContent


class PromptObject(msgspec.Struct):
    """What is asked about a recording; what was not sent is missing in the answer, too."""

    audioUrl: str | UnsetType = UNSET  # noqa: N815 - the other names here have no capitals
    language: str | UnsetType | None = UNSET
    enable_itn: bool | UnsetType | None = UNSET
    response_format: str | UnsetType | None = UNSET


class FeatureRequest(msgspec.Struct, rename="camel"):
    """``POST /api/features``."""

    type: str = ""
    model: str = ""
    prompt_object: PromptObject | None = None


class ResponseObject(msgspec.Struct):
    """Empty, as documented."""


class RecordDetail(msgspec.Struct, rename="camel"):
    """What was asked and answered."""

    prompt_object: PromptObject
    result_object: list[str]
    response_object: ResponseObject = msgspec.field(default_factory=ResponseObject)


class Record(msgspec.Struct, rename="camel", kw_only=True):
    """One use of a feature."""

    uuid: str
    user_id: str
    team_id: str
    model: str
    type: str
    metadata: None = None
    rating: None = None
    feedback: None = None
    conversation_id: None = None
    status: str = "SUCCESS"
    created_at: str
    ai_record_detail: RecordDetail
    additional_data: None = None
    temporary_url: str = ""


class RecordAnswer(msgspec.Struct, rename="camel"):
    """``{"aiRecord": …}``."""

    ai_record: Record


class Failure(msgspec.Struct, rename="camel"):
    """An error. The service documents none; this is the shape of the framework that it shows."""

    message: str
    status_code: int
    error: str
