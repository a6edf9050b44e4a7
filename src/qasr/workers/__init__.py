"""Work in child processes: parsers that strangers can crash, models that hold the interpreter lock or much memory.

``protocol.py`` is what goes over the pipes, ``child.py`` the process, ``pool.py`` our end of it.
A child's death fails the calls it was answering and nothing else; the pool starts another.
"""

from qasr.workers.pool import CallFailed, Replies, WorkerDied, WorkerPool

__all__ = ["CallFailed", "Replies", "WorkerDied", "WorkerPool"]
