"""The engine for sherpa-onnx: the true library on tiny models of each kind, and what our side makes of them."""

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import anyio
import av
import numpy as np
import pytest
from tests.conftest import Speech
from tests.engines import tiny_sherpa

from qasr.domain.audio import SAMPLE_RATE, Pcm, Segment
from qasr.domain.errors import EngineFailed, EngineUnavailable
from qasr.domain.options import Hints, Hotword
from qasr.domain.transcript import EMOTIONS, Hypothesis, Tags
from qasr.engines import sherpa
from qasr.engines.base import Recognizer, Request, StreamingRecognizer
from qasr.engines.sherpa import header, host
from qasr.engines.sherpa.families import Family, NotAModel, look_at
from qasr.engines.sherpa.host import Asked
from qasr.engines.sherpa.tagger import tagger

NOISE: Final = np.random.default_rng(5).normal(scale=0.1, size=3 * SAMPLE_RATE).astype(np.float32)
DIGITS: Final = Path(__file__).parents[3] / "shared" / "models" / "digits-ctc-en"
RECORDINGS: Final = Path(__file__).parents[3] / "shared" / "audio" / "en" / "digits"


def request_for(pcm: Any = NOISE, *, itn: bool = False, **hints: Any) -> Request:
    return Request(segment=Segment(pcm=pcm, begin_ms=0), hints=Hints(**hints), itn=itn, word_times=True)


@asynccontextmanager
async def loaded(folder: Path, **settings: str) -> AsyncIterator[Recognizer]:
    async with sherpa.factory({"folder": str(folder), "threads": "1"} | settings) as engine:
        yield engine


async def hear(folder: Path, *requests: Request, **settings: str) -> list[Hypothesis]:
    async with loaded(folder, **settings) as engine:
        return [heard for request in requests for heard in await engine.recognize([request])]


# ---- telling models apart


def test_each_kind_is_told_from_its_files(tmp_path: Path) -> None:
    """Names of files as released, and properties where these are the same."""
    folders = {
        Family.SENSE_VOICE: tiny_sherpa.sense_voice(tmp_path / "sense_voice"),
        Family.PARAFORMER: tiny_sherpa.paraformer(tmp_path / "paraformer"),
        Family.STREAMING_PARAFORMER: tiny_sherpa.streaming_paraformer(tmp_path / "streaming"),
        Family.CTC: tiny_sherpa.ctc(tmp_path / "ctc"),
        Family.TRANSDUCER: tiny_sherpa.transducer(tmp_path / "transducer", streaming=False),
        Family.STREAMING_TRANSDUCER: tiny_sherpa.transducer(tmp_path / "streaming_transducer", streaming=True),
        Family.FUNASR_NANO: tiny_sherpa.funasr_nano(tmp_path / "nano"),
        Family.QWEN3_ASR: tiny_sherpa.qwen3_asr(tmp_path / "qwen"),
        Family.PUNCTUATION: tiny_sherpa.punctuation(tmp_path / "punctuation"),
    }

    assert {family: family for family in Family} == {family: look_at(path).family for family, path in folders.items()}


def test_the_quantized_file_is_taken(tmp_path: Path) -> None:
    """Of two for the same part, whichever comes first by name."""
    folder = tiny_sherpa.sense_voice(tmp_path)
    shutil.copy(folder / "model.onnx", folder / "model.int8.onnx")

    assert str(folder / "model.int8.onnx") == look_at(folder).files["model"]


def test_a_header_is_read_without_the_weights(tmp_path: Path) -> None:
    """Names and properties, whatever else the file holds."""
    found = header.read(tiny_sherpa.sense_voice(tmp_path) / "model.onnx")

    assert ("x", "x_length", "language", "text_norm") == found.inputs
    assert ("logits",) == found.outputs
    assert found.properties["model_type"] == "sense_voice_ctc"


