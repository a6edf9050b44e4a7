"""Voice activity of live sessions: many in one call, and each as if it were alone."""

from collections.abc import AsyncIterator, Sequence

import anyio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import Speech

from qasr.domain.audio import SAMPLE_RATE, Pcm
from qasr.domain.errors import EngineFailed, EngineUnavailable
from qasr.engines.silero_vad import WINDOW, Memory, Probabilities, SileroVad, Windows
from qasr.engines.vad_batcher import CALL, VadBatcher, VadChannel

pytestmark = pytest.mark.anyio

CHUNK = SAMPLE_RATE // 10
CLIPS = ("jfk.flac", "LJ001-0001.flac", "LJ001-0002.flac", "austen-0870.flac")


@pytest.fixture(scope="module")
def vad() -> SileroVad:
    return SileroVad()


@pytest.fixture
async def batcher(vad: SileroVad) -> AsyncIterator[VadBatcher]:
    async with VadBatcher(vad) as batcher:
        yield batcher


async def heard(channel: VadChannel, pcm: Pcm, sizes: Sequence[int] = (CHUNK,)) -> Probabilities:
    """All probabilities of *pcm*, fed in pieces of *sizes*."""
    found, position, turn = [], 0, 0
    while position < len(pcm):
        size = sizes[turn % len(sizes)]
        found.append(await channel.feed(pcm[position : position + size]))
        position, turn = position + size, turn + 1
    return np.concatenate([*found, await channel.finish()])


async def test_channels_side_by_side_hear_what_each_hears_alone(batcher: VadBatcher, speech: Speech) -> None:
    """Chunks of all lengths, some with windows, some without: nobody notices the others."""
    clips = [
        (speech(name), sizes) for name, sizes in zip(CLIPS, [(1600,), (480, 100), (5000,), (100_000,)], strict=True)
    ]
    together: dict[int, Probabilities] = {}

    async def hear(number: int, pcm: Pcm, sizes: tuple[int, ...]) -> None:
        together[number] = await heard(batcher.start(), pcm, sizes)

    async with anyio.create_task_group() as group:
        for number, (pcm, sizes) in enumerate(clips):
            group.start_soon(hear, number, pcm, sizes)

    for number, (pcm, _) in enumerate(clips):
        np.testing.assert_allclose(together[number], await heard(batcher.start(), pcm), atol=1e-5)


def test_tracks_of_one_call_are_heard_as_if_alone(vad: SileroVad, speech: Speech) -> None:
    """Tracks of unlike lengths share a call; each keeps its own memory."""
    samples = [speech(name)[: WINDOW * n] for name, n in zip(CLIPS, (3, 1, 40, 2), strict=True)]
    tracks = [(np.pad(pcm.reshape(-1, WINDOW), ((0, 0), (64, 0))), Memory()) for pcm in samples]
    tracks = [(windows, vad.hear([(windows, memory)])[0][1]) for windows, memory in tracks]

    together = vad.hear(tracks)

    for (probabilities, memory), track in zip(together, tracks, strict=True):
        [(alone, after)] = vad.hear([track])
        np.testing.assert_allclose(probabilities, alone, atol=1e-5)
        np.testing.assert_allclose(memory.h, after.h, atol=1e-5)
        np.testing.assert_allclose(memory.c, after.c, atol=1e-4)


@settings(deadline=None, max_examples=15)
@given(sizes=st.lists(st.integers(1, 20_000), min_size=1, max_size=5), level=st.sampled_from([1.0, 0.03, 0.002]))
def test_chunks_do_not_matter(vad: SileroVad, speech: Speech, sizes: list[int], level: float) -> None:
    """Also not where quiet sound is raised: the gain belongs to windows, not to chunks."""
    pcm = np.concatenate([np.zeros(5000, np.float32), speech("jfk.flac")[:48_000] * np.float32(level)])
    sizes[0] += 200  # a chunk of few samples a time takes thousands of turns

    async def both() -> tuple[Probabilities, Probabilities]:
        async with VadBatcher(vad) as batcher:
            return await heard(batcher.start(), pcm, sizes), await heard(batcher.start(), pcm, (len(pcm),))

    cut, whole = anyio.run(both)

    np.testing.assert_allclose(cut, whole, atol=1e-5)


