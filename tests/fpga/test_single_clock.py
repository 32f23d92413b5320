"""The fast path for single-clock circuits gives what the general way does."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from random import Random

import numpy as np
import pytest

from icebus.fpga._device import chipdb
from icebus.fpga._device.fabric import cram_of
from icebus.fpga._engines.synchronous.period_search import PeriodSearch
from icebus.fpga._netlist.decode import decode
from icebus.fpga._netlist.extract import Extraction
from icebus.fpga._netlist.simplify import simplify
from icebus.fpga._state_machine.evaluation_order import NoEvaluationOrder
from icebus.fpga._state_machine.from_netlist import state_machine_of
from icebus.fpga._state_machine.single_clock import SingleClockCircuits
from icebus.fpga._state_machine.state_machine import StateMachine
from icebus.schemas.boards.bitstream import bank_writes

Circuit = Callable[[str], bytes]

SINGLE_CLOCK = (
    *("accumulator", "constant", "counter_26", "decades", "divider_12mhz", "divider_3khz", "down"),
    *("enable", "falling", "johnson", "lfsr_16", "pwm", "unused_bram"),
)
OTHER = (
    *("async_reset", "both_edges", "bram", "clock", "ddr", "dsp", "gated_clock", "hfosc"),
    *("io_register", "latch", "pll", "ring", "ripple", "spram", "tristate", "undriven"),
)
CYCLES = 5000


@cache
def circuits() -> SingleClockCircuits:
    return SingleClockCircuits(chipdb.load())


def banks(bitstream: bytes) -> bytearray:
    return bytearray(cram_of(bitstream, bank_writes(bitstream)).tobytes())


def machine_of(cram: bytearray, of: SingleClockCircuits) -> StateMachine | None:
    return of.state_machine(np.frombuffer(bytes(cram), np.uint8))


def the_general_way(cram: bytearray) -> int | None:
    """What the general way counts; None if it finds no evaluation order."""
    design = decode(chipdb.load(), np.frombuffer(bytes(cram), np.uint8))
    netlist = Extraction(design).netlist()
    assert netlist is not None
    try:
        return PeriodSearch(state_machine_of(simplify(netlist))).count(CYCLES)[0]
    except NoEvaluationOrder:
        return None


@cache
def used(cram: bytes) -> list[list[int]]:
    """The bits of the truth tables that are not 0 throughout."""
    cells = chipdb.load().table_bits
    ones = np.unpackbits(np.frombuffer(cram, np.uint8))[cells] * (cells >= 0)
    positions: list[list[int]] = cells[ones.any(axis=1)].tolist()
    return positions


def mutant(cram: bytearray, random: Random, flips: int) -> bytearray:
    """The same wiring with some bits of truth tables flipped."""
    cells = used(bytes(cram))
    cram = bytearray(cram)
    for _ in range(flips):
        at = random.choice(random.choice(cells))
        cram[at >> 3] ^= 1 << (7 - (at & 7))
    return cram


@pytest.mark.parametrize("name", SINGLE_CLOCK)
def test_given_a_single_clock_circuit_then_its_state_machine_counts_what_the_general_way_does(
    circuit: Circuit, name: str
) -> None:
    cram = banks(circuit(name))

    machine = machine_of(cram, circuits())

    assert machine is not None
    assert PeriodSearch(machine).count(CYCLES)[0] == the_general_way(cram)


@pytest.mark.parametrize("name", OTHER)
def test_given_a_circuit_with_other_cells_or_clocks_then_it_is_left_to_the_general_way(
    circuit: Circuit, name: str
) -> None:
    assert machine_of(banks(circuit(name)), circuits()) is None


@pytest.mark.parametrize("name", SINGLE_CLOCK)
def test_given_other_truth_tables_on_known_wires_then_they_count_what_the_general_way_does(
    circuit: Circuit, name: str
) -> None:
    random = Random(name)
    base = banks(circuit(name))
    machine_of(base, circuits())
    for i in range(12):
        cram = mutant(base, random, 1 << i % 4)
        machine = machine_of(cram, circuits())
        expected = the_general_way(cram)
        if machine is not None and expected is not None:
            assert PeriodSearch(machine).count(CYCLES)[0] == expected


def test_given_mutants_then_it_does_not_matter_what_was_seen_before(circuit: Circuit) -> None:
    random = Random(5)
    base = banks(circuit("pwm"))
    mutants = [mutant(base, random, 2) for _ in range(10)]
    machine_of(base, circuits())

    known = [machine_of(cram, circuits()) for cram in mutants]

    assert known == [machine_of(cram, SingleClockCircuits(chipdb.load())) for cram in mutants]


def test_given_other_contents_of_the_rest_of_the_device_then_the_state_machine_is_at_hand(
    circuit: Circuit,
) -> None:
    of = SingleClockCircuits(chipdb.load())
    cram = banks(circuit("divider_3khz"))
    first = machine_of(cram, of)
    tables = chipdb.load().table_bits
    unused = next(cell for cell in tables if cell[0] >= 0 and not any(cram[at >> 3] for at in cell))
    at = int(unused[3])
    cram[at >> 3] ^= 1 << (7 - (at & 7))

    assert machine_of(cram, of) is first


@pytest.mark.parametrize("name", ["divider_3khz", "enable", "lfsr_16", "pwm"])
def test_given_wires_first_seen_with_empty_truth_tables_then_full_ones_count(
    circuit: Circuit, name: str
) -> None:
    of = SingleClockCircuits(chipdb.load())
    full = banks(circuit(name))
    empty = bytearray(full)
    for cell in used(bytes(full)):
        for at in cell:
            empty[at >> 3] &= ~(1 << (7 - (at & 7)))
    machine_of(empty, of)

    machine = machine_of(full, of)

    assert machine is not None
    assert PeriodSearch(machine).count(CYCLES)[0] == the_general_way(full)
