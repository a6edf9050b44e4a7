"""The embedded English engine on real speech, and on what is no speech at all."""

import math
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import anyio
import numpy as np
import numpy.typing as npt
import pytest

from qasr.domain.audio import SAMPLE_RATE, Pcm, Segment
from qasr.domain.errors import EngineFailed, EngineUnavailable
from qasr.domain.options import Hints
from qasr.domain.transcript import Hypothesis
from qasr.engines import moonshine
from qasr.engines.base import Recognizer, Request
from qasr.engines.moonshine import assets
from qasr.engines.moonshine.model import Abandoned, Moonshine
from qasr.engines.moonshine.tokenizer import BEGIN, END, Tokenizer, text_of

pytestmark = pytest.mark.anyio

CLIPS: Final = ("LJ001-0002.flac", "jfk.flac", "LJ001-0004.flac", "austen-0870.flac")
ALLOWED_ERRORS: Final = 0.06
"""Share of wrong words on these easy clips; measured 0.03."""


def never() -> bool:
    return False


def request(pcm: Pcm) -> Request:
    return Request(segment=Segment(pcm=pcm, begin_ms=0), hints=Hints())


def words_of(text: str) -> list[str]:
    return "".join(c for c in text.lower() if c.isalnum() or c in " '").split()


def n_errors(reference: list[str], heard: list[str]) -> int:
    row = list(range(len(heard) + 1))
    for i, word in enumerate(reference, 1):
        above, row = row, [i]
        for j, other in enumerate(heard, 1):
            row.append(min(row[-1] + 1, above[j] + 1, above[j - 1] + (word != other)))
    return row[-1]


@pytest.fixture
async def engine() -> AsyncIterator[Recognizer]:
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(moonshine.factory({"threads": "2"}))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.read(assets.locate() / assets.TOKENIZER)


@pytest.fixture(scope="module")
def model() -> Moonshine:
    folder = assets.locate()
    return Moonshine(folder / assets.ENCODER, folder / assets.DECODER)


async def test_speech_becomes_text(
    engine: Recognizer, speech: Callable[[str], Pcm], references: Mapping[str, str]
) -> None:
    """Clear English is understood, with punctuation and capitals."""
    heard = await engine.recognize([request(speech(name)) for name in references])
    pairs = [
        (words_of(reference), words_of(one.text)) for reference, one in zip(references.values(), heard, strict=True)
    ]
    wrong = sum(n_errors(reference, one) for reference, one in pairs)
    jfk = heard[list(references).index("jfk.flac")].text

    assert wrong <= ALLOWED_ERRORS * sum(len(reference) for reference, _ in pairs), [one.text for one in heard]
    assert jfk.startswith("And so my fellow Americans ask not what your country can do for you, ")
    assert jfk.endswith(".")


async def test_tokens_make_up_the_text(engine: Recognizer, speech: Callable[[str], Pcm]) -> None:
    """Confidence can be shown per word: every token has its bytes and a natural log-probability."""
    (heard,) = await engine.recognize([request(speech("jfk.flac"))])

    assert heard.text == text_of(token.text for token in heard.tokens)
    assert all(-30 < token.logprob <= 0 for token in heard.tokens)
    assert math.exp(sum(token.logprob for token in heard.tokens) / len(heard.tokens)) > 0.8
    assert {BEGIN, END}.isdisjoint(token.id for token in heard.tokens)
    assert not heard.truncated


def test_company_does_not_change_an_answer(model: Moonshine, speech: Callable[[str], Pcm]) -> None:
    """Rows of different lengths are masked from each other, and leave the batch without a trace.

    The decoder quantizes each call's activations over the whole batch, so log-probabilities move a little.
    """
    segments = [speech(name) for name in CLIPS]
    together = model.recognize(segments, cancelled=never)
    alone = [model.recognize([segment], cancelled=never)[0] for segment in segments]

    assert [one.ids for one in alone] == [one.ids for one in together]
    for one, other in zip(alone, together, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=0.25)


