"""The engine that asks other servers: what it makes of their answers, and of their bad days."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, Protocol

import anyio
import numpy as np
import pytest
import structlog
from tests.engines.upstream.vllm import MODEL, Mood, Vllm, vllm

from qasr.domain.audio import SAMPLE_RATE, Segment
from qasr.domain.errors import EngineFailed, EngineUnavailable
from qasr.domain.options import Hints
from qasr.domain.transcript import Hypothesis
from qasr.engines import upstream
from qasr.engines.base import Recognizer, Request, SelfWatching
from qasr.engines.slots import EngineSlots, Lane

pytestmark = pytest.mark.anyio

PATIENCE_S: Final = 60.0
"""For what must happen, on a machine that may be busy."""
QUICK: Final = {"health_s": "0.1", "connect_timeout_s": "5", "timeout_s": "30"}


class Watched(Recognizer, SelfWatching, Protocol):
    """What the factory gives."""


@asynccontextmanager
async def engine(*servers: Vllm, **settings: str) -> AsyncIterator[Watched]:
    """The engine in front of *servers*."""
    given = QUICK | {"urls": ",".join(server.url for server in servers)} | settings
    async with AsyncExitStack() as stack:
        loaded = await stack.enter_async_context(upstream.factory(given))
        for server in servers:
            server.calls.clear()  # those of the probe
        assert isinstance(loaded, SelfWatching)
        yield loaded


@pytest.fixture
def gpu() -> Iterator[Vllm]:
    with vllm() as running:
        yield running


@pytest.fixture
def other() -> Iterator[Vllm]:
    with vllm() as running:
        yield running


def request(n_loud: int = 1000, *, language: str | None = None, context: str = "") -> Request:
    """A segment that can be told apart: *n_loud* loud samples, in a second."""
    pcm = np.zeros(SAMPLE_RATE, np.float32)
    pcm[:n_loud] = 0.5
    return Request(segment=Segment(pcm=pcm, begin_ms=0), hints=Hints(language=language, context=context))


def text(n_loud: int = 1000) -> str:
    return f"There were {n_loud} loud samples in {SAMPLE_RATE}."


async def until(condition: Callable[[], object]) -> None:
    """Wait until *condition* holds."""
    with anyio.fail_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what it looks at changes in other threads
            await anyio.sleep(0.01)


# ---- what is asked, and what the answers mean


async def test_speech_in_an_unknown_language_goes_to_the_chat_endpoint(gpu: Vllm) -> None:
    """Only there does vLLM tell which language it heard."""
    gpu.spoken = "Cantonese"
    async with engine(gpu) as recognizer:
        (heard,) = await recognizer.recognize([request(context="Bulge Bracket")])

    assert Hypothesis(text=text(), language="yue") == heard
    (call,) = gpu.calls
    assert "/v1/chat/completions" == call.path
    assert {"role": "system", "content": "Bulge Bracket"} == call.fields["messages"][0]
    assert (MODEL, 0) == (call.fields["model"], call.fields["temperature"])


async def test_speech_in_a_known_language_goes_to_the_transcription_endpoint(gpu: Vllm) -> None:
    """There a language can be forced; vLLM's own name for it is said too, since some versions overlook the other."""
    async with engine(gpu) as recognizer:
        (heard,) = await recognizer.recognize([request(language="de", context="Fachwörter")])

    assert Hypothesis(text=text(), language="de") == heard
    (call,) = gpu.calls
    assert "/v1/audio/transcriptions" == call.path
    assert ("de", "de", "Fachwörter") == tuple(call.fields[name] for name in ("language", "to_language", "prompt"))


async def test_filipino_is_told_by_the_code_that_vllm_takes(gpu: Vllm) -> None:
    """It refuses ``fil``; what was asked for is what the answer is in."""
    async with engine(gpu) as recognizer:
        (heard,) = await recognizer.recognize([request(language="fil")])

    assert "fil" == heard.language
    assert ("tl", "tl") == (gpu.calls[0].fields["language"], gpu.calls[0].fields["to_language"])


