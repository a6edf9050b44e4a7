"""Decoding: every promised format, every way a file can be broken, and what a stranger may not do with one."""

import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import anyio
import numpy as np
import pytest
from tests.media import (
    CLIP_MS,
    CORRUPT,
    FORMATS,
    ODD,
    Media,
    Recipe,
    clip,
    encode,
    float_wav,
    half,
    long_wav,
    video_only,
    wav_header,
    with_garbage,
)

from qasr.domain.audio import SAMPLE_RATE, MediaLimits, Pcm, RawFormat
from qasr.domain.errors import (
    Empty,
    EngineFailed,
    InvalidParameter,
    NoAudioTrack,
    QasrError,
    TooLarge,
    TooLong,
    Undecodable,
)
from qasr.pipeline import decode as decode_module
from qasr.pipeline.decode import DecodedStream, Decoder, Pcm2

pytestmark = pytest.mark.anyio

HOUR_MS: Final = 3_600_000
LIMITS: Final = MediaLimits(max_bytes=2**31, max_ms=HOUR_MS)


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Media:
    return Media(tmp_path_factory.mktemp("media"))


@pytest.fixture(scope="session")
def original() -> Pcm:
    samples: Pcm = clip()[0]
    return samples


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def decoder() -> AsyncIterator[Decoder]:
    """One for all, because a child takes half a second to start."""
    async with Decoder(processes=1) as decoder:
        yield decoder


@pytest.fixture
async def mortal() -> AsyncIterator[Decoder]:
    """For tests that end its child."""
    async with Decoder(processes=1) as decoder:
        await decoder.wait_ready()
        yield decoder


async def drained(
    decoder: Decoder,
    recording: Path | bytes,
    *,
    limits: MediaLimits = LIMITS,
    channels: tuple[int, ...] | None = None,
    raw: RawFormat | None = None,
) -> tuple[DecodedStream, Pcm2]:
    """The stream after its end, and all its samples."""
    async with decoder.decode(recording, limits=limits, channels=channels, raw=raw) as stream:
        blocks = [block async for block in stream.blocks()]
    return stream, np.concatenate(blocks, axis=1)


def about(decoder: Decoder, what: str) -> str:
    """What the kernel says about the child."""
    return Path(f"/proc/{decoder.pids[0]}/{what}").read_text(encoding="ascii")


def likeness(heard: Pcm, original: Pcm) -> float:
    """Correlation at the best delay within 120 ms; 1 for equal but for their level."""
    n = 1 << (len(heard) + len(original)).bit_length()
    products = np.fft.irfft(np.fft.rfft(heard, n) * np.conj(np.fft.rfft(original, n)), n)
    delay = SAMPLE_RATE * 120 // 1000
    near = np.abs(np.concatenate([products[:delay], products[-delay:]])).max()
    return float(near / (np.linalg.norm(heard) * np.linalg.norm(original)))


