"""Counts of real bitstreams over one second and less."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from icebus.fpga import SimulationResult, _simulate, simulate
from icebus.fpga._device import chipdb, fabric
from icebus.fpga._simulate import COUNTING_STARTS
from icebus.schemas.boards.bitstream import bank_writes, with_crc
from icebus.schemas.errors import BitstreamUnsupported

SECOND = 48_000_000
EXAMPLES = Path(__file__).parents[2] / "examples" / "circuits"
Circuit = Callable[[str], bytes]

# Dividers follow from their definition. The others were counted by hand or, for a shorter window,
# by a Verilog simulator (see test_other_simulator.py).
IN_A_SECOND = {
    "accumulator": 13_797,
    "accumulator_down": 85_544,
    "async_reset": 187_500,
    "async_set": 1_500_000,
    "both_edges": 333_750,
    "burst": 0,
    "clock": SECOND,
    "constant": 0,
    "counter_26": (SECOND - 2**25) // 1024,
    "decades": 480,
    "divider_100hz": 100,
    "divider_12mhz": 12_000_000,
    "divider_1hz": 1,
    "divider_3khz": 3_000,
    "down": 5_000,
    "enable": 1_000,
    "falling": (3 * SECOND + 2**15) // 2**16,
    "gated_clock": SECOND // 2,
    "input_elsewhere": SECOND // 1024,
    "io_register": (SECOND + 2**13) // 2**14,
    "johnson": 2_000_000,
    "lfsr_16": 12_000_194,
    "lfsr_32": 12_005_637,
    "pwm": 1_000,
    "rises_late": 1,
    "rises_once": 0,
    "ripple": (SECOND + 2**11) // 2**12,
    "ripple_clock": 2_000,
    "unused_bram": SECOND // 512,
}


@pytest.mark.parametrize(("hertz", "name"), [(2, "2"), (8, "8"), (32, "32")])
def test_given_an_example_when_counted_for_a_second_then_it_is_its_frequency(
    hertz: int, name: str
) -> None:
    bitstream = (EXAMPLES / f"pulse_{name}khz.bin").read_bytes()
    assert simulate(bitstream, cycles=SECOND) == SimulationResult(
        hertz * 1000, exact=True, cdone=True, note=""
    )


@pytest.mark.parametrize(
    ("cycles", "pulses"),
    [(0, 0), (749, 0), (750, 1), (2249, 1), (2250, 2), (SECOND - 751, 31_999), (SECOND, 32_000)],
)
def test_given_a_window_then_only_what_is_in_it_counts(cycles: int, pulses: int) -> None:
    bitstream = (EXAMPLES / "pulse_32khz.bin").read_bytes()
    # the output changes every 750 cycles, and is counted from the 128th on
    assert simulate(bitstream, cycles=max(cycles - COUNTING_STARTS, 0)).pulses == pulses


@pytest.mark.parametrize("name", IN_A_SECOND)
def test_given_a_circuit_that_follows_the_clock_then_the_count_is_exact(
    circuit: Circuit, name: str
) -> None:
    assert simulate(circuit(name), cycles=SECOND, seed=7) == SimulationResult(
        IN_A_SECOND[name], exact=True, cdone=True, note=""
    )


@pytest.mark.parametrize(
    ("name", "pulses", "told"),
    [
        ("undriven", 0, "pin 27 is no output in this bitstream"),
        ("follows_input", 0, "pin 28 is an input that nothing drives, taken to be 1"),
        ("input_clock", 0, "pin 28 is an input"),
        ("input_enable", (SECOND + 2**11) // 2**12, "pin 28 is an input"),
        ("input_logic", SECOND // 1024, "pin 28 is an input .*; pin 31 is an input"),
        ("input_tristate", SECOND // 1024, "pin 28 is an input"),
        ("idle_bram", SECOND // 1024, "SB_RAM40_4K at tile .* is left idle, taken to be 0"),
        ("idle_reads", SECOND // 1024, "SB_RAM40_4K at tile .* is left idle"),
        ("idle_spram", SECOND // 1024, "SB_SPRAM256KA at tile .* is left idle"),
        ("idle_dsp", SECOND // 1024, "SB_MAC16 at tile .* is left idle"),
        ("idle_pll", 0, r"SB_PLL40 at tile \(12, 31\) is left idle"),
        ("input_latched", SECOND // 1024, "pin 28 is an input"),
        ("idle_hfosc", SECOND // 1024, "SB_HFOSC at global network 4 is left idle"),
    ],
)
def test_given_a_circuit_that_depends_on_what_nothing_decides_then_the_note_says_so(
    circuit: Circuit, name: str, pulses: int, told: str
) -> None:
    measured = simulate(circuit(name), cycles=SECOND)
    assert re.match(told, measured.note), measured.note
    assert measured == SimulationResult(pulses, exact=False, cdone=True, note=measured.note)


def test_given_several_pins_then_each_is_counted_for_itself(circuit: Circuit) -> None:
    counted = {pin: simulate(circuit("three_pins"), pin=pin) for pin in (27, 25, 21, 19)}
    assert {pin: measured.pulses for pin, measured in counted.items()} == {
        27: SECOND // 1024,
        25: (SECOND + 2**11) // 2**12,
        21: (SECOND + 2**15) // 2**16,
        19: 0,
    }
    assert {pin for pin, measured in counted.items() if not measured.exact} == {19}
    assert "pin 19 is no output" in counted[19].note


def test_given_a_pin_whose_output_is_led_nowhere_then_the_note_says_so(circuit: Circuit) -> None:
    measured = simulate(without_wires_to_the_pin(circuit("constant")), cycles=SECOND)
    assert measured.note == "nothing leads to the output pin 27, taken to be 0"
    assert (measured.pulses, measured.exact) == (0, False)


def without_wires_to_the_pin(bitstream: bytes) -> bytes:
    """The same with all switches off that lead to the output."""
    chip = chipdb.load()
    x, y, block = fabric.OUTPUT_PAD
    bits = np.flatnonzero(chip.bit_item >= 0)
    bits = bits[chip.bit_item[bits] < chip.switches]
    off = bits[chip.switch_target[chip.bit_item[bits]] == chip.wire(x, y, f"io_{block}/D_OUT_0")]
    data = bytearray(bitstream)
    places = []
    start = 0
    for write in bank_writes(bitstream):
        if write.memory == "cram":
            inside = off[(off >= start) & (off < start + 8 * write.size)] - start
            places += (8 * write.start + inside).tolist()
            start += 8 * write.size
    for place in places:
        data[place // 8] &= ~(0x80 >> place % 8)
    return with_crc(bytes(data))


@pytest.mark.parametrize("name", ["divider_3khz", "counter_26", "lfsr_16", "decades"])
def test_given_windows_in_any_order_then_each_is_as_if_it_were_the_only_one(
    circuit: Circuit, name: str
) -> None:
    windows = [100_000, 0, 1, 31_999, 32_000, 33, 70_000, 99_999]
    counts = [simulate(circuit(name), cycles=cycles).pulses for cycles in windows]
    ascending = sorted(zip(windows, counts, strict=True))
    assert [pulses for _, pulses in ascending] == sorted(counts)
    assert ascending[0] == (0, 0)
    assert all(
        exact for exact in (simulate(circuit(name), cycles=cycles).exact for cycles in windows)
    )


@pytest.mark.parametrize("name", [*IN_A_SECOND, "shifter", "latch", "ring"])
def test_given_any_circuit_then_what_it_does_while_the_fpga_wakes_up_is_not_counted(
    circuit: Circuit, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def counts(*windows: int) -> list[int]:
        return [simulate(circuit(name), cycles=cycles, seed=3).pulses for cycles in windows]

    windows = (0, 1, 2, 7, 100, 2000, 3999)
    counted = counts(*windows)
    monkeypatch.setattr(_simulate, "COUNTING_STARTS", 0)
    before = counts(COUNTING_STARTS)[0]
    ends = counts(*[COUNTING_STARTS + cycles for cycles in windows])
    assert counted == [end - before for end in ends]


def test_given_a_negative_window_then_nothing_is_counted(circuit: Circuit) -> None:
    assert simulate(circuit("clock"), cycles=-1).pulses == 0


def test_given_a_circuit_too_chaotic_for_the_budget_then_the_count_says_so(
    circuit: Circuit,
) -> None:
    measured = simulate(circuit("shifter"), cycles=SECOND)
    assert not measured.exact
    assert "extrapolated" in measured.note
    assert 10_000_000 < measured.pulses < 14_000_000
    within = simulate(circuit("shifter"), cycles=4_000)
    assert within.exact
    assert not within.note


@pytest.mark.parametrize(
    ("name", "primitive"),
    [
        ("hfosc", "SB_HFOSC"),
        ("lfosc", "SB_LFOSC"),
        ("pll", "SB_PLL40"),
        ("bram", "SB_RAM40_4K"),
        ("spram", "SB_SPRAM256KA"),
        ("dsp", "SB_MAC16"),
        ("ddr", "double data rate"),
        ("tristate", "tristate"),
    ],
)
def test_given_a_primitive_that_is_not_modelled_then_it_is_named(
    circuit: Circuit, name: str, primitive: str
) -> None:
    with pytest.raises(BitstreamUnsupported, match=primitive) as caught:
        simulate(circuit(name), cycles=SECOND)
    assert primitive in caught.value.details["primitive"]
    assert caught.value.details["location"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda good: good[:-8],
        lambda good: good + b"\1",
        lambda good: b"",
        lambda good: bytes(len(good)),
        lambda good: b"\xff" * len(good),
        lambda good: good[:50_000] + bytes([good[50_000] ^ 1]) + good[50_001:],
    ],
)
def test_given_no_valid_bitstream_then_cdone_stays_low_and_nothing_is_counted(
    circuit: Circuit, spoil: Callable[[bytes], bytes]
) -> None:
    measured = simulate(spoil(circuit("divider_3khz")), cycles=SECOND)
    assert measured == SimulationResult(0, exact=False, cdone=False, note=measured.note)
    assert "refuses" in measured.note


def test_given_an_empty_design_then_it_is_configured_and_counts_nothing(circuit: Circuit) -> None:
    good = circuit("divider_3khz")
    start = good.index(b"\x01\x01") + 2
    empty = with_crc(good[:start] + bytes(29_064) + good[start + 29_064 :])
    assert simulate(empty, cycles=SECOND).cdone


def test_when_a_count_crosses_to_another_process_then_it_is_the_same(circuit: Circuit) -> None:
    measured = simulate(circuit("divider_3khz"), cycles=SECOND)
    assert pickle.loads(pickle.dumps(measured)) == measured
    assert pickle.loads(pickle.dumps(simulate)) is simulate
