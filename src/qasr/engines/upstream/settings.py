"""What an operator says about the servers behind us: section ``[upstream]`` of the settings."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, TypeAlias, cast
from urllib.parse import urlsplit

from qasr.domain.languages import find_code

Mode: TypeAlias = Literal["auto", "chat", "transcriptions"]
MODES: Final = ("auto", "chat", "transcriptions")
DEFAULT_PATH: Final = "/v1"
"""Where OpenAI's interfaces lie, if an address names nothing but a server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamSettings:
    """The factory's settings, parsed. Seconds, where a name ends in ``_s``."""

    urls: tuple[str, ...]
    """Bases as OpenAI's SDK takes them, ``http://gpu1:8000/v1``, without a slash at the end."""
    model: str = ""
    """What the servers call it; empty: the first that each of them lists."""
    api_key: str = ""
    mode: Mode = "auto"
    languages: frozenset[str] | None = None
    """Codes that the model hears; None: any."""
    concurrency: int = 16
    """Requests at one server at a time."""
    attempts: int = 3
    """How often a segment is tried before its failure is told."""
    connect_timeout_s: float = 5.0
    timeout_s: float = 60.0
    """For one attempt, from the first byte sent to the last one received."""
    health_s: float = 10.0
    """Between two looks at a server."""
    longest_s: float = 30.0
    word_times: bool = False
    context: bool = True

    @classmethod
    def parse(cls, texts: Mapping[str, str]) -> Self:
        """From a factory's mapping: lists with commas, booleans ``true`` or ``false``, what is missing by default.

        Raises:
            ValueError: a value is none of these, or out of range; it names the setting, and never shows a key.
        """
        mode = texts.get("mode", "auto")
        if mode not in MODES:
            raise ValueError(f"upstream.mode: {mode!r} is none of {', '.join(MODES)}")
        urls = tuple(dict.fromkeys(_base(url) for url in _split(texts.get("urls", ""))))
        if not urls:
            raise ValueError("upstream.urls names no server; set it, for example to http://127.0.0.1:8001/v1")
        given = {name: read(name, texts[name]) for name, read in _READERS.items() if name in texts}
        settings = cls(urls=urls, mode=cast("Mode", mode), **given)
        settings._check()
        return settings

    def _check(self) -> None:
        for name in ("concurrency", "attempts", "connect_timeout_s", "timeout_s", "health_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"upstream.{name}: {getattr(self, name):g} is out of range")
        if not 1 <= self.longest_s <= 1200:
            raise ValueError(f"upstream.longest_s: {self.longest_s:g} is not within 1 and 1200")
        if self.word_times and self.mode == "chat":
            raise ValueError("upstream.word_times: chat completions have none; upstream.mode must not be chat")
        if not self.api_key.isascii() or not self.api_key.isprintable():
            raise ValueError("upstream.api_key: only printable ASCII can be sent")


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _text(_name: str, text: str) -> str:
    return text


def _codes(name: str, text: str) -> frozenset[str] | None:
    codes = {language: find_code(language) for language in _split(text)}
    if unknown := [language for language, code in codes.items() if code is None]:
        raise ValueError(f"upstream.{name}: {unknown[0]!r} is no language that we know")
    return frozenset(code for code in codes.values() if code is not None) or None


def _int(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"upstream.{name}: {text!r} is no whole number") from None


def _seconds(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"upstream.{name}: {text!r} is no number") from None


def _flag(name: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(f"upstream.{name}: {text!r} is neither true nor false")
    return text.lower() == "true"


_READERS: Final[Mapping[str, Callable[[str, str], Any]]] = {
    "model": _text,
    "api_key": _text,
    "languages": _codes,
    "concurrency": _int,
    "attempts": _int,
    "connect_timeout_s": _seconds,
    "timeout_s": _seconds,
    "health_s": _seconds,
    "longest_s": _seconds,
    "word_times": _flag,
    "context": _flag,
}


def _base(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError("upstream.urls: an address is malformed") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("upstream.urls: an address begins neither with http:// nor with https://")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("upstream.urls: no user, password or query in an address; upstream.api_key takes the key")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or DEFAULT_PATH}"
