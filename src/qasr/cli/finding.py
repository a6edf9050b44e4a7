"""What an examination finds."""

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """One thing that was checked. ``ok`` is false where serving is broken."""

    name: str
    ok: bool
    text: str
