"""What the engine at hand cannot do is refused by name before any work is begun, with the command that would help."""

from typing import Any, Final

from qasr.catalogue import checkpoints
from qasr.catalogue.checkpoints import Checkpoint
from qasr.domain.errors import UnsupportedLanguage, UnsupportedOption
from qasr.domain.live import LiveOptions
from qasr.domain.options import Hints, RecognitionOptions
from qasr.engines.base import Capabilities
from qasr.engines.room import DEFAULT

USUAL_S: Final = 30.0
"""The longest segment of most engines; the others tell once they are loaded."""

GIVES: Final = {"hotwords": "hotwords", "emotion": "emotion"}
"""Options that depend on the engine, as the catalogue of checkpoints has them."""


def promised(checkpoint: Checkpoint) -> Capabilities:
    """What an engine is going to say of itself once it is loaded from *checkpoint*, as far as the catalogue knows."""
    gives: dict[str, Any] = dict.fromkeys(checkpoint.gives, True)
    return Capabilities(name=checkpoint.engine, languages=checkpoint.languages, longest_s=USUAL_S, **gives)


def check_live(options: LiveOptions, capabilities: Capabilities, model: str = DEFAULT) -> None:
    """As ``check_engine``, for live speech."""
    check_engine(RecognitionOptions(hints=options.hints, emotion=options.emotion), capabilities, model)


def check_engine(options: RecognitionOptions, capabilities: Capabilities, model: str = DEFAULT) -> None:
    """Refuse by name what the loaded engine cannot do, with the remedy.

    Raises:
        UnsupportedLanguage, UnsupportedOption: it cannot.
    """
    language = options.hints.language
    if language is not None and capabilities.languages is not None and language not in capabilities.languages:
        heard = ", ".join(sorted(capabilities.languages))
        command = checkpoints.built_in().remedy(model, capabilities.name, language=language)
        raise UnsupportedLanguage(
            f"The loaded engine {capabilities.name!r} recognizes {heard} only; {language!r} needs another engine "
            f"({_how(command)}).",
            parameter="language",
        )
    wanted = {
        "hotwords": (
            options.hints.vocabulary.parameter if options.hints.vocabulary is not None else "vocabulary",
            bool(options.hints.hotwords or options.hints.vocabulary),
            capabilities.hotwords,
        ),
        "speaker diarization": ("speaker_diarization_enabled", options.speakers, capabilities.speakers),
        "emotion": ("emotion", options.emotion, capabilities.emotion),
    }
    for name, (parameter, asked, able) in wanted.items():
        if asked and not able:
            gives = GIVES.get(name)
            command = gives and checkpoints.built_in().remedy(model, capabilities.name, gives=gives, language=language)
            raise UnsupportedOption(
                f"The loaded engine {capabilities.name!r} has no {name}; leave the option out, or load an engine "
                f"that has it ({_how(command)}).",
                parameter=parameter,
            )


def check_suppression(asked: Hints, resolved: Hints, capabilities: Capabilities) -> None:
    """Refuse phrases to suppress where that cannot be done: which weights a stored list has, shows late.

    Args:
        asked: as the request has them, with the name of a list.
        resolved: with the words of that list.
        capabilities: of the loaded engine.

    Raises:
        UnsupportedOption: it cannot.
    """
    parameter = asked.vocabulary.parameter if asked.vocabulary is not None else "vocabulary"
    if not capabilities.suppression and any(hotword.weight < 0 for hotword in resolved.hotwords):
        raise UnsupportedOption(
            f"{parameter}: the loaded engine {capabilities.name!r} favors hotwords and suppresses none; leave those "
            "of negative weight out.",
            parameter=parameter,
        )


def _how(command: str | None) -> str:
    """How another engine is had."""
    if command is None:
        return "docs/engines.md: which there are, how one is added; QASR_ENGINES__DEFAULT chooses it"
    return f"{command}; QASR_ENGINES__DEFAULT must be auto; docs/models.md"
