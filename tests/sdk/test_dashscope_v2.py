"""The official ``dashscope`` package, its new ``Client``, as it is: the native and the OpenAI protocol."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import dashscope
import pytest
from dashscope.v2 import errors
from tests.faces.dialects import data_url
from tests.server import JFK, KEY, Origin, Server

MODEL: Final = "qwen3-asr-flash"
SAID: Final = "ask not what your country can do for you"
PROTOCOLS: Final = ("native", "openai")

each_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)


def connected(server: Server, protocol: str, key: str = KEY, **options: Any) -> Any:
    """A client of *server*."""
    base = server.native if protocol == "native" else server.compatible
    return dashscope.Client(api_key=key, base_url=base, protocol=protocol, max_retries=0, **options)


@pytest.fixture
def client(server: Server, protocol: str) -> Iterator[Any]:
    found = connected(server, protocol)
    yield found
    found.close()


@pytest.fixture
def keyed(scripted: Server, protocol: str) -> Iterator[Any]:
    found = connected(scripted, protocol)
    yield found
    found.close()


def user(**audio: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "audio", **audio}]}]


OPTIONS: Final = {"asr_options": {"language": "en", "enable_itn": False}}


@each_protocol
def test_inline_base64_is_heard(client: Any) -> None:
    """The SDK sends a data URL natively, and bare base64 with a format in the OpenAI protocol."""
    data = base64.b64encode(JFK.read_bytes()).decode()

    answer = client.chat.completions.create(model=MODEL, messages=user(data=data, format="flac"), parameters=OPTIONS)

    assert SAID in answer.output_text.lower()
    assert "stop" == answer.choices[0].finish_reason


@each_protocol
def test_address_and_context_are_taken(client: Any, origin: Origin) -> None:
    """An address, a system message, and options."""
    messages = [{"role": "system", "content": "Kennedy"}, *user(url=origin.url("/files/jfk.flac"))]

    answer = client.chat.completions.create(model=MODEL, messages=messages, parameters=OPTIONS)

    assert SAID in answer.output_text.lower()
    assert "en" == answer.choices[0].message.annotations[0]["language"]


@pytest.mark.parametrize("protocol", ["native"])
def test_local_file_is_uploaded_and_heard(client: Any) -> None:
    """By path and by ``file://``, in both of the interfaces that take recordings."""
    answers = [
        client.chat.completions.create(model=MODEL, messages=user(url=str(JFK))),
        client.chat.completions.create(model=MODEL, messages=user(url=JFK.as_uri())),
        client.multimodal.chat.create(model=MODEL, messages=user(url=JFK.as_uri())),
    ]

    assert all(SAID in answer.output_text.lower() for answer in answers)


@pytest.mark.parametrize("protocol", ["openai"])
def test_local_path_on_the_wire_is_refused(keyed: Any) -> None:
    """In the OpenAI protocol the SDK uploads nothing and sends the path; the server reads none of its own files."""
    with pytest.raises(errors.BadRequestError):
        keyed.chat.completions.create(model=MODEL, messages=user(url=JFK.as_uri()))


@each_protocol
@pytest.mark.parametrize("incremental", [None, True, False])
def test_streamed_pieces_are_the_whole_text(client: Any, three_utterances: Path, incremental: bool | None) -> None:
    """Deltas joined are the unstreamed answer, however the SDK asks for them."""
    options = {} if incremental is None else {"incremental_output": incremental}
    messages = user(url=data_url(three_utterances))
    whole = client.chat.completions.create(model=MODEL, messages=messages).output_text

    chunks = list(client.chat.completions.create(model=MODEL, messages=messages, stream=True, **options))

    texts = [chunk.delta.content for chunk in chunks if chunk.delta is not None and chunk.delta.content]
    assert len(texts) >= 3
    assert whole == (texts[-1] if incremental is False else "".join(texts))


@each_protocol
def test_wrong_key_raises_its_exception(scripted: Server, protocol: str) -> None:
    """With status, code and the id of the request."""
    client = connected(scripted, protocol, key="sk-wrong")
    with pytest.raises(errors.AuthenticationError) as caught:
        client.chat.completions.create(model=MODEL, messages=user(url=data_url(JFK)))
    client.close()

    assert 401 == caught.value.status_code
    assert caught.value.code in ("InvalidApiKey", "invalid_api_key")
    assert caught.value.request_id


@each_protocol
def test_unknown_model_raises_its_exception(keyed: Any) -> None:
    """404, with the name in the message."""
    with pytest.raises(errors.NotFoundError, match="qwen9-asr"):
        keyed.chat.completions.create(model="qwen9-asr", messages=user(url=data_url(JFK)))


@each_protocol
@pytest.mark.parametrize("stream", [False, True])
def test_bad_recording_raises_its_exception(keyed: Any, stream: bool) -> None:
    """Streamed or not."""
    with pytest.raises(errors.BadRequestError) as caught:
        list(keyed.chat.completions.create(model=MODEL, messages=user(url=data_url(b"no")), stream=stream))

    assert 400 == caught.value.status_code


@each_protocol
def test_busy_server_raises_what_is_retried(strict: Server, protocol: str) -> None:
    """429 by class, with the header that the SDK obeys."""
    client = connected(strict, protocol)
    with pytest.raises(errors.RateLimitError) as caught:
        client.chat.completions.create(model=MODEL, messages=user(url=data_url(JFK)))
    client.close()

    assert "1" == caught.value.headers["retry-after"]


@each_protocol
def test_late_error_raises(slow: Server, protocol: str, three_utterances: Path) -> None:
    """After the first text, the error frame becomes an exception."""
    client = connected(slow, protocol)
    heard: list[str] = []
    stream = client.chat.completions.create(model=MODEL, messages=user(url=data_url(three_utterances)), stream=True)
    with pytest.raises(errors.DashScopeError) as caught:
        heard.extend(chunk.delta.content or "" for chunk in stream if chunk.delta is not None)
    client.close()

    assert "Segment at" in "".join(heard)
    assert caught.value.code in ("RequestTimeOut", "request_timeout")


@pytest.mark.anyio
@each_protocol
async def test_async_client_hears(server: Server, protocol: str) -> None:
    """The asynchronous half."""
    base = server.native if protocol == "native" else server.compatible
    client = dashscope.AsyncClient(api_key=KEY, base_url=base, protocol=protocol, max_retries=0)

    answer = await client.chat.completions.create(model=MODEL, messages=user(url=data_url(JFK)))
    await client.aclose() if hasattr(client, "aclose") else await client.close()

    assert SAID in answer.output_text.lower()


@pytest.mark.parametrize("protocol", ["native"])
def test_models_are_listed(keyed: Any) -> None:
    """The native model list has the names that the server takes."""
    page = keyed.models.list(page_no=1, page_size=100)

    assert MODEL in str(page)
