"""Hotwords for engines that know no other way than to be told of them.

A prompt is read, not weighed: nothing in it can be suppressed, and what stands first is most likely to fit. So the
heaviest phrases come first, on a line before the client's context; those of negative weight are refused
(``Capabilities.suppression``), and do not come here.
"""

from qasr.domain.options import Hints, Hotword


def favored(hints: Hints) -> list[Hotword]:
    """Hotwords to favor, the heaviest first: all but those that are said in another language than the request's."""
    spoken = (None, hints.language)
    usable = [
        hotword
        for hotword in hints.hotwords
        if hotword.weight > 0 and (hints.language is None or hotword.language in spoken)
    ]
    return sorted(usable, key=lambda hotword: -hotword.weight)


def prompt(hints: Hints, *, most_hotwords: int) -> str:
    """The context of *hints*, behind a line with the hotwords.

    Args:
        hints: of a request.
        most_hotwords: characters of that line; a phrase that does not fit is left out whole.
    """
    line = ""
    for hotword in favored(hints):
        longer = ", ".join(filter(None, (line, " ".join(hotword.text.split()))))
        if len(longer) <= most_hotwords:
            line = longer
    return "\n".join(filter(None, (line, hints.context)))
