"""What ``qasr live`` shows: complete utterances on standard output, what is being said below them on a terminal."""

import sys
from types import TracebackType
from typing import Self

import msgspec
from rich.console import Console
from rich.live import Live
from rich.text import Text

from qasr.cli.failure import one_line, tell
from qasr.cli.options import LiveForm
from qasr.domain.live import Failed, Final, LiveEvent, Partial


class UtteranceLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of ``--format json``; times count from the first sound. ``end_ms`` is null until it is known."""

    utterance: int
    final: bool
    begin_ms: int | None
    end_ms: int | None
    text: str
    language: str | None = None
    emotion: str | None = None


class Screen:
    """A context manager; leaving it wipes out what was not complete."""

    def __init__(self, form: LiveForm, *, partials: bool | None) -> None:
        self._form = form
        self._as_lines = form is LiveForm.JSON and bool(partials)
        below = form is LiveForm.TXT and partials is not False and sys.stderr.isatty()
        self._live = (
            Live(
                console=Console(file=sys.stderr, highlight=False),
                transient=True,
                redirect_stdout=False,  # it would send our text to standard error
                redirect_stderr=False,
            )
            if below
            else None
        )
        self.n_failed = 0

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, event: LiveEvent) -> None:
        """Tell of *event* what people want to see."""
        match event:
            case Partial():
                self._show_partial(event)
            case Final():
                self._below("", "")
                self._show_final(event)
            case Failed():
                self.n_failed += 1
                self._below("", "")
                tell(f"utterance {event.utterance}: {one_line(str(event.error))}")
            case _:
                pass

    def _show_partial(self, partial: Partial) -> None:
        self._below(partial.confirmed, partial.tentative)
        if self._as_lines:
            self._print(
                UtteranceLine(
                    utterance=partial.utterance,
                    final=False,
                    begin_ms=partial.begin_ms,
                    end_ms=None,
                    text=partial.confirmed + partial.tentative,
                    language=partial.language,
                )
            )

    def _show_final(self, final: Final) -> None:
        if not final.text:
            return
        if self._form is LiveForm.TXT:
            sys.stdout.write(f"{final.text}\n")
            sys.stdout.flush()
            return
        self._print(
            UtteranceLine(
                utterance=final.utterance,
                final=True,
                begin_ms=final.begin_ms,
                end_ms=final.end_ms,
                text=final.text,
                language=final.language,
                emotion=final.emotion,
            )
        )

    def _below(self, confirmed: str, tentative: str) -> None:
        if self._live is not None:
            self._live.update(Text.assemble(one_line(confirmed), (tentative, "dim")), refresh=True)

    @staticmethod
    def _print(line: UtteranceLine) -> None:
        sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
        sys.stdout.flush()
