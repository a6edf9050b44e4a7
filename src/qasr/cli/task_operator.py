"""``qasr tasks cancel --data-dir``: an operator stops a task, whoever's it is, by way of the server's own database.

The DashScope interface cancels pending tasks only, and only those of the key that asks. Who may write the database
needs no key, and the server, running or not, sees what is written there.
"""

import sys
from pathlib import Path

from qasr.cli.failure import FAILED, fail, tell
from qasr.cli.operator import with_database
from qasr.domain.task import TaskId, TaskState
from qasr.storage.tasks import Tasks


def cancel(task_id: str, data_dir: Path | None, config_file: Path | None) -> None:
    """Cancel a pending task, or have a running one stop; print which. Ends the program with 1 if it is neither."""
    state = with_database(
        lambda database: Tasks(database).request_cancel(TaskId(task_id)),
        data_dir,
        config_file,
        missing="there are no tasks in",
    )
    if state is None:
        fail("there is no such task, or it has ended", FAILED)
    if state is TaskState.RUNNING:
        tell("the task stops once the steps that are under way have ended: a download, or some minutes of speech")
    sys.stdout.write(f"{state}\n")
