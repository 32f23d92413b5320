"""Bitstreams as evolution makes them: whatever they are, they are counted or refused in time."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from time import process_time

import pytest

from icebus.fpga import inspect, simulate
from icebus.fpga._engines.loops import event_simulation
from icebus.fpga._engines.loops.looped_circuit import LoopedCircuit
from icebus.fpga._engines.synchronous import period_search
from icebus.fpga._netlist.netlist import CLOCK, FIRST, ONE, ZERO, Cell, Flop, Gate, Netlist
from icebus.fpga._netlist.simplify import simplify
from icebus.fpga._state_machine.evaluation_order import NoEvaluationOrder
from icebus.fpga._state_machine.from_netlist import state_machine_of
from icebus.schemas.boards.bitstream import bank_writes, with_crc
from icebus.schemas.errors import BitstreamUnsupported

Circuit = Callable[[str], bytes]
SECOND = 48_000_000
MOST_CPU = 1.0
"""Seconds for one count, twice what is promised, for a virtual machine on a busy host computes at
half its speed. The budgets here are a tenth of the real ones, so that what is left is for the work
that no budget bounds."""


@pytest.fixture(autouse=True)
def small_budgets(circuit: Circuit, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate(circuit("clock"), cycles=1)  # the chip is loaded once, which takes its time
    monkeypatch.setattr(period_search, "BUDGET", 20_000_000)
    monkeypatch.setattr(event_simulation, "BUDGET", 20_000)


def measure(bitstream: bytes, cycles: int = SECOND) -> int:
    inspect(bitstream)
    began = process_time()
    try:
        measured = simulate(bitstream, cycles=cycles, seed=5)
    except BitstreamUnsupported:
        return -1
    finally:
        assert process_time() - began < MOST_CPU
    assert measured.cdone
    assert measured.exact == (not measured.note)
    assert 0 <= measured.pulses <= cycles * 50 // 48 + 1
    return measured.pulses


def flipped(bitstream: bytes, random: Random, flips: int) -> bytes:
    """A mutant: bits flipped near those that are set, and the checksum made right."""
    cram = [write for write in bank_writes(bitstream) if write.memory == "cram"]
    places = [
        at for w in cram for at in range(w.start, w.start + w.size) if bitstream[at] not in (0, 15)
    ]
    data = bytearray(bitstream)
    for _ in range(flips):
        data[random.choice(places)] ^= 1 << random.randrange(8)
    return with_crc(bytes(data))


def noisy(bitstream: bytes, random: Random, sparseness: int) -> bytes:
    """Every bit flipped with probability 2**-sparseness."""
    data = bytearray(bitstream)
    for write in bank_writes(bitstream):
        if write.memory == "cram":
            noise = -1
            for _ in range(sparseness):
                noise &= random.getrandbits(8 * write.size)
            block = slice(write.start, write.start + write.size)
            data[block] = (int.from_bytes(data[block]) ^ noise).to_bytes(write.size)
    return with_crc(bytes(data))


def shaken(bitstream: bytes, nothing: bytes, random: Random, often: float) -> bytes:
    """Every bit flipped that often, but only where the circuit is: in bytes unlike ``nothing``."""
    data = bytearray(bitstream)
    for write in bank_writes(bitstream):
        for at in range(write.start, write.start + write.size):
            if bitstream[at] != nothing[at] and write.memory == "cram":
                data[at] ^= sum((random.random() < often) << bit for bit in range(8))
    return with_crc(bytes(data))


@pytest.mark.parametrize(
    "name", ["divider_3khz", "enable", "async_reset", "ripple_clock", "both_edges", "lfsr_16"]
)
def test_given_mutants_then_each_is_counted_or_refused(circuit: Circuit, name: str) -> None:
    random = Random(name)
    counts = [measure(flipped(circuit(name), random, 1 << i % 7)) for i in range(28)]
    assert len(set(counts)) > 1


@pytest.mark.parametrize("name", ["ring", "latch", "gated_clock", "ripple", "johnson", "pwm"])
def test_given_a_circuit_shaken_all_over_then_it_is_counted_or_refused(
    circuit: Circuit, name: str
) -> None:
    random = Random(name)
    for often in (0.003, 0.01, 0.03, 0.1) * 3:
        measure(shaken(circuit(name), circuit("constant"), random, often))


@pytest.mark.parametrize("sparseness", [1, 2, 4, 6, 8])
def test_given_noise_then_it_is_counted_or_refused(circuit: Circuit, sparseness: int) -> None:
    random = Random(sparseness)
    for _ in range(3):
        measure(noisy(circuit("divider_3khz"), random, sparseness))


def test_given_a_mutant_of_what_does_not_matter_then_its_count_is_the_same(
    circuit: Circuit,
) -> None:
    good = circuit("divider_3khz")
    bram = next(write for write in bank_writes(good) if write.memory == "bram")
    data = bytearray(good)
    data[bram.start] ^= 0xFF
    assert measure(with_crc(bytes(data))) == 3000


# --- netlists -----------------------------------------------------------------------------------


def tangle(random: Random, size: int) -> Netlist:
    """Gates and flip-flops that see any others and themselves, near by or anywhere."""
    ids = range(FIRST, FIRST + size)
    reach = random.choice((3, 20, size))
    cells: list[Cell] = []
    for signal in ids:
        near = ids[max(signal - FIRST - reach, 0) : signal - FIRST + reach]
        a, b, c, d = random.choices(near, k=4)
        if random.random() < 0.3:
            clock = random.choice((CLOCK, d))
            reset = random.choice((ZERO, ZERO, c))
            enable = random.choice((ONE, ONE, b))
            negative, value, asynchronous = (random.random() < 0.5 for _ in range(3))
            cells.append(Flop(clock, negative, a, enable, reset, asynchronous, value))
        else:
            inputs = (a, b, c, d)[: random.randint(1, 4)]
            cells.append(Gate(random.getrandbits(1 << len(inputs)), inputs))
    return Netlist(tuple(cells), random.choice(ids))


def irregularity(netlist: Netlist) -> str:
    """Why a netlist has no evaluation order; empty if it has one."""
    try:
        state_machine_of(netlist)
    except NoEvaluationOrder as reason:
        return str(reason)
    return ""


@pytest.mark.parametrize("size", [5, 20, 100, 600])
def test_given_any_tangle_then_it_is_counted_within_the_budget(size: int) -> None:
    irregular = 0
    for seed in range(12):
        netlist = simplify(tangle(Random(seed), size))
        reason = irregularity(netlist)
        if reason:
            began = process_time()
            pulses, note = LoopedCircuit(netlist, reason).count(SECOND, seed)
            assert process_time() - began < MOST_CPU
            assert 0 <= pulses <= SECOND * 50 // 48 + 1
            assert note.startswith(reason)
            assert LoopedCircuit(netlist, reason).count(SECOND, seed) == (pulses, note)
            irregular += 1
    assert irregular > 3
