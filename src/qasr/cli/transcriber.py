"""What ``qasr transcribe`` asks of whoever does the work."""

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


class Heard(Protocol):
    """Is told how far a recording has been heard."""

    def __call__(self, ms: int, *, of_ms: int | None = None, known_ms: int = 0) -> None:
        """So far.

        Args:
            ms: from the start of the recording.
            of_ms: its length, where that is known.
            known_ms: so far an earlier run had come; that took no time now.
        """
        ...


class Transcriber(Protocol):
    """Turns recordings into text."""

    async def transcribe(self, recording: Recording, heard: Heard) -> Outcome:
        """Hear *recording*; *heard* is told how far.

        Raises:
            TranscriptionFailed: with the reason.
        """
        ...
