"""What each measurement gets."""

from dataclasses import dataclass

from benchmarks.clips import Corpus, Sound


@dataclass(frozen=True)
class Bench:
    """The clips of this run, and how often to repeat."""

    corpus: Corpus
    sounds: list[Sound]
    quick: bool

    @property
    def rounds(self) -> int:
        """Medians are taken over so many."""
        return 1 if self.quick else 3

    @property
    def audio_s(self) -> float:
        return sum(sound.audio_s for sound in self.sounds)
