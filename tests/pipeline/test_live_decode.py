"""Live sound in: every format, however its bytes are cut, and what a client may not do with them."""

import os
import signal
import struct
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import anyio
import anyio.lowlevel
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import DATA
from tests.media import CLIP_MS, Media, clip, float_wav, wav_header, with_garbage

from qasr.domain.audio import SAMPLE_RATE, LiveCodec, LiveFormat, Pcm, to_ms
from qasr.domain.errors import EngineFailed, InvalidParameter, QueueFull, Undecodable
from qasr.pipeline import live_decode, live_media, live_pcm
from qasr.pipeline.live_decode import PIECE, LiveDecoders, LiveStream, Piece
from qasr.workers.child import Refusal

pytestmark = pytest.mark.anyio

COMPRESSED: Final[tuple[LiveCodec, ...]] = ("mp3", "aac", "amr", "opus", "speex")
LIKENESS: Final[Mapping[str, float]] = {"amr": 0.9, "speex": 0.9}
"""What narrow codecs leave; of others .98."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def decoders() -> AsyncIterator[LiveDecoders]:
    """One child for all, because it takes half a second to start."""
    async with LiveDecoders(processes=1) as decoders:
        yield decoders


@pytest.fixture(scope="module")
def original() -> Pcm:
    samples: Pcm = clip()[0]
    return samples


def coded(media: Media, codec: str) -> bytes:
    """The clip in a compressed format."""
    return (DATA / "jfk.spx").read_bytes() if codec == "speex" else media.bytes(codec)


def pcm_bytes(samples: Pcm, rate_hz: int) -> bytes:
    """*samples* at 16 kHz as PCM at *rate_hz*."""
    n = len(samples) * rate_hz // SAMPLE_RATE
    spectrum = np.fft.rfft(samples)
    resized = np.zeros(n // 2 + 1, spectrum.dtype)
    kept = min(len(spectrum), len(resized))
    resized[:kept] = spectrum[:kept]
    return (np.fft.irfft(resized, n) * (n / len(samples)) * 32767).clip(-32768, 32767).astype("<i2").tobytes()


def likeness(heard: Pcm, original: Pcm) -> float:
    """Correlation at the best delay within 120 ms; 1 for equal but for their level."""
    n = 1 << (len(heard) + len(original)).bit_length()
    products = np.fft.irfft(np.fft.rfft(heard, n) * np.conj(np.fft.rfft(original, n)), n)
    delay = SAMPLE_RATE * 120 // 1000
    near = np.abs(np.concatenate([products[:delay], products[-delay:]])).max()
    return float(near / (np.linalg.norm(heard) * np.linalg.norm(original)))


def limits_of(pid: int) -> dict[str, str]:
    """What the kernel lets a process have."""
    about = Path(f"/proc/{pid}/limits").read_text(encoding="ascii")
    return {line[:25].strip(): line[25:].split()[0] for line in about.splitlines()[1:]}


def cut(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    """*data* in pieces of *sizes*, again and again."""
    pieces: list[bytes] = []
    at = 0
    while at < len(data):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(data[at : at + size])
        at += size
    return pieces


async def told(stream: LiveStream, data: bytes) -> list[Pcm]:
    return [pcm async for pcm in stream.feed(data)]


async def heard(
    decoders: LiveDecoders, codec: LiveCodec, data: bytes, sizes: Sequence[int] = (3_200,), rate_hz: int = SAMPLE_RATE
) -> Pcm:
    """All samples of *data*, sent in pieces of *sizes*."""
    async with decoders.open(LiveFormat(codec=codec, rate_hz=rate_hz)) as stream:
        found = [pcm for piece in cut(data, sizes) for pcm in await told(stream, piece)]
        found += [pcm async for pcm in stream.finish()]
    return np.concatenate([np.zeros(0, np.float32), *found])


def linear(form: LiveFormat, data: bytes, sizes: Sequence[int]) -> Pcm:
    """All samples of *data* in a format that needs no child."""
    sound = live_pcm.sound(form)
    return np.concatenate([*(sound.feed(piece) for piece in cut(data, sizes)), sound.finish()])


def decoded(codec: str, data: bytes, sizes: Sequence[int]) -> Pcm:
    """All samples of *data*, as the child decodes them, without the child."""
    stream = live_media._Stream(codec)
    found = [stream.feed(piece, lambda: False) for piece in cut(data, sizes)]
    return np.concatenate([*found, stream.finish(lambda: False)])


class TestLinear:
    @pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 24_000, 44_100, 48_000])
    async def test_pcm_of_any_rate_is_heard(self, decoders: LiveDecoders, original: Pcm, rate_hz: int) -> None:
        """Whole, at its place, also in pieces of odd length."""
        pcm = await heard(decoders, "pcm", pcm_bytes(original, rate_hz), (4_801,), rate_hz)

        assert np.float32 == pcm.dtype
        assert likeness(pcm, original) > (0.95 if rate_hz < SAMPLE_RATE else 0.99)
        assert abs(to_ms(len(pcm)) - CLIP_MS) <= 1
        assert np.abs(pcm).max() <= 1

    @settings(deadline=None, max_examples=25)
    @given(
        sizes=st.lists(st.integers(1, 9_000), min_size=1, max_size=5),
        rate_hz=st.sampled_from([8_000, 16_000, 22_050, 24_000, 48_000]),
        codec=st.sampled_from(["pcm", "mulaw", "alaw"]),
    )
    def test_any_cutting_gives_the_same_samples(self, sizes: list[int], rate_hz: int, codec: LiveCodec) -> None:
        """Half samples and the filter's reach are carried over."""
        data = np.random.default_rng(1).bytes(20_001)
        form = LiveFormat(codec=codec, rate_hz=rate_hz)

        np.testing.assert_array_equal(linear(form, data, sizes), linear(form, data, (len(data),)))

    @pytest.mark.parametrize("codec", ["mulaw", "alaw"])
    async def test_g711_is_what_a_telephone_sends(
        self, decoders: LiveDecoders, media: Media, original: Pcm, codec: LiveCodec
    ) -> None:
        """FFmpeg's encoder and our table agree."""
        path = media.odd(f"{codec}_8k.wav")
        data = path.read_bytes()
        sound = data[data.index(b"data") + 8 :]

        pcm = await heard(decoders, codec, sound, rate_hz=8_000)

        assert likeness(pcm, original) > 0.95
        assert abs(to_ms(len(pcm)) - CLIP_MS) <= 2
        assert 0.5 < np.abs(pcm).max() / np.abs(original).max() < 1.1

    async def test_a_large_message_comes_in_pieces(self, decoders: LiveDecoders) -> None:
        """Ten minutes at once are not ten minutes of samples at once."""
        async with decoders.open(LiveFormat(codec="pcm")) as stream:
            pieces = await told(stream, bytes(SAMPLE_RATE * 2 * 600))

        assert max(map(len, pieces)) <= 2 * SAMPLE_RATE
        assert SAMPLE_RATE * 600 == sum(map(len, pieces))

    @pytest.mark.parametrize("rate_hz", [0, -1, 1, 3_999, 200_000])
    async def test_a_rate_of_no_sound_card_is_refused(self, decoders: LiveDecoders, rate_hz: int) -> None:
        """Samples that claim to be seconds long would fill the memory."""
        with pytest.raises(InvalidParameter, match="sample rate") as refused:
            async with decoders.open(LiveFormat(codec="pcm", rate_hz=rate_hz)):
                pass

        assert "sample_rate" == refused.value.parameter


