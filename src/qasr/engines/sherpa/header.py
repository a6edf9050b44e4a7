"""What an ONNX file says about itself, without reading its weights.

The file is one protobuf message: a row of fields, each a key, for text and messages a length, and that many bytes.
Weights are skipped by their length, so a gigabyte is looked through in a moment::

    ModelProto   7: graph          14: metadata_props*
    GraphProto  11: input*         12: output*                (5: weights, 1: nodes; skipped)
    ValueInfo    1: name
    Property     1: key             2: value
"""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

LONGEST_TEXT: Final = 16 * 1024**2
"""Bytes of one property; a model for punctuation keeps its vocabulary in one."""


@dataclass(frozen=True, slots=True)
class Header:
    """Names and properties of a model."""

    properties: Mapping[str, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def read(path: Path) -> Header:
    """The header of the model at *path*.

    Raises:
        ValueError: it is no ONNX file.
        OSError: it cannot be read.
    """
    properties, inputs, outputs = dict[str, str](), list[str](), list[str]()
    with path.open("rb") as file:
        for field, n_bytes in _fields(file, path.stat().st_size):
            begin = file.tell()
            if field == 14:
                key, value = _texts(file, n_bytes)
                properties[key] = value
            elif field == 7:
                for part, n_part in _fields(file, n_bytes):
                    after = file.tell() + n_part
                    if part in (11, 12):
                        name, _ = _texts(file, n_part)
                        (inputs if part == 11 else outputs).append(name)
                    file.seek(after)
            file.seek(begin + n_bytes)
    if not outputs:
        raise ValueError("it has no graph")
    return Header(properties, tuple(inputs), tuple(outputs))


def _texts(file: BinaryIO, n_bytes: int) -> tuple[str, str]:
    """Fields 1 and 2 of a message, as text."""
    if n_bytes > LONGEST_TEXT:
        raise ValueError("a property is too long")
    message, found = io.BytesIO(file.read(n_bytes)), {1: "", 2: ""}
    for field, n_text in _fields(message, n_bytes):
        data = message.read(n_text)
        if field in found and n_text:
            found[field] = data.decode("utf-8", "replace")
    return found[1], found[2]


def _fields(file: BinaryIO, n_bytes: int) -> Iterator[tuple[int, int]]:
    """Number and length of each field of a message of *n_bytes*; the reader may read it, or leave it.

    Fields that are numbers are told with a length of 0.
    """
    end = file.tell() + n_bytes
    while (here := file.tell()) < end:
        key = _varint(file)
        match key & 7:
            case 0:
                _varint(file)
                length = 0
            case 1:
                file.seek(8, io.SEEK_CUR)
                length = 0
            case 2:
                length = _varint(file)
            case 5:
                file.seek(4, io.SEEK_CUR)
                length = 0
            case _:
                raise ValueError("it is no protobuf message")
        begin = file.tell()
        if begin <= here or begin + length > end:
            raise ValueError("it ends too early")
        yield key >> 3, length
        file.seek(begin + length)


def _varint(file: BinaryIO) -> int:
    value = shift = 0
    while shift < 64:
        byte = file.read(1)
        if not byte:
            raise ValueError("it ends too early")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
        shift += 7
    raise ValueError("it is no protobuf message")
