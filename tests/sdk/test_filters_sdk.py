"""What clients ask of a text besides its words, through the official SDK as it is: fillers, hidden words, punctuation,
and where sentences end; of files and of live speech.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import dashscope
import numpy as np
import pytest
from dashscope.audio.asr import Recognition, Transcription
from tests.conftest import Speech
from tests.sdk.test_inference_sdk import FRAME, PATIENCE_S, Told, address, write_wav
from tests.sdk.test_transcription_sdk import download, ended
from tests.server import LOOPBACK, SCRIPTED, Origin, Server, serving

from qasr.domain.audio import SAMPLE_RATE

SPOKEN: Final = "Um, we sold, uh, twenty five damn units. 嗯，这个笨蛋，呃，真糟糕。"
HIDDEN: Final = json.dumps(
    {
        "filter_with_signed": {"word_list": ["笨蛋", "SOLD"]},
        "filter_with_empty": {"word_list": ["damn"]},
        "system_reserved_filter": True,
    }
)
FILES: Final = "paraformer-v2"
LIVE: Final = "paraformer-realtime-v2"

TEXTS: Final[list[tuple[dict[str, Any], str]]] = [
    ({"inverse_text_normalization_enabled": False}, SPOKEN),
    ({"inverse_text_normalization_enabled": True}, SPOKEN.replace("twenty five", "25")),
    (
        {"disfluency_removal_enabled": True, "inverse_text_normalization_enabled": False},
        "We sold, twenty five damn units. 这个笨蛋，真糟糕。",
    ),
    (
        {"special_word_filter": HIDDEN, "inverse_text_normalization_enabled": False},
        "Um, we ****, uh, twenty five units. 嗯，这个**，呃，真糟糕。",
    ),
    (
        {"punctuation_prediction_enabled": False, "inverse_text_normalization_enabled": False},
        "Um we sold uh twenty five damn units 嗯这个笨蛋呃真糟糕",
    ),
    (
        {
            "disfluency_removal_enabled": True,
            "special_word_filter": HIDDEN,
            "punctuation_prediction_enabled": False,
            "inverse_text_normalization_enabled": True,
        },
        "We **** 25 units 这个**真糟糕",
    ),
]
"""Options, and what they make of what is said."""


@contextmanager
def pointed_at(server: Server) -> Iterator[None]:
    """The SDK, told where to go in the way that users tell it."""
    before = dashscope.base_http_api_url, dashscope.base_websocket_api_url, dashscope.api_key
    dashscope.base_http_api_url, dashscope.base_websocket_api_url = server.native, address(server)
    dashscope.api_key = "any"
    try:
        yield
    finally:
        dashscope.base_http_api_url, dashscope.base_websocket_api_url, dashscope.api_key = before


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An engine that hears all of it wherever somebody speaks, and leaves nothing out."""
    said = {"SCRIPTED__TEXT": SPOKEN}
    with serving(tmp_path_factory.mktemp("text"), SCRIPTED | LOOPBACK | said) as running, pointed_at(running):
        yield running


