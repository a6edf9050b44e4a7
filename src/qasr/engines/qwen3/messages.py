"""What the parent and the child tell each other."""

import msgspec


class Hear(msgspec.Struct, array_like=True):
    """A segment; its samples are the payload."""

    language: str | None
    context: str


class Heard(msgspec.Struct, array_like=True):
    """Its answer; one id, piece and log-probability per token of the text."""

    text: str
    language: str | None
    ids: list[int]
    pieces: list[bytes]
    logprobs: list[float]
    truncated: bool


class Feed(msgspec.Struct, array_like=True):
    """What follows in a stream; its samples are the payload. Only the first one's language and context count."""

    stream: int
    first: bool
    language: str | None
    context: str


class Partial(msgspec.Struct, array_like=True):
    """What a stream has heard: the text is ``stable + tail``."""

    stable: str
    tail: str
    language: str | None
