"""Live sessions: what they tell, in which order, what they hold, and what is left when they end."""

import asyncio
from dataclasses import replace
from functools import partial

import anyio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import Speech
from tests.pipeline.sessions import (
    FOUND,
    FRAME,
    MANUAL,
    Act,
    Led,
    LedStreams,
    LoudChannel,
    LoudVad,
    act,
    engines,
    finals,
    loud,
    quiet,
    settle,
    silero,
    sound,
    talk,
    without_partials,
)

from qasr.domain.audio import SAMPLE_RATE, Pcm
from qasr.domain.errors import EngineFailed, EngineUnavailable, QasrError, TooLong, UnsupportedLanguage, WrongState
from qasr.domain.live import Endpointing, Failed, LiveEvent, LiveOptions, Partial, SpeechStarted, SpeechStopped
from qasr.domain.live import Final as Told
from qasr.domain.options import Hints
from qasr.engines import scripted
from qasr.engines.room import Choice, EngineRoom
from qasr.engines.silero_vad import Probabilities
from qasr.engines.slots import Lane
from qasr.engines.vad_batcher import VadBatcher
from qasr.pipeline.guess import MOST_REPEATS
from qasr.pipeline.live import MOST_EVENTS, LiveLimits, live_session

pytestmark = pytest.mark.anyio

TWO = (quiet(0.96), loud(1.92), quiet(1.28), loud(0.96), quiet(0.96))


def steps(pcm: Pcm) -> list[Act]:
    """Frame by frame, each heard before the next comes."""
    return [one for first in range(0, len(pcm), FRAME) for one in (pcm[first : first + FRAME], "settle")]


# What is told


async def test_a_conversation_is_told_as_written_down_here() -> None:
    """Two utterances with all that is told of them, by the scripted engine."""
    async with scripted.factory({}) as engine, engines(engine) as heard:
        told = await talk(heard, FOUND, *steps(sound(*TWO)))

    first = partial(Partial, utterance=1, begin_ms=640, language="en")
    second = partial(Partial, utterance=2, begin_ms=3_840, language="en")
    expected: list[LiveEvent] = [
        SpeechStarted(utterance=1, at_ms=640),
        first(confirmed="", tentative="Segment"),
        first(confirmed="Segment", tentative=" at 0.6"),
        first(confirmed="Segment at 0.6", tentative=" seconds"),
        first(confirmed="Segment at 0.6 seconds", tentative=" lasting"),
        first(confirmed="Segment at 0.6 seconds lasting", tentative=""),
        SpeechStopped(utterance=1, at_ms=3_072),
        Told(
            utterance=1,
            begin_ms=640,
            end_ms=3_072,
            language="en",
            text="Segment at 0.6 seconds lasting 2.4 seconds.",
        ),
        SpeechStarted(utterance=2, at_ms=3_840),
        second(confirmed="", tentative="Segment"),
        second(confirmed="Segment", tentative=" at 3.8"),
        second(confirmed="Segment at 3.8", tentative=" seconds"),
        SpeechStopped(utterance=2, at_ms=5_312),
        Told(
            utterance=2,
            begin_ms=3_840,
            end_ms=5_312,
            language="en",
            text="Segment at 3.8 seconds lasting 1.5 seconds.",
        ),
    ]

    assert expected == told


async def test_in_manual_mode_a_commit_is_an_utterance() -> None:
    """No starts, no partials before; what was not committed at the end is one too; nothing fed, nothing told."""
    async with scripted.factory({}) as engine, engines(engine) as heard:
        told = await talk(heard, MANUAL, "commit", loud(1), "commit", "commit", quiet(0.5), loud(2.01))

    assert [
        SpeechStopped(utterance=1, at_ms=1_000),
        Told(utterance=1, begin_ms=0, end_ms=1_000, language="en", text="Segment at 0.0 seconds lasting 1.0 seconds."),
        SpeechStopped(utterance=2, at_ms=3_510),
        Told(
            utterance=2,
            begin_ms=1_000,
            end_ms=3_510,
            language="en",
            text="Segment at 1.3 seconds lasting 2.2 seconds.",
        ),
    ] == sorted(told, key=lambda event: event.utterance)


async def test_a_commit_of_silence_is_answered() -> None:
    """With a final without words: the client waits for one."""
    engine = Led()
    async with engines(engine) as heard:
        told = await talk(heard, MANUAL, quiet(1), "commit")

    assert [SpeechStopped(utterance=1, at_ms=1_000), Told(utterance=1, begin_ms=0, end_ms=1_000, text="")] == told
    assert [] == engine.asked


