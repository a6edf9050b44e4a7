"""The decode loop: requests join while others are being written, and leave as soon as they are done.

::

    waiting ──a row is free──▶ encode windows ──▶ prefill the prompt into a slot ──▶ first token ─┐
                                                                                                 ▼
             ◀──end token, token limit, loop, cancelled: the row is free at once──  one token per row and step

One thread calls ``tick``: whoever waits and finds a free row is admitted, then every row gets one token. Who waits is
in order of arrival; priorities are decided outside (``engines/slots.py``), which sends only a few more than there are
rows. Greedy: the answer of a request is the one that the library's ``generate`` gives it alone.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import torch

from qasr.engines.qwen3.cache import KvSlots, Prefill, Span
from qasr.engines.qwen3.decoder import Decoder
from qasr.engines.qwen3.encoder import Encoder, Window, n_embeddings
from qasr.engines.qwen3.features import Sound
from qasr.engines.qwen3.prompt import Prompt
from qasr.engines.qwen3.repetition import Repetition

MOST_PREFILL: Final = 2048
"""Tokens that are prefilled before the next step; rows that are being written wait for them."""
AT_ONCE: Final = {"cpu": 512, "cuda": MOST_PREFILL}
"""Tokens of one prefill. On a CPU, what is between two products then stays near the processor."""


class Abandoned(Exception):
    """Nobody wants the answer any more."""


@dataclass(frozen=True, slots=True)
class Written:
    """An answer, without its end token."""

    ids: list[int]
    logprobs: list[float]
    truncated: bool
    """The token limit came before the end, or the answer went round in circles and was cut."""


@dataclass(slots=True, eq=False)
class Kept:
    """What a request may take over from the one before it about the same, longer sound."""

    windows: list[Window] = field(default_factory=list)
    slot: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """A request."""

    sound: Sound
    prompt: Prompt
    most_tokens: int
    prefix: tuple[int, ...] = ()
    """Tokens that the answer must begin with; not part of what is written."""
    cancelled: Callable[[], bool] = lambda: False
    kept: Kept = field(default_factory=Kept)
    is_urgent: bool = False
    """Somebody is speaking: goes ahead of others, and may use the spare rows."""
    answer: Future[Written] = field(default_factory=Future)


@dataclass(slots=True, eq=False)
class _Row:
    """A job that is being written."""

    job: Job
    slot: int
    filled: int
    """Places of the slot that hold keys and values."""
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    repetition: Repetition = field(default_factory=Repetition)


class Loop:
    """Rows, slots and who waits for them. ``submit`` may be called from any thread, ``tick`` from one.

    Args:
        encoder: for the sound.
        decoder: for the text.
        rows: that are written at once.
        spare_rows: more, for urgent jobs only; as long as they are free, their slots keep the beginnings of rows for
            their successors.
        places: tokens of one row: prompt, sound and answer.
        end_ids: tokens that end an answer.
        cut_loops: end answers that go round in circles.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder,
        *,
        rows: int,
        spare_rows: int,
        places: int,
        end_ids: frozenset[int],
        device: str = "cpu",
        cut_loops: bool = True,
    ) -> None:
        self._encoder, self._decoder = encoder, decoder
        self._cache: KvSlots = decoder.slots(rows + spare_rows, places)
        self._most_rows, self._most_urgent_rows = rows, rows + spare_rows
        self._end_ids, self._device, self._cut_loops = end_ids, device, cut_loops
        self._held: list[list[int]] = [[] for _ in range(rows + spare_rows)]  # what each slot's places stand for
        self._keeper: list[Kept | None] = [None] * (rows + spare_rows)
        self._last_use = [0] * (rows + spare_rows)
        self._clock = 0
        self._rows: list[_Row] = []
        self._waiting: deque[Job] = deque()
        self._urgent: deque[Job] = deque()
        self._arrived = threading.Condition()

    def submit(self, job: Job) -> None:
        """Put *job* into the line; ``job.answer`` will be set.

        Raises:
            ValueError: it is longer than a slot.
        """
        n_tokens = _n_tokens(job)
        if n_tokens + job.most_tokens + 1 > self._cache.places:
            raise ValueError(f"a row of {n_tokens} + {job.most_tokens} tokens does not fit into {self._cache.places}")
        with self._arrived:
            (self._urgent if job.is_urgent else self._waiting).append(job)
            self._arrived.notify()

    def run(self) -> None:
        """Serve forever."""
        while True:
            with self._arrived:
                self._arrived.wait_for(lambda: self._rows or self._waiting or self._urgent)
            self.tick()

    def tick(self) -> bool:
        """Admit who waits and write one token per row; False if nothing was left to do.

        A failure is given to all whom it may concern, and the loop goes on without them.
        """
        with torch.inference_mode():
            self._drop_cancelled()
            for jobs in self._together(self._next_jobs()):
                self._guarded(partial(self._admit, jobs), jobs)
            if self._rows:
                self._guarded(self._step, [row.job for row in self._rows])
        return bool(self._rows or self._waiting or self._urgent)

    def _guarded(self, work: Callable[[], None], jobs: Sequence[Job]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - whatever it was, others must go on
            self._rows = [row for row in self._rows if row.job not in jobs]
            for job in jobs:
                if not job.answer.done():
                    job.answer.set_exception(error)

    def _drop_cancelled(self) -> None:
        for row in [row for row in self._rows if row.job.cancelled()]:
            self._rows.remove(row)
            row.job.answer.set_exception(Abandoned())

    def _next_jobs(self) -> list[Job]:
        """Those in front for whom there are rows, and room before the next step."""
        jobs: list[Job] = []
        n_tokens = 0
        while True:
            with self._arrived:
                line, n_rows = self._waiting, self._most_rows
                if self._urgent:
                    line, n_rows = self._urgent, self._most_urgent_rows
                if not line or len(self._rows) + len(jobs) >= n_rows:
                    break
                if jobs and n_tokens + _n_tokens(line[0]) > MOST_PREFILL:
                    break
                job = line.popleft()
            if job.cancelled():
                job.answer.set_exception(Abandoned())
                continue
            n_tokens += _n_tokens(job)
            jobs.append(job)
        return jobs

    def _together(self, jobs: Sequence[Job]) -> Iterator[list[Job]]:
        """Those of *jobs* that share a prefill."""
        group: list[Job] = []
        n_tokens = 0
        for job in jobs:
            if group and n_tokens + _n_tokens(job) > AT_ONCE[self._device]:
                yield group
                group, n_tokens = [], 0
            group.append(job)
            n_tokens += _n_tokens(job)
        if group:
            yield group

    def _admit(self, jobs: Sequence[Job]) -> None:
        """Encode, prefill and write the first token of *jobs*, which become rows."""
        encoded = self._encoder.encode([(job.sound, job.kept.windows) for job in jobs])
        spans: list[Span] = []
        embedded: list[torch.Tensor] = []
        rows: list[_Row] = []
        held: list[list[int]] = []
        for job, windows in zip(jobs, encoded, strict=True):
            job.kept.windows = windows
            keys = _keys(job, windows)
            slot = self._choose_slot(job, len(keys), taken={row.slot for row in rows})
            begin = min(_common(self._held[slot], keys), len(keys) - 1)
            spans.append(Span(slot, begin, len(keys) - begin))
            embedded.append(self._embedded(job, windows)[begin:])
            self._held[slot], self._keeper[slot] = keys[:begin], job.kept  # the rest when it is written
            job.kept.slot = slot
            rows.append(_Row(job, slot, len(keys)))
            held.append(keys)
        hidden = self._decoder.forward(torch.cat(embedded), Prefill(self._cache, spans))
        for row, keys in zip(rows, held, strict=True):
            self._held[row.slot] = keys
        ends = torch.tensor([span.count for span in spans], device=self._device).cumsum(0) - 1
        self._rows = sorted([*self._rows, *rows], key=lambda row: row.slot)
        self._take(rows, hidden[ends])

    def _embedded(self, job: Job, windows: Sequence[Window]) -> torch.Tensor:
        """What the decoder reads before it writes."""
        before = torch.tensor(job.prompt.before, device=self._device)
        after = torch.tensor(job.prompt.after + job.prefix, device=self._device)
        sound = [window.embeddings for window in windows]
        texts = self._decoder.embed(before), self._decoder.embed(after)
        return torch.cat([texts[0], *(part.to(texts[0].dtype) for part in sound), texts[1]])

    def _choose_slot(self, job: Job, length: int, taken: set[int]) -> int:
        """A free slot: the one that holds the row's beginning, else one that holds nobody's, among its like.

        Short rows gather at one end and long ones at the other, so that neighbors share calls of attention.
        """
        taken = taken | {row.slot for row in self._rows}
        free = [slot for slot in range(self._cache.n_slots) if slot not in taken]
        self._clock += 1
        slot = job.kept.slot
        if slot is None or slot not in free or self._keeper[slot] is not job.kept:
            unkept = [slot for slot in free if not self._last_use[slot]] or [min(free, key=self._last_use.__getitem__)]
            wanted = length / self._cache.places * self._cache.n_slots
            slot = min(unkept, key=lambda slot: abs(slot - wanted))
            self._held[slot] = []
        self._last_use[slot] = self._clock if job.is_urgent else 0  # others have no successor
        return slot

    def _step(self) -> None:
        rows = list(self._rows)
        last = torch.tensor([row.ids[-1] for row in rows], device=self._device)
        plan = self._cache.step([(row.slot, row.filled) for row in rows])
        hidden = self._decoder.forward(self._decoder.embed(last), plan)
        for row in rows:
            self._held[row.slot].append(row.ids[-1])
            row.filled += 1
        self._take(rows, hidden)

    def _take(self, rows: Sequence[_Row], hidden: torch.Tensor) -> None:
        """Choose each row's next token; rows that end leave."""
        ids, logprobs = self._decoder.chosen(self._decoder.logits(hidden))
        for row, token, logprob in zip(rows, ids.tolist(), logprobs.tolist(), strict=True):
            truncated = len(row.ids) == row.job.most_tokens
            if token in self._end_ids or truncated:
                self._finish(row, truncated=token not in self._end_ids)
                continue
            row.ids.append(token)
            row.logprobs.append(logprob)
            surplus = row.repetition.superfluous(token) if self._cut_loops else 0
            if surplus:
                del row.ids[-surplus:], row.logprobs[-surplus:]
                self._finish(row, truncated=True)

    def _finish(self, row: _Row, *, truncated: bool) -> None:
        self._rows.remove(row)
        row.job.answer.set_result(Written(row.ids, row.logprobs, truncated))


def _n_tokens(job: Job) -> int:
    """How many tokens *job* has before the first one is written."""
    return len(job.prompt.before) + n_embeddings(job.sound.n_frames) + len(job.prompt.after) + len(job.prefix)


def _keys(job: Job, windows: Sequence[Window]) -> list[int]:
    """What each place of the row's beginning stands for: tokens by their id, sound by a negative number of its own."""
    sound = [-(window.number << 8 | i) - 1 for window in windows for i in range(len(window.embeddings))]
    return [*job.prompt.before, *sound, *job.prompt.after, *job.prefix]


def _common(held: Sequence[int], keys: Sequence[int]) -> int:
    """Length of the common beginning."""
    n = min(len(held), len(keys))
    return next((i for i in range(n) if held[i] != keys[i]), n)