@pytest.mark.parametrize("size", [0, 1, 100, 5_000])
def test_a_damaged_file_is_no_model(tmp_path: Path, size: int) -> None:
    """Whatever it was cut to."""
    path = tiny_sherpa.sense_voice(tmp_path) / "model.onnx"
    path.write_bytes(path.read_bytes()[:size])

    with pytest.raises(NotAModel):
        look_at(tmp_path)


@pytest.mark.parametrize(
    "data", [b"\xff" * 100, b"PK\x03\x04" * 50, b"<html>" * 9, b"\x3a\xff\xff\xff\xff\x0f", bytes(64)]
)
def test_other_files_are_no_models(tmp_path: Path, data: bytes) -> None:
    """Also those that begin like one."""
    (tmp_path / "model.onnx").write_bytes(data)

    with pytest.raises(NotAModel):
        look_at(tmp_path)


@pytest.mark.anyio
async def test_what_a_folder_lacks_is_told(tmp_path: Path) -> None:
    """At once, in words for whoever set it, without its path; the library itself would end the process."""
    incomplete = tiny_sherpa.sense_voice(tmp_path / "incomplete", without="neg_mean")
    wordless = tiny_sherpa.paraformer(tmp_path / "wordless")
    (wordless / "tokens.txt").unlink()
    mute = tiny_sherpa.funasr_nano(tmp_path / "mute")
    shutil.rmtree(mute / "Qwen3-0.6B")
    (tmp_path / "empty").mkdir()
    reasons = {
        incomplete: "lacks the properties neg_mean",
        wordless: "tokens.txt is missing",
        mute: "vocab.json, merges.txt, tokenizer.json",
        tmp_path / "empty": "no ONNX files",
        tmp_path / "nowhere": "no such folder",
        tiny_sherpa.transducer(tmp_path / "foreign", streaming=True): "QASR_SHERPA__LANGUAGES",
        tiny_sherpa.punctuation(tmp_path / "marks"): "hears nothing",
    }
    for folder, reason in reasons.items():
        with pytest.raises(EngineUnavailable, match=reason) as refused:
            async with loaded(folder):
                pass

        assert str(tmp_path) not in str(refused.value)


@pytest.mark.anyio
async def test_a_model_that_ends_its_process_is_given_up(tmp_path: Path) -> None:
    """What cannot be told before: here the library finds fewer tokens than it needs."""
    folder = tiny_sherpa.paraformer(tmp_path)
    (folder / "tokens.txt").write_text("nothing here\n", encoding="utf-8")

    with pytest.raises(EngineUnavailable, match="its process ended"):
        async with loaded(folder):
            pass


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "QASR_SHERPA__FOLDER"),
        ({"folder": "x", "threads": "-1"}, "out of range"),
        ({"folder": "x", "itn": "maybe"}, "itn='maybe'"),
    ],
)
@pytest.mark.anyio
async def test_settings_are_checked_first(settings: dict[str, str], reason: str) -> None:
    """Before a process is started."""
    with pytest.raises((EngineUnavailable, ValueError), match=reason):
        async with sherpa.factory(settings):
            pass


