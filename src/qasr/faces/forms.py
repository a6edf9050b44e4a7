"""Multipart forms: text fields and one file, the file spooled to disk, everything bounded while it arrives."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio.to_thread
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.types import Message, Receive

from qasr.domain.errors import InvalidParameter, TooLarge
from qasr.pipeline.spool import spooled

MOST_FIELDS: Final = 100
OVERHEAD: Final = 1024**2
"""Bytes for the text fields and the part headers, besides the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileForm:
    """What came."""

    fields: tuple[tuple[str, str], ...]
    path: Path | None
    """The file part called for; removed when the block ends."""
    filename: str | None
    content_type: str | None = None
    """Of the file, as the client calls it."""


@asynccontextmanager
async def file_form(request: Request, name: str, spool: Path, *, max_bytes: int) -> AsyncIterator[FileForm]:
    """The form, with the file part *name* as a file in *spool*.

    Raises:
        InvalidParameter: no multipart form, or more than one file.
        TooLarge: the body exceeds *max_bytes* and some room for its fields.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise InvalidParameter("The request body must be multipart/form-data.")
    limited = Request(request.scope, _limited(request, max_bytes))
    try:
        form = await limited.form(max_files=2, max_fields=MOST_FIELDS)
    except (MultiPartException, HTTPException) as error:  # inside an application, Starlette raises the second
        detail = error.message if isinstance(error, MultiPartException) else error.detail
        raise InvalidParameter(f"The form is invalid: {detail}") from error
    try:
        fields = tuple((key, value) for key, value in form.multi_items() if isinstance(value, str))
        files = [(key, value) for key, value in form.multi_items() if isinstance(value, UploadFile)]
        if len(files) > 1:
            raise InvalidParameter("Only one file per request is supported.", parameter=name)
        if not files or files[0][0] != name:
            yield FileForm(fields=fields, path=None, filename=None)
            return
        upload = files[0][1]
        async with spooled(spool) as path:
            await anyio.to_thread.run_sync(_copy, upload, path)
            yield FileForm(fields=fields, path=path, filename=upload.filename, content_type=upload.content_type)
    finally:
        await form.close()


def _copy(upload: UploadFile, path: Path) -> None:
    with path.open("wb") as file:
        while chunk := upload.file.read(1024**2):
            file.write(chunk)


def _limited(request: Request, max_bytes: int) -> Receive:
    seen, most = 0, max_bytes + OVERHEAD
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared[:20]) > most:
        raise TooLarge(f"The file exceeds the limit of {max_bytes / 1024**2:g} MB.")

    async def receive() -> Message:
        nonlocal seen
        message = await request.receive()
        seen += len(message.get("body", b""))
        if seen > most:
            raise TooLarge(f"The file exceeds the limit of {max_bytes / 1024**2:g} MB.")
        return message

    return receive
