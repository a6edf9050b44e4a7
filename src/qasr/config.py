"""Settings: defaults < ``qasr.toml`` < environment ``QASR_SECTION__KEY`` < flags.

Read once, at the start; the rest of the house gets the piece it needs as an argument. Unknown names in the file are
errors and unknown variables are warned about, so that a misspelled limit does not pass for a set one. ``origins`` tells
``qasr doctor`` where each value came from.
"""

import ipaddress
import os
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from qasr.domain.errors import InvalidParameter

CONFIG_FILE: Final = "qasr.toml"


def _split(value: object) -> object:
    """``a, b`` as people write it in an environment variable."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Server(_Section):
    """Where we listen and how much we take at once."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    secret: str | None = Field(default=None, min_length=16)
    """What signs upload permits and result links; None: made once, in the data directory. Servers that share a database
    must share it too."""
    external_url: str | None = None
    """The base that clients reach us by, for addresses that we hand out; None: taken from each request."""
    max_body_bytes: int = Field(default=40 * 1024**2, gt=0)
    """Largest JSON body."""
    max_bodies_bytes: int = Field(default=1024**3, gt=0)
    """All request bodies in memory together; beyond it requests are told to come later."""
    answer_s: float = Field(default=300.0, gt=0)
    """Longest time for a synchronous answer (the documented 300 s)."""


class Auth(_Section):
    """Who may ask. Without keys, anybody on this machine may; other binds need keys."""

    keys: Annotated[tuple[str, ...], NoDecode] = ()

    _split_keys = field_validator("keys", mode="before")(_split)


class ModelLimits(_Section):
    """How much of one model a key may have that has no limits of its own. 0: without limit."""

    requests_per_minute: float = Field(default=0, ge=0, allow_inf_nan=False)
    """Recognitions, tasks and live sessions that are begun; all of a minute's may come at once."""
    requests_per_second: float = Field(default=0, ge=0, allow_inf_nan=False)
    """The same, within a second."""
    live_sessions: int = Field(default=0, ge=0)
    """Live sessions at once, on each server."""
    queued_audio_minutes: float = Field(default=0, ge=0, allow_inf_nan=False)
    """Speech of unfinished tasks that is still to be heard; beyond it, no further task is taken."""
    audio_hours_per_day: float = Field(default=0, ge=0, allow_inf_nan=False)
    """Audio that is heard in a day of UTC; beyond it, nothing is heard until the next."""


class Limits(ModelLimits):
    """How much each key may ask for that has no limits of its own (docs/keys.md). 0: without limit."""

    models: dict[str, ModelLimits] = Field(default_factory=dict)
    """The same limits for single models, by their names in the catalogue, besides those over all models."""


class Usage(_Section):
    """The book of what was used."""

    keep_days: int = Field(default=400, ge=1)
    """How long its lines are kept."""


class Onemin(_Section):
    """The 1min.ai interface."""

    keep_days: int = Field(default=30, ge=1)
    """How long assets and records are kept."""
    max_asset_bytes: int = Field(default=50 * 1024**2, gt=0)
    """Largest asset. What may be heard of it is the model's affair: 10 MB."""
    max_stored_bytes: int = Field(default=1024**3, gt=0)
    """All assets of one key together."""


class Fetch(_Section):
    """Which addresses we read recordings from. Private ranges are refused unless allowed here."""

    allow_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    allow_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()
    connect_timeout_s: float = Field(default=5.0, gt=0)
    total_timeout_s: float = Field(default=120.0, gt=0)
    idle_timeout_s: float = Field(default=20.0, gt=0)
    max_redirects: int = Field(default=3, ge=0, le=20)

    _split_hosts = field_validator("allow_hosts", mode="before")(_split)

    @field_validator("allow_networks", mode="before")
    @classmethod
    def _networks(cls, value: object) -> object:
        value = _split(value)
        return (
            [ipaddress.ip_network(v) if isinstance(v, str) else v for v in value] if isinstance(value, list) else value
        )


