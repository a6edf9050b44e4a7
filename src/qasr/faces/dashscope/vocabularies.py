"""Stored hotwords: what clients may store, and what they are told of it. No I/O here.

Source of limits and messages: docs/hotwords.md#limits.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import UNSET

from qasr.catalogue import Catalogue
from qasr.domain.errors import InvalidParameter, NotFound, QasrError
from qasr.domain.options import Hotword
from qasr.faces.dashscope import errors, tasks
from qasr.faces.dashscope import vocabulary_wire as wire
from qasr.faces.languages import parse_language
from qasr.storage.vocabularies import Vocabulary

MODEL: Final = "speech-biasing"
TRAINING: Final = "compile_asr_phrase"
MOST_WORDS: Final = 500
LONGEST_PREFIX: Final = 10
MOST_CHARACTERS: Final = 15
"""Of a hotword that is not all ASCII."""
MOST_PARTS: Final = 7
"""Words of a hotword in ASCII."""
MOST_LETTERS: Final = 200
"""Of a hotword in ASCII. Ours: the documents have no limit."""
WEIGHTS: Final = range(1, 6)
PHRASE_WEIGHTS: Final = range(-1_000, 1_001)
"""The SDK's own samples have 90; the range is not documented."""
PAGE: Final = 10
LARGEST_PAGE: Final = 1_000
LAST_PAGE: Final = 1_000_000
USABLE: Final = "OK"
SUCCEEDED: Final = "SUCCEEDED"

SHAPES: Final[Mapping[type[QasrError], tuple[int, str]]] = {
    **errors.SHAPES,
    NotFound: (400, "BadRequest.ResourceNotExist"),
}


def to_wire(error: QasrError, request_id: str) -> tuple[int, bytes]:
    """Errors of this interface; it has a code of its own for what is not there."""
    return errors.to_wire(error, request_id, SHAPES)


# ---- vocabularies


def check_model(name: str) -> None:
    """Look at the request's model.

    Raises:
        InvalidParameter: it is another one.
    """
    if name != MODEL:
        raise InvalidParameter(f"The model of this interface is {MODEL}.", parameter="model")


def required(value: str | None, name: str) -> str:
    """A field that must be there.

    Raises:
        InvalidParameter: it is not.
    """
    if not value:
        raise missing(name)
    return value


def missing(name: str) -> InvalidParameter:
    """In the service's own words."""
    return InvalidParameter(f"Field required: input.{name}", parameter=name)


def prefix(value: str | None) -> str:
    """What the ids of a vocabulary begin with.

    Raises:
        InvalidParameter: it is missing, too long, or made of something else than small letters and digits.
    """
    given = required(value, "prefix")
    if len(given) > LONGEST_PREFIX:
        raise InvalidParameter(f"prefix should not be longer than {LONGEST_PREFIX} characters", parameter="prefix")
    if not re.fullmatch(r"[a-z0-9]+", given):
        raise InvalidParameter("prefix should be english letter and number", parameter="prefix")
    return given


def target_model(value: str | None, catalogue: Catalogue) -> str:
    """The model that a vocabulary is for.

    Raises:
        InvalidParameter: it is missing, or takes no vocabularies.
        UnknownModel: there is none of this name.
    """
    name = required(value, "target_model")
    if "stored-hotwords" not in catalogue.resolve(name).takes:
        raise InvalidParameter(f"Model `{name}` takes no vocabularies.", parameter="target_model")
    return name


def hotwords(given: Sequence[wire.VocabularyWord] | None) -> tuple[Hotword, ...]:
    """The words of a vocabulary.

    Raises:
        InvalidParameter: there are none or too many, or one breaks a limit.
    """
    if not given:
        raise missing("vocabulary")
    if len(given) > MOST_WORDS:
        raise InvalidParameter("vocabulary is too large", parameter="vocabulary")
    return tuple(
        Hotword(
            text=phrase(word.text),
            weight=_weight(word.weight, WEIGHTS, word.text),
            language=parse_language(word.lang or None),
        )
        for word in given
    )


