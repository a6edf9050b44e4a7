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
from typing import Annotated, Any, Final, Literal

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
    most_at_once: int = Field(default=64, ge=1)
    """Recordings of synchronous requests that are worked on at once, seven eighths of them of one key. Fewer are
    answered sooner where processors are few; an engine that hears many at once needs as many."""
    most_waiting: int = Field(default=256, ge=0)
    """Recordings that may wait to be worked on; more are told to come later."""
    patience_s: float = Field(default=20.0, gt=0)
    """How long a client may be silent in the middle of a request, or not read its answer; a request's head must have
    come by then, and a body that takes longer must bring 4 KiB each second."""
    most_connections: int = Field(default=2048, ge=1)
    """Connections at once, also those of live sessions; more are turned away with 503."""
    tls_certificate: Path | None = None
    """Certificate chain in PEM; with it, HTTPS is spoken."""
    tls_key: Path | None = None
    """Its private key in PEM, without a passphrase; None: it stands in the same file."""


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
    """Live sessions at once."""
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
    max_key_bytes: int = Field(default=20 * 1024**3, gt=0)
    """All files of one key together that are kept: these, and the assets of the 1min.ai interface."""
    max_all_bytes: int = Field(default=100 * 1024**3, gt=0)
    """The same of all keys."""


class Engines(_Section):
    """Which engine hears."""

    default: str = "auto"
    """``auto``: for each model the best that is installed, see docs/models.md. Or the name of an engine or of a
    checkpoint, which then serves all models."""
    load: Literal["lazy", "default", "eager"] = "default"
    """What is loaded at the start: nothing; the engine of no model in particular; all that is installed."""
    idle_s: float = Field(default=900.0, ge=0)
    """Seconds without work after which an engine is unloaded, unless it is that of no model in particular; 0: never."""
    memory_mb: int = Field(default=0, ge=0)
    """Megabytes that all engines together may take, by the sizes of their checkpoints; idle ones are unloaded for
    others. 0: any."""
    queue_audio_s: float = Field(default=3600.0, gt=0)
    """Seconds of audio that may wait for an engine per class; beyond it requests are told to come later."""
    decoders: int = Field(default=0, ge=0)
    """Processes that parse media; 0: one per processor, at most 4."""
    aligners: int = Field(default=1, ge=0)
    """Processes that find word times; 0: word times are estimated."""


class Models(_Section):
    """Checkpoints of engines, see docs/models.md."""

    folder: Path | None = None
    """Where they lie; None: ``models`` under the data directory."""
    offline: bool = False
    """Never ask a hub."""
    modelscope_url: str = Field(default="https://www.modelscope.cn", pattern="^https?://[^/]")
    """The ModelScope hub. That of Hugging Face is set by its own ``HF_ENDPOINT``."""


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


class Qwen3Asr(_Section):
    """Qwen3-ASR; the extra ``qasr[qwen3]``."""

    folder: str = ""
    """Folder of a checkpoint, in either layout."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """``auto``: a CUDA GPU if there is one."""
    precision: Literal["bf16", "fp32", "int8"] = "bf16"
    """``int8`` is about a third faster on a CPU, and a little less exact."""
    threads: int = Field(default=0, ge=0)
    """Processors that one product is spread over; 0: torch's choice."""
    rows: int = Field(default=8, ge=1, le=256)
    """Segments that are heard at once."""
    spare_rows: int = Field(default=4, ge=0, le=256)
    """More, for partials of live sessions."""
    longest_s: float = Field(default=30.0, ge=1, le=1200)
    """The longest segment."""
    context_tokens: int = Field(default=2048, ge=0, le=20_000)
    """The longest context; longer ones are refused."""


class Qwen3Aligner(_Section):
    """Qwen3-ForcedAligner, for word times in eleven languages; the extra ``qasr[qwen3]``."""

    folder: str = ""
    """Folder of a checkpoint, in either layout; none: word times are found for English, and estimated for others."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """``auto``: a CUDA GPU if there is one."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """Of weights and sums."""
    threads: int = Field(default=0, ge=0)
    """Processors that one product is spread over; 0: torch's choice."""


class Whisper(_Section):
    """Whisper models in CTranslate2's format, for ``engines.default = "whisper"``."""

    folder: str = ""
    """Of the model: ``model.bin``, ``config.json``, ``tokenizer.json``."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: a GPU if there is one."""
    compute: str = ""
    """How it computes; empty: ``int8`` on a processor, ``float16`` on a GPU."""
    threads: int = Field(default=0, ge=0)
    """Of all calls together; 0: one per processor."""
    calls: int = Field(default=1, ge=1)
    """Segments that are heard at once."""
    beam: int = Field(default=5, ge=1)
    """Texts that are followed at once; 1 is fastest."""