class Store(_Section):
    """Where recordings and results lie; None: ``objects`` under the data directory."""

    url: str | None = None


class Uploads(_Section):
    """Files that clients send before they name them as ``oss://``."""

    max_bytes: int = Field(default=1024**3, gt=0)
    """The documented 1 GB."""
    keep_hours: float = Field(default=48.0, gt=0)
    """The documented 48 hours."""
    policy_s: int = Field(default=300, gt=0)
    """How long an upload may start after the policy was handed out."""


class Engines(_Section):
    """Which engine hears."""

    default: str = "auto"
    """``auto`` or the name of an entry point of the group ``qasr.engines``."""
    queue_audio_s: float = Field(default=3600.0, gt=0)
    """Seconds of audio that may wait for an engine per class; beyond it requests are told to come later."""
    decoders: int = Field(default=0, ge=0)
    """Processes that parse media; 0: one per processor, at most 4."""
    aligners: int = Field(default=1, ge=0)
    """Processes that find word times; 0: word times are estimated."""


class Live(_Section):
    """Speech that is heard while it is spoken."""

    most_sessions: int = Field(default=256, ge=1)
    """Sessions at once; more are told to come later."""
    queue_audio_s: float = Field(default=30.0, gt=0)
    """Seconds of sound that a session may hold and has not heard yet; beyond it the client is slowed down."""
    decoders: int = Field(default=1, ge=1)
    """Processes that decode compressed sound, 64 streams each; PCM, WAV and G.711 need none."""
    partial_ms: int = Field(default=400, ge=100)
    """New sound after which what is being said is told again."""
    session_s: float = Field(default=7200.0, gt=0)
    """Seconds, of time and of sound, after which a session is ended (the documented 120 minutes)."""
    idle_s: float = Field(default=60.0, gt=0)
    """A DashScope session that gets no frame for so long is closed."""
    no_data_s: float = Field(default=23.0, gt=0)
    """A task of DashScope's task protocol that gets no frame for so long fails."""
    silence_s: float = Field(default=60.0, gt=0)
    """The same where nobody speaks for so long, unless the client asked for heartbeats."""
    stalled_s: float = Field(default=30.0, gt=0)
    """A client that does not read what it is sent is cut off after so long."""


class Moonshine(_Section):
    """The embedded English engine."""

    threads: int = Field(default=0, ge=0)
    """0: one per processor."""


class Scripted(_Section):
    """The deterministic engine for tests and load."""

    latency_ms: int = Field(default=0, ge=0)
    text: str = ""
    slots: int = Field(default=4, ge=1)
    call_log: str = ""
    """A file that gets one line per segment heard; for tests."""
    fail_at_ms: int = Field(default=0, ge=0)
    """Segments that begin at or after this moment fail, each time; 0: none does. For tests."""
    word_ms: int = Field(default=0, ge=0)
    """Hear live speech by streams of its own, a word per so many milliseconds; 0: it offers no streams."""


class Database(_Section):
    """Where tasks are kept."""

    url: str | None = None
    """``postgresql://…`` for several servers on one database; None: files under the data directory."""


class Jobs(_Section):
    """Long recordings."""

    executor_id: str | None = None
    """The name under which this server takes tasks, the same after each start. None: made once and kept under the data
    directory."""
    concurrency: int = Field(default=4, ge=1)
    """Tasks that this server works on at once."""
    keep_hours: float = Field(default=24.0, gt=0)
    """How long tasks and their transcripts are kept after their end: the documented 24 hours."""
    most_unfinished: int = Field(default=1000, ge=1)
    """Unfinished tasks of one key; beyond it submissions are told to come later."""


