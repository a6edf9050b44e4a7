"""``qasr tasks cancel --data-dir``: an operator stops a task, whoever's it is, by way of the server's own database.

The DashScope interface cancels pending tasks only, and only those of the key that asks. Who may write the database
needs no key, and the server, running or not, sees what is written there.
"""

import sys
from pathlib import Path

import sqlalchemy as sa

from qasr.cli import configuration, interruption
from qasr.cli.failure import FAILED, fail, tell
from qasr.domain.task import TaskId, TaskState
from qasr.storage.database import Database, url_in
from qasr.storage.tasks import Tasks


def cancel(task_id: str, data_dir: Path | None, config_file: Path | None) -> None:
    """Cancel a pending task, or have a running one stop; print which. Ends the program with 1 if it is neither."""
    settings = configuration.load(configuration.nested({"data_dir": data_dir}), config_file)
    url = url_in(settings.data_dir, settings.database.url)
    if settings.database.url is None and not (settings.data_dir / "qasr.db").exists():
        fail(f"there are no tasks in {settings.data_dir}")
    database = Database(url)
    try:
        state = interruption.run(lambda: Tasks(database).request_cancel(TaskId(task_id)))
    except sa.exc.SQLAlchemyError as error:
        fail(f"the database cannot be written: {str(error).splitlines()[0]}", FAILED)
    finally:
        database.close()
    if state is None:
        fail("there is no such task, or it has ended", FAILED)
    if state is TaskState.RUNNING:
        tell("the task stops once the steps that are under way have ended: a download, or some minutes of speech")
    sys.stdout.write(f"{state}\n")
