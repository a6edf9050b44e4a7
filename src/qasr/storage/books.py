"""The books that faces look into and write in, all in one database."""

from dataclasses import dataclass

from qasr.storage.assets import Assets, Records
from qasr.storage.buckets import Buckets
from qasr.storage.keys import KeyRing
from qasr.storage.sessions import Sessions
from qasr.storage.usage import UsageBook


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What is kept besides tasks."""

    keys: KeyRing
    usage: UsageBook
    buckets: Buckets
    sessions: Sessions
    assets: Assets
    records: Records