async def test_a_long_commit_is_heard_in_parts_while_it_is_spoken() -> None:
    """No sound piles up, no word is lost, and the final comes soon after the commit."""
    engine = Led()
    pcm = sound(*[loud(14), quiet(0.5)] * 5)
    async with engines(engine) as heard, live_session(MANUAL, heard, LiveLimits(), owner="a") as session:
        await act(session, [pcm, "settle"])
        early = len(engine.finals)
        await session.commit()
        await session.finish()
        told = [event async for event in session.events()]

    assert 4 <= early <= len(engine.finals) <= 6
    assert all(request.segment.duration_s <= 30 for request in engine.finals)
    assert [SpeechStopped, Told] == [type(event) for event in without_partials(told)]
    assert pytest.approx(70, abs=3) == len(finals(told)[0].split())


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.booleans(), st.floats(0.03, 4)), max_size=8),
    st.sampled_from([100, 333, 512, 1_600, 16_000, 10**9]),
    st.sampled_from([FOUND, MANUAL, replace(FOUND, partials=False, word_times="words")]),
)
def test_blocks_do_not_matter(stretches: list[tuple[bool, float]], frame: int, options: LiveOptions) -> None:
    """The same sound in other blocks gives the same starts, stops and finals; ``talk`` checks their order."""
    pcm = sound(quiet(0), *(loud(length) if spoken else quiet(length) for spoken, length in stretches))

    async def told(frame: int) -> list[LiveEvent]:
        async with scripted.factory({}) as engine, engines(engine) as heard:
            return sorted(
                without_partials(await talk(heard, options, pcm, frame=frame)),
                key=lambda event: (event.utterance, type(event).__name__),
            )

    assert asyncio.run(told(FRAME)) == asyncio.run(told(frame))


async def test_finals_come_in_order_though_heard_side_by_side() -> None:
    """A long utterance does not let the short one behind it pass, nor does it hold up that it is heard."""
    engine = Led(hold=lambda request: request.segment.begin_ms < 2_000 and not request.is_open)
    async with engines(engine) as heard, live_session(FOUND, heard, LiveLimits(), owner="a") as session:
        await act(session, [*TWO, "settle"])

        assert 2 == len(engine.finals)
        engine.gate.set()
        await session.finish()
        told = [event async for event in session.events()]

    assert [1, 2] == [event.utterance for event in told if isinstance(event, Told)]


async def test_clearing_ends_what_was_told_to_have_begun() -> None:
    """It gets its stop and a final without words; the engine is free; the next utterance begins behind."""
    engine = Led(hold=lambda request: request.is_open)
    async with engines(engine) as heard:
        told = await talk(heard, FOUND, loud(2), "settle", "clear", quiet(1), "clear", loud(1))

    assert [(1, ""), (2, "w3")] == [(event.utterance, event.text) for event in told if isinstance(event, Told)]
    assert [0, 2_000, 3_000, 4_000] == [
        event.at_ms for event in told if isinstance(event, SpeechStarted | SpeechStopped)
    ]
    assert engine.cancelled


async def test_clearing_in_manual_mode_leaves_no_trace() -> None:
    """What was never told to have begun is forgotten whole, also what was heard of it already."""
    engine = Led(hold=lambda request: request.segment.begin_ms == 0)
    async with engines(engine) as heard:
        told = await talk(heard, MANUAL, loud(14), quiet(1), "settle", "clear", loud(1), "commit")

    assert [SpeechStopped(utterance=1, at_ms=16_000)] == without_partials(told)[:1]
    assert ["w15"] == finals(told)
    assert engine.cancelled


async def test_options_apply_to_what_comes() -> None:
    """An open utterance keeps its hints; the next has the new ones."""
    engine = Led()
    other = replace(FOUND, hints=Hints(context="new"))
    async with engines(engine) as heard:
        await talk(heard, FOUND, loud(1), "settle", other, loud(1), quiet(1), loud(1))

    assert ["", "new"] == [request.hints.context for request in engine.finals]


async def test_another_way_of_finding_ends_ends_what_is_open() -> None:
    """From detection to manual mode and back; nothing is lost."""
    async with engines(Led()) as heard:
        told = await talk(heard, FOUND, loud(2), MANUAL, loud(3), FOUND, loud(4))

    assert ["w0 w1", "w2 w3 w4", "w5 w6 w7 w8"] == finals(told)
    assert [1, 3] == [event.utterance for event in told if isinstance(event, SpeechStarted)]