async def test_quiet_speech_is_found_and_noise_between_is_not(batcher: VadBatcher, speech: Speech) -> None:
    """Speech at a thirtieth of its level is heard as loud speech is; room noise in its pauses stays silence."""
    rng = np.random.default_rng(1)
    loud = np.pad(speech("jfk.flac"), (0, 10 * SAMPLE_RATE))
    noise = (3e-5 * rng.standard_normal(len(loud))).astype(np.float32)

    expected = await heard(batcher.start(), loud) > 0.5
    found = await heard(batcher.start(), loud / np.float32(30) + noise) > 0.5

    assert np.mean(found[expected]) > 0.95
    assert np.mean(found[-9 * SAMPLE_RATE // WINDOW :]) < 0.02


async def test_silence_and_noise_are_not_speech(batcher: VadBatcher) -> None:
    """Raised noise is still noise."""
    rng = np.random.default_rng(2)
    for level in (0.0, 1e-4, 1e-2):
        noise = (level * rng.standard_normal(10 * SAMPLE_RATE)).astype(np.float32)

        assert np.mean(await heard(batcher.start(), noise) > 0.5) < 0.02


class Counting(SileroVad):
    """Tells how many tracks and windows each call had, and fails when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[list[int]] = []
        self.broken = False

    def hear(self, tracks: Sequence[tuple[Windows, Memory]]) -> list[tuple[Probabilities, Memory]]:
        self.calls.append([len(windows) for windows, _ in tracks])
        if self.broken:
            raise ValueError("why")
        return super().hear(tracks)


async def test_what_comes_together_shares_a_call(speech: Speech) -> None:
    """Fifty sessions feed at once; that is one call."""
    vad, pcm = Counting(), speech("jfk.flac")[:CHUNK]
    async with VadBatcher(vad) as batcher, anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(batcher.start().feed, pcm)

    assert [[3] * 50] == vad.calls


async def test_a_long_feed_does_not_hold_up_the_others(speech: Speech) -> None:
    """A minute at once is heard in turns; what comes meanwhile does not wait for its end."""
    vad, minute = Counting(), np.tile(speech("jfk.flac"), 6)
    order: list[str] = []

    async def feed(name: str, channel: VadChannel, pcm: Pcm) -> None:
        await channel.feed(pcm)
        order.append(name)

    async with VadBatcher(vad) as batcher, anyio.create_task_group() as group:
        group.start_soon(feed, "long", batcher.start(), minute)
        for _ in range(20):
            group.start_soon(feed, "live", batcher.start(), minute[:CHUNK])

    assert ["live"] * 20 + ["long"] == order
    assert max(sum(call) for call in vad.calls) <= CALL
    assert len(minute) // WINDOW + 20 * 3 == sum(sum(call) for call in vad.calls)


async def test_a_cancelled_feed_harms_nobody(batcher: VadBatcher, speech: Speech) -> None:
    """Those who shared its call get what they would have got; its own channel has ended."""
    pcm = speech("jfk.flac")
    expected = await heard(batcher.start(), pcm[: 10 * CHUNK])
    victim, other = batcher.start(), batcher.start()
    found = []
    for i in range(10):
        async with anyio.create_task_group() as group:
            if i == 4:
                group.start_soon(victim.feed, pcm)
                await anyio.lowlevel.checkpoint()
            found.append(await other.feed(pcm[i * CHUNK : (i + 1) * CHUNK]))
            group.cancel_scope.cancel()
    found.append(await other.finish())

    np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-5)
    with pytest.raises(RuntimeError, match="has ended"):
        await victim.feed(pcm)


async def test_a_failed_call_reaches_all_who_waited_and_nobody_else(speech: Speech) -> None:
    """Who comes later is heard."""
    vad, pcm = Counting(), speech("jfk.flac")[:CHUNK]
    failures: list[EngineFailed] = []

    async def feed(channel: VadChannel) -> None:
        try:
            await channel.feed(pcm)
        except EngineFailed as failure:
            failures.append(failure)

    async with VadBatcher(vad) as batcher:
        vad.broken = True
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(feed, batcher.start())
        vad.broken = False
        later = await batcher.start().feed(pcm)

    assert 3 == len(failures)
    assert 3 == len(later)


async def test_leaving_fails_who_still_waits(vad: SileroVad, speech: Speech) -> None:
    """Nobody hangs when the server stops."""
    pcm = speech("jfk.flac")
    refused: list[VadChannel] = []

    async def feed(channel: VadChannel) -> None:
        try:
            await channel.feed(np.tile(pcm, 20))
        except EngineUnavailable:
            refused.append(channel)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group, VadBatcher(vad) as batcher:
            idle, *fed = [batcher.start() for _ in range(3)]
            for channel in fed:
                group.start_soon(feed, channel)
            await anyio.lowlevel.checkpoint()

    assert set(fed) == set(refused)
    with pytest.raises(EngineUnavailable):
        await idle.feed(pcm)


async def test_one_task_feeds_a_channel(batcher: VadBatcher, speech: Speech) -> None:
    """Two at once would mix up its sound; the second is told so."""
    channel, pcm = batcher.start(), speech("jfk.flac")[: 3 * CHUNK]
    async with anyio.create_task_group() as group:
        group.start_soon(channel.feed, pcm)
        await anyio.lowlevel.checkpoint()
        with pytest.raises(RuntimeError, match="another task"):
            await channel.feed(pcm)
