"""The decode loop gives each request what the library gives it alone, whoever else is there."""

import itertools
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engines.qwen3.conftest import Folders
from transformers import AutoProcessor

from qasr.domain.audio import Pcm
from qasr.engines.qwen3 import cache
from qasr.engines.qwen3.checkpoint import load
from qasr.engines.qwen3.decoder import Decoder
from qasr.engines.qwen3.encoder import Encoder
from qasr.engines.qwen3.features import Sound
from qasr.engines.qwen3.linear import dense
from qasr.engines.qwen3.loop import Abandoned, Job, Loop, Written
from qasr.engines.qwen3.prompt import Prompts
from qasr.engines.qwen3.repetition import Repetition

MOST: Final = 24
CASES: Final = [
    (3_000, None, ""), (16_000, "en", ""), (20_000, None, "fox"), (40_000, "zh", "今天天气很好"), (70_000, None, ""),
    (130_000, "fr", ""), (9_000, None, "Ask not what your country can do for you. " * 6), (200_000, None, "dog"),
]  # fmt: skip
"""Samples, language, context."""


@dataclass
class Bench:
    """A tiny model, taken apart, and what the library says of each case."""

    make: Callable[..., Loop]
    jobs: list[Job]
    expected: list[Written]

    def job(self, number: int, **changes: Any) -> Job:
        job = self.jobs[number]
        fresh: dict[str, Any] = {"sound": Sound(job.sound._pcm), "answer": Future(), "kept": type(job.kept)()}
        return replace(job, **(fresh | changes))


@pytest.fixture(scope="module")
def bench(checkpoints: Folders, clip: Callable[..., Pcm]) -> Bench:
    folder = checkpoints("asr", "hf")
    checkpoint = load(folder, dtype=torch.float32)
    processor, prompts = AutoProcessor.from_pretrained(folder), Prompts(checkpoint.tokenizer)
    ends = frozenset(range(0, 900, 11))  # random weights hardly ever end; so that some answers do
    jobs, expected = [], []
    for seed, (n_samples, language, context) in enumerate(CASES):
        pcm = clip(n_samples, seed)
        inputs = processor.apply_transcription_request(pcm, language=language, prompt=context or None)
        with torch.inference_mode():
            out = checkpoint.model.generate(
                **inputs, max_new_tokens=MOST + 1, do_sample=False, eos_token_id=sorted(ends), pad_token_id=0
            )
        ids = out[0, inputs["input_ids"].shape[1] :].tolist()
        truncated = ids[-1] not in ends
        expected.append(Written(ids[:-1], [], truncated))
        prompt = prompts.build(context, language, most_context=400)
        jobs.append(Job(sound=Sound(pcm), prompt=prompt, most_tokens=MOST))
    encoder = Encoder(checkpoint.model.model, torch.float32, "cpu")
    decoder = Decoder(checkpoint.model, dense, dtype=torch.float32, kv_dtype=torch.float32, device="cpu")

    def make(rows: int = 3, spare_rows: int = 1, **options: Any) -> Loop:
        all_options: dict[str, Any] = {"places": 600, "end_ids": ends, "cut_loops": False, **options}
        return Loop(encoder, decoder, rows=rows, spare_rows=spare_rows, **all_options)

    return Bench(make, jobs, expected)


def finish(loop: Loop) -> None:
    while loop.tick():
        pass


def test_the_cases_are_worth_something(bench: Bench) -> None:
    """Some answers end by themselves and some at the limit, early and late, and no two are alike."""
    lengths = {len(one.ids) for one in bench.expected}

    assert {True, False} == {one.truncated for one in bench.expected}
    assert len(lengths) >= 3
    assert len({tuple(one.ids) for one in bench.expected}) >= len(CASES) - 2


