"""Circuits with loops and clocks of their own: never exact, always the same for the same board."""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean

import pytest

from icebus.fpga import simulate
from icebus.fpga._engines.loops import event_simulation
from icebus.fpga._engines.loops.looped_circuit import LoopedCircuit, TimedCircuit
from icebus.fpga._engines.loops.pulse_counters import EdgeCounter, PioCounter
from icebus.fpga._netlist.netlist import CLOCK, FIRST, Cell, Flop, Gate, Netlist

Circuit = Callable[[str], bytes]
SECOND = 48_000_000
BOARDS = range(12)
INVERT = 0b01
AND = 0b1000
XOR = 0b0110
NOR = 0b0001


def ring(size: int) -> list[Cell]:
    """Inverters in a circle; the last one is signal ``FIRST + size - 1``."""
    return [Gate(INVERT, (FIRST + (i - 1) % size,)) for i in range(size)]


def divided(cells: list[Cell], clock: int, bits: int) -> Netlist:
    """A ripple counter behind a clock, one flip-flop after the other."""
    cells = list(cells)
    for bit in range(bits):
        following = FIRST + len(cells)
        cells += [Flop(clock, bit > 0, following + 1), Gate(INVERT, (following,))]
        clock = following
    return Netlist(tuple(cells), clock)


def frequency(size: int, board: int) -> int:
    """Oscillations of a ring in a second."""
    netlist = Netlist(tuple(ring(size)), FIRST)
    return TimedCircuit(netlist, FIRST, EdgeCounter).count(SECOND, board)[0]


def delayed(netlist: Netlist, cycles: int, board: int = 0) -> int:
    return TimedCircuit(netlist, netlist.output, PioCounter).count(cycles, board)[0]


# --- rings ------------------------------------------------------------------------------------


def test_given_a_ring_oscillator_then_the_count_is_the_boards_own(circuit: Circuit) -> None:
    counts = [simulate(circuit("ring"), cycles=SECOND, seed=board) for board in BOARDS]
    assert counts == [simulate(circuit("ring"), cycles=SECOND, seed=board) for board in BOARDS]
    assert len(set(counts)) > len(BOARDS) // 2
    for measured in counts:
        assert 15_000_000 < measured.pulses <= 50_000_000
        assert not measured.exact
        assert "loop" in measured.note


@pytest.mark.parametrize("size", [1, 3, 5, 7, 9, 15])
def test_given_a_ring_of_inverters_then_it_oscillates_as_fast_as_they_are(size: int) -> None:
    frequencies = [frequency(size, board) for board in BOARDS]
    # a LUT and its wires take 1.7 to 4.2 ns, and an edge goes around twice in a period
    assert all(1e9 / (2 * size * 4.3) < hertz < 1e9 / (2 * size * 1.6) for hertz in frequencies)
    assert len(set(frequencies)) > len(BOARDS) // 2
    usual = mean(frequencies)
    assert all(0.5 * usual < hertz < 2 * usual for hertz in frequencies)


@pytest.mark.parametrize("size", [1, 3, 5, 9])
def test_given_a_ring_however_fast_then_the_count_is_what_the_microcontroller_can_follow(
    size: int,
) -> None:
    netlist = Netlist(tuple(ring(size)), FIRST)
    for board in BOARDS:
        pulses = delayed(netlist, SECOND, board)
        assert 0 < pulses <= 50_000_000
        if frequency(size, board) < 37_000_000:  # it finds it high and low for a clock each
            assert abs(pulses - frequency(size, board)) <= 1


@pytest.mark.parametrize("bits", [1, 2, 5, 9, 12, 24])
def test_given_a_ring_behind_a_ripple_counter_then_it_is_divided(bits: int) -> None:
    netlist = divided(ring(5), FIRST + 4, bits)
    for board in BOARDS:
        pulses, note = LoopedCircuit(netlist, "loop").count(SECOND, board)
        assert abs(pulses - frequency(5, board) / 2**bits) <= 1
        assert "extrapolated" not in note


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_given_a_divided_ring_then_every_way_to_count_it_agrees(bits: int) -> None:
    netlist = divided(ring(7), FIRST + 6, bits)
    for board in (0, 1):
        expected = frequency(7, board) / 2**bits
        assert abs(LoopedCircuit(netlist, "").count(SECOND, board)[0] - expected) <= 1
        assert abs(delayed(netlist, SECOND, board) - expected) <= 1


