"""Frames between this program and its children.

A frame is ``<u32 header length> <u32 payload length> <header: msgpack> <payload: raw bytes>``, little-endian. One call
has one ``Call``, any number of ``Item`` and then exactly one ``End`` or ``Fail``; calls may overlap, their ``id`` keeps
them apart. msgpack and not pickle, because a child that parses strangers' media must not be able to run code here.
"""

import struct
from typing import Final, TypeAlias

import msgspec

LENGTHS: Final = struct.Struct("<II")
LARGEST_FRAME: Final = 256 * 1024 * 1024
"""Bytes; a child that announces more is broken."""
LOADING: Final = -1
"""In place of a call's id in a ``Fail``: the child cannot load, and ends."""


class Call(msgspec.Struct, tag="call", frozen=True):
    """Please do *method*."""

    id: int
    method: str
    body: msgspec.Raw


class Cancel(msgspec.Struct, tag="cancel", frozen=True):
    """Nobody waits for call *id* any more."""

    id: int


class Ready(msgspec.Struct, tag="ready", frozen=True):
    """The child has loaded what it needs."""

    body: msgspec.Raw


class Item(msgspec.Struct, tag="item", frozen=True):
    """One part of the answer."""

    id: int
    body: msgspec.Raw


class End(msgspec.Struct, tag="end", frozen=True):
    """The answer is complete."""

    id: int


class Fail(msgspec.Struct, tag="fail", frozen=True):
    """The call failed; *kind* is a word that both sides know."""

    id: int
    kind: str
    message: str


ToChild: TypeAlias = Call | Cancel
FromChild: TypeAlias = Ready | Item | End | Fail

_encoder = msgspec.msgpack.Encoder()


def encode(header: ToChild | FromChild, payload: bytes | memoryview = b"") -> bytes:
    """The frame's bytes."""
    head = _encoder.encode(header)
    return b"".join((LENGTHS.pack(len(head), len(payload)), head, payload))


def raw(value: object) -> msgspec.Raw:
    """*value* as msgpack, to be put into a header."""
    return msgspec.Raw(_encoder.encode(value))
