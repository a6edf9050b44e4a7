"""Tables as older versions left them."""

from pathlib import Path

import alembic.command
import alembic.config
from alembic.script import ScriptDirectory

from qasr.storage import database as room
from qasr.storage.database import Database


def to_version(database: Database, version: str) -> None:
    """Make the tables of *database* as they were at *version*."""
    config = _config()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, version)


def newest() -> str | None:
    """The last of the migrations that lie there."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> alembic.config.Config:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(room.__file__).parent / "migrations"))
    return config
