"""Shapes of stored hotwords: vocabularies, and the phrase lists of the first models.

Names as upstream has them; unknown fields are tolerated. Phrase lists are dressed up as the outputs of a training that
is done at once.
"""

from msgspec import UNSET, Struct, UnsetType

# ---- vocabularies


class VocabularyWord(Struct, frozen=True):
    """One hotword."""

    text: str
    weight: int
    lang: str | UnsetType | None = UNSET


class CustomizationInput(Struct, frozen=True):
    """``action`` is the verb, and decides which of the others count."""

    action: str | None = None
    target_model: str | None = None
    prefix: str | None = None
    vocabulary: list[VocabularyWord] | None = None
    vocabulary_id: str | None = None
    page_index: int | None = None
    page_size: int | None = None


class CustomizationRequest(Struct, frozen=True):
    """``POST …/audio/asr/customization``; the model is always ``speech-biasing``."""

    model: str
    input: CustomizationInput


class CreatedVocabulary(Struct, frozen=True):
    """It can be used at once."""

    vocabulary_id: str


class VocabularyEntry(Struct, frozen=True):
    """One of a list. Times are texts in China's local time."""

    vocabulary_id: str
    gmt_create: str
    gmt_modified: str
    status: str


class VocabularyPage(Struct, frozen=True):
    """Newest first."""

    vocabulary_list: list[VocabularyEntry]


class VocabularyContent(Struct, frozen=True):
    """All of one."""

    vocabulary: list[VocabularyWord]
    target_model: str
    gmt_create: str
    gmt_modified: str
    status: str


class Nothing(Struct, frozen=True):
    """``{}``."""


class Count(Struct, frozen=True):
    """Calls that count."""

    count: int = 1


class CustomizationAnswer(Struct, frozen=True):
    """Answer to any action."""

    output: CreatedVocabulary | VocabularyPage | VocabularyContent | Nothing
    request_id: str
    usage: Count = Count()


# ---- phrase lists


class HyperParameters(Struct, frozen=True):
    """Of a training that compiles phrases."""

    phrase_list: dict[str, int] | None = None


class FineTuneRequest(Struct, frozen=True):
    """``POST /api/v1/fine-tunes``; with ``finetuned_output`` that list is replaced."""

    model: str
    training_type: str | None = None
    hyper_parameters: HyperParameters | None = None
    finetuned_output: str | None = None


class PhraseList(Struct, frozen=True):
    """One list; ``finetuned_output`` is what recognitions name, and here ``job_id`` is the same."""

    job_id: str
    status: str
    finetuned_output: str
    model: str
    create_time: str


class PhrasePage(Struct, frozen=True):
    """Newest first."""

    jobs: list[PhraseList]
    page_no: int
    page_size: int
    total: int


class Deleted(Struct, frozen=True):
    """The SDK shows it."""

    status: str


class PhraseAnswer(Struct, frozen=True):
    """Answer to any call about phrase lists."""

    output: PhraseList | PhrasePage | Deleted
    request_id: str
