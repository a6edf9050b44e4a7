"""The database: SQLAlchemy Core on SQLite (a file, the default) or PostgreSQL (by URL). SQL lives in this room alone.

Calls are synchronous and run in threads: one code path for both databases, and the same for the workflows' own tables.
SQLite runs with WAL and full synchronization: what was answered has been written, also when the power fails.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
import anyio.to_thread
import sqlalchemy as sa

from qasr.domain.errors import EngineUnavailable

T = TypeVar("T")

THREADS: Final = 16
"""Calls at once; more wait."""
FILE: Final = "qasr.db"
"""Of SQLite, under the data directory."""
HEAD: Final = "0006"
"""The newest migration."""
MIGRATION_LOCK: Final = 0x71617373
"""Key of an advisory lock of PostgreSQL; any number of our own."""
_LOCK: Final = sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(sa.bindparam("name"), 0)))

metadata = sa.MetaData()

tasks = sa.Table(
    "tasks",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("model", sa.String(100), nullable=False),
    sa.Column("dialect", sa.String(20), nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("options", sa.Text, nullable=False),
    sa.Column("limits", sa.Text, nullable=False),
    sa.Column("webhook", sa.Text),
    sa.Column("submitted_ms", sa.BigInteger, nullable=False),
    sa.Column("scheduled_ms", sa.BigInteger),
    sa.Column("ended_ms", sa.BigInteger),
    sa.Column("enqueued", sa.Boolean, nullable=False),
    sa.Column("cancel_requested", sa.Boolean, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("attempts_since_ms", sa.BigInteger, nullable=False),
    sa.Column("progress", sa.BigInteger, nullable=False),
    sa.Column("webhook_due_ms", sa.BigInteger),
    sa.Column("webhook_calls", sa.Integer, nullable=False, server_default="0"),
    sa.Column("turn", sa.BigInteger, nullable=False, server_default="0"),
    sa.Index("tasks_by_owner", "owner", "submitted_ms"),
    sa.Index("tasks_by_owner_and_turn", "owner", "state", "turn"),
    sa.Index("tasks_by_state", "state", "submitted_ms"),
    sa.Index("tasks_by_turn", "state", "turn"),
    sa.Index("tasks_by_webhook", "webhook_due_ms"),
)

subtasks = sa.Table(
    "subtasks",
    metadata,
    sa.Column("task_id", sa.String(36), sa.ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("failure", sa.Text),
    sa.Column("duration_ms", sa.BigInteger, nullable=False),
    sa.Column("speech_ms", sa.BigInteger, nullable=False),
    sa.Column("done_ms", sa.BigInteger, nullable=False),
)

executors = sa.Table(
    "executors",
    metadata,
    sa.Column("id", sa.String(100), primary_key=True),
    sa.Column("beat_ms", sa.BigInteger, nullable=False),
)

vocabularies = sa.Table(
    "vocabularies",
    metadata,
    sa.Column("id", sa.String(80), primary_key=True),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("kind", sa.String(10), nullable=False),
    sa.Column("prefix", sa.String(10), nullable=False),
    sa.Column("target_model", sa.String(100), nullable=False),
    sa.Column("hotwords", sa.Text, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("modified_ms", sa.BigInteger, nullable=False),
    sa.Index("vocabularies_by_owner", "owner", "kind", "created_ms"),
)

keys = sa.Table(
    "keys",
    metadata,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
    sa.Column("old_hash", sa.String(64)),
    sa.Column("old_until_ms", sa.BigInteger),
    sa.Column("scopes", sa.String(100), nullable=False),
    sa.Column("allowance", sa.Text, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("expires_ms", sa.BigInteger),
    sa.Column("revoked_ms", sa.BigInteger),
)

buckets = sa.Table(
    "buckets",
    metadata,
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("tokens", sa.Float(53), nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Index("buckets_by_age", "at_ms"),
)

live_sessions = sa.Table(
    "live_sessions",
    metadata,
    sa.Column("session", sa.String(32), primary_key=True),
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("until_ms", sa.BigInteger, nullable=False),
    sa.Index("live_sessions_by_name", "name", "until_ms"),
    sa.Index("live_sessions_by_age", "until_ms"),
)

usage = sa.Table(
    "usage",
    metadata,
    sa.Column("day", sa.String(10), primary_key=True),
    sa.Column("owner", sa.String(64), primary_key=True),
    sa.Column("model", sa.String(100), primary_key=True),
    sa.Column("interface", sa.String(20), primary_key=True),
    sa.Column("requests", sa.BigInteger, nullable=False),
    sa.Column("errors", sa.BigInteger, nullable=False),
    sa.Column("audio_ms", sa.BigInteger, nullable=False),
    sa.Column("speech_ms", sa.BigInteger, nullable=False),
    sa.Column("latency_ms", sa.BigInteger, nullable=False),
    sa.Column("slowest_ms", sa.BigInteger, nullable=False),
    sa.Index("usage_by_owner", "owner", "day"),
)

assets = sa.Table(
    "assets",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("path", sa.String(200), nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("n_bytes", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("owner", "path", name="assets_by_path"),
    sa.Index("assets_by_age", "created_ms"),
)

records = sa.Table(
    "records",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Index("records_by_age", "created_ms"),
)

files = sa.Table(
    "files",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("n_bytes", sa.BigInteger, nullable=False),
    sa.Column("until_ms", sa.BigInteger, nullable=False),
    sa.Index("files_by_owner", "owner"),
)

_versions = sa.Table(
    "alembic_version",
    sa.MetaData(),
    sa.Column("version_num", sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
"""Alembic's own, as it makes it."""