class TestFormats:
    @pytest.mark.parametrize("name", FORMATS)
    async def test_every_promised_format_is_heard(
        self, decoder: Decoder, media: Media, original: Pcm, name: str
    ) -> None:
        """All sixteen formats give the speech that was put into them, whole and without damage."""
        stream, pcm = await drained(decoder, media.format(name))

        assert np.float32 == pcm.dtype
        assert 1 == len(pcm)
        assert likeness(pcm[0], original) > (0.9 if name == "amr" else 0.98)
        assert 0 == stream.damaged_packets
        assert abs(stream.duration_ms - CLIP_MS) <= 100

    @pytest.mark.parametrize("name", ODD)
    async def test_valid_but_unusual_files_are_heard(
        self, decoder: Decoder, media: Media, original: Pcm, name: str
    ) -> None:
        """Sample formats, rates, layouts, cover pictures, films and neighbors of the promised containers work too."""
        stream, pcm = await drained(decoder, media.odd(name))

        assert likeness(pcm[0], original) > (0.9 if "8k" in name or name.startswith(("amr", "mulaw")) else 0.98)
        assert 0 == stream.damaged_packets
        assert abs(stream.duration_ms - CLIP_MS) <= 100

    @pytest.mark.parametrize(
        ("name", "pretended"), [("mp3", "a.wav"), ("wav", "a.mp3"), ("flac", "a.txt"), ("ogg", "a")]
    )
    async def test_a_name_says_nothing(
        self, decoder: Decoder, media: Media, tmp_path: Path, name: str, pretended: str
    ) -> None:
        """A file is recognized by its content."""
        path = tmp_path / pretended
        path.write_bytes(media.bytes(name))

        stream, _ = await drained(decoder, path)

        assert name == stream.info.container

    async def test_info_tells_what_the_file_is(self, decoder: Decoder, media: Media) -> None:
        """Container, codec, rate and channels are known once the block is entered."""
        async with decoder.decode(media.format("mpeg"), limits=LIMITS) as stream:
            info = stream.info

        assert ("mpeg", "mp2", 44_100, 2) == (info.container, info.codec, info.rate_hz, info.channels)

    async def test_a_file_says_how_long_it_is(self, decoder: Decoder, media: Media) -> None:
        """Roughly; for those who wait."""
        for name in ("aac", "flac", "m4a", "mkv", "mp3", "opus", "wav"):
            stream, _ = await drained(decoder, media.format(name))

            assert stream.info.claimed_ms is not None, name
            assert abs(stream.info.claimed_ms - CLIP_MS) < 1000, name

    async def test_headerless_samples_are_read_as_told(self, decoder: Decoder, tmp_path: Path, original: Pcm) -> None:
        """Raw 16-bit PCM of any rate and number of channels is decoded when its format is given."""
        path = tmp_path / "raw"
        path.write_bytes((np.repeat(original[:, None], 2, axis=1) * 32767).astype("<i2").tobytes())

        stream, pcm = await drained(decoder, path, raw=RawFormat(rate_hz=SAMPLE_RATE, channels=2), channels=(1,))

        assert CLIP_MS == stream.duration_ms
        np.testing.assert_allclose(pcm[0], original, atol=1e-4)

    @pytest.mark.parametrize(("magic", "frame"), [(b"#!AMR\n", b"\x7c"), (b"#!AMR-WB\n", b"\x7c")], ids=["nb", "wb"])
    async def test_a_pause_on_the_phone_takes_its_time(
        self, decoder: Decoder, tmp_path: Path, magic: bytes, frame: bytes
    ) -> None:
        """AMR sends empty frames while nobody speaks; what is said after them keeps its place."""
        path = tmp_path / "pause.amr"
        path.write_bytes(magic + 100 * frame)

        stream, _ = await drained(decoder, path)

        assert (2_000, 0) == (stream.duration_ms, stream.damaged_packets)


class TestChannels:
    async def test_tracks_are_kept_apart_on_request(self, decoder: Decoder, media: Media, original: Pcm) -> None:
        """Asked for tracks, one gets them in the order of asking."""
        path = media.wav("left_only.wav", np.stack([original, np.zeros_like(original)]))

        _, pcm = await drained(decoder, path, channels=(1, 0))

        assert not pcm[0].any()
        np.testing.assert_allclose(pcm[1], original, atol=1e-6)

    async def test_speech_on_one_side_survives_the_mix(self, decoder: Decoder, media: Media, original: Pcm) -> None:
        """A recording with one silent track is heard at half its level."""
        path = media.wav("left_only.wav", np.stack([original, np.zeros_like(original)]))

        _, pcm = await drained(decoder, path)

        np.testing.assert_allclose(pcm[0], original / 2, atol=1e-6)

    async def test_equal_tracks_do_not_clip_when_mixed(self, decoder: Decoder, media: Media) -> None:
        """Two equal tracks at full level stay at full level, and undistorted."""
        tone = np.sin(np.arange(SAMPLE_RATE) / 5).astype(np.float32)

        _, pcm = await drained(decoder, media.wav("full.wav", np.stack([tone, tone])))

        np.testing.assert_allclose(pcm[0], tone, atol=1e-5)

    async def test_opposite_tracks_do_not_cancel_out(self, decoder: Decoder, media: Media, original: Pcm) -> None:
        """Of tracks that are each other's negative, the mix is the first; each can be had by itself."""
        path = media.wav("antiphase.wav", np.stack([original, -original]))

        _, mixed = await drained(decoder, path)
        _, second = await drained(decoder, path, channels=(1,))

        np.testing.assert_allclose(mixed[0], original, atol=1e-6)
        np.testing.assert_allclose(second[0], -original, atol=1e-6)

    @pytest.mark.parametrize("n_channels", range(1, 9))
    async def test_any_number_of_channels_up_to_eight(self, decoder: Decoder, media: Media, n_channels: int) -> None:
        """Files that name no layout are mixed, and every one of their tracks can be had."""
        samples = np.tile(np.linspace(0.1, 0.8, n_channels, dtype=np.float32)[:, None], (1, SAMPLE_RATE))
        path = media.wav(f"{n_channels}.wav", samples)

        _, mixed = await drained(decoder, path)
        _, apart = await drained(decoder, path, channels=tuple(range(n_channels)))

        assert SAMPLE_RATE == mixed.shape[1]
        np.testing.assert_allclose(apart, samples, atol=1e-5)

    async def test_a_track_that_does_not_exist_is_named(self, decoder: Decoder, media: Media) -> None:
        """The client learns which of its channel ids is wrong."""
        with pytest.raises(InvalidParameter, match="channel_id 2") as caught:
            await drained(decoder, media.format("wav"), channels=(0, 2))

        assert "channel_id" == caught.value.parameter


