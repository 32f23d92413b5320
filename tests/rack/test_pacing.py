from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icebus.rack.pacing import Pacer

BANDWIDTH = 1_000_000
SIZE = 104_090


def transfer(lateness: list[float], chunk: int) -> float:
    """When a transfer that starts at 10 is complete, with a reader that is late for its timers."""
    pacer = Pacer(BANDWIDTH, 0.0)
    pacer.empty(1.0)
    now, left, turn = 10.0, SIZE, 0
    while left:
        allowed = pacer.allowance(now, left)
        if allowed:
            read = min(chunk, allowed)
            pacer.spent(read)
            left -= read
        else:
            now = max(now, pacer.next_time(left)) + lateness[turn % len(lateness)]
            turn += 1
    return now - 10.0


@given(
    st.lists(st.floats(0, 0.01), min_size=1, max_size=20),
    st.integers(500, 1 << 17),
)
def test_given_late_wake_ups_when_paced_then_never_faster_than_usb_and_lateness_is_made_up_for(
    lateness: Any, chunk: Any
) -> None:
    took = transfer(lateness, chunk)

    assert SIZE / BANDWIDTH - 1e-9 <= took <= SIZE / BANDWIDTH + 0.011


def test_given_punctual_wake_ups_when_paced_then_the_last_byte_comes_exactly_on_time() -> None:
    assert transfer([0.0], 4095) == pytest.approx(SIZE / BANDWIDTH, abs=1e-6)


def test_given_an_idle_line_when_bytes_come_then_the_time_before_does_not_count() -> None:
    pacer = Pacer(BANDWIDTH, 0.0)
    pacer.empty(0.0)

    assert pacer.allowance(100.0, SIZE) == 0
    assert pacer.next_time(SIZE) == pytest.approx(100.008)


def test_given_a_short_gap_when_bytes_come_again_then_the_line_was_not_idle() -> None:
    pacer = Pacer(BANDWIDTH, 0.0)
    pacer.empty(0.0)
    pacer.allowance(10.0, SIZE)
    pacer.allowance(10.008, SIZE)
    pacer.spent(4000)
    pacer.empty(10.0085)

    assert pacer.allowance(10.010, SIZE) == 0
    assert pacer.next_time(SIZE) == pytest.approx(10.012)


@pytest.mark.parametrize("bandwidth", [0, None])
def test_given_no_bandwidth_when_asked_then_all_that_is_wanted_may_be_read(bandwidth: Any) -> None:
    pacer = Pacer(bandwidth, 0.0)

    assert pacer.allowance(0.0, SIZE) == SIZE


def test_given_a_look_at_the_empty_line_when_bytes_come_then_that_was_not_their_beginning() -> None:
    pacer = Pacer(BANDWIDTH, 0.0)
    pacer.allowance(10.0, SIZE)
    pacer.empty(10.0)

    assert pacer.allowance(10.001, SIZE) == 0
    assert pacer.next_time(SIZE) == pytest.approx(10.009)