class Database:
    """A connection pool and the migrations that belong to it."""

    def __init__(self, url: str) -> None:
        # Else DBOS imports it in a thread, while queries that look into it are compiled in another. Not above: it takes
        # a third of a second, in which a server that starts has a model to load.
        importlib.import_module("sqlalchemy.orm")
        self.engine = create_engine(url)
        self._readers = anyio.CapacityLimiter(THREADS)
        self._writers = anyio.CapacityLimiter(1) if self.is_sqlite else self._readers
        """SQLite takes one writer at a time; who finds it taken sleeps, longer each time. To wait in a row instead is
        three times as fast with eight at once."""

    @property
    def is_sqlite(self) -> bool:
        """Whether one process has the database to itself."""
        return self.engine.dialect.name == "sqlite"

    def migrate(self) -> None:
        """Bring the tables up to date; make them as they are now where there are none yet."""
        if self._version() == HEAD:  # as at most starts, which are half as long then
            return
        with self.engine.begin() as connection:
            if self.is_sqlite:  # one process after the other, and all or nothing: by itself it begins at the first row
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            if sa.inspect(connection).has_table(_versions.name):
                _upgrade(connection)
            else:  # what all migrations come to, without loading what runs them
                metadata.create_all(connection)
                _versions.create(connection)
                connection.execute(_versions.insert().values(version_num=HEAD))

    def _version(self) -> str | None:
        """Of the tables; None where there are none yet."""
        with self.engine.connect() as connection:
            if not sa.inspect(connection).has_table(_versions.name):
                return None
            return connection.execute(sa.select(_versions.c.version_num)).scalar_one_or_none()

    async def read(self, query: Callable[[sa.Connection], T]) -> T:
        """Run *query* in a thread, without a transaction to commit."""

        def run() -> T:
            with self.engine.connect() as connection:
                return query(connection)

        return await anyio.to_thread.run_sync(run, limiter=self._readers)

    async def write(self, change: Callable[[sa.Connection], T]) -> T:
        """Run *change* in a thread, in one transaction."""

        def run() -> T:
            with self.engine.begin() as connection:
                return change(connection)

        return await anyio.to_thread.run_sync(run, limiter=self._writers)

    def close(self) -> None:
        """Return all connections."""
        self.engine.dispose()


def _upgrade(connection: sa.Connection) -> None:
    import alembic.command  # noqa: PLC0415 - heavy, and only here
    import alembic.config  # noqa: PLC0415

    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, "head")


def one_at_a_time(connection: sa.Connection, name: str) -> None:
    """Until the transaction ends, no other of this *name* goes on behind this line. SQLite has one writer anyway."""
    if connection.dialect.name != "sqlite":
        connection.execute(_LOCK, {"name": name})


@contextmanager
def reachable() -> Iterator[None]:
    """What a request needs before it is let in: a database that is away is told as such, and not as a failure of ours.

    Raises:
        EngineUnavailable: the database is away.
    """
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        raise EngineUnavailable("The key cannot be checked now; please try again later.") from error


def url_in(data_dir: Path, configured: str | None) -> str:
    """Of the database of the server that owns *data_dir*: *configured*, or its own file."""
    return configured or f"sqlite:///{(data_dir / FILE).absolute()}"


def create_engine(url: str | sa.URL) -> sa.Engine:
    """An engine for *url*; SQLite gets WAL, full synchronization, foreign keys and patience."""
    made = sa.make_url(url)
    if made.get_backend_name() != "sqlite":
        if made.drivername == "postgresql":
            made = made.set(drivername="postgresql+psycopg")
        return sa.create_engine(made, pool_pre_ping=True, pool_size=THREADS)
    engine = sa.create_engine(made, pool_size=THREADS, connect_args={"timeout": 30, "check_same_thread": False})

    @sa.event.listens_for(engine, "connect")
    def set_pragmas(connection: Any, _record: Any) -> None:
        connection.isolation_level = "IMMEDIATE"  # a transaction that turns to writing late may not wait its turn
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine
