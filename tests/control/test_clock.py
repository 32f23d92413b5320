"""The time of day may be set while reservations last."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icebus.control.watch.clock import TOLERANCE, Clock


@given(st.lists(st.tuples(st.floats(0, 1e4), st.floats(-1e6, 1e6)), max_size=8))
def test_given_a_clock_that_is_set_then_all_that_was_told_makes_up_for_it(
    steps: list[tuple[float, float]],
) -> None:
    """By less than the tolerance."""
    passed, day = 100.0, 5e8
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: passed)
        patch.setattr(time, "time", lambda: day)
        clock = Clock()
        told = was_set = 0.0
        for seconds, by in steps:
            passed += seconds
            day += seconds + by
            was_set += by
            told += clock.moved()
            assert abs(was_set - told) < TOLERANCE + 1e-3
            assert clock.moved() == 0.0