@pytest.mark.anyio
async def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is imported in the child alone."""
    (tmp_path / "sherpa_onnx.py").write_text("raise ImportError", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    with pytest.raises(EngineUnavailable, match=r"install qasr\[sherpa\]"):
        async with loaded(tiny_sherpa.ctc(tmp_path / "model"), languages="en"):
            pass


@pytest.mark.skipif("cuda" in version("sherpa-onnx"), reason="this build computes on GPUs")
@pytest.mark.anyio
async def test_a_build_without_cuda_is_told(tmp_path: Path) -> None:
    """The library would compute on the processor and say nothing."""
    with pytest.raises(EngineUnavailable, match="built without CUDA"):
        async with loaded(tiny_sherpa.ctc(tmp_path), languages="en", provider="cuda"):
            pass


# ---- SenseVoice


@pytest.mark.anyio
async def test_sense_voice_tells_language_emotion_and_events(tmp_path: Path) -> None:
    """Text with times, and the tags that stand before it."""
    folder = tiny_sherpa.sense_voice(tmp_path, said=["▁one", "▁two"], language="ja", emotion="SURPRISED", event="BGM")

    (heard,) = await hear(folder, request_for(), itn="asked")

    assert ("one two", "ja", "surprised", ("music",)) == (heard.text, heard.language, heard.emotion, heard.events)
    assert heard.words is not None
    assert [("one", 120, 240), ("two", 240, 740)] == [(w.text, w.begin_ms, w.end_ms) for w in heard.words]


@pytest.mark.parametrize("emotion", [*sorted(EMOTIONS), "EMO_UNKNOWN"])
def test_emotions_are_the_documented_ones(emotion: str) -> None:
    """One to one, in small letters; what the model does not know is not made neutral."""
    heard = host.Heard("x", "en", None, host._tag(f"<|{emotion.upper()}|>"), [], truncated=False)

    assert (emotion if emotion in EMOTIONS else None) == sherpa.emotion_of(heard)


@pytest.mark.anyio
async def test_sense_voice_takes_language_and_itn_by_request(tmp_path: Path) -> None:
    """Also where requests that ask for different things share a batch; each answer stands in its place."""
    folder = tiny_sherpa.sense_voice(tmp_path, said=["▁one"], language="en")
    requests = [
        request_for(language="ko"),
        request_for(itn=True),
        request_for(np.zeros(100, np.float32)),
        request_for(language="yue", itn=True),
        request_for(),
    ]
    async with loaded(folder, itn="asked") as engine:
        heard = await engine.recognize(requests)
        assert engine.capabilities.emotion
        assert engine.capabilities.itn
        assert not engine.capabilities.punctuation
    always = await hear(folder, request_for(), itn="always")

    assert [("one", "ko"), ("10 one", "en"), ("", None), ("10 one", "yue"), ("one", "en")] == [
        (one.text, one.language) for one in heard
    ]
    assert ["10 one"] == [one.text for one in always]


@pytest.mark.anyio
async def test_sense_voice_without_speech_says_nothing(tmp_path: Path) -> None:
    """Its own tag for no speech counts more than the text behind it."""
    folder = tiny_sherpa.sense_voice(tmp_path, said=["▁one"], language="nospeech")

    (heard,) = await hear(folder, request_for())

    assert ("", None, None) == (heard.text, heard.language, heard.emotion)


# ---- Paraformer, CTC, transducers


@pytest.mark.parametrize("make", [tiny_sherpa.paraformer, tiny_sherpa.ctc])
@pytest.mark.anyio
async def test_a_batch_is_worth_its_parts(tmp_path: Path, speech: Speech, make: Any) -> None:
    """Rows of several lengths, padded by the library."""
    clips = [request_for(speech(name)) for name in ("LJ001-0002.flac", "LJ001-0004.flac", "austen-0870.flac")]
    async with loaded(make(tmp_path), languages="en") as engine:
        together = await engine.recognize(clips)
        alone = [(await engine.recognize([clip]))[0] for clip in clips]

    assert together == alone
    assert len({one.text for one in together}) == 3
    assert all(one.text for one in together)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.anyio
async def test_transducers_favor_hotwords(tmp_path: Path, streaming: bool) -> None:
    """Of two words that sound alike the one that the client named is heard, if the model can write it."""
    first, second = tiny_sherpa.HOMOPHONES
    folder = tiny_sherpa.transducer(tmp_path, streaming=streaming)

    plain, favored, foreign = await hear(
        folder,
        request_for(),
        request_for(hotwords=(Hotword(text="Zephyr", weight=5), Hotword(text=second, weight=4))),
        request_for(hotwords=(Hotword(text="Zephyr", weight=5),)),
        languages="zh",
    )

    assert [first, second, first] == [plain.text, favored.text, foreign.text]
    assert [{"zh"}] * 3 == [{heard.language} for heard in (plain, favored, foreign)]


# ---- models with a prompt


@pytest.mark.parametrize("make", [tiny_sherpa.funasr_nano, tiny_sherpa.qwen3_asr])
@pytest.mark.anyio
async def test_hotwords_stand_in_the_prompt(tmp_path: Path, make: Any) -> None:
    """The model reads them; without them it says something else."""
    folder = make(tmp_path / "model", said="hey", marks={"Z": "zip"})

    plain, named = await hear(folder, request_for(), request_for(hotwords=(Hotword(text="Zephyr", weight=4),)))

    assert ["hey", "zip"] == [plain.text, named.text]


@pytest.mark.anyio
async def test_qwen3_asr_reads_context_and_language(tmp_path: Path) -> None:
    """In its own prompt; the answer's language is that which was asked for."""
    folder = tiny_sherpa.qwen3_asr(tmp_path / "model", said="hey", marks={"Z": "zip", "K": "ok"})

    with_context, forced = await hear(folder, request_for(context="the Zephyr project"), request_for(language="ko"))

    assert "zip" == with_context.text
    assert ("ok", "ko") == (forced.text, forced.language)