def _wav(samples: Pcm, n_claimed: int) -> bytes:
    return wav_header(n_claimed) + (samples * 32767).astype("<i2").tobytes()


LIST: Final = b"LIST" + struct.pack("<I", 10) + b"INFOhello!"
WAVS: Final[Mapping[str, Callable[[Pcm], bytes]]] = {
    "right size": lambda s: _wav(s, 2 * len(s)),
    "size zero": lambda s: _wav(s, 0),
    "size unknown": lambda s: _wav(s, 2**32 - 1),
    "size of the first piece": lambda s: _wav(s, 3_200),
    "chunk behind": lambda s: _wav(s, 2 * len(s)) + LIST,
    "chunk before": lambda s: (whole := _wav(s, 2 * len(s)))[:36] + LIST + whole[36:],
    "one file per piece": lambda s: b"".join(_wav(part, 2 * len(part)) for part in np.split(s, 10)),
}


class TestWav:
    @pytest.mark.parametrize("name", ["u8.wav", "s24.wav", "s32.wav", "11025hz.wav", "5.1.wav"])
    async def test_pcm_of_any_width_is_heard(
        self, decoders: LiveDecoders, media: Media, original: Pcm, name: str
    ) -> None:
        """And of several channels their mean."""
        pcm = await heard(decoders, "wav", media.odd(name).read_bytes())

        assert likeness(pcm, original) > 0.95
        assert abs(to_ms(len(pcm)) - CLIP_MS) <= 1

    @settings(deadline=None, max_examples=40)
    @given(name=st.sampled_from(sorted(WAVS)), sizes=st.lists(st.integers(1, 5_000), min_size=1, max_size=5))
    def test_sizes_may_lie_and_cuts_may_fall_anywhere(self, name: str, sizes: list[int]) -> None:
        """All the sound is heard, and nothing but sound."""
        samples = (np.arange(10_000) % 1000 / 1000).astype(np.float32)
        expected = (samples * 32767).astype("<i2").astype(np.float32) / 32768

        np.testing.assert_array_equal(linear(LiveFormat(codec="wav"), WAVS[name](samples), sizes), expected)

    def test_an_odd_number_of_bytes_is_filled_up(self) -> None:
        """The byte that makes the length even is no sound, where a chunk follows."""
        odd = wav_header(3, bits=8) + b"\x80\xff\x80\x00" + LIST

        for sizes in ((1,), (len(odd),)):
            np.testing.assert_allclose(linear(LiveFormat(codec="wav"), odd, sizes), [0, 127 / 128, 0], atol=1e-6)

    @pytest.mark.parametrize(
        "data",
        [
            b"\x00" * 3_200,
            b"RIFF",
            b"RIFFsizeAVI " + bytes(100),
            wav_header(100)[:40],
            float_wav(np.zeros((1, 100), np.float32)),
            wav_header(100, tag=7, bits=8) + bytes(100),
            wav_header(100, 1) + bytes(100),
            wav_header(100, n_channels=200) + bytes(100),
            wav_header(100, bits=12) + bytes(100),
            wav_header(100)[:12] + b"data" + bytes(100),
            wav_header(100)[:12] + b"JUNK" + b"\xff" * 100,
            wav_header(100)[:12] + b"fmt \xff\xff\xff\x7f" + bytes(100),
            wav_header(10) + bytes(10) + wav_header(10, 8_000) + bytes(10),
        ],
        ids=lambda data: repr(data[:4] + data[20:40]),
    )
    @pytest.mark.parametrize("size", [1, 10_000])
    def test_what_is_no_wav_of_pcm_is_refused(self, data: bytes, size: int) -> None:
        """In the words of the service."""
        with pytest.raises(Undecodable, match=r"^Failed to decode audio$"):
            linear(LiveFormat(codec="wav"), data, (size,))


