"""Times of known words from Qwen3-ForcedAligner: what goes into the model, and what its answer means.

::

    <|audio_start|>▒▒▒▒▒▒<|audio_end|>And<timestamp><timestamp>so<timestamp><timestamp>…
                                            class 4   class 7     class 7   class 11       × 80 ms

One pass gives every mark the class of a moment. Classes may go backwards where the model erred; the longest part of
them that does not is believed, and the others are moved between their neighbors, as the model's authors do.
"""

import unicodedata
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from qasr.domain.audio import Pcm, to_ms
from qasr.engines.qwen3.checkpoint import Checkpoint
from qasr.engines.qwen3.encoder import Encoder
from qasr.engines.qwen3.features import Sound

LONGEST_S: Final = 300.0
"""The longest sound that the model was made for; source: its technical report."""
SNAPPED: Final = 2
"""So many wrong times in a row take over the nearer neighbor's; more are spread out between both."""


class WordAligner:
    """The aligner's model, on any device; one call at a time."""

    def __init__(self, loaded: Checkpoint, dtype: torch.dtype, device: str) -> None:
        if not loaded.is_aligner:
            raise ValueError("the checkpoint is no forced aligner: it has no classes of times")
        self._model, self._tokenizer, self._class_ms = loaded.model, loaded.tokenizer, loaded.class_ms
        self._encoder = Encoder(loaded.model.model, dtype, device)
        self._device = device
        added = loaded.tokenizer.get_added_vocab()
        self._mark: int = added["<timestamp>"]
        self._begin: int = added["<|audio_start|>"]
        self._end: int = added["<|audio_end|>"]

    def align(self, pcm: Pcm, words: Sequence[str]) -> list[tuple[int, int]] | None:
        """Begin and end of each word in ms, never going backwards; None: the sound is too long, or no word is spoken.

        A word without letters and digits has no length, and stands where the one before it ends.
        """
        sound = Sound(pcm)
        spoken = [kept(word) for word in words]
        if not any(spoken) or sound.duration_s > LONGEST_S:
            return None
        end_ms = to_ms(len(pcm))
        times = [min(ms, end_ms) for ms in in_order(self._classes(sound, [word for word in spoken if word]))]
        pairs = iter(zip(times[::2], times[1::2], strict=True))
        spans: list[tuple[int, int]] = []
        for word in spoken:
            last_ms = spans[-1][1] if spans else 0
            spans.append(next(pairs) if word else (last_ms, last_ms))
        return spans

    def _classes(self, sound: Sound, words: Sequence[str]) -> npt.NDArray[np.float64]:
        """Two times in ms per word, as the model says."""
        ids: list[int] = []
        for word in words:
            ids += [*self._tokenizer(word, add_special_tokens=False)["input_ids"], self._mark, self._mark]
        with torch.inference_mode():
            ((*windows,),) = self._encoder.encode([(sound, ())])
            heard = torch.cat([window.embeddings for window in windows])
            model: Any = self._model.model
            before, after = (
                model.language_model.embed_tokens(torch.tensor(part, device=self._device))
                for part in ([self._begin], [self._end, *ids])
            )
            embedded = torch.cat([before, heard, after])[None]
            hidden = model.language_model(inputs_embeds=embedded, use_cache=False).last_hidden_state[0]
            marks = [len(heard) + 2 + i for i, token in enumerate(ids) if token == self._mark]
            best: npt.NDArray[np.int64] = self._model.score(hidden[marks]).argmax(-1).cpu().numpy()
        return best.astype(np.float64) * self._class_ms


def kept(word: str) -> str:
    """The letters, digits and apostrophes of *word*: what the model was trained to find."""
    return "".join(c for c in unicodedata.normalize("NFC", word) if c == "'" or unicodedata.category(c)[0] in "LN")


def in_order(times: npt.NDArray[np.float64]) -> list[int]:
    """*times* without steps backwards."""
    believed = _longest_rise(times)
    result = times.copy()
    for left, right in zip([-1, *believed], [*believed, len(times)], strict=True):
        count = right - left - 1
        if not count:
            continue
        low = times[left] if left >= 0 else times[right]
        high = times[right] if right < len(times) else low
        steps = np.arange(1, count + 1)
        if count <= SNAPPED:
            result[left + 1 : right] = np.where(steps <= count + 1 - steps, low, high)
        else:
            result[left + 1 : right] = low + (high - low) / (count + 1) * steps
    return [int(ms) for ms in result]


def _longest_rise(times: npt.NDArray[np.float64]) -> list[int]:
    """Places of the longest part that never falls; of several, the one that the model's authors would choose."""
    n = len(times)
    length, before = np.ones(n, np.int64), np.full(n, -1)
    for i in range(1, n):
        reachable = np.where(times[:i] <= times[i], length[:i], 0)
        best = int(reachable.argmax())
        if reachable[best]:
            length[i], before[i] = reachable[best] + 1, best
    place, places = int(length.argmax()), []
    while place >= 0:
        places.append(place)
        place = int(before[place])
    return places[::-1]