class TestBytes:
    @pytest.mark.parametrize("name", FORMATS)
    async def test_what_is_no_file_is_heard_the_same(self, decoder: Decoder, media: Media, name: str) -> None:
        """A recording gives the same samples from its bytes as from a file."""
        of_file, expected = await drained(decoder, media.format(name))
        of_bytes, pcm = await drained(decoder, media.bytes(name))

        assert of_file.info == of_bytes.info
        np.testing.assert_array_equal(expected, pcm)

    @pytest.mark.parametrize(
        ("data", "most_bytes", "error"),
        [(b"", 100, Empty), (b"#EXTM3U\nfile:///etc/passwd", 100, Undecodable), (b"RIFF" * 26, 100, TooLarge)],
    )
    async def test_what_cannot_be_heard_has_its_error(
        self, decoder: Decoder, data: bytes, most_bytes: int, error: type[QasrError]
    ) -> None:
        """Nothing, what is not audio, and too much are told apart as they are of files."""
        with pytest.raises(error):
            await drained(decoder, data, limits=MediaLimits(max_bytes=most_bytes, max_ms=HOUR_MS))


class TestDamage:
    @pytest.mark.parametrize("name", CORRUPT)
    async def test_what_is_not_audio_is_refused(self, decoder: Decoder, media: Media, name: str) -> None:
        """Empty, foreign and headless files fail as undecodable, whatever they are called."""
        with pytest.raises(Undecodable, match="illegal and cannot be opened"):
            await drained(decoder, media.corrupt(name))

    async def test_an_empty_file(self, decoder: Decoder, tmp_path: Path) -> None:
        """Nothing came: that is told apart from what is not audio."""
        (tmp_path / "empty").touch()

        with pytest.raises(Empty):
            await drained(decoder, tmp_path / "empty")

    async def test_a_film_without_sound(self, decoder: Decoder, tmp_path: Path) -> None:
        """A container without an audio track has its own error."""
        with pytest.raises(NoAudioTrack):
            await drained(decoder, video_only(tmp_path / "film.mp4"))

    @pytest.mark.parametrize(
        "name", ["aac", "amr", "avi", "flac", "mp3", "mpeg", "opus", "wav", "webm", "wma", "flv", "mkv"]
    )
    async def test_half_a_file_gives_half_the_speech(
        self, decoder: Decoder, media: Media, tmp_path: Path, name: str
    ) -> None:
        """A broken transfer gives what had arrived."""
        path = tmp_path / "half"
        path.write_bytes(half(media.bytes(name)))

        stream, pcm = await drained(decoder, path)

        assert CLIP_MS * 0.3 < stream.duration_ms < CLIP_MS * 0.75
        assert pcm.any()

    @pytest.mark.parametrize("name", ["aac", "flac", "mp3", "opus", "mkv", "wma", "mpeg"])
    async def test_damage_costs_its_own_place_only(
        self, decoder: Decoder, media: Media, tmp_path: Path, name: str
    ) -> None:
        """Two thousand bytes of noise in the middle leave the rest."""
        path = tmp_path / "damaged"
        path.write_bytes(with_garbage(media.bytes(name)))

        stream, _ = await drained(decoder, path)

        assert stream.duration_ms > CLIP_MS * 0.75

    async def test_damage_is_counted(self, decoder: Decoder, media: Media, tmp_path: Path) -> None:
        """Packets that were skipped are reported."""
        path = tmp_path / "damaged"
        path.write_bytes(with_garbage(media.bytes("mp3")))

        stream, _ = await drained(decoder, path)

        assert stream.damaged_packets > 0

    async def test_values_that_are_no_samples(self, decoder: Decoder, media: Media) -> None:
        """NaN and infinities become silence, and what is too loud is clipped."""
        samples = np.full((1, SAMPLE_RATE), 0.25, np.float32)
        samples[0, 4000], samples[0, 8000], samples[0, 12000] = np.nan, np.inf, 7.0

        _, pcm = await drained(decoder, media.wav("nan.wav", samples))

        assert np.isfinite(pcm).all()
        assert np.abs(pcm).max() <= 1.0
        assert np.float32(0.25) == pcm[0, 2000] == pcm[0, 10_000] == pcm[0, 15_000]

    async def test_length_that_a_pipe_could_not_know(self, decoder: Decoder, tmp_path: Path) -> None:
        """A wav written into a pipe claims four gigabytes, or nothing; its samples are read to the end."""
        for n_claimed in (2**32 - 1, 2**31 - 1, 0):
            path = tmp_path / "piped.wav"
            path.write_bytes(wav_header(n_claimed) + b"\x01\x10" * SAMPLE_RATE)

            stream, _ = await drained(decoder, path, limits=MediaLimits(max_bytes=10**6, max_ms=5_000))

            assert 1_000 == stream.duration_ms

    async def test_rate_and_layout_may_change_on_the_way(self, decoder: Decoder, media: Media, tmp_path: Path) -> None:
        """Files glued together, of other rates and channels, are heard through, and a lost track falls silent."""
        path = tmp_path / "glued.mp3"
        path.write_bytes(media.bytes("mp3") + media.odd("mono_8k.mp3").read_bytes())

        stream, _ = await drained(decoder, path)
        _, apart = await drained(decoder, path, channels=(0, 1))

        assert abs(stream.duration_ms - 2 * CLIP_MS) < 300
        assert apart[1, : 10 * SAMPLE_RATE].any()
        assert not apart[1, 12 * SAMPLE_RATE :].any()