async def test_a_commit_where_the_session_finds_the_ends_ends_what_is_open() -> None:
    """And does nothing where nothing is."""
    async with engines(Led()) as heard:
        told = await talk(heard, FOUND, quiet(1), "commit", loud(2), "commit", quiet(3))

    assert ["w0 w1"] == finals(told)
    assert 1 == len([event for event in told if isinstance(event, SpeechStopped)])


async def test_words_get_times_in_order() -> None:
    """Estimated ones in partials; ``talk`` checks that none goes backwards, also across utterances."""
    options = replace(FOUND, word_times="words")
    async with engines(Led()) as heard:
        told = await talk(heard, options, *steps(sound(loud(3), quiet(1), loud(2), quiet(1))))

    partials = [event for event in told if isinstance(event, Partial)]
    assert all(one.words and all(word.estimated for word in one.words) for one in partials)
    assert [3, 3] == [len(event.words) for event in told if isinstance(event, Told)]


# What is being said


async def test_partials_wait_while_finals_wait() -> None:
    """An engine that is busy with finals is not asked for anything else, and every final is heard."""
    engine = Led(parallel=1, hold=lambda request: not request.is_open)
    async with engines(engine) as heard, live_session(FOUND, heard, LiveLimits(), owner="a") as session:
        await act(session, [loud(1), quiet(1), loud(1), quiet(1), "settle"])
        before = len(engine.partials)

        assert heard.slots.has_waiting(Lane.LIVE)
        await act(session, steps(loud(3)))
        assert before == len(engine.partials)
        engine.gate.set()
        await session.finish()
        told = [event async for event in session.events()]

    assert 3 == len(finals(told))


async def test_a_partial_is_dropped_when_its_utterance_stops() -> None:
    """The engine is free for the final; nothing is told of it afterwards."""
    engine = Led(parallel=1, hold=lambda request: request.is_open)
    async with engines(engine) as heard:
        told = await talk(heard, FOUND, loud(2), "settle", quiet(2), "settle")

    assert 1 == len(engine.cancelled)
    assert [] == [event for event in told if isinstance(event, Partial)]
    assert ["w0 w1"] == finals(told)


async def test_one_partial_at_a_time() -> None:
    """A slow engine gets one growing segment of a session, not a heap of them."""
    engine = Led(hold=lambda request: request.is_open)
    async with engines(engine) as heard, live_session(FOUND, heard, LiveLimits(), owner="a") as session:
        await act(session, steps(loud(5)))

        assert 1 == len(engine.partials)


async def test_partials_can_be_left_out() -> None:
    """Who does not want them costs the engine nothing."""
    engine = Led()
    async with engines(engine) as heard:
        told = await talk(heard, replace(FOUND, partials=False), *steps(sound(loud(3), quiet(1))))

    assert [] == engine.partials
    assert [] == [event for event in told if isinstance(event, Partial)]


@pytest.mark.parametrize("length_s", [20, 80])
async def test_partials_cost_in_proportion_to_what_is_said(length_s: int) -> None:
    """Four times the speech is four times the work, not sixteen times, though nobody takes a breath."""
    engine = Led()
    options = LiveOptions(endpointing=Endpointing(threshold=0.5, silence_ms=640, prefix_ms=0, longest_ms=10**6))
    async with engines(engine) as heard:
        told = await talk(heard, options, *steps(loud(length_s)))

    decoded_s = sum(request.segment.duration_s for request in engine.partials)
    assert decoded_s <= (MOST_REPEATS + 1) * length_s
    assert len(engine.partials) >= length_s / 3
    assert 1 == len(finals(told))


async def test_an_engine_with_streams_hears_each_sample_once() -> None:
    """Its own word on what is stable counts, and no stream is left open."""
    engine = LedStreams()
    async with engines(engine) as heard:
        told = await talk(heard, FOUND, *steps(sound(loud(3), quiet(1), loud(2), quiet(1))))

    partials = [event for event in told if isinstance(event, Partial)]
    assert ["s0 s1 s2", "s0 s1"] == [max(p.confirmed for p in partials if p.utterance == n) for n in (1, 2)]
    assert 5 * SAMPLE_RATE < engine.n_samples <= 6 * SAMPLE_RATE
    assert (0, 2) == (engine.n_open, engine.n_opened)
    assert [] == engine.partials


