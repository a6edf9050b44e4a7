"""The way of operators: the server's own database. Who may write it needs no key, and the server, running or not, sees
what is written there.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

from qasr.cli import configuration, interruption
from qasr.cli.failure import FAILED, fail
from qasr.domain.errors import QasrError
from qasr.storage.database import FILE, Database, url_in

T = TypeVar("T")


def with_database(
    work: Callable[[Database], Awaitable[T]], data_dir: Path | None, config_file: Path | None, *, missing: str | None
) -> T:
    """What *work* returns. Ends the program if it fails.

    Args:
        work: gets the database with its tables.
        data_dir: of the server.
        config_file: with its settings.
        missing: why nothing can be done where there is no database yet; None: one is made.
    """
    settings = configuration.load(configuration.nested({"data_dir": data_dir}), config_file)
    if settings.database.url is None and not (settings.data_dir / FILE).exists():
        if missing is not None:
            fail(f"{missing} {settings.data_dir}")
        try:
            settings.data_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            fail(f"the data directory {settings.data_dir} cannot be made: {error.strerror}", FAILED)
    database = Database(url_in(settings.data_dir, settings.database.url))
    try:
        database.migrate()
        return interruption.run(lambda: work(database))
    except sa.exc.SQLAlchemyError as error:
        fail(f"the database cannot be used: {str(error).splitlines()[0]}", FAILED)
    except QasrError as error:
        fail(str(error), FAILED)
    finally:
        database.close()
