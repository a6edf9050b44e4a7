"""The official ``openai`` package, as it is, against a running server: chat completions, transcriptions, models."""

import base64
import re
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
from openai import (
    APIError,
    AsyncOpenAI,
    AuthenticationError,
    BadRequestError,
    InternalServerError,
    NotFoundError,
    OpenAI,
    RateLimitError,
)
from openai.types.chat import ChatCompletionChunk
from tests.faces.dialects import data_url
from tests.server import JFK, KEY, Origin, Server

MODEL: Final = "qwen3-asr-flash"
SAID: Final = re.compile(r"ask not what your country can do for you", re.IGNORECASE)


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[OpenAI]:
    """Unmodified; only the address is ours."""
    with OpenAI(base_url=server.compatible, api_key="any", max_retries=0) as found:
        yield found


@pytest.fixture
async def async_client(server: Server) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=server.compatible, api_key="any", max_retries=0) as found:
        yield found


@pytest.fixture(scope="module")
def keyed(scripted: Server) -> Iterator[OpenAI]:
    """With the right key, at the server that answers at once."""
    with OpenAI(base_url=scripted.compatible, api_key=KEY, max_retries=0) as found:
        yield found


def asking(data: str, audio_format: str | None = None, context: str | None = None) -> Any:
    """Messages about one recording; the SDK's own types do not know addresses as ``data``."""
    audio = {"data": data, **({"format": audio_format} if audio_format else {})}
    system = [{"role": "system", "content": [{"type": "text", "text": context}]}] if context else []
    return [*system, {"role": "user", "content": [{"type": "input_audio", "input_audio": audio}]}]


# ---- chat completions


def test_data_url_is_heard(client: OpenAI) -> None:
    """The documented call: text, language, and counts that fit the eleven seconds."""
    answer = client.chat.completions.create(model=MODEL, messages=asking(data_url(JFK)))

    assert SAID.search(answer.choices[0].message.content or "")
    assert "stop" == answer.choices[0].finish_reason
    annotations = answer.choices[0].message.to_dict()["annotations"]
    assert [{"type": "audio_info", "language": "en", "emotion": None}] == annotations
    assert answer.usage is not None
    assert 275 == answer.usage.prompt_tokens  # 11 s, 25 a second
    assert answer.usage.prompt_tokens + answer.usage.completion_tokens == answer.usage.total_tokens
    assert 11 == (answer.usage.model_extra or {})["seconds"]


def test_address_is_fetched_and_heard(client: OpenAI, origin: Origin) -> None:
    """``data`` may be an address; a redirect is followed."""
    answers = [
        client.chat.completions.create(model=MODEL, messages=asking(origin.url(path)))
        for path in ("/files/jfk.flac", "/to/jfk")
    ]

    assert all(SAID.search(answer.choices[0].message.content or "") for answer in answers)


def test_bare_base64_with_a_format_is_heard(client: OpenAI) -> None:
    """OpenAI's own way of sending audio in a chat."""
    data = base64.b64encode(JFK.read_bytes()).decode()

    answer = client.chat.completions.create(model=MODEL, messages=asking(data, "flac"))

    assert SAID.search(answer.choices[0].message.content or "")


def test_context_and_options_are_accepted(client: OpenAI) -> None:
    """A system message as context, ``asr_options`` by ``extra_body``, and sampling fields that mean nothing here."""
    answer = client.chat.completions.with_raw_response.create(
        model=MODEL,
        messages=asking(data_url(JFK), context="Names: Kennedy, Bulge Bracket"),
        temperature=0.3,
        top_p=0.5,
        user="somebody",
        extra_body={"asr_options": {"language": "en", "enable_itn": False, "enable_lid": True}},
    )

    assert SAID.search(answer.parse().choices[0].message.content or "")
    assert ("moonshine", None) == (answer.headers["x-qasr-engine"], answer.headers.get("x-qasr-unused"))


def test_snapshot_names_are_echoed(keyed: OpenAI) -> None:
    """Dated names and the American one resolve, and the answer names what was asked."""
    names = ["qwen3-asr-flash-2026-02-10", "qwen3-asr-flash-us", "qwen3-asr-flash-2025-09-08-us"]

    answers = [keyed.chat.completions.create(model=name, messages=asking(data_url(JFK))) for name in names]

    assert names == [answer.model for answer in answers]


