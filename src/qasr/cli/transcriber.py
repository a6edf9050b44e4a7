"""What ``qasr transcribe`` asks of whoever does the work."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from qasr.cli.recordings import Recording


class TranscriptionFailed(Exception):
    """One recording could not be transcribed; the others may be."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One transcript in the asked form, and what a person should know about it."""

    output: str
    notes: tuple[str, ...] = ()


class Transcriber(Protocol):
    """Turns recordings into text."""

    async def transcribe(self, recording: Recording, heard: Callable[[int], None]) -> Outcome:
        """Hear *recording*; *heard* is told how far, in ms from its start.

        Raises:
            TranscriptionFailed: with the reason.
        """
        ...