@given(
    order=st.lists(st.tuples(st.integers(0, len(CASES) - 1), st.integers(0, 9)), min_size=1, max_size=14),
    rows=st.integers(1, 5),
    spare_rows=st.integers(0, 2),
    call_places=st.sampled_from([0, 64, 10_000]),
)
@settings(max_examples=40, deadline=None)
def test_any_mixture_in_any_order_is_what_generate_gives(
    bench: Bench, order: list[tuple[int, int]], rows: int, spare_rows: int, call_places: int
) -> None:
    """Token for token, however many rows there are, whenever each joins, and however rows share calls."""
    loop = bench.make(rows, spare_rows)
    jobs = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "CALL_PLACES", call_places)
        for number, pause in order:
            jobs.append((number, bench.job(number)))
            loop.submit(jobs[-1][1])
            for _ in range(pause):
                loop.tick()
        finish(loop)

    for number, job in jobs:
        assert bench.expected[number].ids == job.answer.result(0).ids
        assert bench.expected[number].truncated == job.answer.result(0).truncated


def test_log_probabilities_are_the_models(bench: Bench) -> None:
    """Natural, of the chosen token; company does not move them in full precision."""
    alone, loop = bench.job(1), bench.make(1)
    loop.submit(alone)
    finish(loop)
    together, loop = [bench.job(i) for i in (0, 1, 2)], bench.make(3)
    for job in together:
        loop.submit(job)
    finish(loop)
    logprobs = alone.answer.result(0).logprobs

    assert len(logprobs) == len(alone.answer.result(0).ids)
    assert all(logprob <= 0 for logprob in logprobs)
    assert together[1].answer.result(0).logprobs == pytest.approx(logprobs, abs=1e-4)


def test_a_finished_row_is_replaced_at_once(bench: Bench) -> None:
    """The next in line gets its first token in the tick after the one that ended."""
    short = next(i for i, one in enumerate(bench.expected) if 2 <= len(one.ids) < MOST)
    loop = bench.make(rows=1)
    first, second = bench.job(short), bench.job(1)
    loop.submit(first)
    loop.submit(second)
    while not first.answer.done():
        assert not second.answer.done()
        loop.tick()
    loop.tick()

    assert [second] == [row.job for row in loop._rows]
    assert loop._rows[0].ids


def test_a_cancelled_row_is_free_at_once(bench: Bench) -> None:
    """Its place is taken in the very next tick, and the neighbors notice nothing."""
    gone: list[bool] = []
    leaving, staying, waiting = bench.job(1, cancelled=lambda: bool(gone)), bench.job(3), bench.job(2)
    loop = bench.make(rows=2)
    for job in (leaving, staying, waiting):
        loop.submit(job)
    loop.tick()
    gone.append(True)
    loop.tick()

    assert isinstance(leaving.answer.exception(0), Abandoned)
    assert {id(staying), id(waiting)} >= {id(row.job) for row in loop._rows}
    finish(loop)
    assert bench.expected[3].ids == staying.answer.result(0).ids
    assert bench.expected[2].ids == waiting.answer.result(0).ids


def test_who_is_cancelled_in_the_line_is_never_begun(bench: Bench) -> None:
    """Nothing is encoded for nobody."""
    loop = bench.make()
    job = bench.job(1, cancelled=lambda: True)
    loop.submit(job)

    assert not loop.tick()
    assert isinstance(job.answer.exception(0), Abandoned)
    assert [] == job.kept.windows


def test_a_limit_is_told(bench: Bench) -> None:
    """An answer that was cut says so; one that ends exactly at its limit was not."""
    ended = next(i for i, one in enumerate(bench.expected) if not one.truncated and len(one.ids) >= 2)
    n_tokens = len(bench.expected[ended].ids)
    loop = bench.make()
    exact, cut = bench.job(ended, most_tokens=n_tokens), bench.job(ended, most_tokens=n_tokens - 1)
    loop.submit(exact)
    loop.submit(cut)
    finish(loop)

    assert (n_tokens, False) == (len(exact.answer.result(0).ids), exact.answer.result(0).truncated)
    assert (n_tokens - 1, True) == (len(cut.answer.result(0).ids), cut.answer.result(0).truncated)


