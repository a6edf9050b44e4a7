"""``qasr live``: what its help shows."""

from typing import Annotated

import typer

from qasr.cli.options import ConfigFile, Level, LiveForm


def live(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILE|-]",
            help="A recording, played as if it were spoken now; - for standard input. Without it, the microphone.",
            show_default=False,
        ),
    ] = None,
    *,
    language: Annotated[
        str | None,
        typer.Option(
            metavar="CODE",
            help="Language that is spoken, such as en. Without it, the engine finds out.",
            show_default=False,
        ),
    ] = None,
    context: Annotated[
        str, typer.Option(metavar="TEXT", help="Names and terms that may be said.", show_default=False)
    ] = "",
    silence: Annotated[
        int, typer.Option(metavar="MS", min=200, max=6000, help="Silence that ends an utterance.")
    ] = 800,
    form: Annotated[
        LiveForm,
        typer.Option("--format", help="A line of text per utterance, or of JSON with its times."),
    ] = LiveForm.TXT,
    partials: Annotated[
        bool | None,
        typer.Option(
            "--partials/--no-partials",
            help="Show what is said before it is complete. Text shows it on a terminal only, JSON as lines of its own "
            "if it is asked for.",
            show_default=False,
        ),
    ] = None,
    recorder: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="Program that writes the microphone's sound to its standard output: 16 kHz, 16 bits, one channel, no "
            "header. Default: the first of pw-record, parec, arecord, rec that is installed.",
            show_default=False,
        ),
    ] = None,
    rate: Annotated[
        int,
        typer.Option(metavar="HZ", min=8000, max=192_000, help="Of standard input without a header: 16 bits, mono."),
    ] = 16_000,
    model: Annotated[
        str, typer.Option(metavar="NAME", help="With --server, the model to ask for.")
    ] = "qwen3-asr-flash-realtime",
    server: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Let this server hear, such as http://127.0.0.1:8000."),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", envvar="QASR_API_KEY", help="Key for --server.", show_envvar=True),
    ] = None,
    config: ConfigFile = None,
    log_level: Annotated[
        Level | None, typer.Option(help="Also tell on standard error what happens inside.", show_default=False)
    ] = None,
) -> None:
    """Turn speech into text while it is spoken, on this machine or by a server.

    Each utterance is written to standard output when it is complete; on a terminal, what is being said is shown below
    it meanwhile. Ctrl-C ends it: what was said until then is still heard to its end, a second Ctrl-C stops at once.
    """
    from qasr.cli.live_session import Place, Wanted, run  # noqa: PLC0415 - help must not load a speech engine

    run(
        Wanted(
            source=source,
            rate_hz=rate,
            recorder=recorder,
            language=language,
            context=context,
            silence_ms=silence,
            form=form,
            partials=partials,
        ),
        Place(server=server, api_key=api_key, model=model, config_file=config, log_level=log_level),
    )