class Sherpa(_Section):
    """Models of sherpa-onnx, for ``engines.default = "sherpa"``; needs ``qasr[sherpa]``."""

    folder: str = ""
    """Of the model; its kind is told from its files."""
    languages: str = ""
    """What the model hears, as codes between commas, where its files do not tell; empty: what is known of its kind."""
    punctuation: str = ""
    """Folder of a CT-transformer model, which sets marks in texts of models that write none."""
    threads: int = Field(default=0, ge=0)
    """0: one per processor."""
    provider: Literal["cpu", "cuda"] = "cpu"
    """What onnxruntime computes on; `cuda` needs another build of sherpa-onnx."""
    itn: Literal["always", "asked"] = "always"
    """SenseVoice: `always` numbers in digits, with which its punctuation comes; `asked`: for requests that ask for
    it."""


class Tagger(_Section):
    """A SenseVoice model that tells emotions beside an engine that does not; needs ``qasr[sherpa]``."""

    folder: str = ""
    """Of the model; empty: emotions are null."""
    threads: int = Field(default=1, ge=0)
    """0: one per processor."""


class Diarizer(_Section):
    """What tells speakers apart, where somebody asks for it."""

    enabled: bool = True
    """False: who asks is refused."""
    folder: str = ""
    """Of a segmentation and an embedding model for sherpa-onnx; needs ``qasr[sherpa]``. Empty: the embedded models."""
    threshold: float = Field(default=0.5, gt=0, lt=1)
    """Likeness from which on voices are one speaker's, by the embedding model in ``folder``; more gives more speakers.
    The embedded models have their own."""
    threads: int = Field(default=0, ge=0)
    """Segments at once, each on one core; 0: one per processor."""


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


class Upstream(_Section):
    """Other speech servers as the engine: vLLM, another qasr, whatever speaks OpenAI's interfaces."""

    urls: Annotated[tuple[str, ...], NoDecode] = ()
    """Bases as OpenAI's SDK takes them: ``http://gpu1:8000/v1``. Several share the work."""
    model: str = ""
    """What the servers call it. None: the first that each of them lists."""
    api_key: str = ""
    """Sent to all of them as ``Authorization: Bearer``."""
    mode: Literal["auto", "chat", "transcriptions"] = "auto"
    """Which interface is asked. ``auto``: transcriptions where the client named a language; where not, chat completions
    if they tell it."""
    languages: Annotated[tuple[str, ...], NoDecode] = ()
    """Codes that the model hears; others are refused. None: any."""
    concurrency: int = Field(default=16, ge=1)
    """Requests at one server at a time. What GPUs can take is 64 and more."""
    attempts: int = Field(default=3, ge=1)
    """How often a segment is tried, each time at another server if there is one."""
    connect_timeout_s: float = Field(default=5.0, gt=0)
    """For a connection; twice that for a sign of life."""
    timeout_s: float = Field(default=60.0, gt=0)
    """For one attempt."""
    health_s: float = Field(default=10.0, gt=0)
    """Between two looks at a server that works; one that does not is tried more often at first."""
    longest_s: float = Field(default=30.0, ge=1, le=1200)
    """The longest segment that is sent."""
    word_times: bool = False
    """Have the servers give word times (``verbose_json``), also where nobody asked for them; servers that cannot do it
    are not used."""
    context: bool = True
    """The model uses a context (system message, ``prompt``); if not, clients are told that theirs is unused."""

    _split_lists = field_validator("urls", "languages", mode="before")(_split)


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
    """Tasks that this server works on at once, besides one each of up to 16 keys that have no other."""
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


class Metrics(_Section):
    """Numbers for Prometheus at ``/metrics``, see docs/observability.md."""

    access: Literal["local", "token", "anyone", "off"] = "local"
    """Who may read them: ``local``: this machine, and who sends the token; ``token``: only who sends it; ``anyone``;
    ``off``: there are none."""
    token: str | None = Field(default=None, min_length=16)
    """What readers send as ``Authorization: Bearer``; no API key."""


class Tracing(_Section):
    """Spans for OpenTelemetry, see docs/observability.md; needs ``qasr[otel]``."""

    url: str | None = Field(default=None, pattern="^https?://[^/]")
    """Of the collector, with its path: ``http://collector:4318/v1/traces``. None: no spans are made."""
    service: str = "qasr"
    """Our name in the traces."""
    ratio: float = Field(default=1.0, ge=0, le=1)
    """Of the traces that begin here, how many are kept; in a client's trace, the client has decided."""


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
    models: Models = Models()
    live: Live = Live()
    moonshine: Moonshine = Moonshine()
    qwen3_asr: Qwen3Asr = Qwen3Asr()
    qwen3_aligner: Qwen3Aligner = Qwen3Aligner()
    whisper: Whisper = Whisper()
    sherpa: Sherpa = Sherpa()
    tagger: Tagger = Tagger()
    diarizer: Diarizer = Diarizer()
    scripted: Scripted = Scripted()
    upstream: Upstream = Upstream()
    database: Database = Database()
    jobs: Jobs = Jobs()
    webhook: Webhook = Webhook()
    metrics: Metrics = Metrics()
    tracing: Tracing = Tracing()
    log: Logging = Logging()

    @property
    def models_dir(self) -> Path:
        """Where checkpoints lie."""
        return self.models.folder or self.data_dir / "models"

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