@pytest.mark.parametrize("n_samples", [0, 1, 100, 1_086, 1_087, 3_199])
def test_a_scrap_of_sound_is_no_accident(model: Moonshine, speech: Callable[[str], Pcm], n_samples: int) -> None:
    """Segments below the encoder's reach are filled up; an empty one has an empty answer."""
    scrap = speech("austen-0870.flac")[16_000 : 16_000 + n_samples]
    (heard,) = model.recognize([scrap], cancelled=never)

    assert len(heard.ids) <= 6
    assert n_samples or not heard.ids


@pytest.mark.parametrize("sample", [0.0, math.nan, math.inf, -math.inf])
def test_what_is_not_sound_has_no_text(model: Moonshine, speech: Callable[[str], Pcm], sample: float) -> None:
    """Digital silence and not-numbers give nothing, and leave their neighbors alone."""
    nothing = np.full(SAMPLE_RATE, sample, np.float32)
    clip = speech("LJ001-0002.flac")
    before, between, after = model.recognize([nothing, clip, nothing], cancelled=never)

    assert [] == before.ids == after.ids
    assert between == model.recognize([clip], cancelled=never)[0]


def test_thirty_seconds_pass(model: Moonshine, speech: Callable[[str], Pcm]) -> None:
    """The longest segment that the engine claims is heard to its end."""
    pcm = np.concatenate([speech("jfk.flac"), speech("LJ001-0001.flac"), speech("LJ001-0003.flac")])[: 30 * SAMPLE_RATE]
    (heard,) = model.recognize([pcm], cancelled=never)

    assert len(heard.ids) > 60
    assert not heard.truncated


def favor(token: int) -> Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float32]]:
    bonus = np.zeros(32_768, np.float32)
    bonus[token] = 1_000
    return lambda _: bonus


def test_a_loop_is_cut(model: Moonshine, tokenizer: Tokenizer, speech: Callable[[str], Pcm]) -> None:
    """An engine that says the same over and over is stopped, keeps one copy and admits it."""
    segments = [speech("jfk.flac"), speech("LJ001-0002.flac")]
    looping, sane = model.recognize(segments, cancelled=never, biases=[favor(500), None])

    assert ([500], True) == (looping.ids, looping.truncated)
    assert text_of(tokenizer.pieces(sane.ids)) == "In being comparatively modern."


def test_a_loop_of_a_phrase_is_cut(model: Moonshine, speech: Callable[[str], Pcm]) -> None:
    """Loops are found at any period, not only of a single token."""
    phrase = [400, 500, 600, 700]
    (heard,) = model.recognize(
        [speech("jfk.flac")], cancelled=never, biases=[lambda ids: favor(phrase[len(ids) % 4])(ids)]
    )

    assert (phrase, True) == (heard.ids, heard.truncated)


def test_nobody_speaks_faster_than_the_limit(model: Moonshine, speech: Callable[[str], Pcm]) -> None:
    """A row that would never end is stopped by its length, and says that it is incomplete."""
    endless = [lambda ids: favor(300 + len(ids))(ids)]
    (heard,) = model.recognize([speech("LJ001-0002.flac")], cancelled=never, biases=endless)

    assert int(1.8995 * 6.5) + 4 == len(heard.ids)
    assert heard.truncated


def test_bias_changes_the_choice_and_not_the_odds(model: Moonshine, speech: Callable[[str], Pcm]) -> None:
    """Log-probabilities stay the model's own, so a forced word shows how little it was heard."""
    (plain,) = model.recognize([speech("jfk.flac")], cancelled=never)
    (forced,) = model.recognize(
        [speech("jfk.flac")], cancelled=never, biases=[lambda ids: favor(500)(ids) * (len(ids) == 0)]
    )

    assert forced.ids[0] == 500
    assert forced.logprobs[0] < plain.logprobs[0]
    assert max(forced.logprobs) <= 1e-3


