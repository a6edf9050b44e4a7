"""Growing segments: what stands, what may change, and that nothing is computed twice."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engines.qwen3.conftest import Folders

from qasr.domain.audio import SAMPLE_RATE, Pcm
from qasr.engines.qwen3 import setup as setups
from qasr.engines.qwen3.encoder import Encoder
from qasr.engines.qwen3.features import Sound
from qasr.engines.qwen3.loop import Job, Kept, Written
from qasr.engines.qwen3.model import Model, assemble
from qasr.engines.qwen3.stream import ROLLED_BACK, UNSETTLED_S, Stream


@pytest.fixture(scope="module")
def model(checkpoints: Folders) -> Model:
    settings = setups.Setup(folder=str(checkpoints("asr", "hf")), precision="fp32", threads=1, rows=1, spare_rows=2)
    return assemble(settings, cut_loops=False)


def run(model: Model, job: Job) -> Written:
    model.loop.submit(job)
    while model.loop.tick():
        pass
    return job.answer.result(0)


def never() -> bool:
    return False


@given(
    pieces=st.lists(st.integers(100, 60_000), min_size=1, max_size=7),
    language=st.sampled_from([None, "en"]),
    limit=st.integers(1, 30),
)
@settings(max_examples=30, deadline=None)
def test_what_stands_never_changes(
    model: Model, clip: Callable[..., Pcm], pieces: list[int], language: str | None, limit: int
) -> None:
    """Whatever comes how fast: each partial begins with what stood before, whole characters only; and it is what the
    model writes from scratch after the same beginning."""
    stream = Stream(model.prompts, model.prompts.build("fox", language, most_context=9), language)
    whole = clip(sum(pieces), len(pieces))
    begin, stood = 0, ""
    for n_samples in pieces:
        job = stream.next_job(whole[begin : begin + n_samples], never)
        begin += n_samples
        assert job is not None
        job = replace(job, most_tokens=limit + ROLLED_BACK)
        again = replace(job, sound=Sound(whole[:begin]), kept=Kept(), answer=type(job.answer)(), is_urgent=False)
        written = run(model, job)
        partial = stream.take(written)

        assert partial.stable.startswith(stood)
        assert model.prompts.read([*job.prefix, *written.ids], language).text == partial.stable + partial.tail
        assert job.sound.duration_s >= UNSETTLED_S or not job.prefix
        assert run(model, again).ids == written.ids
        stood = partial.stable


def test_nothing_stands_before_the_language_is_told(model: Model, clip: Callable[..., Pcm]) -> None:
    """What comes before the mark is no text; once it stands, it is given back to the model with the mark."""
    prompts = model.prompts
    stream = Stream(prompts, prompts.build("", None, most_context=0), None)
    said = ["fox dog fox dog", "language English<asr_text>And", "language English<asr_text>" + "And so, " * 9, "fox"]
    partials, prefixes = [], []
    for text in said:
        job = stream.next_job(clip(int(UNSETTLED_S * SAMPLE_RATE)), never)
        assert job is not None
        prefixes.append(list(job.prefix))
        ids = prompts._ids(text)
        partials.append(stream.take(Written(ids, [0.0] * len(ids), truncated=False)))

    assert [[], [], [], prompts._ids(said[2])[:-ROLLED_BACK]] == prefixes
    assert ["", "", "", "And so"] == [partial.stable[:6] for partial in partials]
    assert [None, "en", "en", "en"] == [partial.language for partial in partials]


def test_silence_is_waited_out(model: Model, clip: Callable[..., Pcm]) -> None:
    """Before the first sound there is nothing to write."""
    stream = Stream(model.prompts, model.prompts.build("", "en", most_context=0), "en")

    assert stream.next_job(np.zeros(8_000, np.float32), never) is None
    assert stream.next_job(clip(8_000), never) is not None
    assert 1.0 == stream.duration_s


def test_only_new_chunks_are_convolved(model: Model, clip: Callable[..., Pcm], monkeypatch: pytest.MonkeyPatch) -> None:
    """After ten seconds, half a second more costs the chunk it falls into, and those are exact."""
    counts = []
    convolve = Encoder._convolve

    def counted(self: Encoder, chunks: object) -> object:
        listed = list(chunks)  # type: ignore[call-overload]
        counts.append(len(listed))
        return convolve(self, listed)

    monkeypatch.setattr(Encoder, "_convolve", counted)
    encoder: Encoder = model.loop._encoder
    sound = Sound(clip(int(10.2 * SAMPLE_RATE)))
    loud = float(np.abs(sound._pcm).max())
    with torch.inference_mode():
        (first,) = encoder.encode([(sound, ())])
        sound.add(clip(SAMPLE_RATE // 2, 1) * np.float32(0.01 * loud))
        (second,) = encoder.encode([(sound, first)])
        (fresh,) = encoder.encode([(Sound(sound._pcm), ())])

    assert [11, 1, 11] == counts
    for one, other in zip(second, fresh, strict=True):
        assert torch.allclose(one.embeddings, other.embeddings, atol=1e-4)


def test_partials_go_before_files(model: Model, clip: Callable[..., Pcm]) -> None:
    """Somebody who speaks does not wait for a row that a file holds, nor behind the files that wait."""
    prompt = model.prompts.build("", "en", most_context=0)
    files = [Job(sound=Sound(clip(20_000, seed)), prompt=prompt, most_tokens=8) for seed in range(3)]
    for job in files:
        model.loop.submit(job)
    model.loop.tick()
    stream = Stream(model.prompts, prompt, "en")
    urgent = stream.next_job(clip(20_000, 4), never)
    assert urgent is not None
    model.loop.submit(urgent)
    model.loop.tick()

    assert {id(files[0]), id(urgent)} == {id(row.job) for row in model.loop._rows}
    while model.loop.tick():
        pass
    assert all(job.answer.done() for job in [*files, urgent])
