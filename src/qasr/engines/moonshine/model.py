"""The decode loop: two onnxruntime sessions, greedy, batched.

::

    pcm ──encoder, one segment at a time──▶ frames [n, 288], one per 24 ms
    frames of a batch, padded + mask ──decoder, one token per row and step──▶ ids, log-probabilities

* The encoder normalizes over time (GroupNorm), so padding would change what it hears: it never sees a batch.
* The decoder's mask is one number per *sample*, of which the graph reads every 384th.
* The first step computes the keys and values of the encoder's frames; later steps take them as they are.
* Activations are quantized per call, over all rows: company moves log-probabilities by up to a tenth.
* A step costs about 2 ms + 1.25 ms per row on one core, finished or not: so finished rows leave the batch.

What was heard can be heard again with another beginning: ``Rehearing`` gives log-probabilities of whatever might follow
any part of a text. That is how hotwords are found (``biasing.py``); without them nothing here is done but once.

Sessions run on the caller's thread alone. Several threads with one session each call are faster than one call with
several threads (measured on two cores, batch of 8: 12 ms against 27 ms per step).
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from qasr.domain.audio import SAMPLE_RATE, Pcm
from qasr.engines.moonshine.tokenizer import BEGIN, END

SAMPLES_PER_FRAME: Final = 384
"""64 * 3 * 2, the strides of the encoder's three convolutions."""
FEWEST_SAMPLES: Final = SAMPLE_RATE // 5
"""Shorter segments are filled up with silence; the encoder needs 1 087 samples to make a frame, and likes more."""
WIDTH: Final = 288
LAYERS: Final = 6
HEADS: Final = 8
HEAD_WIDTH: Final = 36
TOKENS_PER_S: Final = 6.5
"""The fastest speech that we believe; as in the upstream library."""
SPARE_TOKENS: Final = 4
LONGEST_PERIOD: Final = 24
"""Tokens; a repeated phrase that is longer is left to the token limit."""
COPIES: Final = 4
"""A phrase said so often without a break is a loop ..."""
LOOP_TOKENS: Final = 12
"""... if the repetitions have at least so many tokens: "no, no, no, no" is speech."""

Array: TypeAlias = npt.NDArray[Any]
Bias: TypeAlias = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float32]]
"""From the ids so far ``[n]`` to what is added to the logits ``[vocabulary]`` of the next one."""


Cache: TypeAlias = dict[str, npt.NDArray[np.float32]]
"""Keys and values of the decoder, by the names of its inputs; empty before anything is said."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """One row's answer, without the begin and end tokens."""

    ids: list[int]
    logprobs: list[float]
    truncated: bool


class Revision(Protocol):
    """Makes something else of what was heard, or leaves it."""

    def __call__(self, rehearing: "Rehearing", heard: Decoded) -> Decoded:
        """What is to be the answer; raises what *rehearing* raises."""
        ...


class Abandoned(Exception):
    """Nobody wants the answer any more."""


