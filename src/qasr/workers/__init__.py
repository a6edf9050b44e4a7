"""Work in child processes: parsers that strangers can crash, models that hold the interpreter lock or much memory.

``protocol.py`` is what goes over the pipes, ``child.py`` the process, ``pool.py`` our end of it.
A child's death fails the calls it was answering and nothing else; the pool starts another.
"""

import os

from qasr.workers.pool import CallFailed, Replies, WorkerDied, WorkerKilled, WorkerPool

__all__ = ["CallFailed", "Replies", "WorkerDied", "WorkerKilled", "WorkerPool", "available_cpus"]


def available_cpus() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
