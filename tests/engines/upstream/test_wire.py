"""Shapes that servers answer in: what they mean, and that nothing else passes for them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qasr.domain.transcript import Hypothesis, Word
from qasr.engines.upstream.client import Answer, Broken
from qasr.engines.upstream.wire import inert, read_chat, read_models, read_transcription


def answer(value: Any, content_type: str = "application/json") -> Answer:
    return Answer(content_type, value if isinstance(value, bytes) else json.dumps(value).encode())


def chat(content: str | None, *, reason: str | None = "stop", **message: Any) -> Answer:
    return answer({"choices": [{"message": {"content": content, **message}, "finish_reason": reason}]})


@pytest.mark.parametrize(
    ("content", "text", "language"),
    [
        ("language English<asr_text>Hello.", "Hello.", "en"),
        ("language Cantonese<asr_text>佢哋嚟咗。", "佢哋嚟咗。", "yue"),
        ("language Chinese,English<asr_text>打开 PyTorch。", "打开 PyTorch。", "zh"),
        ("language Filipino<asr_text>Kumusta.", "Kumusta.", "fil"),
        ("language None<asr_text>", "", None),
        ("language Klingon<asr_text>nuqneH", "nuqneH", None),
        ("\nlanguage English<asr_text> Two\nlines. ", "Two\nlines.", "en"),
    ],
)
def test_what_qwen_writes_is_language_and_text(content: str, text: str, language: str | None) -> None:
    """The published form ``language X<asr_text>…``; a language that we have no code for is none."""
    assert (Hypothesis(text=text, language=language), "tagged") == read_chat(chat(content))


@pytest.mark.parametrize("content", ["language is a strange thing.", "Say <asr_text> aloud.", "language English"])
def test_speech_about_language_is_no_mark(content: str) -> None:
    """Text without the mark is text."""
    assert (Hypothesis(text=content), "plain") == read_chat(chat(content))


def test_annotations_tell_the_language() -> None:
    """As DashScope writes them, and this program."""
    heard = chat("Hello.", annotations=[{"type": "audio_info", "language": "en", "emotion": None}])

    assert (Hypothesis(text="Hello.", language="en"), "annotated") == read_chat(heard)


def test_the_end_by_length_is_told() -> None:
    """Whatever the text."""
    assert read_chat(chat("language English<asr_text>Hell", reason="length"))[0].truncated
    assert not read_chat(chat("language English<asr_text>Hell", reason=None))[0].truncated


@pytest.mark.parametrize("body", [b"", b"<html>", b"null", b"[]", b'{"choices":[]}', b'{"choices":[{}]}', b"\xff"])
def test_what_is_no_chat_completion_is_an_error(body: bytes) -> None:
    """Never an empty text."""
    with pytest.raises(Broken, match="no chat completion"):
        read_chat(answer(body))


def test_verbose_transcriptions_tell_language_and_times() -> None:
    """Times that run backwards are held, and what is an estimate there is one here."""
    words = [
        {"word": " Hello", "start": 0.1, "end": 0.5},
        {"word": "my", "start": 0.4, "end": 0.3},
        {"word": "world", "start": 0.7, "end": 1.0, "estimated": True},
    ]

    heard = read_transcription(answer({"text": " Hello my world.", "language": "english", "words": words}))

    expected = (
        Word(text="Hello", begin_ms=100, end_ms=500),
        Word(text="my", begin_ms=500, end_ms=500),
        Word(text="world", begin_ms=700, end_ms=1000, estimated=True),
    )
    assert Hypothesis(text="Hello my world.", language="en", words=expected) == heard


@pytest.mark.parametrize(
    "value", [{}, {"text": None}, {"text": "a", "words": [{"word": "a", "start": -3, "end": "b"}]}, [], b"Hello.", b""]
)
def test_what_is_no_transcription_is_an_error(value: Any) -> None:
    """Never an empty text."""
    with pytest.raises(Broken, match="no transcription"):
        read_transcription(answer(value))


def stream(*chunks: object, end: bytes = b"data: [DONE]\n\n") -> Answer:
    lines = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)
    return answer(lines + end, "text/event-stream")


def piece(text: str, reason: str | None = None) -> dict[str, Any]:
    return {"object": "transcription.chunk", "choices": [{"delta": {"content": text}, "finish_reason": reason}]}


def test_pieces_of_a_stream_are_one_text() -> None:
    """With what older versions of vLLM leave in front of it."""
    heard = read_transcription(stream(piece("language Ger"), piece("man<asr_text>Guten "), piece("Tag.", "length")))

    assert Hypothesis(text="Guten Tag.", language="de", truncated=True) == heard


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (stream(piece("Guten")), "ended before its end"),
        (stream(piece("Guten"), {"error": {"message": "died", "type": "x", "code": 500}}), "broke off"),
        (stream(end=b"data: {"), "no transcription"),
        (stream(end=b""), "ended before its end"),
    ],
)
def test_a_stream_that_ends_early_is_an_error(broken: Answer, problem: str) -> None:
    """Half a text does not pass for a whole one."""
    with pytest.raises(Broken, match=problem):
        read_transcription(broken)


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"data":[{"name":"a"}]}'])
def test_what_is_no_list_of_models_is_an_error(body: bytes) -> None:
    """So that a web page does not pass for a server."""
    with pytest.raises(Broken, match="no list of models"):
        read_models(answer(body))


@given(
    st.lists(st.sampled_from(["<|", "|>", "im_end", "<asr_text>", "<asr_", "text>", "a", "<", ">", "|"])).map("".join)
)
def test_no_mark_survives_in_a_context(context: str) -> None:
    """However marks are put into each other."""
    clean = inert(context)

    assert "<asr_text>" not in clean
    assert "<|im_end|>" not in clean
    assert clean == inert(clean)
