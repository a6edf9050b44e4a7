"""A look at a database without changing it, for ``qasr doctor``."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from qasr.storage.database import HEAD, create_engine

CONNECT_S: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkup:
    """What was found."""

    product: str
    """Name and version of what keeps the tables."""
    version: str | None
    """Of the tables; None: there are none yet."""
    damage: str | None = None
    """The first that is wrong with the file; None: nothing is, or that is not ours to know."""
    clock_s: float | None = None
    """How far its clock is ahead of ours; None: it is ours."""

    @property
    def is_too_new(self) -> bool:
        """Whether a later version of this program has changed the tables."""
        return self.version is not None and self.version > HEAD


def look_at_file(path: Path) -> Checkup:
    """An SQLite database.

    Raises:
        sqlalchemy.exc.DBAPIError: it is none, or cannot be read.
    """
    engine = sa.create_engine(f"sqlite:///file:{path.absolute()}?mode=ro&uri=true")
    try:
        with engine.connect() as connection:
            found = str(connection.execute(sa.text("PRAGMA quick_check(1)")).scalar_one())
            product = f"SQLite {connection.execute(sa.text('SELECT sqlite_version()')).scalar_one()}"
            return Checkup(product=product, version=_version(connection), damage=None if found == "ok" else found)
    finally:
        engine.dispose()


def look_at_server(url: str) -> Checkup:
    """A PostgreSQL database.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: it does not answer, or does not let us in.
    """
    engine = create_engine(sa.make_url(url).update_query_dict({"connect_timeout": str(CONNECT_S)}))
    try:
        with engine.connect() as connection:
            product = f"PostgreSQL {connection.execute(sa.text('SHOW server_version')).scalar_one()}"
            asked_s = time.time()
            told_s = float(connection.execute(sa.text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())
            clock_s = told_s - (asked_s + time.time()) / 2
            return Checkup(product=product, version=_version(connection), clock_s=clock_s)
    finally:
        engine.dispose()


def _version(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return str(connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none())