class TestCompressed:
    @pytest.mark.parametrize("codec", COMPRESSED)
    async def test_every_format_is_heard_while_it_comes(
        self, decoders: LiveDecoders, media: Media, original: Pcm, codec: LiveCodec
    ) -> None:
        """Whole; and when half of the bytes are there, so is half of the sound."""
        data = coded(media, codec)
        early: list[Pcm] = []
        async with decoders.open(LiveFormat(codec=codec)) as stream:
            for piece in cut(data[: len(data) // 2], (500,)):
                early += await told(stream, piece)
            late = await told(stream, data[len(data) // 2 :]) + [pcm async for pcm in stream.finish()]
        pcm = np.concatenate([*early, *late])

        assert likeness(pcm, original) > LIKENESS.get(codec, 0.98)
        assert -10 <= to_ms(len(pcm)) - CLIP_MS <= 100
        assert sum(map(len, early)) > len(pcm) * (0.35 if codec == "opus" else 0.45)  # pages of Ogg hold a second

    @pytest.mark.parametrize("codec", COMPRESSED)
    def test_any_cutting_gives_the_same_samples(self, media: Media, codec: str) -> None:
        """Headers, frames and pages may be cut anywhere."""
        data = coded(media, codec)[:20_000]
        whole = decoded(codec, data, (len(data),))

        @settings(deadline=None, max_examples=8)
        @given(st.lists(st.integers(1, 3_000), min_size=1, max_size=5))
        def cuts_do_not_matter(sizes: list[int]) -> None:
            np.testing.assert_array_equal(decoded(codec, data, sizes), whole)

        cuts_do_not_matter()
        np.testing.assert_array_equal(decoded(codec, data, (1,)), whole)

    @pytest.mark.parametrize("codec", COMPRESSED)
    async def test_a_stream_that_breaks_off_is_heard_so_far(
        self, decoders: LiveDecoders, media: Media, original: Pcm, codec: LiveCodec
    ) -> None:
        """The frame or page that was cut is lost, no more."""
        data = coded(media, codec)

        pcm = await heard(decoders, codec, data[: len(data) * 3 // 4 - 1])

        assert likeness(pcm, original[: len(pcm)]) > LIKENESS.get(codec, 0.98) - 0.05
        assert to_ms(len(pcm)) > CLIP_MS * 0.6

    @pytest.mark.parametrize("codec", ["mp3", "aac", "opus"])
    async def test_damage_costs_no_more_than_itself(
        self, decoders: LiveDecoders, media: Media, codec: LiveCodec
    ) -> None:
        """Noise in the middle; what comes behind it is heard."""
        data = coded(media, codec)

        pcm = await heard(decoders, codec, with_garbage(data))

        assert CLIP_MS * 0.8 < to_ms(len(pcm)) < CLIP_MS * 1.1

    @pytest.mark.parametrize("codec", COMPRESSED)
    @pytest.mark.parametrize("other", [*COMPRESSED, "wav", "noise", "text", "zeros", "header"])
    def test_what_is_of_another_format_is_refused(self, media: Media, codec: str, other: str) -> None:
        """At the latest when it ends."""
        made = {
            "noise": lambda: np.random.default_rng(1).bytes(65_536),
            "text": lambda: b"all work and no play makes jack a dull boy\n" * 5_000,
            "zeros": lambda: bytes(65_536),
            "header": lambda: coded(media, codec)[:30],
        }
        data = made[other]() if other in made else coded(media, other)
        if codec == other:
            return

        with pytest.raises(Refusal, match="Failed to decode audio"):
            decoded(codec, data, (3_200,))

    async def test_the_refusal_is_the_services(self, decoders: LiveDecoders) -> None:
        """And comes before the stream has ended, and ends it."""
        async with decoders.open(LiveFormat(codec="opus")) as stream:
            with pytest.raises(Undecodable, match=r"^Failed to decode audio$"):
                await told(stream, b"no Ogg, and not one packet of Opus either")
            with pytest.raises(RuntimeError, match="has ended"):
                await told(stream, b"more")

    @pytest.mark.parametrize("codec", ["pcm", "wav", *COMPRESSED])
    async def test_of_nothing_nothing_comes(self, decoders: LiveDecoders, codec: LiveCodec) -> None:
        """A session without sound is no broken sound."""
        assert 0 == len(await heard(decoders, codec, b""))

    async def test_tags_with_pictures_are_no_sound(self, decoders: LiveDecoders, media: Media, original: Pcm) -> None:
        """An ID3 tag and the frame that tells about the file are passed over."""
        pcm = await heard(decoders, "mp3", media.odd("art.mp3").read_bytes())

        assert likeness(pcm, original) > 0.98
        assert to_ms(len(pcm)) - CLIP_MS <= 100

    async def test_one_file_after_another_is_one_stream(self, decoders: LiveDecoders, media: Media) -> None:
        """Some clients end a file with each piece."""
        for codec in ("mp3", "opus", "speex"):
            pcm = await heard(decoders, codec, coded(media, codec) * 2)

            assert abs(to_ms(len(pcm)) - 2 * CLIP_MS) <= 250


def bomb() -> bytes:
    """Opus in Ogg: packets of two bytes, each 120 ms of silence."""
    head = b"OpusHead\x01\x01\x00\x00\x80\xbb\x00\x00\x00\x00\x00"
    packet = bytes([28 << 3 | 3, 48])

    def page(flags: int, packets: Sequence[bytes]) -> bytes:
        lengths = bytes(map(len, packets))
        return b"OggS\x00" + bytes([flags]) + bytes(20) + bytes([len(lengths)]) + lengths + b"".join(packets)

    return page(2, [head]) + page(0, [b"OpusTags"]) + page(0, [packet] * 255) * 250


class TestLimits:
    async def test_bytes_that_grow_too_much_are_refused(self, decoders: LiveDecoders) -> None:
        """Two hours in 200 kB: after some seconds of it."""
        n_samples = 0

        async def hear() -> None:
            nonlocal n_samples
            async with decoders.open(LiveFormat(codec="opus")) as stream:
                async for pcm in stream.feed(bomb()):
                    n_samples += len(pcm)

        with pytest.raises(Undecodable):
            await hear()

        assert to_ms(n_samples) < 120_000

    async def test_streams_are_counted(
        self, decoders: LiveDecoders, media: Media, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """More than a child keeps are told to come later, and may when others have left."""
        monkeypatch.setattr(live_decode, "STREAMS", 1)
        async with decoders.open(LiveFormat(codec="mp3")), decoders.open(LiveFormat(codec="pcm")):
            with pytest.raises(QueueFull):
                async with decoders.open(LiveFormat(codec="aac")):
                    pass

        assert len(await heard(decoders, "aac", coded(media, "aac")))

    def test_a_child_forgets_what_nobody_wants(self, media: Media, monkeypatch: pytest.MonkeyPatch) -> None:
        """Streams that ended, failed or were left hold nothing."""
        monkeypatch.setattr(live_media, "grant_cpu", lambda _seconds: None)  # it would end this process some time later
        child, data = live_media._LiveMedia(), coded(media, "mp3")[:PIECE]

        def send(stream: int, turn: int, data: bytes = data, **more: object) -> int:
            fields = {"stream": stream, "codec": "mp3", "turn": turn, "last": False, "ended": ()} | more
            body = msgspec.msgpack.encode(msgspec.convert(fields, Piece))
            [(_, pcm)] = child.handle("decode", msgspec.Raw(body), data, lambda: False)
            return len(pcm)

        assert send(1, 0)
        assert send(2, 0)
        assert send(3, 0)
        assert {1, 2, 3} == set(child._streams)
        send(1, 1, b"", last=True)
        with pytest.raises(Refusal):
            send(2, 1, bytes(10_000))
        send(4, 0, ended=(3,))
        assert {4} == set(child._streams)
        with pytest.raises(Refusal) as gone:
            send(3, 1)
        assert "gone" == gone.value.kind

    async def test_many_streams_at_once_are_kept_apart(
        self, decoders: LiveDecoders, media: Media, original: Pcm
    ) -> None:
        """Thirty clients, all formats, one child: each is heard as if alone."""
        found: list[tuple[str, Pcm]] = []

        async def client(codec: LiveCodec) -> None:
            found.append((codec, await heard(decoders, codec, coded(media, codec))))

        async with anyio.create_task_group() as group:
            for i in range(30):
                group.start_soon(client, COMPRESSED[i % len(COMPRESSED)])

        assert 30 == len(found)
        for codec, pcm in found:
            assert likeness(pcm, original) > LIKENESS.get(codec, 0.98)

    async def test_a_cancelled_feed_ends_its_own_stream_alone(
        self, decoders: LiveDecoders, media: Media, original: Pcm
    ) -> None:
        """The other goes on in the same child."""
        data = coded(media, "mp3")
        pids = decoders.pids
        async with (
            decoders.open(LiveFormat(codec="mp3")) as victim,
            decoders.open(LiveFormat(codec="mp3")) as other,
        ):
            found = await told(other, data[:20_000])
            async with anyio.create_task_group() as group:
                group.start_soon(told, victim, data)
                await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            found += await told(other, data[20_000:])
            with pytest.raises(RuntimeError, match="has ended"):
                await told(victim, data)

        assert likeness(np.concatenate(found), original) > 0.98
        assert pids == decoders.pids

    async def test_a_dead_child_fails_its_streams_and_no_later_one(self, media: Media, original: Pcm) -> None:
        """They are told so, and who comes next is heard."""
        data = coded(media, "mp3")
        async with LiveDecoders(processes=1) as decoders:
            await decoders.wait_ready()
            async with (
                decoders.open(LiveFormat(codec="mp3")) as first,
                decoders.open(LiveFormat(codec="mp3")) as second,
            ):
                assert await told(first, data[:20_000])
                assert await told(second, data[:20_000])
                os.kill(decoders.pids[0], signal.SIGKILL)
                for stream in (first, second):
                    with pytest.raises(EngineFailed, match="ended"):
                        await told(stream, data[20_000:])

            assert likeness(await heard(decoders, "mp3", data), original) > 0.98

    async def test_children_are_locked_up(self, decoders: LiveDecoders) -> None:
        """As those that decode recordings are: no files to write, few to open, bounded memory."""
        await decoders.wait_ready()
        limits = limits_of(decoders.pids[0])

        assert "0" == limits["Max file size"]
        assert "unlimited" != limits["Max address space"]
        assert int(limits["Max open files"]) <= 32


def test_streams_that_are_resampled_start_no_threads() -> None:
    """A server has as many of them as live sessions, and none has work for more than the thread that feeds it."""
    before = n_threads()
    sounds = [live_pcm.sound(LiveFormat(codec="pcm", rate_hz=24_000)) for _ in range(8)]
    n_heard = [len(sound.feed(bytes(4_800))) + len(sound.finish()) for sound in sounds]

    assert [1_600] * 8 == n_heard
    assert n_threads() - before < len(sounds)


def n_threads() -> int:
    """Of this process, as the kernel counts them."""
    return int(Path("/proc/self/status").read_text(encoding="ascii").partition("Threads:")[2].split()[0])
