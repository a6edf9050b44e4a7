"""Media files for tests, made with PyAV's own encoders from one clip of speech: no ffmpeg needed.

``FORMATS`` are the sixteen that are promised, ``ODD`` are valid but unusual, ``CORRUPT`` are neither.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import av
import numpy as np

from qasr.domain.audio import SAMPLE_RATE, Pcm

CLIP: Final = Path(__file__).parent / "data" / "jfk.flac"
CLIP_MS: Final = 11_000


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to write one kind of file."""

    container: str
    codec: str
    rate_hz: int = SAMPLE_RATE
    layout: str = "stereo"
    bit_rate: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    codec_options: Mapping[str, str] = field(default_factory=dict)
    video: str | None = None
    art: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)


FORMATS: Final[Mapping[str, Recipe]] = {
    "aac": Recipe(container="adts", codec="aac", bit_rate=96_000),
    "amr": Recipe(container="amr", codec="libopencore_amrnb", rate_hz=8_000, layout="mono", bit_rate=12_200),
    "avi": Recipe(container="avi", codec="libmp3lame", video="mpeg4"),
    "aiff": Recipe(container="aiff", codec="pcm_s16be"),
    "flac": Recipe(container="flac", codec="flac"),
    "flv": Recipe(container="flv", codec="libmp3lame", rate_hz=44_100, video="flv1"),
    "m4a": Recipe(container="ipod", codec="aac", bit_rate=96_000),
    "mkv": Recipe(container="matroska", codec="ac3", rate_hz=48_000, video="mpeg4"),
    "mp3": Recipe(container="mp3", codec="libmp3lame", bit_rate=64_000),
    "mpeg": Recipe(container="mpeg", codec="mp2", rate_hz=44_100, video="mpeg2video"),
    "ogg": Recipe(
        container="ogg", codec="vorbis", options={"page_duration": "200000"}, codec_options={"strict": "experimental"}
    ),
    "opus": Recipe(container="ogg", codec="libopus", rate_hz=48_000, bit_rate=32_000),
    "wav": Recipe(container="wav", codec="pcm_s16le"),
    "webm": Recipe(container="webm", codec="libopus", rate_hz=48_000, bit_rate=32_000),
    "wma": Recipe(container="asf", codec="wmav2", rate_hz=44_100, bit_rate=96_000),
    "wmv": Recipe(container="asf", codec="wmav2", rate_hz=44_100, bit_rate=96_000, video="wmv2"),
}

ODD: Final[Mapping[str, Recipe]] = {
    "u8.wav": Recipe(container="wav", codec="pcm_u8"),
    "s24.wav": Recipe(container="wav", codec="pcm_s24le"),
    "s32.wav": Recipe(container="wav", codec="pcm_s32le"),
    "f32.wav": Recipe(container="wav", codec="pcm_f32le"),
    "f64.wav": Recipe(container="wav", codec="pcm_f64le"),
    "mulaw_8k.wav": Recipe(container="wav", codec="pcm_mulaw", rate_hz=8_000, layout="mono"),
    "alaw_8k.wav": Recipe(container="wav", codec="pcm_alaw", rate_hz=8_000, layout="mono"),
    "adpcm_ms.wav": Recipe(container="wav", codec="adpcm_ms"),
    "adpcm_ima.wav": Recipe(container="wav", codec="adpcm_ima_wav"),
    "11025hz.wav": Recipe(container="wav", codec="pcm_s16le", rate_hz=11_025),
    "96000hz.wav": Recipe(container="wav", codec="pcm_s16le", rate_hz=96_000),
    "5.1.wav": Recipe(container="wav", codec="pcm_s16le", layout="5.1"),
    "mono_8k.mp3": Recipe(container="mp3", codec="libmp3lame", rate_hz=8_000, layout="mono"),
    "art.mp3": Recipe(container="mp3", codec="libmp3lame", art=True, tags={"title": "Prüfung 测试"}),
    "alac.m4a": Recipe(container="ipod", codec="alac"),
    "video.mp4": Recipe(container="mp4", codec="aac", video="mpeg4"),
    "faststart.mp4": Recipe(container="mp4", codec="aac", options={"movflags": "+faststart"}),
    "fragmented.mp4": Recipe(container="mp4", codec="aac", options={"movflags": "frag_keyframe+empty_moov"}),
    "opus_8k.webm": Recipe(container="webm", codec="libopus", rate_hz=8_000, layout="mono", bit_rate=12_000),
    "amr.3gp": Recipe(container="3gp", codec="libopencore_amrnb", rate_hz=8_000, layout="mono", bit_rate=12_200),
    "broadcast.ts": Recipe(container="mpegts", codec="mp2", rate_hz=48_000, video="mpeg2video"),
    "mulaw.au": Recipe(container="au", codec="pcm_mulaw", rate_hz=8_000),
    "caf.caf": Recipe(container="caf", codec="pcm_s16le"),
    "w64.w64": Recipe(container="w64", codec="pcm_s16le"),
}