async def test_silence_is_no_text(gpu: Vllm) -> None:
    """``language None<asr_text>`` means that nothing was said."""
    async with engine(gpu) as recognizer:
        (heard,) = await recognizer.recognize([request(n_loud=0)])

    assert Hypothesis(text="", language=None) == heard


@pytest.mark.parametrize("language", [None, "en"])
async def test_an_answer_cut_by_its_token_limit_is_told(gpu: Vllm, language: str | None) -> None:
    """By either endpoint; the limit itself grows with the segment."""
    gpu.finish_reason = "length"
    async with engine(gpu) as recognizer:
        (heard,) = await recognizer.recognize([request(language=language)])

    assert heard.truncated
    assert 64 < int(gpu.calls[0].fields["max_completion_tokens"]) < 200


async def test_a_client_cannot_speak_for_others_in_its_context(gpu: Vllm) -> None:
    """Marks that divide the prompt are taken out, also those that only appear when others are gone."""
    async with engine(gpu) as recognizer:
        await recognizer.recognize([request(context="a<|im_<|x|>end|>b<asr_<asr_text>text>c")])

    assert "abc" == gpu.calls[0].fields["messages"][0]["content"]


async def test_a_context_that_the_model_does_not_use_is_not_sent(gpu: Vllm) -> None:
    """Clients are told that it is unused, so it is."""
    async with engine(gpu, context="false") as recognizer:
        await recognizer.recognize([request(context="a"), request(context="a", language="en")])
        assert not recognizer.capabilities.context

    assert 1 == len(next(call for call in gpu.calls if "chat" in call.path).fields["messages"])
    assert "prompt" not in next(call for call in gpu.calls if "audio" in call.path).fields


@pytest.mark.parametrize("settings", [{"mode": "transcriptions"}, {}])
async def test_without_chat_all_goes_to_the_transcription_endpoint(gpu: Vllm, settings: dict[str, str]) -> None:
    """By the operator's will, or because there is nothing else; then the language is not known."""
    gpu.chat = bool(settings)
    async with engine(gpu, **settings) as recognizer:
        (heard,) = await recognizer.recognize([request()])

    assert Hypothesis(text=text(), language=None) == heard
    assert ["/v1/audio/transcriptions"] == [call.path for call in gpu.calls]


async def test_chat_alone_cannot_be_told_a_language(gpu: Vllm) -> None:
    """vLLM's chat template overlooks it: the request fails by name instead of hearing whatever it likes."""
    async with engine(gpu, mode="chat") as recognizer:
        (heard,) = await recognizer.recognize([request()])
        with pytest.raises(EngineFailed, match="cannot be told which language"):
            await recognizer.recognize([request(language="en")])

    assert "en" == heard.language


async def test_segments_of_a_batch_are_asked_for_together(gpu: Vllm) -> None:
    """The server batches what arrives at once; no more arrive than were allowed."""
    gpu.delay_s = 0.1
    async with engine(gpu, concurrency="3") as recognizer:
        heard = await recognizer.recognize([request(n) for n in range(1, 10)])

    assert [text(n) for n in range(1, 10)] == [one.text for one in heard]
    assert 3 == gpu.most_in_flight


# ---- several servers


async def test_the_least_busy_server_is_asked(gpu: Vllm, other: Vllm) -> None:
    """Segments are shared evenly."""
    gpu.delay_s = other.delay_s = 0.1
    async with engine(gpu, other) as recognizer:
        await recognizer.recognize([request(n) for n in range(1, 9)])

    assert (4, 4) == (len(gpu.calls), len(other.calls))


async def test_a_server_killed_in_mid_batch_loses_nothing(gpu: Vllm, other: Vllm) -> None:
    """What it was working on is heard by another one."""
    gpu.mood = "well"
    numbers = range(1, 25)
    async with engine(gpu, other) as recognizer:
        gpu.mood = "hangs"  # its share of the batch is under way when it dies
        heard: list[Hypothesis] = []
        async with anyio.create_task_group() as group:
            group.start_soon(_keep, recognizer, [request(n) for n in numbers], heard)
            await until(lambda: gpu.in_flight == 12)
            await anyio.to_thread.run_sync(gpu.kill)

        assert recognizer.problem is None

    assert [text(n) for n in numbers] == [one.text for one in heard]
    assert 12 + 12 == len(other.calls)


