"""Which failures mean that a store is away or full: nobody's fault here, and over when the operator has seen to it."""

import errno
from typing import Final

import obstore.exceptions
import sqlalchemy.exc

from qasr.domain.errors import EngineUnavailable

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
AWAY: Final = (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError, sqlalchemy.exc.TimeoutError)


def outage(error: BaseException) -> EngineUnavailable | None:
    """What clients are told if *error* is one; None: it is something else."""
    if isinstance(error, OSError) and error.errno in FULL:
        return EngineUnavailable("The server's disk is full; please try again later.")
    if isinstance(error, AWAY):
        return EngineUnavailable("The server's database cannot be used now; please try again later.")
    if isinstance(error, obstore.exceptions.BaseError):
        return EngineUnavailable("The server's object store cannot be used now; please try again later.")
    return None


def cause(error: BaseException) -> str:
    """For the log: what the driver said, without statements and their values."""
    return str(getattr(error, "orig", None) or error)[:500]