def joined(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_streamed_pieces_are_the_whole_text(client: OpenAI, three_utterances: Path) -> None:
    """Deltas joined are the unstreamed answer, and the last chunk has its usage."""
    messages = asking(data_url(three_utterances))
    whole = client.chat.completions.create(model=MODEL, messages=messages)

    chunks = list(
        client.chat.completions.create(
            model=MODEL, messages=messages, stream=True, stream_options={"include_usage": True}
        )
    )

    assert whole.choices[0].message.content == joined(chunks)
    assert len([chunk for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]) >= 3
    assert "assistant" == chunks[0].choices[0].delta.role
    assert "stop" == chunks[-2].choices[0].finish_reason
    assert [] == chunks[-1].choices
    assert whole.usage == chunks[-1].usage
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert 1 == len({chunk.id for chunk in chunks})


def test_stream_without_usage_has_none(keyed: OpenAI) -> None:
    """Usage comes only when it was asked for."""
    chunks = list(keyed.chat.completions.create(model=MODEL, messages=asking(data_url(JFK)), stream=True))

    assert "stop" == chunks[-1].choices[0].finish_reason
    assert all(chunk.usage is None for chunk in chunks)


def test_late_error_raises(slow: Server, three_utterances: Path) -> None:
    """An error after the first text reaches the reader as an exception with its code, after what was heard."""
    heard: list[ChatCompletionChunk] = []
    with OpenAI(base_url=slow.compatible, api_key=KEY, max_retries=0) as client:
        stream = client.chat.completions.create(model=MODEL, messages=asking(data_url(three_utterances)), stream=True)
        with pytest.raises(APIError) as caught:
            heard.extend(stream)

    assert "Segment at" in joined(heard)
    assert "request_timeout" == caught.value.code


@pytest.mark.anyio
async def test_async_client_hears_and_streams(async_client: AsyncOpenAI, three_utterances: Path) -> None:
    """The asynchronous half of the SDK gets the same."""
    messages = asking(data_url(three_utterances))

    whole = await async_client.chat.completions.create(model=MODEL, messages=messages)
    stream = await async_client.chat.completions.create(model=MODEL, messages=messages, stream=True)
    text = joined([chunk async for chunk in stream])
    form = await async_client.audio.transcriptions.create(model="whisper-1", file=JFK)

    assert whole.choices[0].message.content == text
    assert SAID.search(form.text)


# ---- audio transcriptions


def test_json_has_text_and_usage(client: OpenAI) -> None:
    """The default form."""
    answer = client.audio.transcriptions.create(model="gpt-4o-transcribe", file=JFK)

    assert SAID.search(answer.text)
    assert answer.usage is not None
    assert "tokens" == answer.usage.type
    assert answer.logprobs is None


def test_text_is_a_string(client: OpenAI) -> None:
    """Raw text, as the SDK returns it for this form."""
    text = client.audio.transcriptions.create(model="whisper-1", file=JFK, response_format="text")

    assert isinstance(text, str)
    assert SAID.search(text)
    assert text.endswith(".\n")


STAMP: Final = r"(\d\d):(\d\d):(\d\d)[,.](\d\d\d)"


@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_subtitles_have_times_in_order(client: OpenAI, three_utterances: Path, kind: str) -> None:
    """Cues one after the other, within the recording, in the form that players read."""
    text = str(
        client.audio.transcriptions.create(model="whisper-1", file=three_utterances, response_format=kind)  # type: ignore[call-overload]
    )

    assert text.startswith("WEBVTT\n\n" if kind == "vtt" else "1\n00:00:0")
    cues = re.findall(rf"^{STAMP} --> {STAMP}$", text, re.MULTILINE)
    times = [
        int(h) * 3600 + int(m) * 60 + int(s) + int(ms) / 1000 for cue in cues for h, m, s, ms in (cue[:4], cue[4:])
    ]
    assert len(cues) >= 3
    assert sorted(times) == times
    assert times[-1] <= 38
    assert ("," in text.splitlines()[1 if kind == "srt" else 2].split(" ")[0]) == (kind == "srt")
    assert "country" in text


def test_verbose_json_has_words_and_segments(client: OpenAI, three_utterances: Path) -> None:
    """Words are the words of the text, in order of time, and lie within their segments."""
    answer = client.audio.transcriptions.create(
        model="whisper-1",
        file=three_utterances,
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )

    words, segments = answer.words or [], answer.segments or []
    assert ("english", 38) == (answer.language, -(-int(answer.duration * 1000) // 1000))
    assert answer.text.split() == [piece for segment in segments for piece in segment.text.split()]
    bare = [re.sub(r"^\W+|\W+$", "", piece) for piece in answer.text.split()]
    assert [piece for piece in bare if piece] == [word.word for word in words]
    assert all(0 <= word.start <= word.end <= answer.duration for word in words)
    assert all(earlier.start <= later.start for earlier, later in pairwise(words))
    assert all(earlier.end <= later.start for earlier, later in pairwise(segments))
    assert all(-10 < segment.avg_logprob <= 0 and 0 <= segment.no_speech_prob <= 1 for segment in segments)
    country = next(word for word in words if word.word == "country")
    assert 4.5 < country.start < 7.5  # the first of the two


def test_verbose_json_of_silence_keeps_its_types(client: OpenAI, silence: Path) -> None:
    """Nothing was said: empty texts and lists, and still a string for the language."""
    answer = client.audio.transcriptions.create(
        model="whisper-1", file=silence, response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )

    assert ("", "", [], []) == (answer.text, answer.language, answer.segments, answer.words)
    assert 3.0 == answer.duration


@pytest.mark.parametrize(
    ("granularities", "has"),
    [([], (False, True)), (["segment"], (False, True)), (["word"], (True, False)), (["word", "segment"], (True, True))],
)
def test_granularities_decide_what_is_there(keyed: OpenAI, granularities: Any, has: tuple[bool, bool]) -> None:
    """Words cost an alignment and come when asked for; segments come when nothing was asked."""
    answer = keyed.audio.transcriptions.create(
        model="whisper-1",
        file=JFK,
        response_format="verbose_json",
        **({"timestamp_granularities": granularities} if granularities else {}),
    )

    assert has == (answer.words is not None, answer.segments is not None)


def test_logprobs_spell_the_text(client: OpenAI) -> None:
    """Tokens joined are the text; probabilities are natural logarithms."""
    answer = client.audio.transcriptions.create(model="gpt-4o-transcribe", file=JFK, include=["logprobs"])

    logprobs = answer.logprobs or []
    spelled = b"".join(bytes(int(byte) for byte in entry.bytes or []) for entry in logprobs).decode()
    assert "".join(answer.text.split()) == "".join(spelled.split())
    assert all(entry.logprob is not None and entry.logprob <= 0 for entry in logprobs)


def test_transcription_stream_ends_with_the_whole_text(client: OpenAI, three_utterances: Path) -> None:
    """Deltas as segments are heard, then one event with everything."""
    whole = client.audio.transcriptions.create(model="gpt-4o-transcribe", file=three_utterances)

    events = list(
        client.audio.transcriptions.create(
            model="gpt-4o-transcribe", file=three_utterances, stream=True, include=["logprobs"]
        )
    )

    deltas = [event for event in events if event.type == "transcript.text.delta"]
    done = events[-1]
    assert len(deltas) >= 3
    assert done.type == "transcript.text.done"
    assert whole.text == "".join(delta.delta for delta in deltas) == done.text
    assert done.usage is not None
    assert done.usage.total_tokens == done.usage.input_tokens + done.usage.output_tokens
    spelled = [(entry.token, entry.logprob) for delta in deltas for entry in delta.logprobs or []]
    assert spelled == [(entry.token, entry.logprob) for entry in done.logprobs or []]


def test_optional_fields_are_understood(client: OpenAI) -> None:
    """Prompt, language, temperature and a chunking strategy, as the SDK spells them in a form."""
    answer = client.audio.transcriptions.create(
        model="gpt-4o-mini-transcribe",
        file=("speech.flac", JFK.read_bytes()),
        language="en",
        prompt="Kennedy",
        temperature=0,
        chunking_strategy={
            "type": "server_vad",
            "threshold": 0.4,
            "silence_duration_ms": 900,
            "prefix_padding_ms": 300,
        },
    )

    assert "your country" in answer.text


@pytest.mark.parametrize("name", ["recording", "speech.mp3", "今天.flac", "a.exe"])
def test_name_of_the_file_does_not_matter(keyed: OpenAI, name: str) -> None:
    """A recording is known by its content."""
    answer = keyed.audio.transcriptions.create(model="whisper-1", file=(name, JFK.read_bytes()))

    assert "lasting" in answer.text


# ---- models


def test_models_are_listed_and_retrieved(client: OpenAI) -> None:
    """Every listed name can be retrieved; a snapshot that is not listed, too."""
    names = [model.id for model in client.models.list()]

    assert {MODEL, "whisper-1", "fun-asr-flash"} <= set(names)
    assert names == [client.models.retrieve(name).id for name in names]
    snapshot = client.models.retrieve("qwen3-asr-flash-2026-02-10")
    assert ("qwen3-asr-flash-2026-02-10", "model") == (snapshot.id, snapshot.object)


def test_short_root_serves_the_same(server: Server) -> None:
    """``/v1``, where other clients look."""
    with OpenAI(base_url=f"{server.base}/v1", api_key="any", max_retries=0) as client:
        chat = client.chat.completions.create(model=MODEL, messages=asking(data_url(JFK)))
        form = client.audio.transcriptions.create(model="whisper-1", file=JFK)
        names = [model.id for model in client.models.list()]

    assert SAID.search(chat.choices[0].message.content or "")
    assert SAID.search(form.text)
    assert MODEL in names


# ---- errors


def test_wrong_key_raises_its_exception(scripted: Server) -> None:
    """The vendor's code, and the id of the request to quote."""
    with (
        OpenAI(base_url=scripted.compatible, api_key="sk-wrong", max_retries=0) as client,
        pytest.raises(AuthenticationError) as caught,
    ):
        client.chat.completions.create(model=MODEL, messages=asking(data_url(JFK)))

    assert "invalid_api_key" == caught.value.code
    assert caught.value.request_id


def test_large_body_with_a_wrong_key_is_a_readable_401(scripted: Server) -> None:
    """The client writes its megabytes before it reads; it still learns that it is the key."""
    with OpenAI(base_url=scripted.compatible, api_key="sk-wrong", max_retries=0) as client:
        with pytest.raises(AuthenticationError):
            client.chat.completions.create(model=MODEL, messages=asking("A" * 9_000_000))
        with pytest.raises(AuthenticationError):
            client.audio.transcriptions.create(model="whisper-1", file=("a.wav", bytes(24_000_000)))
        with pytest.raises(AuthenticationError):
            client.models.list()


def test_unknown_model_raises_its_exception(keyed: OpenAI) -> None:
    """In all three places."""
    with pytest.raises(NotFoundError) as chat:
        keyed.chat.completions.create(model="nothing", messages=asking(data_url(JFK)))
    with pytest.raises(NotFoundError) as form:
        keyed.audio.transcriptions.create(model="nothing", file=JFK)
    with pytest.raises(NotFoundError) as models:
        keyed.models.retrieve("nothing")

    assert ["model_not_found"] * 3 == [caught.value.code for caught in (chat, form, models)]


@pytest.mark.parametrize("stream", [False, True])
def test_bad_recording_raises_its_exception(keyed: OpenAI, stream: bool) -> None:
    """Streamed or not: 400 before anything else."""
    with pytest.raises(BadRequestError) as caught:
        keyed.chat.completions.create(model=MODEL, messages=asking(data_url(b"no audio")), stream=stream)

    assert "invalid_parameter_error" == caught.value.code


def test_parameter_of_an_error_is_named(keyed: OpenAI) -> None:
    """``stream_options`` without ``stream`` is not allowed, and ``param`` says which it was."""
    with pytest.raises(BadRequestError) as caught:
        keyed.chat.completions.create(
            model=MODEL,
            messages=asking(data_url(JFK)),
            stream_options={"include_usage": True},
        )

    assert "stream_options" == caught.value.param


def test_busy_and_overdue_servers_raise_what_is_retried(strict: Server, slow: Server, three_utterances: Path) -> None:
    """429 and 500 are the classes that the SDK tries again."""
    with (
        OpenAI(base_url=strict.compatible, api_key=KEY, max_retries=0) as client,
        pytest.raises(RateLimitError) as busy,
    ):
        client.chat.completions.create(model=MODEL, messages=asking(data_url(JFK)))
    with (
        OpenAI(base_url=slow.compatible, api_key=KEY, max_retries=0) as client,
        pytest.raises(InternalServerError) as overdue,
    ):
        client.chat.completions.create(model=MODEL, messages=asking(data_url(three_utterances)))

    assert ("limit_requests", "1") == (busy.value.code, busy.value.response.headers["retry-after"])
    assert "request_timeout" == overdue.value.code


def test_translation_is_refused(keyed: OpenAI) -> None:
    """Not served, and said so."""
    with (
        pytest.warns(DeprecationWarning, match="deprecated"),
        pytest.raises(BadRequestError, match="does not translate"),
    ):
        keyed.audio.translations.create(model="whisper-1", file=JFK)
