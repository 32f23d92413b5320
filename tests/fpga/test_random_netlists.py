"""Netlists nobody would draw, counted by the fast simulator and by the plainest one."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from icebus.fpga._engines.synchronous import blocks, long_blocks, period_search, state_table
from icebus.fpga._engines.synchronous.accumulator import recognise
from icebus.fpga._engines.synchronous.period_search import PeriodSearch
from icebus.fpga._netlist.netlist import CLOCK, FIRST, ONE, ZERO, Cell, Flop, Gate, Netlist
from icebus.fpga._netlist.simplify import simplify
from icebus.fpga._state_machine.evaluation_order import NoEvaluationOrder
from icebus.fpga._state_machine.from_netlist import state_machine_of

SEEDS = 16
LONGEST = 300


def soup(random: Random, edges: bool = False, ripple: bool = False) -> Netlist:
    """Gates and flip-flops, connected at random but without loops of gates."""
    ids = list(range(FIRST, FIRST + random.randint(4, 24)))
    random.shuffle(ids)
    split = random.randint(1, min(10, len(ids) - 1))
    flops, gates = ids[:split], ids[split:]
    cells: dict[int, Cell] = {}
    for i, gate in enumerate(gates):
        sources = flops + gates[:i] + [CLOCK] * (edges and random.random() < 0.1)
        inputs = tuple(random.choice(sources) for _ in range(random.randint(1, 4)))
        cells[gate] = Gate(random.getrandbits(1 << len(inputs)), inputs)
    for i, flop in enumerate(flops):
        clock, negative = CLOCK, edges and random.random() < 0.5
        if ripple and i and random.random() < 0.5:
            clock, negative = random.choice(flops[:i]), random.random() < 0.5
        cells[flop] = Flop(
            clock,
            negative,
            random.choice(ids),
            enable=random.choice(ids) if random.random() < 0.3 else ONE,
            reset=random.choice(ids) if random.random() < 0.3 else ZERO,
            asynchronous=random.random() < 0.2,
            value=random.random() < 0.4,
        )
    return Netlist(tuple(cells[signal] for signal in sorted(cells)), random.choice(ids))


def counter(random: Random) -> Netlist:
    """A register that adds a constant, perhaps starts again at some value, and toggles a bit."""
    width = random.randint(2, 9)
    increment, last = random.randrange(1, 1 << width), random.randrange(1, 1 << width)
    bits = range(FIRST, FIRST + width)
    gates: list[Gate] = []

    def gate(table: int, *inputs: int) -> int:
        gates.append(Gate(table, inputs))
        return FIRST + width + len(gates) - 1

    carry, data, same = ZERO, [], ONE
    for i, bit in enumerate(bits):
        digit = increment >> i & 1
        data.append(gate(0x96, bit, digit, carry))
        carry = gate(0xE8, bit, digit, carry)
    for i, bit in enumerate(bits):
        same = gate(0x8 if last >> i & 1 else 0x2, same, bit)
    reset = same if random.random() < 0.7 else ZERO
    toggle = FIRST + width + len(gates)
    cells: list[Cell] = [Flop(CLOCK, False, node, reset=reset) for node in data]
    cells += [*gates, Flop(CLOCK, False, toggle + 1, enable=same), Gate(0b01, (toggle,))]
    return Netlist(tuple(cells), random.choice([toggle, bits[-1], bits[-1], same, toggle + 1]))


KINDS = {
    "one edge": soup,
    "both edges": lambda random: soup(random, edges=True),
    "ripple": lambda random: soup(random, ripple=True),
    "counter": counter,
}


@pytest.fixture(params=["usual", "tiny blocks", "no tables"])
def limits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes that make short simulations use what only long ones would."""
    if request.param == "usual":
        return
    monkeypatch.setattr(period_search, "BLOCKS", (16, 32))
    monkeypatch.setattr(period_search, "LAST_BLOCK", 32)
    monkeypatch.setattr(period_search, "LONG", 256)
    monkeypatch.setattr(long_blocks, "LONG", 256)
    monkeypatch.setattr(blocks, "FIRST_RUN", 8)
    if request.param == "no tables":
        monkeypatch.setattr(blocks, "TRIAL_GUESSES", 3)
        monkeypatch.setattr(state_table, "TABLE_BITS", 0)


@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize("kind", KINDS)
def test_given_any_netlist_then_the_fast_simulator_counts_what_the_plain_one_does(
    kind: str, plainly: Callable[[Netlist, int], list[int]]
) -> None:
    compared = 0
    for seed in range(SEEDS):
        random = Random(f"{kind} {seed}")
        netlist = KINDS[kind](random)
        try:
            state_machine_of(netlist)
            machine = state_machine_of(simplify(netlist))
        except NoEvaluationOrder:
            continue
        windows = [0, 1, 2, *(random.randint(3, LONGEST) for _ in range(3))]
        random.shuffle(windows)
        expected = plainly(netlist, max(windows))
        periodic, accumulator = PeriodSearch(machine), recognise(machine)
        for window in windows:
            start = random.randint(0, window)
            counted = expected[window] - expected[start]
            assert periodic.count(window) == (expected[window], True), (seed, window)
            assert periodic.count(window - start, start) == (counted, True), (seed, window, start)
            if accumulator is not None:
                assert accumulator.count(window) == expected[window], (seed, window)
                assert accumulator.count(window - start, start) == counted, (seed, window, start)
        compared += 1
    assert compared > SEEDS // 2