def test_a_row_that_does_not_fit_is_not_begun(bench: Bench) -> None:
    """What it needs is counted before: prompt, sound and the longest answer."""
    needed = len(bench.jobs[1].prompt.before) + 13 + len(bench.jobs[1].prompt.after) + MOST + 1
    exact, job = bench.make(places=needed), bench.job(1)
    exact.submit(job)
    finish(exact)

    assert bench.expected[1].ids == job.answer.result(0).ids
    with pytest.raises(ValueError, match="does not fit"):
        bench.make(places=needed - 1).submit(bench.job(1))


def test_a_failure_takes_nobody_along(bench: Bench) -> None:
    """Who is admitted with a sound that cannot be encoded fails; who is being written already goes on."""
    loop = bench.make(rows=2)
    running, broken, after = bench.job(1), bench.job(2), bench.job(3)
    loop.submit(running)
    loop.tick()
    broken.kept.windows = [object()]  # type: ignore[list-item]
    loop.submit(broken)
    loop.submit(after)
    finish(loop)

    assert isinstance(broken.answer.exception(0), AttributeError)
    assert bench.expected[1].ids == running.answer.result(0).ids
    assert bench.expected[3].ids == after.answer.result(0).ids


@pytest.mark.parametrize(("period", "n_before"), [(1, 0), (1, 9), (3, 4), (24, 2)])
def test_circles_are_cut(bench: Bench, monkeypatch: pytest.MonkeyPatch, period: int, n_before: int) -> None:
    """What only repeats is taken back, and the answer says that it is not whole."""
    script = itertools.chain(range(100, 100 + n_before), itertools.cycle(range(200, 200 + period)))
    monkeypatch.setattr(Decoder, "logits", lambda _self, x: torch.eye(700)[[next(script) for _ in x]])
    loop = bench.make(end_ids=frozenset(), cut_loops=True)
    job = bench.job(1, most_tokens=300)
    loop.submit(job)
    finish(loop)
    written = job.answer.result(0)

    assert [*range(100, 100 + n_before), *range(200, 200 + period)] == written.ids
    assert written.truncated
    assert len(written.ids) == len(written.logprobs)


@given(st.lists(st.integers(0, 2), max_size=30), st.integers(1, 6))
def test_a_few_repetitions_are_speech(said: list[int], copies: int) -> None:
    """Below the number of copies that make a loop nothing is taken back."""
    repetition = Repetition()
    phrase = [*range(10, 14)] * copies

    assert not any(repetition.superfluous(token) for token in [*said[:20], *phrase])


def test_a_grown_sound_takes_its_beginning_over(bench: Bench, clip: Callable[..., Pcm]) -> None:
    """Keys and values of finished windows stay where they are; the answer is the one from scratch."""
    loop = bench.make(rows=2, spare_rows=1)
    pcm = clip(190_000, 5)
    early = bench.job(0, sound=Sound(pcm[:150_000]))
    loop.submit(early)
    finish(loop)
    early.sound.add(pcm[150_000:])
    later = bench.job(0, sound=early.sound, kept=early.kept)
    fresh = bench.job(0, sound=Sound(pcm))
    spans: list[cache.Span] = []
    begin = cache.Prefill.__init__

    def spy(plan: cache.Prefill, storage: cache.KvSlots, new: list[cache.Span]) -> None:
        spans.extend(new)
        begin(plan, storage, new)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache.Prefill, "__init__", spy)
        for job in (later, fresh):
            loop.submit(job)
            finish(loop)

    assert fresh.answer.result(0).ids == later.answer.result(0).ids
    assert spans[0].begin >= len(fresh.prompt.before) + 104
    assert spans[1].begin <= len(fresh.prompt.before)


def test_a_prefix_is_gone_on_with(bench: Bench) -> None:
    """An answer that begins with its own first tokens goes on with the rest."""
    loop = bench.make()
    whole = bench.expected[1].ids
    job = bench.job(1, prefix=tuple(whole[:5]), most_tokens=MOST - 5)
    loop.submit(job)
    finish(loop)

    assert whole[5:] == job.answer.result(0).ids