class Moonshine:
    """The loaded model; any number of threads may call it."""

    def __init__(self, encoder: Path, decoder: Path) -> None:
        import onnxruntime  # noqa: PLC0415 - heavy, and for the child process only

        self._ort = onnxruntime
        self._encoder, self._decoder = self._load(encoder), self._load(decoder)
        outputs = [output.name for output in self._decoder.get_outputs()]
        self._all_outputs = outputs  # logits, then present.LAYER.{decoder,encoder}.{key,value}
        self._step_outputs = [name for name in outputs if ".encoder." not in name]

    def _load(self, path: Path) -> Any:
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        # The arena keeps a chunk for every shape: 710 MB after 117 clips instead of 350. It is no faster but for
        # segments above 20 s, and there by a tenth.
        options.enable_cpu_mem_arena = False
        return self._ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def recognize(
        self,
        segments: Sequence[Pcm],
        *,
        cancelled: Callable[[], bool],
        biases: Sequence[Bias | None] | None = None,
        revisions: Sequence[Revision | None] | None = None,
    ) -> list[Decoded]:
        """Text of *segments*, one answer each, in their order.

        Args:
            segments: float32 ``[n_samples]``, 16 kHz mono. Not-numbers count as silence; a segment without any sound
                has an empty answer.
            cancelled: asked before every step.
            biases: one per segment; changes which token is chosen, never the reported log-probabilities.
            revisions: one per segment; gets what was heard, and says what it is to be.

        Raises:
            Abandoned: *cancelled* said so.
        """
        answers = [Decoded([], [], truncated=False) for _ in segments]
        frames: list[npt.NDArray[np.float32]] = []
        rows: list[int] = []
        for row, segment in enumerate(segments):
            pcm = np.nan_to_num(segment, posinf=0.0, neginf=0.0)
            if pcm.any():
                _raise_if(cancelled())
                frames.append(self._encode(pcm))
                rows.append(row)
        if rows:
            batch = _Batch(self._ort, frames, [len(segments[row]) for row in rows])
            batch.biases = [biases[row] if biases is not None else None for row in rows]
            self._decode(batch, cancelled)
            for row, answer in zip(rows, batch.answers(), strict=True):
                answers[row] = answer
            for row, one in zip(rows, frames, strict=True):
                revise = revisions[row] if revisions is not None else None
                if revise is not None:
                    answers[row] = revise(Rehearing(self, one, cancelled), answers[row])
        return answers

    def follow(
        self, frames: npt.NDArray[np.float32], ids: npt.NDArray[np.int64], cache: Cache
    ) -> tuple[npt.NDArray[np.float32], Cache]:
        """Log-probabilities of what follows each of *ids* ``[rows, n]``: ``[rows, n, vocabulary]`` from the beginning,
        ``[rows, 1, vocabulary]``, that is of the last ones only, in the middle of a text.

        Args:
            frames: of one segment, ``[n_frames, 288]``.
            ids: what is said; all rows have said the same before.
            cache: keys and values of what was said before, of one row; empty at the beginning.

        Returns:
            The second: the cache after *ids*, of as many rows.
        """
        rows, begun = len(ids), bool(cache)
        if not begun:
            empty = np.zeros((rows, HEADS, 0, HEAD_WIDTH), np.float32)
            cache = {name.replace("present", "past_key_values"): empty for name in self._all_outputs[1:]}
        inputs = {
            "input_ids": ids,
            "use_cache_branch": np.array([begun]),
            "encoder_hidden_states": np.repeat(frames[None], rows, 0),
            "encoder_attention_mask": np.ones((rows, 1), np.int64),
            **{name: value if len(value) == rows else np.repeat(value, rows, 0) for name, value in cache.items()},
        }
        names = self._step_outputs if begun else self._all_outputs
        logits: npt.NDArray[np.float32]
        logits, *values = self._decoder.run(names, inputs)
        after = {name.replace("present", "past_key_values"): v for name, v in zip(names[1:], values, strict=True)}
        logprobs = logits[:, -1:] if begun else logits
        logprobs -= logprobs.max(-1, keepdims=True)
        logprobs -= np.log(np.exp(logprobs).sum(-1, keepdims=True))
        return logprobs, cache | after

    def _encode(self, pcm: Pcm) -> npt.NDArray[np.float32]:
        """Frames ``[n, 288]`` of one segment."""
        if len(pcm) < FEWEST_SAMPLES:
            pcm = np.pad(pcm, (0, FEWEST_SAMPLES - len(pcm)))
        inputs = {"input_values": pcm[None], "attention_mask": np.ones((1, len(pcm)), np.int64)}
        frames: npt.NDArray[np.float32] = self._encoder.run(None, inputs)[0][0]
        return frames

    def _decode(self, batch: "_Batch", cancelled: Callable[[], bool]) -> None:
        names = self._all_outputs
        for _ in itertools.count():
            _raise_if(cancelled())
            outputs = self._decoder.run_with_ort_values(names, batch.inputs())
            batch.keep(names[1:], outputs[1:])
            if batch.take(outputs[0].numpy()[:, -1]):
                return
            names = self._step_outputs


def _raise_if(abandoned: bool) -> None:  # noqa: FBT001 - reads as a sentence
    if abandoned:
        raise Abandoned