def phrase(text: str) -> str:
    """One hotword, without blanks around it.

    Raises:
        InvalidParameter: it is empty or too long.
    """
    text = text.strip()
    if not text or not text.isprintable():
        raise InvalidParameter("A hotword must be a printable text.", parameter="vocabulary")
    if not text.isascii() and len(text) > MOST_CHARACTERS:
        raise InvalidParameter(
            f"The hotword {text[:MOST_CHARACTERS]!r}… has more than {MOST_CHARACTERS} characters.",
            parameter="vocabulary",
        )
    if len(text.split()) > MOST_PARTS or len(text) > MOST_LETTERS:
        raise InvalidParameter(
            f"The hotword {text[:40]!r}… has more than {MOST_PARTS} words or {MOST_LETTERS} letters.",
            parameter="vocabulary",
        )
    return text


def _weight(weight: int, allowed: range, text: str) -> int:
    if weight not in allowed:
        raise InvalidParameter(
            f"The weight of {text[:40]!r} must lie within {allowed[0]} and {allowed[-1]}.", parameter="vocabulary"
        )
    return weight


def page(index: int | None, size: int | None) -> tuple[int, int]:
    """How many to pass over, and how many to tell.

    Raises:
        InvalidParameter: one of both makes no sense.
    """
    index, size = 0 if index is None else index, PAGE if size is None else size
    if not 0 <= index <= LAST_PAGE:
        raise InvalidParameter(f"page_index must lie within 0 and {LAST_PAGE}.", parameter="page_index")
    if not 1 <= size <= LARGEST_PAGE:
        raise InvalidParameter(f"page_size must lie within 1 and {LARGEST_PAGE}.", parameter="page_size")
    return index * size, size


def entry(found: Vocabulary) -> wire.VocabularyEntry:
    """One of a list."""
    return wire.VocabularyEntry(found.id, time(found.created_ms), time(found.modified_ms), USABLE)


def content(found: Vocabulary) -> wire.VocabularyContent:
    """All of one."""
    return wire.VocabularyContent(
        vocabulary=[wire.VocabularyWord(h.text, h.weight, h.language or UNSET) for h in found.hotwords],
        target_model=found.target_model,
        gmt_create=time(found.created_ms),
        gmt_modified=time(found.modified_ms),
        status=USABLE,
    )


def time(ms: int) -> str:
    """``2025-10-15 10:28:43``, in China."""
    return tasks.local_time(ms).partition(".")[0]


# ---- phrase lists


def phrase_model(name: str, catalogue: Catalogue) -> str:
    """The model that a phrase list is for.

    Raises:
        InvalidParameter: it takes none.
        UnknownModel: there is none of this name.
    """
    if "phrases" not in catalogue.resolve(name).takes:
        raise InvalidParameter(f"Model `{name}` takes no phrase lists.", parameter="model")
    return name


def phrases(call: wire.FineTuneRequest) -> tuple[Hotword, ...]:
    """The words of a phrase list; a weight below 0 suppresses.

    Raises:
        InvalidParameter: it is another kind of training, there are no words or too many, or one breaks a limit.
    """
    if call.training_type != TRAINING:
        raise InvalidParameter(f"training_type must be '{TRAINING}' on this server.", parameter="training_type")
    given = call.hyper_parameters and call.hyper_parameters.phrase_list
    if not given:
        raise InvalidParameter("Field required: hyper_parameters.phrase_list", parameter="hyper_parameters")
    if len(given) > MOST_WORDS:
        raise InvalidParameter("vocabulary is too large", parameter="hyper_parameters")
    return tuple(
        Hotword(text=phrase(text), weight=_weight(weight, PHRASE_WEIGHTS, text)) for text, weight in given.items()
    )


def phrase_list(found: Vocabulary) -> wire.PhraseList:
    """What is told of one."""
    return wire.PhraseList(
        job_id=found.id,
        status=SUCCEEDED,
        finetuned_output=found.id,
        model=found.target_model,
        create_time=time(found.created_ms),
    )