class TestLimits:
    async def test_too_long_and_it_says_so(self, decoder: Decoder, media: Media) -> None:
        """A header that claims more than the limit is refused before anything is decoded, in whole seconds."""
        with pytest.raises(TooLong, match=r"^The input audio is longer than 5s\.$"):
            async with decoder.decode(media.format("flac"), limits=MediaLimits(max_bytes=10**9, max_ms=5_000)):
                pytest.fail("it was entered")

    @pytest.mark.parametrize("name", ["mp3", "aac", "amr", "flv"])
    async def test_too_long_and_it_does_not_say_so(self, decoder: Decoder, media: Media, name: str) -> None:
        """Decoded sound is what counts; the reader gets no more of it than the limit allows."""
        async with decoder.decode(media.format(name), limits=MediaLimits(max_bytes=10**9, max_ms=8_000)) as stream:
            blocks = stream.blocks()
            first = await anext(blocks)
            with pytest.raises(TooLong, match=r"longer than 8s"):
                await anext(blocks)

        assert first.shape[1] <= 8 * SAMPLE_RATE

    async def test_exactly_the_limit_is_allowed(self, decoder: Decoder, media: Media) -> None:
        """A recording of the limit's length passes, also when its codec filled the last frame."""
        for name in ("wav", "aac"):
            stream, _ = await drained(decoder, media.format(name), limits=MediaLimits(max_bytes=10**9, max_ms=CLIP_MS))

            assert stream.duration_ms >= CLIP_MS

    async def test_what_codecs_add_is_no_fault_of_the_recording(
        self, decoder: Decoder, media: Media, tmp_path: Path
    ) -> None:
        """AAC puts a frame before the first sample, and each joint of a file brings another; a second more is more."""
        path = tmp_path / "joined.aac"
        encode(path, Recipe(container="adts", codec="aac", rate_hz=8_000, layout="mono"), clip())
        path.write_bytes(path.read_bytes() * 3)
        stream, _ = await drained(decoder, path, limits=MediaLimits(max_bytes=10**9, max_ms=3 * CLIP_MS))

        assert stream.duration_ms > 3 * CLIP_MS + 300
        with pytest.raises(TooLong):
            await drained(decoder, media.format("wav"), limits=MediaLimits(max_bytes=10**9, max_ms=CLIP_MS - 1000))

    async def test_too_many_bytes(self, decoder: Decoder, media: Media) -> None:
        """A file larger than the limit is not opened."""
        with pytest.raises(TooLarge):
            await drained(decoder, media.format("wav"), limits=MediaLimits(max_bytes=1000, max_ms=HOUR_MS))

    @pytest.mark.parametrize("rate_hz", [1, 3_999, 192_001, 2**31 - 1])
    async def test_rates_that_only_attackers_have(self, decoder: Decoder, tmp_path: Path, rate_hz: int) -> None:
        """A file that would grow a thousandfold when resampled is refused."""
        path = tmp_path / "rate.wav"
        path.write_bytes(wav_header(32_000, rate_hz) + bytes(32_000))

        with pytest.raises(Undecodable):
            await drained(decoder, path)

    @pytest.mark.parametrize("n_channels", [9, 64, 65_535])
    async def test_more_channels_than_anybody_has(self, decoder: Decoder, tmp_path: Path, n_channels: int) -> None:
        """More than eight channels are refused."""
        path = tmp_path / "channels.wav"
        path.write_bytes(
            wav_header(2 * n_channels * 100, SAMPLE_RATE, n_channels & 0x7FFF) + bytes(2 * n_channels * 100)
        )

        with pytest.raises(Undecodable):
            await drained(decoder, path)

    async def test_memory_stays_while_hours_pass(self, mortal: Decoder, tmp_path: Path) -> None:
        """Blocks are of seconds, however long the recording; the child does not grow with it."""
        path = long_wav(tmp_path / "long.wav", 3 * 3600)
        longest = 0
        async with mortal.decode(path, limits=MediaLimits(max_bytes=2**32, max_ms=4 * HOUR_MS)) as stream:
            async for block in stream.blocks():
                longest = max(longest, block.shape[1])
        kilobytes = int(about(mortal, "status").partition("VmHWM:")[2].split()[0])

        assert 3 * HOUR_MS == stream.duration_ms
        assert longest < 12 * SAMPLE_RATE
        assert kilobytes < 160_000

    async def test_cpu_time_is_bounded(
        self, mortal: Decoder, media: Media, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file that costs more than its length allows ends its parser, and nobody else's."""
        monkeypatch.setattr(decode_module, "CPU_S", 0.1)
        monkeypatch.setattr(decode_module, "CPU_PER_AUDIO_S", 0.0)
        path = long_wav(tmp_path / "long.wav", 12 * 3600)

        with pytest.raises(Undecodable, match="resources"):
            await drained(mortal, path, limits=MediaLimits(max_bytes=2**32, max_ms=24 * HOUR_MS))
        monkeypatch.undo()
        stream, _ = await drained(mortal, media.format("wav"))

        assert CLIP_MS == stream.duration_ms

    async def test_silence_of_the_parser_is_bounded(
        self, mortal: Decoder, media: Media, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A parser that gives nothing for long is given up and replaced."""
        monkeypatch.setattr(decode_module, "STALL_S", 0.2)
        os.kill(mortal.pids[0], signal.SIGSTOP)

        with pytest.raises(Undecodable, match="resources"):
            await drained(mortal, media.format("wav"))
        monkeypatch.undo()
        stream, _ = await drained(mortal, media.format("wav"))

        assert CLIP_MS == stream.duration_ms


class TestStrangers:
    """What a file may not make its parser do."""

    @pytest.mark.parametrize("suffix", ["mp3", "ffconcat", "wav"])
    @pytest.mark.parametrize(
        "text",
        [
            "ffconcat version 1.0\nfile {name}\n",
            "ffconcat version 1.0\nfile '{path}'\n",
            "#EXTM3U\n#EXT-X-TARGETDURATION:11\n#EXTINF:11,\n{name}\n#EXT-X-ENDLIST\n",
            "#EXTM3U\n#EXT-X-TARGETDURATION:11\n#EXTINF:11,\nfile://{path}\n#EXT-X-ENDLIST\n",
            "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
            "concat:{path}",
            "subfile,,start,0,end,0,,:{path}",
            '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><AdaptationSet>{path}</MPD>',
        ],
        ids=["concat", "concat-absolute", "hls", "hls-absolute", "sdp", "concat-protocol", "subfile", "dash"],
    )
    async def test_a_playlist_opens_no_other_file(
        self, decoder: Decoder, media: Media, tmp_path: Path, text: str, suffix: str
    ) -> None:
        """Texts that point FFmpeg to other files are not media, whatever they are called."""
        secret = tmp_path / "secret.wav"
        secret.write_bytes(media.bytes("wav"))
        path = tmp_path / f"list.{suffix}"
        path.write_text(text.format(name=secret.name, path=secret))

        with pytest.raises(Undecodable):
            await drained(decoder, path)

    async def test_only_regular_files_are_opened(self, decoder: Decoder, tmp_path: Path) -> None:
        """A named pipe, a directory, a device or nothing at all cannot hold the parser up."""
        os.mkfifo(tmp_path / "pipe")
        for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero"), tmp_path / "missing"):
            with pytest.raises(Undecodable):
                await drained(decoder, path)

    async def test_the_parser_knows_nothing_and_can_write_nothing(self, decoder: Decoder) -> None:
        """The child has small limits."""
        await decoder.wait_ready()
        limits = about(decoder, "limits")

        assert ["0", "0"] == limits.partition("Max file size")[2].split()[:2]
        assert ["0", "0"] == limits.partition("Max core file size")[2].split()[:2]
        assert "unlimited" != limits.partition("Max address space")[2].split()[0]

    @pytest.mark.parametrize(
        ("by", "kind"),
        [
            (signal.SIGSEGV, Undecodable),
            (signal.SIGABRT, Undecodable),
            (signal.SIGKILL, EngineFailed),
            (signal.SIGTERM, EngineFailed),
        ],
    )
    async def test_death_of_a_parser_costs_one_call(
        self, mortal: Decoder, media: Media, tmp_path: Path, by: signal.Signals, kind: type[QasrError]
    ) -> None:
        """It fails the recording at hand, by its own fault if it crashed the parser, by ours if that was killed (as
        where memory is short); the next one is decoded by another.
        """
        path = long_wav(tmp_path / "long.wav", 6 * 3600)
        before = mortal.pids

        async with mortal.decode(path, limits=MediaLimits(max_bytes=2**32, max_ms=24 * HOUR_MS)) as stream:
            blocks = stream.blocks()
            await anext(blocks)
            os.kill(mortal.pids[0], by)
            with pytest.raises(kind):
                async for _ in blocks:
                    pass
        stream, _ = await drained(mortal, media.format("wav"))

        assert CLIP_MS == stream.duration_ms
        assert before != mortal.pids

    async def test_a_reader_that_leaves_frees_its_parser(self, decoder: Decoder, media: Media, tmp_path: Path) -> None:
        """Leaving the block stops the decoding; the same child is soon free for the next."""
        path = long_wav(tmp_path / "long.wav", 6 * 3600)
        await decoder.wait_ready()
        before = decoder.pids
        begin = time.monotonic()

        async with decoder.decode(path, limits=MediaLimits(max_bytes=2**32, max_ms=24 * HOUR_MS)) as stream:
            async for _ in stream.blocks():
                break
        with anyio.move_on_after(0.3):
            await drained(decoder, path, limits=MediaLimits(max_bytes=2**32, max_ms=24 * HOUR_MS))
        await drained(decoder, media.format("wav"))

        assert before == decoder.pids
        assert time.monotonic() - begin < 5

    async def test_two_processes_decode_at_once(self, media: Media, tmp_path: Path) -> None:
        """One long recording does not keep another out."""
        path = long_wav(tmp_path / "long.wav", 6 * 3600)
        async with Decoder(processes=2) as decoder:
            await decoder.wait_ready()
            async with decoder.decode(path, limits=MediaLimits(max_bytes=2**32, max_ms=24 * HOUR_MS)):
                stream, _ = await drained(decoder, media.format("wav"))

            assert decoder.is_ready
            assert 2 == len(decoder.pids)
        assert CLIP_MS == stream.duration_ms
        assert [] == decoder.pids


def test_float_wav_is_what_it_says() -> None:
    """The fixture's own header is as long as it should be."""
    assert 44 + 8 == len(float_wav(np.zeros((2, 1), np.float32)))