class Webhook(_Section):
    """Who is told that a task has ended; private addresses need to be allowed as in ``fetch``."""

    url: str | None = Field(default=None, pattern="^https?://[^/]")
    """Called for tasks that name no webhook themselves."""
    secret: str | None = Field(default=None, min_length=16)
    """Signs calls. None: one that is derived from the server's own, see docs/webhooks.md."""


class Logging(_Section):
    """What is told on standard error."""

    level: str = "info"
    json_lines: bool = False


class Settings(BaseSettings):
    """All settings. Frozen: nothing changes while we run."""

    model_config = SettingsConfigDict(
        env_prefix="QASR_",
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        nested_model_default_partial_update=True,
    )

    data_dir: Path = Path("data")
    """Everything that we keep lies under it."""
    server: Server = Server()
    auth: Auth = Auth()
    limits: Limits = Limits()
    usage: Usage = Usage()
    onemin: Onemin = Onemin()
    fetch: Fetch = Fetch()
    store: Store = Store()
    uploads: Uploads = Uploads()
    engines: Engines = Engines()
    live: Live = Live()
    moonshine: Moonshine = Moonshine()
    scripted: Scripted = Scripted()
    database: Database = Database()
    jobs: Jobs = Jobs()
    webhook: Webhook = Webhook()
    log: Logging = Logging()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - we read no .env file
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - nor a secrets directory
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags (given to the constructor) win, then the environment, then the file."""
        assert isinstance(init_settings, InitSettingsSource)
        values = dict(init_settings.init_kwargs)
        file = values.pop("config_file", None)
        flags = InitSettingsSource(settings_cls, values)
        return flags, env_settings, TomlConfigSettingsSource(settings_cls, file)


def load(flags: Mapping[str, Any] | None = None, *, config_file: Path | None = None) -> Settings:
    """The settings in force.

    Args:
        flags: nested values that win over all others, such as ``{"server": {"port": 9000}}``.
        config_file: a TOML file; default: ``qasr.toml`` in the working directory, if there is one.

    Raises:
        InvalidParameter: a value is wrong or a name is unknown; the message names each.
    """
    if config_file is not None and not config_file.is_file():
        raise InvalidParameter(f"there is no settings file {config_file}")
    try:
        return Settings(config_file=config_file or Path(CONFIG_FILE), **(flags or {}))  # type: ignore[call-arg]
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        sources = f"{config_file or CONFIG_FILE}, QASR_… in the environment, flags; docs/settings.md has all names"
        raise InvalidParameter(f"settings: {problems} ({sources})") from error


def unknown_environment() -> list[str]:
    """Variables that look like ours but are no setting: most likely misspelled; the program says so at its start."""
    known = {"QASR_" + path.replace(".", "__").upper() for path, _ in walk(Settings.model_construct())}
    return sorted(name for name in os.environ if name.startswith("QASR_") and name.upper() not in known)


def walk(settings: BaseModel, prefix: str = "") -> list[tuple[str, Any]]:
    """Each setting as ``(section.key, value)``."""
    found: list[tuple[str, Any]] = []
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        found += walk(value, f"{prefix}{name}.") if isinstance(value, BaseModel) else [(prefix + name, value)]
    return found


def origins(settings: Settings, flags: Mapping[str, Any], config_file: Path | None) -> dict[str, str]:
    """Where each value came from: ``flag``, ``environment``, ``file`` or ``default``."""
    file = TomlConfigSettingsSource(Settings, config_file or Path(CONFIG_FILE))()
    found: dict[str, str] = {}
    for path, _ in walk(settings):
        keys = path.split(".")
        if _holds(flags, keys):
            found[path] = "flag"
        elif "QASR_" + "__".join(keys).upper() in os.environ:
            found[path] = "environment"
        else:
            found[path] = "file" if _holds(file, keys) else "default"
    return found


def _holds(values: Mapping[str, Any], keys: list[str]) -> bool:
    node: Any = values
    for key in keys:
        if not isinstance(node, Mapping) or key not in node:
            return False
        node = node[key]
    return True
