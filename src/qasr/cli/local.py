"""Recordings become text in this process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from qasr.cli.failure import tell
from qasr.cli.forms import render
from qasr.cli.journal import Journal, journal
from qasr.cli.options import Form
from qasr.cli.progress import clock
from qasr.cli.recordings import Recording
from qasr.cli.transcriber import Heard, Outcome, TranscriptionFailed
from qasr.domain.audio import FileSource, MediaLimits, Source, UrlSource
from qasr.domain.errors import FetchRefused, QasrError
from qasr.domain.options import Hints, Hotword, RecognitionOptions
from qasr.engines.slots import Lane
from qasr.pipeline.fetch import NOT_PUBLIC
from qasr.service import Order, Service


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """A ``Transcriber`` over the service that servers use, too.

    Args:
        model: public name, or ``DEFAULT``.
        languages: codes that the asked model knows; None: any.
        spool: for what flows in from standard input.
        way: all settings that change what is heard.
        speakers: how many are told apart; 0: that is to be found out; None: they are not.
        channels: tracks that are heard apart from each other; None: all as one.
        itn: write numbers as figures.
    """

    service: Service
    model: str
    form: Form
    language: str | None
    hotwords: tuple[Hotword, ...]
    limits: MediaLimits
    languages: frozenset[str] | None
    spool: Path
    way: str
    speakers: int | None = None
    channels: tuple[int, ...] | None = None
    itn: bool = False

    async def transcribe(self, recording: Recording, heard: Heard) -> Outcome:
        """Hear *recording*.

        Raises:
            TranscriptionFailed: with the reason.
        """
        timed = self.form is not Form.TXT or self.speakers is not None
        options = RecognitionOptions(
            hints=Hints(language=self.language, hotwords=self.hotwords),
            word_times="words" if timed else "none",
            itn=self.itn,
            channels=self.channels,
            speakers=self.speakers is not None,
            speaker_count=self.speakers or None,
        )
        sentences = []
        try:
            async with (
                self._source(recording) as source,
                self._journal(source, options) as kept,
                self.service.listen(
                    Order(
                        source=source,
                        options=options,
                        limits=self.limits,
                        languages=self.languages,
                        owner="cli",
                        model=self.model,
                        lane=Lane.FILE,
                        memory=kept,
                    )
                ) as listening,
            ):
                if kept.reached_ms:
                    tell(f"{recording.name}: goes on at {clock(kept.reached_ms / 1000)}, where an earlier run stopped")
                async for sentence in listening.sentences():
                    sentences.append(sentence)
                    heard(sentence.end_ms, of_ms=listening.claimed_ms, known_ms=kept.reached_ms)
                heard(listening.duration_ms, of_ms=listening.duration_ms, known_ms=kept.reached_ms)
        except FetchRefused as error:
            host = urlsplit(recording.argument).hostname or "HOST"
            hint = f" To allow a private one: QASR_FETCH__ALLOW_HOSTS={host}" if str(error) == NOT_PUBLIC else ""
            raise TranscriptionFailed(f"{error}{hint}") from error
        except QasrError as error:
            raise TranscriptionFailed(str(error)) from error
        except OSError as error:
            raise TranscriptionFailed(error.strerror or str(error)) from error
        notes = []
        if not sentences:
            notes.append("no speech was heard")
        if listening.damaged_packets:
            notes.append(f"{listening.damaged_packets} damaged packets were skipped; words may be missing")
        engine = listening.capabilities.name
        text = render(self.form, recording.name, engine, listening.duration_ms, sentences)
        return Outcome(text, tuple(notes))

    @asynccontextmanager
    async def _journal(self, source: Source, options: RecognitionOptions) -> AsyncIterator[Journal]:
        """Of files that will be there at the next run."""
        path = source.path if isinstance(source, FileSource) and source.path.parent != self.spool else None
        engine = await self.service.capabilities(self.model)
        way = msgspec.json.encode((self.way, engine.name, options)).decode()
        with journal(path, way) as kept:
            yield kept

    @asynccontextmanager
    async def _source(self, recording: Recording) -> AsyncIterator[Source]:
        if recording.is_url:
            yield UrlSource(url=recording.argument)
        else:
            async with recording.file(self.spool, max_bytes=self.limits.max_bytes) as path:
                yield FileSource(path=path)
