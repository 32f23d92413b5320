"""Bitstreams as evolution makes them: whatever they are, they are counted or refused in time."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from icebus.rack.fpga import count, events, synchronous
from icebus.schemas.bitstream import bank_writes, with_crc
from icebus.schemas.errors import BitstreamUnsupported

Circuit = Callable[[str], bytes]
SECOND = 48_000_000


@pytest.fixture(autouse=True)
def small_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synchronous, "BUDGET", 20_000_000)
    monkeypatch.setattr(events, "BUDGET", 20_000)


def measure(bitstream: bytes, cycles: int = SECOND) -> int:
    try:
        measured = count(bitstream, cycles, 5)
    except BitstreamUnsupported:
        return -1
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


@pytest.mark.parametrize(
    "name", ["divider_3khz", "enable", "async_reset", "ripple_clock", "both_edges", "lfsr_16"]
)
def test_given_mutants_then_each_is_counted_or_refused(circuit: Circuit, name: str) -> None:
    random = Random(name)
    counts = [measure(flipped(circuit(name), random, 1 << i % 7)) for i in range(28)]
    assert len(set(counts)) > 1


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