@pytest.mark.parametrize("questions", [0, 1, 5])
def test_an_abandoned_decode_stops_at_the_next_step(
    model: Moonshine, speech: Callable[[str], Pcm], questions: int
) -> None:
    """Nobody's text is not decoded to its end."""
    answers = iter([False] * questions + [True])

    with pytest.raises(Abandoned):
        model.recognize([speech("jfk.flac")], cancelled=lambda: next(answers))


async def test_cancelling_frees_the_engine(engine: Recognizer, speech: Callable[[str], Pcm]) -> None:
    """A client that leaves takes its decode along; the process stays."""
    (pid,) = engine._pool.pids  # type: ignore[attr-defined]
    long = np.tile(speech("jfk.flac"), 3)[: 30 * SAMPLE_RATE]
    for _ in range(4):
        with anyio.move_on_after(0.1):
            await engine.recognize([request(long)] * 8)
    with anyio.fail_after(8):
        heard = await engine.recognize([request(speech("LJ001-0002.flac"))])

    assert ["In being comparatively modern."] == [one.text for one in heard]
    assert [pid] == engine._pool.pids  # type: ignore[attr-defined]


async def test_a_killed_child_fails_its_call_and_is_replaced(engine: Recognizer, speech: Callable[[str], Pcm]) -> None:
    """A crash is one failed call that may be tried again."""
    heard: list[Hypothesis] = []

    async def fail() -> None:
        with pytest.raises(EngineFailed, match="ended unexpectedly; retry"):
            await engine.recognize([request(speech("jfk.flac"))] * 8)

    async with anyio.create_task_group() as group:
        group.start_soon(fail)
        await anyio.sleep(0.2)
        os.kill(engine._pool.pids[0], signal.SIGKILL)  # type: ignore[attr-defined]
    with anyio.fail_after(30):
        heard += await engine.recognize([request(speech("LJ001-0002.flac"))])

    assert ["In being comparatively modern."] == [one.text for one in heard]


@pytest.mark.parametrize("threads", ["0", "-1", "all"])
async def test_nonsense_threads_are_refused(threads: str) -> None:
    """An engine that could never answer is not started."""
    with pytest.raises(ValueError, match=r"out of range|invalid literal"):
        async with moonshine.factory({"threads": threads}):
            pass


async def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator is told what to install; the registry takes the next engine."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    with pytest.raises(EngineUnavailable, match=r"moonshine-voice==0\.0\.73"):
        async with moonshine.factory({}):
            pass


@pytest.mark.parametrize("harm", ["gone", "shorter", "changed"])
def test_changed_files_are_refused(tmp_path: Path, harm: str) -> None:
    """We run the model that was measured, or none."""
    folder = assets.locate()
    for name in assets.ASSETS:
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    assets.check(tmp_path)
    victim = tmp_path / assets.TOKENIZER
    data = victim.read_bytes()
    if harm == "gone":
        victim.unlink()
    else:
        victim.write_bytes(data[:-1] if harm == "shorter" else bytes([data[0] ^ 1]) + data[1:])

    with pytest.raises(EngineUnavailable, match=r"tokenizer\.bin"):
        assets.check(tmp_path)


def test_every_id_has_its_bytes(tokenizer: Tokenizer) -> None:
    """One- and two-byte lengths are read; byte tokens put together what lies outside the vocabulary."""
    small: Any = Tokenizer(bytes([1]) + b"a" + bytes([130, 1]) + b"x" * 130)

    assert len(tokenizer) == 32_768
    assert [b"a", b"x" * 130] == small.pieces([0, 1])
    assert text_of(tokenizer.pieces([3 + byte for byte in "né".encode()])) == "né"
    assert text_of([b" caf", b"\xc3"]) == "caf\ufffd"
