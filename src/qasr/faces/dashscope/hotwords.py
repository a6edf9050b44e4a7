"""Hotwords of a request: some come with it, some are stored and named by it. No I/O here."""

from collections.abc import Mapping, Sequence
from typing import Final

from qasr.catalogue import Model
from qasr.domain.errors import InvalidParameter
from qasr.domain.options import Hotword, VocabularyName
from qasr.faces.dashscope.task_wire import Resource

MOST_INSTANT: Final = 50
WEIGHTS: Final = frozenset({1, 2, 3, 4, 5, 50})
LONGEST: Final = 200
"""Characters of one hotword. Ours: the documents have no limit here."""
LONGEST_ID: Final = 100
PHRASES: Final = "asr_phrase"


def instant(vocabulary: Mapping[str, int] | None, *, most: int = MOST_INSTANT) -> tuple[Hotword, ...]:
    """Words that come with the request, *most* of them.

    Raises:
        InvalidParameter: too many, too long, or weights out of range.
    """
    given = vocabulary or {}
    if len(given) > most:
        raise InvalidParameter(f"vocabulary holds more than {most} words.", parameter="vocabulary")
    for text, weight in given.items():
        if not text.strip() or weight not in WEIGHTS:
            raise InvalidParameter("vocabulary weights must be 1 to 5, or 50.", parameter="vocabulary")
        if len(text) > LONGEST:
            raise InvalidParameter(f"A hotword has more than {LONGEST} characters.", parameter="vocabulary")
    return tuple(Hotword(text=text.strip(), weight=weight) for text, weight in given.items())


def stored(
    vocabulary_id: str | None, resources: Sequence[Resource] | None, model: Model, name: str
) -> VocabularyName | None:
    """The list that a request names: a vocabulary, or a phrase list among its resources.

    Args:
        vocabulary_id: as given.
        resources: as given.
        model: the model that is asked.
        name: what the client calls it.

    Raises:
        InvalidParameter: resources of another kind, or more than one list.
    """
    named = [("vocabulary_id", vocabulary_id)] if vocabulary_id else []
    for resource in resources or ():
        if resource.resource_type not in (None, PHRASES) or not resource.resource_id:
            raise InvalidParameter(
                f"resources takes items with a resource_id, of the resource_type {PHRASES}.", parameter="resources"
            )
        named.append(("resources", resource.resource_id))
    if not named:
        return None
    if len(named) > 1:
        raise InvalidParameter("Name one stored list of hotwords only.", parameter=named[1][0])
    parameter, identity = named[0]
    return VocabularyName(
        id=identity[:LONGEST_ID], models=tuple(dict.fromkeys((name, model.name, *model.aliases))), parameter=parameter
    )