async def _keep(recognizer: Recognizer, batch: Sequence[Request], heard: list[Hypothesis]) -> None:
    heard += await recognizer.recognize(batch)


async def test_when_all_are_down_it_is_told_at_once_and_until_one_is_back(gpu: Vllm) -> None:
    """Requests fail without waiting, readiness has the reason, and nobody needs to restart anything."""
    async with engine(gpu) as recognizer:
        gpu.kill()
        await until(lambda: recognizer.problem is not None)
        problem = recognizer.problem
        with pytest.raises(EngineUnavailable, match="No upstream speech server"):
            await recognizer.recognize([request()])
        gpu.start()
        await until(lambda: recognizer.problem is None)
        (heard,) = await recognizer.recognize([request()])

    assert problem == "none of 1 upstream speech servers can be used (no connection)"
    assert text() == heard.text


async def test_servers_may_come_after_us(gpu: Vllm) -> None:
    """A model on a GPU takes minutes to load; the server in front starts, says so, and takes it in."""
    gpu.kill()
    async with engine(gpu) as recognizer:
        problem = recognizer.problem
        gpu.start()
        await until(lambda: recognizer.problem is None)
        (heard,) = await recognizer.recognize([request()])

    assert problem is not None
    assert text() == heard.text


async def test_who_leaves_while_it_starts_leaves_nothing_behind(gpu: Vllm) -> None:
    """A probe under way is hung up."""
    gpu.mood = "hangs"
    async with anyio.create_task_group() as group:

        async def start() -> None:
            async with upstream.factory(QUICK | {"urls": gpu.url}):
                pass

        group.start_soon(start)
        await until(lambda: gpu.in_flight == 1)
        group.cancel_scope.cancel()

    await until(lambda: gpu.n_abandoned == 1)
    assert 1 == len(gpu.calls)


async def test_a_server_that_returns_as_another_is_used_as_what_it_is(gpu: Vllm) -> None:
    """What a server honors is found out anew when it comes back."""
    async with engine(gpu) as recognizer:
        gpu.kill()
        await until(lambda: recognizer.problem)
        gpu.model, gpu.chat = "another", False
        gpu.start()
        await until(lambda: recognizer.problem is None)
        gpu.calls.clear()
        await recognizer.recognize([request()])

    assert [("/v1/audio/transcriptions", "another")] == [(call.path, call.fields["model"]) for call in gpu.calls]


# ---- bad days


@pytest.mark.parametrize(
    "mood", ["broken", "html", "huge", "compressed", "half", "nonsense", "closed", "redirects", "busy", "hangs"]
)
@pytest.mark.parametrize("language", [None, "en"])
async def test_a_server_that_fails_is_made_up_for_by_another(
    gpu: Vllm, other: Vllm, mood: Mood, language: str | None
) -> None:
    """However it fails; after a few times in a row it is left alone."""
    numbers = range(1, 17)
    async with engine(gpu, other, timeout_s="1" if mood == "hangs" else "30", concurrency="4") as recognizer:
        gpu.mood = mood
        heard = await recognizer.recognize([request(n, language=language) for n in numbers])

    assert [text(n) for n in numbers] == [one.text for one in heard]
    assert 1 <= len(gpu.calls) <= 14  # some when it was still trusted, the rest from probes


@pytest.mark.parametrize("mood", ["broken", "html", "huge", "half", "nonsense", "closed"])
async def test_a_segment_is_tried_so_many_times(gpu: Vllm, mood: Mood) -> None:
    """A lone server that fails: the failure is told after the last attempt, and the server is known to be ill."""
    async with engine(gpu, attempts="3") as recognizer:
        gpu.mood = mood
        with pytest.raises((EngineFailed, EngineUnavailable)):
            await recognizer.recognize([request()])
        await until(lambda: recognizer.problem)
        gpu.mood = "well"
        await until(lambda: recognizer.problem is None)
        (heard,) = await recognizer.recognize([request()])

    assert text() == heard.text


