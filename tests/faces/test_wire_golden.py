"""Wire shapes: real answers beside documented samples (``tests/golden``), key by key and type by type.

The samples are those of the vendors' documentation. Values differ, of course; names, nesting and types do not. Where
ours go beyond a sample, or stay behind it, ``BEYOND`` and ``NULL`` say so, and nothing else passes.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from tests.faces.dialects import (
    CHAT,
    CHAT_DIALECT,
    FUN,
    GENERATION,
    QWEN,
    SSE,
    TRANSCRIPTIONS,
    data_url,
    events,
    refusal,
)
from tests.server import DATA, Server

GOLDEN: Final = Path(__file__).parents[1] / "golden"
SPOKEN: Final = DATA / "LJ001-0002.flac"
BEYOND: Final = {"system_fingerprint", "logprobs"}
"""Keys of ours that a sample leaves out: documented in words, always null."""
NULL: Final = {"emotion"}
"""Keys that are null here: the embedded engine does not tell emotions, and we invent none."""


def sample(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def differences(documented: Any, real: Any, where: str = "$") -> list[str]:
    """How *real* departs from the shape of *documented*; lists are compared by their first element."""
    if isinstance(documented, Mapping) and isinstance(real, Mapping):
        extra = {key for key in set(real) - set(documented) if not (key in BEYOND and real[key] is None)}
        found = [f"{where}.{key} is not documented" for key in sorted(extra)]
        found += [f"{where}.{key} is missing" for key in sorted(set(documented) - set(real))]
        for key in documented:
            if key in real and not (key in NULL and real[key] is None):
                found += differences(documented[key], real[key], f"{where}.{key}")
        return found
    if isinstance(documented, list) and isinstance(real, list):
        if documented and not real:
            return [f"{where} is empty"]
        return [
            d for i, item in enumerate(real) if documented for d in differences(documented[0], item, f"{where}[{i}]")
        ]
    if type(documented) is not type(real):
        return [f"{where} is {type(real).__name__}, not {type(documented).__name__}"]
    return []


def transcribe(server: Server, **fields: Any) -> httpx2.Response:
    return server.post(TRANSCRIPTIONS, files={"file": SPOKEN.read_bytes()}, data={"model": "whisper-1", **fields})


def answers(server: Server) -> Mapping[str, Any]:
    """One real answer for each sample that is a single object."""
    words = {"response_format": "verbose_json", "timestamp_granularities[]": ["word", "segment"]}
    return {
        "chat_completion": CHAT_DIALECT.ask(server, data_url(SPOKEN)),
        "models": server.get("/v1/models"),
        "transcription": transcribe(server),
        "transcription_verbose": transcribe(server, **words),
        "generation": QWEN.ask(server, data_url(SPOKEN)),
        "fun": FUN.ask(server, data_url(SPOKEN)),
        "upload_policy": server.get("/api/v1/uploads?action=getPolicy&model=qwen3-asr-flash"),
        "native_models": server.get("/api/v1/models"),
        "native_error": server.post(GENERATION, {}, key=None),
        "compatible_error": server.post(CHAT, {}, key=None),
    }


def test_answers_have_the_documented_shape(server: Server) -> None:
    """Names, nesting and types of every unstreamed answer."""
    found = [
        f"{name}: {difference}"
        for name, answer in answers(server).items()
        for difference in differences(sample(name), answer.json())
    ]

    assert [] == found


def test_chat_stream_has_the_documented_order(server: Server) -> None:
    """Role, texts, end, usage, ``[DONE]``."""
    role, piece, end, usage, done = sample("chat_stream")
    body = {**CHAT_DIALECT.body(data_url(SPOKEN)), "stream": True, "stream_options": {"include_usage": True}}

    answer = server.post(CHAT, body)

    first, *pieces, last, counted, marker = events(answer.text)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert done == marker
    assert pieces
    shapes = [(role, first), *((piece, real) for real in pieces), (end, last), (usage, counted)]
    assert [] == [difference for documented, real in shapes for difference in differences(documented, real)]


def test_transcription_stream_has_the_documented_order(server: Server) -> None:
    """Deltas, the whole text, ``[DONE]``."""
    delta, done, marker = sample("transcription_stream")

    *deltas, last, end = events(transcribe(server, stream="true").text)

    assert marker == end
    assert deltas
    shapes = [*((delta, real) for real in deltas), (done, last)]
    assert [] == [difference for documented, real in shapes for difference in differences(documented, real)]


def test_native_stream_has_the_documented_frames(server: Server) -> None:
    """Complete envelopes; the reason is the text ``null`` until the last."""
    going, last = sample("generation_stream")

    answer = server.post(GENERATION, QWEN.body(data_url(SPOKEN)), headers=SSE)

    *first, end = events(answer.text)
    assert "text/event-stream;charset=utf-8" == answer.headers["content-type"].lower()
    shapes = [*((going, real) for real in first), (last, end)]
    assert [] == [difference for documented, real in shapes for difference in differences(documented, real)]


@pytest.mark.parametrize("streamed", [False, True])
def test_fun_words_stand_in_order(server: Server, three_utterances: Path, streamed: bool) -> None:
    """Whole milliseconds, each word after the one before, all within their sentence, and together its text."""
    answer = server.post(GENERATION, FUN.body(data_url(three_utterances)), headers=SSE if streamed else {})

    frames = events(answer.text) if streamed else [answer.json()]
    assert [] == [d for frame in frames for d in differences(sample("fun"), frame)]
    sentences = [frame["output"]["sentence"] for frame in frames]
    assert list(range(1, len(frames) + 1)) == [sentence["sentence_id"] for sentence in sentences]
    times = [t for s in sentences for word in s["words"] for t in (word["begin_time"], word["end_time"])]
    assert sorted(times) == times
    for sentence in sentences:
        spelled = "".join(word["text"] + word["punctuation"] for word in sentence["words"])
        begin, *_, end = [t for word in sentence["words"] for t in (word["begin_time"], word["end_time"])]
        assert "".join(sentence["text"].split()) == "".join(spelled.split())
        assert sentence["begin_time"] <= begin <= end <= sentence["end_time"]
    assert 38 == frames[-1]["usage"]["duration"]


def test_usage_follows_the_documented_rule(server: Server) -> None:
    """25 tokens a second, rounded up; seconds rounded down: the rule that gives the published sample."""
    usage = CHAT_DIALECT.ask(server, data_url(SPOKEN)).json()["usage"]

    assert (48, 48, 1) == (usage["prompt_tokens"], usage["prompt_tokens_details"]["audio_tokens"], usage["seconds"])


def test_successes_are_200_and_carry_their_id(server: Server) -> None:
    """The classic SDK takes 201 for a failure; the id of the header is the id of the body; no ``code`` at the top."""
    for name, answer in answers(server).items():
        if "error" in name:
            assert 401 == refusal(answer).status
            continue
        body = answer.json()
        assert 200 == answer.status_code, name
        assert "application/json" == answer.headers["content-type"]
        assert answer.headers["x-request-id"] == body.get("request_id", answer.headers["x-request-id"])
        assert "code" not in body
