"""How requests carry a recording in JSON: an address, a data URL, or bare base64 with a format."""

import re
from dataclasses import dataclass
from typing import Final

import pybase64

from qasr.domain.audio import BytesSource, RawFormat, Source, UrlSource
from qasr.domain.errors import InvalidParameter, TooLarge

LONGEST_URL: Final = 8192
"""Characters of an address."""
_SCHEME: Final = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*):")
_RAW_FORMATS: Final = frozenset({"pcm", "s16le", "pcm16"})
PCM_RATE_HZ: Final = 16_000
"""Raw PCM has no header; the documentation asks for 16 kHz."""


@dataclass(frozen=True, slots=True)
class InlineLimits:
    """Most bytes of a recording inside a request; ``of_text`` tells whether the encoded text counts, or the bytes."""

    most: int
    of_text: bool = True


def parse_audio(
    value: str, audio_format: str | None, limits: InlineLimits, *, rate_hz: int = PCM_RATE_HZ
) -> tuple[Source, RawFormat | None]:
    """What *value* names, and how to read it if it has no header.

    Raises:
        InvalidParameter: no audio, an address that is not ``http(s)`` or ``oss``, or broken base64.
        TooLarge: more text than the model takes inside a request.
    """
    if not value:
        raise InvalidParameter("The audio is empty.", parameter="data")
    raw = RawFormat(rate_hz=rate_hz) if (audio_format or "").lower() in _RAW_FORMATS else None
    scheme = _SCHEME.match(value)
    if scheme is None:
        return BytesSource(data=_base64(value, limits)), raw
    name = scheme[1].lower()
    if name == "data":
        head, comma, text = value.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise InvalidParameter("The data URL must have the form data:<mime>;base64,<data>.", parameter="data")
        if raw is None and re.match(r"(?i)data:audio/(pcm|l16)\b", head):
            raw = RawFormat(rate_hz=rate_hz)
        return BytesSource(data=_base64(text, limits, length=len(value))), raw
    if name not in {"http", "https", "oss"} or len(value) > LONGEST_URL:
        raise InvalidParameter("url error, please check url！", parameter="data")
    return UrlSource(url=value), raw


def _base64(text: str, limits: InlineLimits, length: int | None = None) -> bytes:
    size = (length or len(text)) if limits.of_text else len(text) * 3 // 4
    if size > limits.most:
        raise TooLarge(f"Exceeded limit on max bytes per data-uri item : {limits.most}.")
    try:
        return pybase64.b64decode(text.strip(), validate=True)
    except ValueError as error:  # binascii.Error, or characters that are not ASCII
        raise InvalidParameter("The audio is not valid base64.", parameter="data") from error