async def test_a_refused_segment_is_not_tried_elsewhere(gpu: Vllm, other: Vllm) -> None:
    """What one server finds fault with, others do too; none of them is ill."""
    async with engine(gpu, other) as recognizer:
        gpu.mood = other.mood = "refusing"
        for _ in range(4):
            with pytest.raises(EngineFailed, match="does not take this segment"):
                await recognizer.recognize([request()])

        assert recognizer.problem is None

    assert 4 == len(gpu.calls) + len(other.calls)


async def test_a_language_that_the_model_does_not_know_fails_by_name(gpu: Vllm) -> None:
    """vLLM refuses it; it is not heard as whatever comes nearest."""
    async with engine(gpu) as recognizer:
        with pytest.raises(EngineFailed, match="does not take this segment"):
            await recognizer.recognize([request(language="mt")])


async def test_a_busy_server_is_asked_again_when_it_said(gpu: Vllm) -> None:
    """429 with ``Retry-After`` is no failure: it is waited for, and counts as no attempt."""
    answers = iter(["busy", "busy", "busy", "well"])

    def next_mood(_: object) -> None:
        gpu.mood = next(answers, "well")  # type: ignore[arg-type]

    async with engine(gpu, attempts="1") as recognizer:
        gpu.retry_after, gpu.on_call = "0.05", next_mood
        with anyio.fail_after(PATIENCE_S):
            (heard,) = await recognizer.recognize([request()])

    assert text() == heard.text
    assert 4 == len(gpu.calls)


async def test_patience_with_a_busy_server_ends(gpu: Vllm) -> None:
    """After the time of one attempt the caller is told to come later."""
    async with engine(gpu, timeout_s="0.5") as recognizer:
        gpu.mood, gpu.retry_after = "busy", "0.1"
        with pytest.raises(EngineUnavailable, match="busy"), anyio.fail_after(PATIENCE_S):
            await recognizer.recognize([request()])

        assert recognizer.problem is None


async def test_a_cancelled_call_hangs_up(gpu: Vllm) -> None:
    """The server learns that nobody waits any more, and stops working on it."""
    async with engine(gpu) as recognizer, anyio.create_task_group() as group:
        gpu.mood = "hangs"
        group.start_soon(recognizer.recognize, [request(1), request(2)])
        await until(lambda: gpu.in_flight == 2)
        group.cancel_scope.cancel()

    await until(lambda: gpu.n_abandoned == 2)
    assert 0 == gpu.in_flight


async def test_a_place_at_a_server_is_given_on_by_who_leaves(gpu: Vllm) -> None:
    """Those who wait for a server at its limit get the place of one that was cancelled."""
    async with engine(gpu, concurrency="1") as recognizer:
        gpu.mood = "hangs"
        heard: list[Hypothesis] = []
        async with anyio.create_task_group() as group:
            leaving = anyio.CancelScope()

            async def leave() -> None:
                with leaving:
                    await recognizer.recognize([request(1)])

            group.start_soon(leave)
            await until(lambda: gpu.in_flight == 1)
            group.start_soon(_keep, recognizer, [request(2)], heard)
            await anyio.wait_all_tasks_blocked()
            assert 1 == len(gpu.calls)
            leaving.cancel()
            await until(lambda: gpu.n_abandoned == 1)
            gpu.mood = "well"

    assert [text(2)] == [one.text for one in heard]


async def test_behind_the_slots_a_failed_segment_spoils_no_other(gpu: Vllm) -> None:
    """Each segment is a call of its own."""

    def spoil(call: Any) -> None:
        gpu.mood = "refusing" if call.text == text(2) else "well"

    async with engine(gpu, concurrency="1") as recognizer, EngineSlots(recognizer, queue_audio_s=100) as slots:
        gpu.on_call = spoil
        first = await slots.recognize(request(1), lane=Lane.SYNC, owner="a")
        with pytest.raises(EngineFailed):
            await slots.recognize(request(2), lane=Lane.SYNC, owner="a")
        third = await slots.recognize(request(3), lane=Lane.SYNC, owner="a")

        assert slots.problem is None

    assert (text(1), text(3)) == (first.text, third.text)


# ---- what is found out at the start