class Rehearing:
    """One segment, to be heard again with texts that somebody else thought of."""

    def __init__(self, model: Moonshine, frames: npt.NDArray[np.float32], cancelled: Callable[[], bool]) -> None:
        self._model, self._frames, self._cancelled = model, frames, cancelled
        self._cache: Cache = {}

    def say(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """Take *ids* for what is said: log-probabilities of each next token, ``[len(ids) + 1, vocabulary]``."""
        _raise_if(self._cancelled())
        logprobs, self._cache = self._model.follow(self._frames, np.array([[BEGIN, *ids]], np.int64), {})
        following: npt.NDArray[np.float32] = logprobs[0]
        return following

    def instead(self, place: int, texts: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
        """What would follow each of *texts*, of equal length, said after the first *place* tokens:
        ``[len(texts), vocabulary]``.
        """
        _raise_if(self._cancelled())
        logprobs, _ = self._model.follow(self._frames, np.array(texts, np.int64), self._until(place))
        last: npt.NDArray[np.float32] = logprobs[:, -1]
        return last

    def onward(self, place: int, text: Sequence[int]) -> "Onward":
        """Go on step by step after the first *place* tokens and *text*."""
        _raise_if(self._cancelled())
        return Onward(self, *self._model.follow(self._frames, np.array([text], np.int64), self._until(place)))

    def step(self, token: int, cache: Cache) -> tuple[npt.NDArray[np.float32], Cache]:
        """One token more; for ``Onward``."""
        _raise_if(self._cancelled())
        return self._model.follow(self._frames, np.array([[token]], np.int64), cache)

    def _until(self, place: int) -> Cache:
        """The cache behind the first *place* tokens, and the one that every text begins with."""
        return {n: v if ".encoder." in n else v[:, :, : place + 1] for n, v in self._cache.items()}


class Onward:
    """A text that is continued; ``logprobs`` ``[vocabulary]`` of its next token."""

    def __init__(self, rehearing: Rehearing, logprobs: npt.NDArray[np.float32], cache: Cache) -> None:
        self._rehearing, self._cache = rehearing, cache
        self.logprobs: npt.NDArray[np.float32] = logprobs[0, -1]

    def take(self, token: int) -> None:
        """*token* is said."""
        logprobs, self._cache = self._rehearing.step(token, self._cache)
        self.logprobs = logprobs[0, -1]


class _Batch:
    """The rows that are being decoded, and those that are done.

    ``rows[i]`` is the place in the answer of the decoder's row *i*; what was heard is kept by place.
    """

    def __init__(self, ort: Any, frames: Sequence[npt.NDArray[np.float32]], n_samples: Sequence[int]) -> None:
        self._value = ort.OrtValue.ortvalue_from_numpy
        self.rows = np.arange(len(frames))
        self.biases: Sequence[Bias | None] = [None] * len(frames)
        self._n_frames = np.array([len(f) for f in frames])
        self._limits = (np.array(n_samples) * (TOKENS_PER_S / SAMPLE_RATE)).astype(np.int64) + SPARE_TOKENS
        longest = int(self._limits.max())
        self._ids = np.zeros((len(frames), longest), np.int64)
        self._logprobs = np.zeros((len(frames), longest), np.float32)
        self._n_tokens = np.zeros(len(frames), np.int64)
        self._truncated = np.zeros(len(frames), np.bool_)
        self._step = 0
        self._done = np.zeros(len(frames), np.bool_)  # by decoder row
        self._last = np.full((len(frames), 1), BEGIN, np.int64)  # by decoder row
        self._echoes = np.zeros((len(frames), LONGEST_PERIOD), np.int64)  # by decoder row
        self._cache: dict[str, Any] = {}
        hidden = np.zeros((len(frames), int(self._n_frames.max()), WIDTH), np.float32)
        for row, one in enumerate(frames):
            hidden[row, : len(one)] = one
        self._set_hidden(hidden)
        empty = self._value(np.zeros((len(frames), HEADS, 0, HEAD_WIDTH), np.float32))
        for layer, side, which in itertools.product(range(LAYERS), ("decoder", "encoder"), ("key", "value")):
            self._cache[f"past_key_values.{layer}.{side}.{which}"] = empty

    def _set_hidden(self, hidden: Array) -> None:
        """The decoder's view of the frames, and the mask that fits it."""
        self._hidden = hidden
        n_frames = self._n_frames[self.rows]
        if (n_frames == hidden.shape[1]).all():
            mask = np.ones((len(hidden), 1), np.int64)  # one entry is read, and it counts for all
        else:
            mask = np.zeros((len(hidden), (hidden.shape[1] - 1) * SAMPLES_PER_FRAME + 1), np.int64)
            mask[:, ::SAMPLES_PER_FRAME] = np.arange(hidden.shape[1]) < n_frames[:, None]
        self._constant = {
            "encoder_hidden_states": self._value(hidden),
            "encoder_attention_mask": self._value(mask),
        }

    def inputs(self) -> dict[str, Any]:
        """What the decoder wants to know for the next step."""
        return {
            "input_ids": self._value(self._last),
            "use_cache_branch": self._value(np.array([self._step > 0])),
            **self._constant,
            **self._cache,
        }

    def keep(self, names: Sequence[str], values: Sequence[Any]) -> None:
        """Remember the step's keys and values for the next one."""
        for name, value in zip(names, values, strict=True):
            self._cache[name.replace("present", "past_key_values")] = value

    def take(self, logits: npt.NDArray[np.float32]) -> bool:
        """Choose the next token of each row from *logits* ``[rows, vocabulary]``; True when all rows are done."""
        favored = self._favor(logits)
        chosen = favored.argmax(-1)
        top = logits.max(-1)
        logprobs = logits[np.arange(len(chosen)), chosen] - top - np.log(np.exp(logits - top[:, None]).sum(-1))
        live = ~self._done & (chosen != END)
        step, rows = self._step, self.rows
        self._truncated[rows[live & (step >= self._limits[rows])]] = True
        live &= step < self._limits[rows]
        kept = rows[live]
        if len(kept):
            self._ids[kept, step] = chosen[live]
            self._logprobs[kept, step] = logprobs[live]
            self._n_tokens[kept] += 1
            live &= ~self._cut_loops(chosen, live)
        self._done = ~live
        self._last = chosen[:, None]
        self._step += 1
        n_live = int(live.sum())
        if n_live and n_live <= len(live) * 3 // 4:
            self._compact()
        return n_live == 0

    def _favor(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if not any(self.biases):
            return logits
        favored = logits.copy()
        for row, place in enumerate(self.rows):
            bias = self.biases[int(place)]
            if bias is not None:
                favored[row] += bias(self._ids[place, : self._n_tokens[place]])
        return favored

    def _cut_loops(self, chosen: Array, live: Array) -> Array:
        """Rows that say the same over and over; all copies but the first are taken back.

        ``_echoes[row, p - 1]`` counts how many tokens in a row were equal to the one *p* places before.
        """
        reach = min(LONGEST_PERIOD, self._step)
        if not reach:
            return np.zeros(len(chosen), np.bool_)
        before = self._ids[self.rows, self._step - reach : self._step][:, ::-1]
        self._echoes[:, :reach] = (self._echoes[:, :reach] + 1) * (before == chosen[:, None])
        looping: Array = live[:, None] & (self._echoes >= _ECHOES_OF_LOOP)
        found: Array = np.any(looping, axis=-1)
        for row in np.flatnonzero(found):
            period = int(looping[row].argmax()) + 1
            self._n_tokens[self.rows[row]] -= self._echoes[row, period - 1]
            self._truncated[self.rows[row]] = True
        return found

    def _compact(self) -> None:
        """Let finished rows go, with frames that only they needed."""
        live = ~self._done
        self.rows = self.rows[live]
        n_frames = int(self._n_frames[self.rows].max())
        self._last, self._echoes, self._done = self._last[live], self._echoes[live], self._done[live]
        for name, value in self._cache.items():
            kept = value.numpy()[live]
            self._cache[name] = self._value(kept[:, :, :n_frames] if ".encoder." in name else kept)
        self._set_hidden(self._hidden[live, :n_frames])

    def answers(self) -> list[Decoded]:
        """What was heard, by place."""
        return [
            Decoded(self._ids[place, :n].tolist(), self._logprobs[place, :n].tolist(), truncated=bool(cut))
            for place, (n, cut) in enumerate(zip(self._n_tokens, self._truncated, strict=True))
        ]


_ECHOES_OF_LOOP: Final = np.maximum(np.arange(1, LONGEST_PERIOD + 1) * (COPIES - 1), LOOP_TOKENS)
"""By period: so many echoes in a row are a loop."""