class Media:
    """Makes each file when it is first asked for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def format(self, name: str) -> Path:
        """One of ``FORMATS``."""
        return self._made(f"clip.{name}", lambda path: encode(path, FORMATS[name], clip()))

    def odd(self, name: str) -> Path:
        """One of ``ODD``."""
        return self._made(f"odd_{name}", lambda path: encode(path, ODD[name], clip()))

    def corrupt(self, name: str) -> Path:
        """One of ``CORRUPT``."""
        return self._made(f"corrupt_{name}", lambda path: path.write_bytes(CORRUPT[name](self)))

    def bytes(self, name: str) -> bytes:
        """The contents of one of ``FORMATS``."""
        return self.format(name).read_bytes()

    def wav(self, name: str, samples: Pcm, *, rate_hz: int = SAMPLE_RATE) -> Path:
        """*samples* ``[n_channels, n_samples]`` as float wav, kept as they are."""
        return self._made(name, lambda path: path.write_bytes(float_wav(samples, rate_hz)))

    def _made(self, name: str, make: Callable[[Path], object]) -> Path:
        path = self._directory / name
        if not path.exists():
            make(path)
        return path


def clip() -> Pcm:
    """The clip, 16 kHz, ``[1, n_samples]``."""
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=SAMPLE_RATE)
    with av.open(str(CLIP)) as container:
        frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
    frames += resampler.resample(None)
    samples: Pcm = np.concatenate([frame.to_ndarray() for frame in frames], axis=1)
    return samples * np.float32(0.5**0.5)  # the mix adds two equal tracks up to 1.41


def encode(path: Path, recipe: Recipe, samples: Pcm) -> None:
    """Write *samples* ``[1, n_samples]`` at 16 kHz to *path*, on all channels alike."""
    with av.open(str(path), "w", format=recipe.container, options=dict(recipe.options)) as container:
        container.metadata.update(recipe.tags)
        video = container.add_stream(recipe.video, rate=25) if recipe.video else None
        audio = container.add_stream(recipe.codec, rate=recipe.rate_hz, layout=recipe.layout)
        audio.codec_context.options = dict(recipe.codec_options)
        if recipe.bit_rate is not None:
            audio.bit_rate = recipe.bit_rate
        if recipe.art:
            art = container.add_stream("png", rate=1)
            art.width, art.height, art.pix_fmt = 64, 48, "rgb24"
            art.disposition = av.stream.Disposition.attached_pic
            container.mux(art.encode(picture("rgb24")))
        if video is not None:
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            for _ in range(25):
                container.mux(video.encode(picture("yuv420p")))
            container.mux(video.encode(None))
        for frame in frames_of(samples, recipe):
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))


def frames_of(samples: Pcm, recipe: Recipe) -> Iterator[Any]:
    resampler = av.AudioResampler(format="fltp", layout=recipe.layout, rate=recipe.rate_hz)
    for begin in range(0, samples.shape[1], 4096):
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[:, begin : begin + 4096]), "fltp", "mono")
        frame.sample_rate = SAMPLE_RATE
        yield from resampler.resample(frame)
    yield from resampler.resample(None)


def picture(pixels: str) -> Any:
    """A gray one."""
    shape = (48, 64, 3) if pixels == "rgb24" else (72, 64)
    return av.VideoFrame.from_ndarray(np.full(shape, 128, np.uint8), pixels)


def float_wav(samples: Pcm, rate_hz: int = SAMPLE_RATE) -> bytes:
    """A wav file of float samples; any values, NaN too."""
    return (
        wav_header(samples.size * 4, rate_hz, len(samples), tag=3, bits=32)
        + np.ascontiguousarray(samples.T, "<f4").tobytes()
    )


def wav_header(n_bytes: int, rate_hz: int = SAMPLE_RATE, n_channels: int = 1, *, tag: int = 1, bits: int = 16) -> bytes:
    """The 44 bytes before the samples of a wav file; *n_bytes* may be a lie."""
    width = n_channels * bits // 8
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        min(n_bytes + 36, 2**32 - 1),
        b"WAVE",
        b"fmt ",
        16,
        tag,
        n_channels,
        rate_hz,
        rate_hz * width,
        width,
        bits,
        b"data",
        n_bytes,
    )


def long_wav(path: Path, seconds: int, *, rate_hz: int = SAMPLE_RATE) -> Path:
    """Silence of any length that takes no disk."""
    n_bytes = seconds * rate_hz * 2
    with path.open("wb") as file:
        file.write(wav_header(n_bytes, rate_hz))
        file.truncate(44 + n_bytes)
    return path


def _noise(n_bytes: int) -> bytes:
    return np.random.default_rng(1).bytes(n_bytes)


CORRUPT: Final[Mapping[str, Callable[[Media], bytes]]] = {
    "empty.wav": lambda _: b"",
    "text.wav": lambda _: b"this is not audio\n",
    "long_text.mp3": lambda _: b"all work and no play makes jack a dull boy\n" * 5_000,
    "noise.mp3": lambda _: _noise(65_536),
    "png.flac": lambda _: b"\x89PNG\r\n\x1a\n",
    "page.html": lambda _: b"<!DOCTYPE html><html><body>404</body></html>",
    "header_only.wav": lambda _: wav_header(0),
    "rate_zero.wav": lambda _: wav_header(3_200, 0) + bytes(3_200),
    "no_moov.mp4": lambda media: half(media.bytes("m4a")),
    "zip.wav": lambda _: b"PK\x03\x04" + _noise(5_000),
}
"""Nothing can be heard in these."""


def half(data: bytes) -> bytes:
    """A transfer that broke off."""
    return data[: len(data) // 2]


def with_garbage(data: bytes) -> bytes:
    """Two thousand bytes replaced by noise."""
    return data[:20_000] + _noise(2_000) + data[22_000:]


def video_only(path: Path) -> Path:
    """A film without sound."""
    with av.open(str(path), "w", format="mp4") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for _ in range(25):
            container.mux(video.encode(picture("yuv420p")))
        container.mux(video.encode(None))
    return path
