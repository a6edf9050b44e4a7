"""Uploads: a policy, a form in the manner of OSS, and from then on ``oss://<key>``.

The form carries no API key; its address is signed, so that nothing is read from a stranger who was given none.
Source of names and order: recorded requests of the SDK.
"""

from collections.abc import Mapping
from typing import Final
from xml.sax.saxutils import escape

from qasr.domain.errors import (
    AccessDenied,
    CapacityError,
    EngineError,
    EngineUnavailable,
    InvalidParameter,
    QasrError,
    TooLarge,
)
from qasr.faces.dashscope import wire
from qasr.storage.uploads import Permit

ACCESS_KEY_ID: Final = "qasr"
CAPACITY_MB: Final = 999_999_999
"""What the service tells; an upload is bounded by ``max_file_size_mb``."""


def policy(permit: Permit, base_url: str) -> wire.UploadPolicy:
    """The permit in the SDK's words."""
    return wire.UploadPolicy(
        policy=permit.policy,
        signature=permit.signature,
        upload_dir=permit.folder,
        upload_host=f"{base_url}/oss/{permit.door}",
        oss_access_key_id=ACCESS_KEY_ID,
        x_oss_object_acl="private",
        x_oss_forbid_overwrite="true",
        expire_in_seconds=permit.expires_in_s,
        max_file_size_mb=permit.max_bytes // 1024**2,
        capacity_limit_mb=CAPACITY_MB,
    )


def field(fields: Mapping[str, str], name: str) -> str:
    """A field of the form.

    Raises:
        InvalidParameter: it is missing.
    """
    if name not in fields:
        raise InvalidParameter(f"The form field {name!r} is required.", parameter=name)
    return fields[name]


def to_wire(error: QasrError, request_id: str) -> tuple[int, bytes]:
    """OSS answers XML; the SDK only quotes the text."""
    match error:
        case AccessDenied():
            status, code = 403, "AccessDenied"
        case TooLarge():
            status, code = 400, "EntityTooLarge"
        case CapacityError() | EngineUnavailable():
            status, code = 503, "ServiceUnavailable"
        case EngineError():
            status, code = 500, "InternalError"
        case _:
            status, code = 400, "InvalidArgument"
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Error>'
        f"<Code>{code}</Code><Message>{escape(str(error))}</Message><RequestId>{request_id}</RequestId></Error>"
    )
    return status, body.encode()