def test_given_a_ring_that_the_clock_gates_then_it_oscillates_half_of_the_time() -> None:
    # a counter of 64 cycles enables a ring of 5
    enabled = divided([], CLOCK, 6)
    gate = FIRST + len(enabled.cells)
    cells = (
        *enabled.cells,
        Gate(0b0111, (enabled.output, gate + 4)),
        *(Gate(INVERT, (gate + i,)) for i in range(4)),
    )
    pulses, note = LoopedCircuit(Netlist(cells, gate), "").count(SECOND, 3)
    assert "repeats" in note
    assert 5_000_000 < pulses < 40_000_000
    assert (pulses + 1) % (SECOND // 64) < 3  # as many in every period of the counter


# --- clocks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [1, 2, 3, 6, 9])
def test_given_a_ripple_counter_then_delays_do_not_change_what_it_counts(bits: int) -> None:
    netlist = divided([], CLOCK, bits)
    for cycles in (0, 1, 2, 7, 100, 4096, 99_999, SECOND):
        expected = (cycles + 2 ** (bits - 1)) // 2**bits
        late = 0 <= cycles % 2**bits - 2 ** (bits - 1) < bits  # an edge still under way
        assert expected - late <= delayed(netlist, cycles) <= expected


def test_given_a_real_ripple_counter_then_it_is_exact(circuit: Circuit) -> None:
    measured = simulate(circuit("ripple"), cycles=SECOND)
    assert measured.pulses == (SECOND + 2**11) // 2**12
    assert measured.exact


def test_given_a_gated_clock_then_only_what_passes_the_gate_counts() -> None:
    # the falling edge toggles the enable, so that no pulse is cut short
    cells = (Flop(CLOCK, True, FIRST + 1), Gate(INVERT, (FIRST,)), Gate(AND, (CLOCK, FIRST)))
    gated = FIRST + 2
    assert abs(delayed(Netlist(cells, gated), SECOND) - SECOND // 2) <= 1
    behind = divided(list(cells), gated, 3)
    assert abs(delayed(behind, SECOND) - SECOND // 16) <= 1


def test_given_a_clock_of_two_sources_then_it_is_simulated_with_delays() -> None:
    # two stages of a ripple counter change one after the other; their XOR clocks a third flip-flop
    stages = divided([], CLOCK, 2).cells
    clock = FIRST + len(stages)
    cells = (*stages, Gate(XOR, (FIRST, FIRST + 2)), Flop(clock, False, clock + 2))
    netlist = Netlist((*cells, Gate(INVERT, (clock + 1,))), clock + 1)
    for board in BOARDS:
        pulses, note = LoopedCircuit(netlist, "").count(SECOND, board)
        assert "repeats" in note
        # once in four cycles, or three times with both glitches; halved
        assert any(abs(pulses - SECOND * often // 8) <= 1 for often in (1, 2, 3))


def test_given_paths_of_unequal_delay_then_a_glitch_clocks_what_it_reaches() -> None:
    # a signal and itself, 5 gates later: both of its edges become a pulse
    stages = divided([], CLOCK, 4)
    late = FIRST + len(stages.cells)
    chain = [Gate(INVERT, (late - 1 + i if i else stages.output,)) for i in range(6)]
    pulse = late + 6
    cells = (*stages.cells, *chain, Gate(XOR, (stages.output, late + 5)))
    for board in BOARDS:
        pulses = delayed(divided(list(cells), pulse, 1), SECOND, board)
        assert abs(pulses - SECOND // 16) <= 1  # twice in 16 cycles, halved


# --- latches ----------------------------------------------------------------------------------


def test_given_a_latch_then_it_is_settled(circuit: Circuit) -> None:
    measured = simulate(circuit("latch"), cycles=SECOND)
    assert measured.pulses == SECOND // 1024
    assert not measured.exact
    assert "loop" in measured.note
    assert "rest" in measured.note


def set_reset_latch() -> Netlist:
    """q = nor(reset, nq), nq = nor(set, q); a counter of four gives set and reset in turn."""
    a, b = FIRST, FIRST + 1
    cells = (
        Flop(CLOCK, False, FIRST + 2),
        Flop(CLOCK, False, FIRST + 3),
        Gate(INVERT, (a,)),
        Gate(XOR, (a, b)),
        Gate(AND, (a, b)),  # reset
        Gate(NOR, (a, b)),  # set
        Gate(NOR, (FIRST + 4, FIRST + 7)),
        Gate(NOR, (FIRST + 5, FIRST + 6)),
    )
    return Netlist(cells, FIRST + 6)


def test_given_a_set_reset_latch_then_it_keeps_its_state() -> None:
    netlist = set_reset_latch()
    pulses, note = LoopedCircuit(netlist, "").count(4000, 0)
    assert pulses == 1000
    assert "rest" in note
    assert {delayed(netlist, 4000, board) for board in BOARDS} == {1000}


def test_given_a_latch_behind_a_slow_divider_then_it_is_counted_nevertheless() -> None:
    # twenty-four bits, so a period of a third of a second; the latch follows the last one
    stages = 24
    cells: list[Cell] = []
    carry = 1
    for _ in range(stages):
        bit = FIRST + len(cells)
        cells += [Flop(CLOCK, False, bit + 1), Gate(XOR, (bit, carry)), Gate(AND, (bit, carry))]
        carry = bit + 2
    latch = FIRST + len(cells)
    last = latch - 3
    cells.append(Gate(0xCA, (latch, last, FIRST)))  # follows it while the first bit is 1
    pulses, note = LoopedCircuit(Netlist(tuple(cells), latch), "").count(SECOND, 0)
    assert pulses == (SECOND + 2**23) // 2**24
    assert "rest" in note


# --- budgets ----------------------------------------------------------------------------------


def test_given_no_loop_then_delays_agree_with_the_exact_count() -> None:
    cells = (Flop(CLOCK, True, FIRST + 1), Gate(INVERT, (FIRST,)))
    assert delayed(Netlist(cells, FIRST), 1001) == 501


def test_given_more_than_the_budget_then_it_goes_on_as_it_did_so_far(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(event_simulation, "BUDGET", 20_000)
    stages = divided([], CLOCK, 14)
    fast = FIRST + 2  # the second stage; with the last one, it takes 16,384 cycles to come back
    cells = (*stages.cells, Gate(XOR, (fast, stages.output)))
    netlist = Netlist(cells, FIRST + len(stages.cells))
    pulses, note = LoopedCircuit(netlist, "x").count(SECOND, 3)
    assert "extrapolated" in note
    assert abs(pulses / (SECOND / 4) - 1) < 0.01
    assert LoopedCircuit(netlist, "x").count(SECOND, 3) == (pulses, note)