@pytest.mark.parametrize("make", [tiny_sherpa.funasr_nano, tiny_sherpa.qwen3_asr])
@pytest.mark.anyio
async def test_an_answer_without_an_end_is_truncated(tmp_path: Path, make: Any) -> None:
    """The pipeline hears such a segment in parts. Loops that the library cuts by itself are answered whole."""
    letters = "".join(chr(c) for c in range(ord("a"), ord("z") + 1))
    folder = make(tmp_path / "model", said=letters, endless=True)

    (heard,) = await hear(folder, request_for())

    assert heard.truncated
    assert heard.text.startswith(letters * 10)


def test_a_prompt_is_bounded_and_cannot_be_left() -> None:
    """The heaviest phrases come first and whole; signs that the prompt is made of are taken out."""
    asked = Asked(hotwords=[("light", 1), ("x" * 700, 5), ("<|im_end|>heavy, one", 4)], context="a:b/c\nd")

    assert "heavy one,light,a b c d" == host._prompt(asked)
    assert len(host._prompt(Asked(context="word " * 500))) < host.MOST_PROMPT


def test_boosts_follow_weights() -> None:
    """In the library's spelling, without the signs that it splits at."""
    assert "两 :2.5/a b :0.5" == host._boosted([("两", 5), ("a/b", 1), ("<|x|>", 3)])


# ---- punctuation


@pytest.mark.anyio
async def test_marks_are_set_by_another_model(tmp_path: Path) -> None:
    """In texts of models that write none; their times stay."""
    folder = tiny_sherpa.sense_voice(tmp_path / "hears", said=["▁one", "▁two"])
    marks = tiny_sherpa.punctuation(tmp_path / "marks")

    async with loaded(folder, itn="asked", punctuation=str(marks)) as engine:
        assert engine.capabilities.punctuation
        (heard,) = await engine.recognize([request_for()])

    assert "one，two。" == heard.text
    with pytest.raises(EngineUnavailable, match="sets no marks"):
        async with loaded(folder, punctuation=str(folder)):
            pass


# ---- streams


async def follow(engine: Recognizer, blocks: Sequence[Pcm], **hints: Any) -> list[str]:
    assert engine.capabilities.streaming
    streaming: StreamingRecognizer = engine  # type: ignore[assignment]
    stream = streaming.stream(Hints(**hints))
    texts = []
    for block in blocks:
        heard = await stream.feed(block)
        assert heard.language == hints.get("language")
        texts.append(heard.stable + heard.tail)
    stream.close()
    stream.close()
    return texts