@pytest.mark.parametrize("error", [EngineFailed("broken"), RuntimeError("a bug")])
async def test_a_stream_that_breaks_is_opened_anew(error: Exception) -> None:
    """The finals do not mind, and the next partial begins from the start of the segment."""
    engine = LedStreams(breaks=error)
    async with engines(engine) as heard, live_session(FOUND, heard, LiveLimits(), owner="a") as session:
        await act(session, steps(loud(1)))
        engine.breaks = None
        await act(session, steps(loud(1.5)))
        await session.finish()
        told = [event async for event in session.events()]

    assert any("s0 s1" == event.confirmed for event in told if isinstance(event, Partial))
    assert 0 == engine.n_open
    assert 1 == len(finals(told))


async def test_the_scripted_engine_streams_if_told_to() -> None:
    """So that the port can be tried without a model."""
    async with scripted.factory({"word_ms": "500"}) as engine, engines(engine) as heard:
        told = await talk(heard, FOUND, *steps(sound(loud(2), quiet(1))))

    last = [event for event in told if isinstance(event, Partial)][-1]
    assert last.confirmed.startswith("word 1 word 2")


# What fails


async def test_a_failed_utterance_is_told_and_the_session_goes_on() -> None:
    """Tried twice, then told; the next one is heard."""
    engine = Led(fail=lambda request: request.segment.begin_ms < 2_000)
    async with engines(engine) as heard:
        told = await talk(heard, FOUND, *steps(sound(*TWO)))

    assert [Failed, Told] == [type(event) for event in told if isinstance(event, Failed | Told)]
    assert [EngineFailed] == [type(event.error) for event in told if isinstance(event, Failed)]
    assert 3 == len(engine.finals)


@pytest.mark.parametrize(
    ("error", "expected"), [(EngineUnavailable("gone"), EngineUnavailable), (RuntimeError("a bug"), EngineFailed)]
)
async def test_a_dead_or_buggy_engine_costs_utterances_only(error: Exception, expected: type[QasrError]) -> None:
    """No exception leaves the session; each utterance has its answer."""
    engine = Led(fail=lambda _: True, error=error)
    async with engines(engine) as heard:
        told = await talk(heard, replace(FOUND, partials=False), *steps(sound(*TWO)))

    assert [expected] * 2 == [type(event.error) for event in told if isinstance(event, Failed)]


class BrokenVad(LoudVad):
    """Breaks at the first sound."""

    def start(self) -> "BrokenChannel":
        return BrokenChannel()


class BrokenChannel(LoudChannel):
    async def feed(self, pcm: Pcm) -> Probabilities:  # noqa: ARG002 - the port's
        raise EngineFailed("Voice activity detection failed.")


async def test_without_voice_activity_a_session_ends() -> None:
    """There is nothing that could be told any more; nobody is left waiting, other sessions go on."""
    engine = Led()
    async with engines(engine, BrokenVad()) as broken, engines(engine) as heard:
        before = asyncio.all_tasks()
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the block is what is tested
            async with live_session(FOUND, broken, LiveLimits(), owner="a") as session:
                await session.feed(loud(1))
                async with asyncio.timeout(10):
                    assert [] == [event async for event in session.events()]

        assert caught.group_contains(EngineFailed)
        assert before == asyncio.all_tasks()
        assert ["w0 w1"] == finals(await talk(heard, FOUND, loud(2)))


async def test_speech_that_the_engine_cannot_hear_is_not_written_down() -> None:
    """An English engine that guesses at other languages: five seconds are enough to know."""
    engine = Led(logprob=-1.5)
    async with engines(engine) as heard:
        told = await talk(heard, FOUND, *steps(sound(loud(8), quiet(1), loud(2), quiet(1))))

    assert [UnsupportedLanguage] * 2 == [type(event.error) for event in told if isinstance(event, Failed)]
    longest = max(len((event.confirmed + event.tentative).split()) for event in told if isinstance(event, Partial))
    assert longest <= 5


async def test_who_names_the_language_is_believed() -> None:
    """As with recordings."""
    options = replace(FOUND, hints=Hints(language="en"))
    async with engines(Led(logprob=-1.5)) as heard:
        told = await talk(heard, options, loud(8), quiet(1))

    assert 1 == len(finals(told))


async def test_noise_is_not_speech() -> None:
    """Half a minute of a fan: nothing is told, nothing is asked of the engine."""
    noise = (0.05 * np.random.default_rng(7).standard_normal(30 * SAMPLE_RATE)).astype(np.float32)
    engine = Led()
    async with VadBatcher(silero()) as vad, engines(engine, vad) as heard:
        told = await talk(heard, FOUND, noise)

    assert [] == told
    assert [] == engine.asked


