"""The child process that holds the model.

One thread runs the decode loop; the others each wait for the answer of one call, so as many calls are under way at once
as the parent likes, and a new one joins those that are being written.

============  ==========================================  ======================================
method        body, payload                               answer
============  ==========================================  ======================================
recognize     ``Hear``; samples, float32                  one ``Heard``
feed          ``Feed``; the samples that follow           one ``Partial``
close         the stream's number                         nothing
============  ==========================================  ======================================
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec
import numpy as np

from qasr.domain.audio import SAMPLE_RATE, Pcm
from qasr.engines.qwen3.checkpoint import BadCheckpoint
from qasr.engines.qwen3.features import Sound
from qasr.engines.qwen3.loop import Abandoned, Job
from qasr.engines.qwen3.messages import Feed, Hear, Heard, Partial
from qasr.engines.qwen3.model import Model, assemble
from qasr.engines.qwen3.prompt import ContextTooLong, Prompt
from qasr.engines.qwen3.setup import STREAMS_AT_ONCE, Setup, most_tokens
from qasr.engines.qwen3.stream import Stream
from qasr.workers.child import Answer, Cancelled, Refusal

MOST_STREAMS: Final = 256
"""Open at once; beyond it, the one that was silent for longest is closed. Each holds a few megabytes."""
SLACK_S: Final = 0.1
"""A segment may be longer than it should by so much."""


class Host:
    """Answers calls with a loaded model."""

    def __init__(self, setup: Setup, model: Model) -> None:
        self.parallel = setup.parallel_calls + STREAMS_AT_ONCE
        self.about: Mapping[str, object] = {"device": model.device}
        self._setup, self._model = setup, model
        self._streams: OrderedDict[int, Stream] = OrderedDict()
        self._lock = threading.Lock()
        threading.Thread(target=model.loop.run, daemon=True).start()

    def handle(self, method: str, body: msgspec.Raw, payload: bytes, cancelled: Cancelled) -> Iterator[Answer]:
        """Answer one call; see the table above."""
        pcm = np.frombuffer(payload, np.float32)
        try:
            if method == "recognize":
                yield self._recognize(msgspec.msgpack.decode(body, type=Hear), pcm, cancelled), b""
            elif method == "feed":
                yield self._feed(msgspec.msgpack.decode(body, type=Feed), pcm, cancelled), b""
            elif method == "close":
                with self._lock:
                    self._streams.pop(msgspec.msgpack.decode(body, type=int), None)
            else:
                raise Refusal("unknown_method", method)
        except Abandoned:
            return

    def _recognize(self, hear: Hear, pcm: Pcm, cancelled: Cancelled) -> Heard:
        self._check_length(len(pcm) / SAMPLE_RATE)
        prompt = self._prompt(hear.context, hear.language)
        sound = Sound(pcm)
        if sound.is_silent:
            return Heard("", None, [], [], [], truncated=False)
        job = Job(sound=sound, prompt=prompt, most_tokens=most_tokens(sound.duration_s), cancelled=cancelled)
        self._model.loop.submit(job)
        written = job.answer.result()
        answer = self._model.prompts.read(written.ids, hear.language)
        ids = written.ids[answer.begin :]
        pieces, logprobs = self._model.prompts.pieces(ids), written.logprobs[answer.begin :]
        return Heard(answer.text, answer.language, ids, pieces, logprobs, truncated=written.truncated)

    def _feed(self, feed: Feed, pcm: Pcm, cancelled: Cancelled) -> Partial:
        stream = self._stream(feed)
        self._check_length(stream.duration_s + len(pcm) / SAMPLE_RATE)
        job = stream.next_job(pcm, cancelled)
        if job is None:
            return Partial("", "", None)
        self._model.loop.submit(job)
        return stream.take(job.answer.result())

    def _stream(self, feed: Feed) -> Stream:
        if feed.first:
            prompt = self._prompt(feed.context, feed.language)
            with self._lock:
                self._streams[feed.stream] = Stream(self._model.prompts, prompt, feed.language)
                if len(self._streams) > MOST_STREAMS:
                    self._streams.popitem(last=False)
        with self._lock:
            if feed.stream not in self._streams:
                raise Refusal("unknown_stream", "it was closed, or this process is a new one")
            self._streams.move_to_end(feed.stream)
            return self._streams[feed.stream]

    def _prompt(self, context: str, language: str | None) -> Prompt:
        try:
            return self._model.prompts.build(context, language, most_context=self._setup.context_tokens)
        except ContextTooLong as error:
            raise Refusal("context_too_long", f"more than {self._setup.context_tokens} tokens") from error

    def _check_length(self, duration_s: float) -> None:
        if duration_s > self._setup.longest_s + SLACK_S:
            raise Refusal("too_long", f"{duration_s:.1f} s")


class Broken:
    """Tells why there is no model, so that the parent need not start us again and again."""

    parallel = 1

    def __init__(self, problem: str) -> None:
        self.about: Mapping[str, object] = {"problem": problem}

    def handle(self, method: str, body: msgspec.Raw, payload: bytes, cancelled: Cancelled) -> Iterator[Answer]:  # noqa: ARG002
        """Refuse."""
        raise Refusal("no_model", str(self.about["problem"]))


def factory(config: Mapping[str, object]) -> Host | Broken:
    """The handler for ``qasr.workers.child``; *config* is a ``Setup``."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is ever fetched from here
    setup = msgspec.convert(config, Setup)
    try:
        return Host(setup, assemble(setup))
    except (BadCheckpoint, ValueError, RuntimeError, MemoryError) as error:
        return Broken(str(error) or type(error).__name__)
