"""``qasr transcribe``: what its help shows."""

from pathlib import Path
from typing import Annotated

import typer

from qasr.cli.options import ConfigFile, Form, Level


def transcribe(
    recordings: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE|URL...",
            help="Recordings: audio or video files of any common format, http(s) addresses, or - for standard input.",
            show_default=False,
        ),
    ],
    *,
    language: Annotated[
        str | None,
        typer.Option(
            metavar="CODE",
            help="Language that is spoken, such as en. Without it, the engine finds out.",
            show_default=False,
        ),
    ] = None,
    hotword: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PHRASE[=WEIGHT]",
            help="A name or word that may be said; any number of times. Weights are 1 to 5 (default 4) or 50, or -1 to "
            "-6 for what is heard too often.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Apply the limits and languages of this model name; with --server, the model to ask for.",
            show_default=False,
        ),
    ] = None,
    form: Annotated[
        Form,
        typer.Option("--format", help="Plain text, JSON (one document per line), or subtitles."),
    ] = Form.TXT,
    speakers: Annotated[
        str | None,
        typer.Option(
            metavar="[N]",
            help="Tell who says what; with N, of so many speakers. A file whose name is a number is written ./N.",
            show_default=False,
        ),
    ] = None,
    channels: Annotated[
        str | None,
        typer.Option(
            metavar="N,N...",
            help="Hear these tracks apart from each other, counted from 0, such as 0,1 for a call on two channels.",
            show_default=False,
        ),
    ] = None,
    itn: Annotated[
        bool, typer.Option("--itn", help="Write numbers, dates and amounts as figures, in English and Chinese.")
    ] = False,
    output_dir: Annotated[
        Path | None,
        typer.Option(help="Write one file per recording into this directory, not to standard output."),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Let this server do the work, such as http://127.0.0.1:8000."),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", envvar="QASR_API_KEY", help="Key for --server.", show_envvar=True),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Keep temporary files under this directory, not in the system's own place for them."),
    ] = None,
    config: ConfigFile = None,
    log_level: Annotated[
        Level | None, typer.Option(help="Also tell on standard error what happens inside.", show_default=False)
    ] = None,
) -> None:
    """Turn recordings into text, on this machine or by a server.

    The text goes to standard output, in the order of the recordings; what goes wrong with one of them is told on
    standard error and the others go on. The exit code is 1 if any failed.

    Interrupted in a file longer than ten minutes, the same command goes on where it stopped; what was heard is kept in
    the user's cache directory until then, for a week at most.
    """
    from qasr.cli.transcription import Place, Wanted, n_speakers, run, tracks  # noqa: PLC0415 - help must not load a speech engine

    run(
        Wanted(
            names=tuple(recordings),
            form=form,
            language=language,
            hotwords=tuple(hotword or ()),
            model=model,
            output_dir=output_dir,
            speakers=n_speakers(speakers),
            channels=tracks(channels),
            itn=itn,
        ),
        Place(server=server, api_key=api_key, data_dir=data_dir, config_file=config, log_level=log_level),
    )