# What is held


async def test_minutes_of_silence_cost_no_memory() -> None:
    """A session in silence holds the sound that may become a prefix, and no more after an hour than before."""
    async with engines(Led()) as heard, live_session(FOUND, heard, LiveLimits(), owner="a") as session:
        for _ in range(60):
            await act(session, [quiet(10), "settle"], frame=SAMPLE_RATE)
        divider = session._divider  # type: ignore[attr-defined]

        assert divider._tape.end - divider._tape.begin <= 0.4 * SAMPLE_RATE
        assert len(divider._tape._buffer) <= 2 * SAMPLE_RATE
        assert 0 == session._n_unheard  # type: ignore[attr-defined]


async def test_a_slow_engine_slows_the_client_and_nothing_is_lost() -> None:
    """What may wait is bounded in seconds; every utterance is heard in the end."""
    engine = Led(parallel=1, hold=lambda _: True)
    pcm = sound(*[loud(2), quiet(1)] * 40)
    limits = LiveLimits(queue_audio_s=10)
    fed_s = 0.0
    async with engines(engine) as heard, live_session(FOUND, heard, limits, owner="a") as session:

        async def client() -> None:
            nonlocal fed_s
            for first in range(0, len(pcm), FRAME):
                await session.feed(pcm[first : first + FRAME])
                fed_s += 0.1
            await session.finish()

        speaking = asyncio.create_task(client())
        await settle()

        assert not speaking.done()
        assert 10 <= fed_s <= 25
        before = fed_s
        await settle()
        assert before == fed_s
        engine.gate.set()
        async with asyncio.timeout(60):
            told = [event async for event in session.events()]
            await speaking

    assert 40 == len(finals(told))


async def test_a_whole_file_at_once_is_taken_in_parts() -> None:
    """One block of minutes waits for room like many small ones."""
    engine = Led(parallel=1, hold=lambda _: True)
    async with (
        engines(engine) as heard,
        live_session(FOUND, heard, LiveLimits(queue_audio_s=10), owner="a") as session,
    ):
        speaking = asyncio.create_task(session.feed(sound(*[loud(2), quiet(1)] * 100)))
        await settle()

        assert not speaking.done()
        assert session._n_unheard <= 15 * SAMPLE_RATE  # type: ignore[attr-defined]
        speaking.cancel()


async def test_a_client_that_does_not_read_is_slowed_down() -> None:
    """Events wait for it, but not without end."""
    async with engines(Led()) as heard, live_session(FOUND, heard, LiveLimits(), owner="a") as session:
        pcm = sound(*[loud(0.3), quiet(0.7)] * 500)
        speaking = asyncio.create_task(act(session, [pcm], frame=SAMPLE_RATE))
        for _ in range(100):
            await settle()

        assert not speaking.done()
        assert MOST_EVENTS <= len(session._outbox) <= MOST_EVENTS + 120  # type: ignore[attr-defined]
        speaking.cancel()


async def test_sessions_do_not_wait_for_each_other() -> None:
    """One session's engine call hangs; the other one is heard to its end."""
    engine = Led(parallel=2, hold=lambda request: request.hints.context == "slow")
    slow = replace(FOUND, hints=Hints(context="slow"), partials=False)
    async with engines(engine) as heard, live_session(slow, heard, LiveLimits(), owner="a") as stuck:
        await act(stuck, [*TWO[:3], "settle"])
        told = await talk(heard, FOUND, *TWO)

        assert 2 == len(finals(told))
        assert 1 == len(engine.finals) - 2


async def test_a_session_has_an_end() -> None:
    """After so many seconds of sound it takes no more."""
    async with (
        engines(Led()) as heard,
        live_session(MANUAL, heard, LiveLimits(session_s=2), owner="a") as session,
    ):
        await session.feed(quiet(2))
        with pytest.raises(TooLong, match="2 seconds"):
            await session.feed(quiet(0.1))


async def test_after_its_end_a_session_takes_nothing() -> None:
    """Told, and not silently dropped; finishing twice is finishing."""
    async with engines(Led()) as heard, live_session(FOUND, heard, LiveLimits(), owner="a") as session:
        await session.finish()
        await session.finish()
        for order in (session.feed(quiet(1)), session.commit(), session.clear(), session.configure(FOUND)):
            with pytest.raises(WrongState):
                await order