@pytest.fixture(scope="module")
def pauses(speech: Speech, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody speaks, is silent for 1.2 s, and speaks again."""
    said = speech("LJ001-0002.flac")
    silence = np.zeros(int(1.2 * SAMPLE_RATE), np.float32)
    return write_wav(tmp_path_factory.mktemp("pauses") / "a.wav", np.concatenate([said, silence, said, silence]))


def check_words(text: str, words: list[dict[str, Any]]) -> None:
    """They are the text again, in order of time."""
    assert text == "".join(word["text"] + word["punctuation"] for word in words)
    assert all(before["end_time"] <= after["begin_time"] for before, after in pairwise(words))


def live(**options: Any) -> Recognition:
    given = {"format": "wav", "sample_rate": SAMPLE_RATE, "callback": None} | options
    return Recognition(model=LIVE, **given)


@pytest.mark.parametrize(("options", "text"), TEXTS)
def test_files(house: Server, origin: Origin, options: dict[str, Any], text: str) -> None:
    """The live interface's names count here, too; nothing of what was left out is in the document."""
    task = Transcription.async_call(
        model=FILES, file_urls=[origin.url("/files/LJ001-0002.flac")], language_hints=["zh"], **options
    )
    document = download(ended(task).output.results[0]["transcription_url"])
    sentences = document["transcripts"][0]["sentences"]

    assert text.split() == " ".join(sentence["text"] for sentence in sentences).split()
    for sentence in sentences:
        check_words(sentence["text"], sentence["words"])
        assert sentence["begin_time"] <= sentence["words"][0]["begin_time"]
        assert sentence["words"][-1]["end_time"] <= sentence["end_time"]


@pytest.mark.parametrize(("options", "text"), TEXTS)
def test_live(house: Server, pauses: Path, options: dict[str, Any], text: str) -> None:
    """Final after final."""
    heard = live(**options).call(str(pauses), language_hints=["zh"])
    sentences = heard.get_sentence()

    assert HTTPStatus.OK == heard.status_code, heard.message
    assert [text, text] == [sentence["text"] for sentence in sentences]
    for sentence in sentences:
        check_words(sentence["text"], sentence["words"])


def test_live_partials_show_nothing_that_finals_hide(house: Server, pauses: Path) -> None:
    """While it is said, all of it is written as it will be in the end."""
    options, text = TEXTS[-1]
    told = Told()
    recognition = live(callback=told, format="pcm", **options)
    recognition.start(language_hints=["zh"])
    sound = pauses.read_bytes()[44:]
    for place in range(0, len(sound), FRAME):
        recognition.send_audio_frame(sound[place : place + FRAME])
    recognition.stop()

    assert told.over.wait(PATIENCE_S)
    assert not told.errors
    assert text in [sentence["text"] for sentence in told.sentences if sentence["sentence_end"]]
    for sentence in told.sentences:
        check_words(sentence["text"], sentence["words"])
        shown = sentence["text"].lower()
        assert not [word for word in ("um ", "uh", "sold", "damn ", "twenty five", "笨蛋", "呃", ",") if word in shown]


@pytest.mark.parametrize(
    ("options", "ends"),
    [
        ({"max_sentence_silence": 400}, 2),
        ({"max_sentence_silence": 3000}, 1),
        ({"semantic_punctuation_enabled": True}, 2),
        ({"semantic_punctuation_enabled": True, "max_sentence_silence": 400}, 2),
    ],
)
def test_where_sentences_end(house: Server, pauses: Path, options: dict[str, Any], ends: int) -> None:
    """After so much silence; or where punctuation says so, and then ``max_sentence_silence`` counts for nothing."""
    heard = live(**options).call(str(pauses), language_hints=["zh"])
    sentences = heard.get_sentence()
    semantic = "semantic_punctuation_enabled" in options

    assert ends == len(sentences)
    assert semantic == sentences[0]["text"].endswith("units.")
    assert all(before["end_time"] <= after["begin_time"] for before, after in pairwise(sentences))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"special_word_filter": "{damn"}, "special_word_filter must be a JSON text"),
        ({"special_word_filter": '["damn"]'}, "special_word_filter must be a JSON text"),
        ({"special_word_filter": '{"filter_with_empty": {"word_list": "damn"}}'}, "special_word_filter must be"),
        (
            {"special_word_filter": json.dumps({"filter_with_signed": {"word_list": ["a" * 201]}})},
            "special_word_filter",
        ),
        ({"disfluency_removal_enabled": "perhaps"}, "disfluency_removal_enabled"),
        ({"punctuation_prediction_enabled": [True]}, "punctuation_prediction_enabled"),
    ],
)
def test_bad_options(house: Server, origin: Origin, pauses: Path, options: dict[str, Any], named: str) -> None:
    """Refused by their names, before anything is heard: of files with 400, of live speech by a task that failed."""
    task = Transcription.async_call(model=FILES, file_urls=[origin.url("/files/LJ001-0002.flac")], **options)
    heard = live(**options).call(str(pauses))

    assert (HTTPStatus.BAD_REQUEST, "InvalidParameter") == (task.status_code, task.code)
    assert named in task.message
    assert HTTPStatus.OK != heard.status_code
    assert "InvalidParameter" == heard.code
    assert named in heard.message


@pytest.mark.parametrize("silence", [199, 6001, "long"])
def test_bad_silence(house: Server, pauses: Path, silence: object) -> None:
    """The documented range is 200 to 6000 ms."""
    heard = live(max_sentence_silence=silence).call(str(pauses))

    assert "InvalidParameter" == heard.code
    assert "max_sentence_silence" in heard.message


def test_words_are_aligned_if_asked(server: Server, origin: Origin) -> None:
    """``timestamp_alignment_enabled`` where an aligner is; of live speech it is documented for nothing."""
    with pointed_at(server):
        task = Transcription.async_call(
            model=FILES,
            file_urls=[origin.url("/files/jfk.flac")],
            language_hints=["en"],
            timestamp_alignment_enabled=True,
        )
        document = download(ended(task).output.results[0]["transcription_url"])
    sentences = document["transcripts"][0]["sentences"]

    assert "country" in document["transcripts"][0]["text"]
    for sentence in sentences:
        check_words(sentence["text"], sentence["words"])
