"""What ``qasr doctor`` looks at. Nothing that a server keeps is touched: the engine gets a directory of its own."""

import importlib.metadata
import io
import platform
import tempfile
import time
import wave
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import av
import msgspec

from qasr import config
from qasr.app import check_exposure, has_keys, running
from qasr.catalogue import checkpoints
from qasr.cli import configuration
from qasr.cli.finding import Finding
from qasr.cli.surroundings import surroundings
from qasr.config import Settings
from qasr.domain.audio import SAMPLE_RATE, BytesSource, MediaLimits
from qasr.domain.errors import QasrError
from qasr.domain.options import RecognitionOptions
from qasr.engines.registry import installed
from qasr.pipeline.segment import SegmentPolicy
from qasr.selection import Selection
from qasr.service import Order

PACKAGES: Final = (
    "av", "onnxruntime", "moonshine-voice", "faster-whisper", "pocketsphinx", "starlette", "uvicorn", "httptools",
    "httpx2", "numpy", "pydantic", "typer",
)  # fmt: skip
SILENCE_MS: Final = 1000
PATIENCE_S: Final = 120.0
_EMOTION: Final = {
    True: "told with each sentence",
    False: "null in all answers: the engine does not tell it, and no tagger is set (QASR_TAGGER__FOLDER)",
}
MASK: Final = "****"


class Value(msgspec.Struct, frozen=True):
    """One setting; secrets are masked."""

    name: str
    value: str
    origin: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All that was found."""

    ok: bool
    findings: list[Finding]
    engines: list[str]
    """Installed, by name."""
    versions: dict[str, str]
    settings: list[Value]
    unknown_variables: dict[str, str | None]
    """Each with the setting that was probably meant."""


async def examine(settings: Settings, flags: Mapping[str, Any], config_file: Path | None) -> Report:
    """Look at everything."""
    findings = [
        *await _engine(settings),
        _checkpoints(settings),
        _exposure(settings),
        *await surroundings(settings),
    ]
    return Report(
        ok=all(finding.ok for finding in findings),
        findings=findings,
        engines=sorted(installed()),
        versions=versions(),
        settings=values(settings, flags, config_file),
        unknown_variables=configuration.unknown_variables(),
    )


async def _engine(settings: Settings) -> list[Finding]:
    """Load the engine as a server would, and have it hear silence, through the decoders."""
    with tempfile.TemporaryDirectory(prefix="qasr-") as temporary:
        alone = settings.model_copy(
            update={
                "data_dir": Path(temporary),
                "store": settings.store.model_copy(update={"url": None}),
                "models": settings.models.model_copy(update={"folder": settings.models_dir.absolute()}),
            }
        )
        async with running(alone) as service:
            began = time.monotonic()
            try:
                engine = await service.capabilities()
            except QasrError as error:
                return [Finding("engine", ok=False, text=str(error))]
            load_s = time.monotonic() - began
            languages = "any language" if engine.languages is None else ", ".join(sorted(engine.languages))
            found = Finding("engine", ok=True, text=f"loaded: {engine.name}, languages {languages} ({load_s:.1f} s)")
            emotion = Finding("emotion", ok=True, text=_EMOTION[engine.emotion])
            began = time.monotonic()
            try:
                transcript = await service.transcribe(_silence())
            except QasrError as error:
                return [found, emotion, Finding("recognition", ok=False, text=str(error))]
            text = f"decoded and heard {transcript.duration_ms} ms of silence in {time.monotonic() - began:.2f} s"
            return [found, emotion, Finding("recognition", ok=True, text=text)]


def _checkpoints(settings: Settings) -> Finding:
    chosen = Selection.of(settings)
    states = {one: chosen.state(one) for one in checkpoints.built_in().all}
    usable = [one.name for one, state in states.items() if state == "installed"]
    others = [
        f"{one.name} needs {chosen.remedy(one)}" for one, state in states.items() if state == "without its engine"
    ]
    text = ", ".join(usable) or "none installed, the embedded engine serves all models (qasr models list)"
    return Finding("checkpoints", ok=True, text="; ".join([text, *others]))


def _silence() -> Order:
    """A second of it, which counts as speech, so that the engine gets it."""
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(SAMPLE_RATE)
        wav.writeframes(bytes(SAMPLE_RATE * 2 * SILENCE_MS // 1000))
    return Order(
        source=BytesSource(data=file.getvalue()),
        options=RecognitionOptions(),
        limits=MediaLimits(max_bytes=1024**2, max_ms=60_000),
        owner="doctor",
        policy=_all_is_speech,
        deadline_s=PATIENCE_S,
    )


def _all_is_speech(policy: SegmentPolicy) -> SegmentPolicy:
    return replace(policy, threshold=0.0, hysteresis=0.0)


def _exposure(settings: Settings) -> Finding:
    host, keys = settings.server.host, len(settings.auth.keys)
    try:
        check_exposure(settings)
    except QasrError as error:
        return Finding("access", ok=False, text=str(error))
    in_database = False
    with suppress(QasrError):  # the database has a finding of its own
        in_database = has_keys(settings)
    who = [f"{keys} API {'key' if keys == 1 else 'keys'} of the settings"] if keys else []
    who += ["keys of the database"] if in_database else []
    who = who or ["any API key, from this machine only"]
    return Finding("access", ok=True, text=f"{host} port {settings.server.port}, {' and '.join(who)}")


def versions() -> dict[str, str]:
    """Of this program and what it stands on; a dash for what is not installed."""
    found = {"qasr": _version("qasr"), "python": platform.python_version(), "ffmpeg": av.ffmpeg_version_info}
    return found | {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "-"


def values(settings: Settings, flags: Mapping[str, Any], config_file: Path | None) -> list[Value]:
    """Every setting with its origin."""
    origins = config.origins(settings, flags, config_file)
    return [Value(path, _shown(path, value), origins[path]) for path, value in config.walk(settings)]


def _shown(path: str, value: object) -> str:
    if path == "auth.keys":
        assert isinstance(value, tuple)
        return ", ".join(MASK for _ in value)
    if path.endswith((".secret", ".api_key", ".token")) and value:
        return MASK
    if path.endswith("url") and isinstance(value, str):
        return _without_secrets(value)
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(value)
    return "" if value is None else str(value)


def _without_secrets(url: str) -> str:
    """Users, passwords and queries of an address carry keys."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{MASK}@{host}" if user else host, query=MASK if parts.query else "").geturl()