# What is left

STATES: dict[str, tuple[LiveOptions, list[Act]]] = {
    "fresh": (FOUND, []),
    "in silence": (FOUND, [quiet(1), "settle"]),
    "in speech, a partial under way": (FOUND, [loud(2), "settle"]),
    "stopped, a final under way": (FOUND, [loud(2), quiet(1), "settle"]),
    "finals and a partial under way": (FOUND, [*TWO, loud(2), "settle"]),
    "finals waiting": (FOUND, [*TWO * 3, "settle"]),
    "cleared": (FOUND, [loud(2), "settle", "clear"]),
    "manual, not committed": (MANUAL, [loud(40), "settle"]),
    "manual, committed": (MANUAL, [loud(40), "commit", "settle"]),
    "nothing listened to yet": (FOUND, [loud(2)]),
    "orders waiting": (MANUAL, [loud(2), "settle", "clear", loud(1), "commit", FOUND]),
}


@pytest.mark.parametrize("engine", [Led, LedStreams])
@pytest.mark.parametrize("state", STATES)
async def test_leaving_leaves_nothing(state: str, engine: type[Led]) -> None:
    """In any state: no task, nothing in the engine's queue, no call, no stream."""
    options, acts = STATES[state]
    hears = Led(parallel=2, hold=lambda _: True) if engine is Led else LedStreams()
    async with engines(hears) as heard:
        before = asyncio.all_tasks()
        async with live_session(options, heard, LiveLimits(), owner="a") as session:
            await act(session, acts)
        await settle()

        assert before == asyncio.all_tasks()
        assert not any(map(heard.slots.has_waiting, Lane))
        if isinstance(hears, LedStreams):
            assert 0 == hears.n_open
        else:
            assert len(hears.cancelled) == len(hears.asked)


async def test_leaving_frees_those_who_wait() -> None:
    """A client that waits for room or for events is not left hanging."""
    engine = Led(parallel=1, hold=lambda _: True)
    async with engines(engine) as heard:
        async with live_session(FOUND, heard, LiveLimits(queue_audio_s=1), owner="a") as session:

            async def read() -> list[LiveEvent]:
                return [event async for event in session.events()]

            feeding, reading = asyncio.create_task(act(session, [*TWO * 9])), asyncio.create_task(read())
            await settle()
        async with asyncio.timeout(10):
            with pytest.raises(WrongState):
                await feeding
            await reading


async def test_errors_of_the_block_pass_as_they_are() -> None:
    """What a face raises inside the block is not wrapped."""
    async with engines(Led()) as heard:
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is what is tested
            async with live_session(FOUND, heard, LiveLimits(), owner="a") as session:
                await act(session, [loud(1), "settle"])
                raise ZeroDivisionError
        with anyio.move_on_after(0.05) as scope:
            async with live_session(FOUND, heard, LiveLimits(), owner="a"):
                await anyio.sleep_forever()

    assert scope.cancelled_caught


# Real speech


async def test_live_speech_is_heard_as_well_as_recorded(speech: Speech, references: dict[str, str]) -> None:
    """The embedded engine, five clips one after the other: most words of the references, with measured times."""
    names = ["jfk.flac", "LJ001-0002.flac", "LJ001-0003.flac", "austen-0870.flac"]
    pcm = sound(*(one for name in names for one in (speech(name), quiet(1.2))))
    options = replace(FOUND, word_times="words")
    async with EngineRoom(lambda _: [Choice(engine="moonshine")]) as room, room.lease() as heard:
        patient = replace(heard, live_aligner=heard.aligner)  # all clips come at once, and each is to be aligned
        told = await talk(patient, options, pcm)

    text = " ".join(finals(told))
    reference = " ".join(references[name] for name in names)
    assert error_rate(reference, text) <= 0.2
    words = [word for event in told if isinstance(event, Told) for word in event.words]
    assert sum(not word.estimated for word in words) >= 0.8 * len(words)


def error_rate(reference: str, heard: str) -> float:
    """Word error rate, without case and punctuation."""
    wanted, found = ([w.strip(".,;:?!\"'-").lower() for w in text.split()] for text in (reference, heard))
    costs = list(range(len(found) + 1))
    for i, word in enumerate(wanted, 1):
        diagonal, costs[0] = costs[0], i
        for j, other in enumerate(found, 1):
            diagonal, costs[j] = costs[j], min(costs[j] + 1, costs[j - 1] + 1, diagonal + (word != other))
    return costs[-1] / len(wanted)