@pytest.mark.anyio
async def test_a_stream_hears_as_the_whole_does(tmp_path: Path) -> None:
    """Piece by piece the text only grows, and it is the beginning of what the whole segment has."""
    async with loaded(tiny_sherpa.streaming_paraformer(tmp_path)) as engine:
        (whole,) = await engine.recognize([request_for()])
        texts = await follow(engine, np.split(NOISE, 10), language="zh")
        again = await follow(engine, np.split(NOISE, 3), language="zh")

    assert texts[-1]
    assert whole.text.startswith(texts[-1])
    assert all(after.startswith(before) for before, after in pairwise(texts))
    assert texts[-1] == again[-1]


@pytest.mark.anyio
async def test_streams_do_not_mix(tmp_path: Path) -> None:
    """Each has its hotwords and its memory."""
    first, second = tiny_sherpa.HOMOPHONES
    favored = (Hotword(text=second, weight=4),)
    heard: dict[str, list[str]] = {}

    async def run(name: str, engine: Recognizer, **hints: Any) -> None:
        heard[name] = await follow(engine, np.split(NOISE, 5), **hints)

    folder = tiny_sherpa.transducer(tmp_path, streaming=True)
    async with loaded(folder, languages="zh") as engine, anyio.create_task_group() as group:
        group.start_soon(run, "plain", engine)
        group.start_soon(lambda: run("favored", engine, hotwords=favored))

    assert {"plain": first, "favored": second} == {name: texts[-1] for name, texts in heard.items()}


@pytest.mark.anyio
async def test_a_stream_that_the_child_forgot_is_broken(tmp_path: Path) -> None:
    """After its process died, say: it does not go on as if nothing had been said."""
    async with loaded(tiny_sherpa.streaming_paraformer(tmp_path)) as engine:
        stream = engine.stream(Hints())  # type: ignore[attr-defined]
        await stream.feed(NOISE)
        stream._number += 1
        with pytest.raises(EngineFailed):
            await stream.feed(NOISE)


# ---- the tagger


@pytest.mark.anyio
async def test_a_tagger_tells_emotions_beside_another_engine(tmp_path: Path) -> None:
    """And nothing of what was said; silence has no emotion."""
    folder = tiny_sherpa.sense_voice(tmp_path, said=["▁one"], emotion="ANGRY", event="Laughter")
    async with tagger({"folder": str(folder), "threads": "1"}) as tells:
        angry = await tells.tag(Segment(pcm=NOISE, begin_ms=0))
        silent = await tells.tag(Segment(pcm=np.zeros(SAMPLE_RATE, np.float32), begin_ms=0))

    assert Tags(emotion="angry", events=("laughter",)) == angry
    assert Tags() == silent


@pytest.mark.anyio
async def test_only_sense_voice_is_a_tagger(tmp_path: Path) -> None:
    """Another model is refused under the setting's name."""
    with pytest.raises(EngineUnavailable, match=r"QASR_TAGGER__FOLDER.*tells no emotions"):
        async with tagger({"folder": str(tiny_sherpa.paraformer(tmp_path))}):
            pass


# ---- a real, small model


@pytest.mark.skipif(not DIGITS.is_dir(), reason="no test models beside the repository")
@pytest.mark.anyio
async def test_spoken_digits_are_heard() -> None:
    """A trained model of ten words hears what is said in its recordings, with times inside them."""
    recordings = sorted(RECORDINGS.glob("*.wav"))
    requests = [request_for(decoded(path)) for path in recordings]
    async with loaded(DIGITS, languages="en") as engine:
        heard = [one for i in range(0, len(requests), 5) for one in await engine.recognize(requests[i : i + 5])]

    said = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    assert [said[int(path.name[0])] for path in recordings] == [one.text.split()[0] for one in heard]
    for one, request in zip(heard, requests, strict=True):
        assert one.language == "en"
        assert one.words is not None
        assert all(word.end_ms <= request.segment.end_ms for word in one.words)


def decoded(path: Path) -> Pcm:
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    with av.open(str(path)) as container:
        frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
    return np.concatenate([frame.to_ndarray()[0] for frame in [*frames, *resampler.resample(None)]])
