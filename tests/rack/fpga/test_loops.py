"""Circuits whose gates form loops: never exact, always the same for the same board."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from icebus.rack.fpga import asynchronous, count
from icebus.rack.fpga.netlist import CLOCK, FIRST, ONE, Flop, Gate, Netlist

Circuit = Callable[[str], bytes]
INVERT = 0b01
NOR = 0b0001


def test_given_a_latch_then_it_is_settled(circuit: Circuit) -> None:
    measured = count(circuit("latch"), 48_000_000, 0)
    assert measured.pulses == 48_000_000 // 1024
    assert not measured.exact
    assert "loop" in measured.note


@pytest.mark.parametrize("seed", [0, 1, 99])
def test_given_a_ring_oscillator_then_the_count_is_bounded_and_the_boards_own(
    circuit: Circuit, seed: int
) -> None:
    measured = count(circuit("ring"), 48_000, seed)
    assert 0 < measured.pulses <= 50_000  # the counter of the boards follows 50 MHz at most
    assert not measured.exact
    assert "oscillates" in measured.note
    assert count(circuit("ring"), 48_000, seed) == measured


def test_given_a_slow_ring_then_boards_differ() -> None:
    ring = [Gate(INVERT if i else 0b10, (FIRST + (i - 1) % 4,)) for i in range(4)]
    divided: list[Gate | Flop] = [Flop(FIRST, False, FIRST + 5), Gate(INVERT, (FIRST + 4,))]
    netlist = Netlist((*ring, *divided), FIRST + 4)
    counts = {asynchronous.count(netlist, 1000, seed, "")[0] for seed in range(8)}
    assert len(counts) > 1


def test_given_a_set_reset_latch_then_it_keeps_its_state() -> None:
    # q = nor(reset, nq), nq = nor(set, q); a counter of four gives set and reset in turn
    a, b = FIRST, FIRST + 1
    cells = (
        Flop(CLOCK, False, FIRST + 2),
        Flop(CLOCK, False, FIRST + 3),
        Gate(INVERT, (a,)),
        Gate(0b0110, (a, b)),
        Gate(0b1000, (a, b)),  # reset
        Gate(NOR, (a, b)),  # set
        Gate(NOR, (FIRST + 4, FIRST + 7)),
        Gate(NOR, (FIRST + 5, FIRST + 6)),
    )
    pulses, note = asynchronous.count(Netlist(cells, FIRST + 6), 4000, 0, "")
    assert pulses == 1000
    assert "rest" in note


def test_given_no_loop_then_it_agrees_with_the_exact_count() -> None:
    cells = (Flop(CLOCK, True, FIRST + 1, ONE), Gate(INVERT, (FIRST,)))
    assert asynchronous.count(Netlist(cells, FIRST), 1001, 0, "")[0] == 501


def test_given_a_window_too_long_for_the_budget_then_it_is_extrapolated(
    circuit: Circuit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asynchronous, "BUDGET", 5_000)
    measured = count(circuit("ring"), 48_000_000, 3)
    assert "extrapolated" in measured.note
    assert not measured.exact
