"""What tests of tables share: a database in its newest form, and a clock that stands still."""

from collections.abc import AsyncIterator

import pytest

from qasr.storage.database import Database


class Clock:
    """Stands still unless it is put forward."""

    now_ms = 1_768_210_752_997

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Empty, with all tables."""
    database = Database(database_url)
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()