@pytest.mark.parametrize(
    ("server", "settings", "reason"),
    [
        ({}, {"model": "unheard-of"}, "it does not list the model that upstream.model names"),
        ({"key": "sk-gpu"}, {"api_key": "sk-wrong"}, "status 401: upstream.api_key is refused"),
        ({}, {"word_times": "true"}, "it gives no word times; unset upstream.word_times"),
        ({"chat": False}, {"mode": "chat"}, "it transcribes by none of the ways of upstream.mode=chat"),
        ({"mood": "broken"}, {}, "status 500"),
        ({"mood": "refusing"}, {}, "it transcribes by none of the ways of upstream.mode=auto"),
    ],
)
async def test_a_server_that_cannot_be_used_is_not_and_the_reason_is_told(
    server: Mapping[str, Any], settings: dict[str, str], reason: str
) -> None:
    """What is asked for and not honored is not silently left out."""
    with vllm(**server) as running:
        async with engine(running, **settings) as recognizer:
            problem = recognizer.problem

    assert f"none of 1 upstream speech servers can be used ({reason})" == problem


async def test_the_key_is_sent_and_never_told(capfd: pytest.CaptureFixture[str]) -> None:
    """Neither logs nor errors show it."""
    with vllm(key="sk-gpu") as running, structlog.testing.capture_logs() as logs:
        async with engine(running, api_key="sk-gpu") as recognizer:
            await recognizer.recognize([request()])
            running.key = "sk-new"
            with pytest.raises((EngineFailed, EngineUnavailable)) as failure:
                await recognizer.recognize([request()])
            await until(lambda: recognizer.problem)
            told = f"{failure.value!r} {failure.value.__cause__!r} {recognizer.problem} {logs}"

    assert "Bearer sk-gpu" == running.calls[0].authorization
    assert "upstream_excluded" in told
    assert "sk-" not in told + "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "names no server"),
        ({"urls": "gpu1:8000"}, "http://"),
        ({"urls": "ftp://gpu1/v1"}, "http://"),
        ({"urls": "http://"}, "http://"),
        ({"urls": "http://[::1/v1"}, "malformed"),
        ({"urls": "http://me:sk-secret@gpu1/v1"}, "no user, password"),
        ({"mode": "both"}, "'both' is none of"),
        ({"concurrency": "0"}, "concurrency"),
        ({"concurrency": "many"}, "concurrency: 'many' is no whole number"),
        ({"attempts": "0"}, "attempts"),
        ({"timeout_s": "inf"}, "timeout_s"),
        ({"timeout_s": "nan"}, "timeout_s"),
        ({"timeout_s": "soon"}, "timeout_s"),
        ({"longest_s": "5000"}, "longest_s"),
        ({"languages": "en, klingon"}, "'klingon' is no language"),
        ({"word_times": "perhaps"}, "neither true nor false"),
        ({"word_times": "true", "mode": "chat"}, "mode must not be chat"),
        ({"api_key": "sk-\n"}, "api_key: only printable"),
    ],
)
async def test_wrong_settings_are_refused(settings: dict[str, str], problem: str) -> None:
    """By the name of the setting; a secret that stands in the wrong place is not shown."""
    given = {"urls": "http://127.0.0.1:9/v1"} | settings if settings else {}
    with pytest.raises(ValueError, match=problem) as refused:
        async with upstream.factory(given):
            pass

    assert "sk-" not in str(refused.value)


async def test_the_languages_of_the_model_are_what_the_operator_says(gpu: Vllm) -> None:
    """Codes or names; without them, any."""
    async with engine(gpu, languages="zh, English") as some, engine(gpu) as any_language:
        assert frozenset({"en", "zh"}) == some.capabilities.languages
        assert any_language.capabilities.languages is None


async def test_a_bare_address_means_its_usual_path(gpu: Vllm) -> None:
    """``http://host:port`` is OpenAI's ``/v1`` there; doubled addresses are one server."""
    async with engine(urls=f"http://127.0.0.1:{gpu.port}/,{gpu.url}/,{gpu.url}", concurrency="5") as recognizer:
        (heard,) = await recognizer.recognize([request()])

        assert 5 == recognizer.capabilities.parallel_calls

    assert text() == heard.text
