"""What bitstreams use of the FPGA, and what drives a pin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import pytest

from icebus.fpga import PINS, inspect, simulate
from icebus.schemas.errors import BitstreamInvalid, InvalidRequest

Circuit = Callable[[str], bytes]

USED = {
    "bram": {"block_rams": 1},
    "clock": {"luts": 1, "ios": 2},
    "ddr": {"ios": 2},
    "dsp": {"dsps": 1},
    "hfosc": {"oscillators": 1, "ios": 1},
    "johnson": {"flip_flops": 12, "carries": 0},
    "lfosc": {"oscillators": 1, "ios": 1},
    "lfsr_32": {"flip_flops": 32, "luts": 33, "carries": 0},
    "pll": {"plls": 1},
    "spram": {"sprams": 1},
    "unused_bram": {"block_rams": 1, "oscillators": 1},
}
HARD = ("block_rams", "sprams", "dsps", "plls", "oscillators", "others")


@pytest.mark.parametrize("name", USED)
def test_given_a_circuit_when_inspected_then_the_blocks_it_uses_are_counted(
    circuit: Circuit, name: str
) -> None:
    blocks = asdict(inspect(circuit(name)).blocks)

    assert blocks | USED[name] == blocks
    assert all(not blocks[kind] for kind in HARD if kind not in USED[name])


@pytest.mark.parametrize(
    ("name", "driver"),
    [
        ("both_edges", "LUT"),
        ("bram", "LUT"),
        ("clock", "pin 35 (clock)"),
        ("constant", "constant 1"),
        ("ddr", "SB_IO with a double data rate output"),
        ("divider_3khz", "flip-flop"),
        ("dsp", "SB_MAC16"),
        ("follows_input", "pin 28"),
        ("io_register", "flip-flop"),
        ("spram", "SB_SPRAM256KA"),
        ("tristate", "SB_IO with a switched (tristate) output"),
        ("undriven", "nothing"),
    ],
)
def test_given_a_circuit_when_inspected_then_what_drives_the_pin_is_named(
    circuit: Circuit, name: str, driver: str
) -> None:
    assert inspect(circuit(name)).driver == driver


def test_given_pins_when_inspected_then_only_the_output_is_driven(circuit: Circuit) -> None:
    drivers = {pin: inspect(circuit("divider_3khz"), pin=pin).driver for pin in PINS}

    assert drivers.pop(27) == "flip-flop"
    assert set(drivers.values()) == {"nothing"}


def test_given_a_window_in_seconds_then_it_is_the_same_in_cycles(circuit: Circuit) -> None:
    bitstream = circuit("divider_3khz")

    assert simulate(bitstream).pulses == 3000
    assert simulate(bitstream, 0.1) == simulate(bitstream, cycles=4_800_000)


def test_given_no_bitstream_when_inspected_then_it_is_refused() -> None:
    with pytest.raises(BitstreamInvalid):
        inspect(b"nonsense")


@pytest.mark.parametrize("look", [inspect, simulate])
def test_given_a_pin_that_is_no_io_then_the_error_names_those_that_are(
    circuit: Circuit, look: Callable[..., object]
) -> None:
    with pytest.raises(InvalidRequest, match="27"):
        look(circuit("clock"), pin=1)
