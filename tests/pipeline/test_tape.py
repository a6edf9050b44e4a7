"""Sound that grows at one end and is forgotten at the other."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qasr.pipeline.tape import LEAST_ROOM, Tape


@given(st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 8_000)), max_size=40))
def test_what_is_held_is_what_was_appended(steps: list[tuple[int, int]]) -> None:
    """Samples keep their places, whatever was forgotten before them."""
    whole = np.arange(sum(length for length, _ in steps), dtype=np.float32)
    tape, end = Tape(), 0
    for length, forgotten in steps:
        tape.append(whole[end : end + length])
        end += length
        tape.forget(end - forgotten)

        assert end == tape.end
        assert min(forgotten, end) >= end - tape.begin or forgotten == 0
        assert np.array_equal(whole[tape.begin : end], tape.copy(0, end + 1))
        middle = (tape.begin + end) // 2
        assert np.array_equal(whole[middle : min(middle + 10, end)], tape.copy(middle, middle + 10))


def test_silence_for_hours_takes_no_memory() -> None:
    """Room is given back, and not only reused: ten sessions in silence are not ten that spoke once."""
    tape = Tape()
    tape.append(np.ones(480_000, np.float32))
    tape.forget(480_000)
    for _ in range(1_000):
        tape.append(np.zeros(1_600, np.float32))
        tape.forget(tape.end - 1_600)

    assert len(tape._buffer) <= 2 * LEAST_ROOM
