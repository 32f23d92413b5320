"""What the emulator's helper says of circuits."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from icebus.fpga import SimulationResult
from icebus.rack.emulator import counts
from icebus.schemas.errors import BitstreamUnsupported

CIRCUIT = Path(__file__).parents[2] / "examples" / "circuits" / "pulse_8khz.bin"
WORDS = bytes(2)
"""The firmware sends whole words."""


def ask(*pins: int) -> dict[str, Any]:
    sent = b64encode(CIRCUIT.read_bytes() + WORDS).decode()
    return counts.answer({"bitstream": sent, "pins": list(pins)})


def test_given_a_circuit_then_the_rate_of_each_pin_is_told() -> None:
    told = ask(27, 25)

    assert (told["cdone"], told["unknown"]) == (True, False)
    assert told["rates"] == {"27": 8000, "25": 0}
    assert told["note"].startswith("pin 25: ")


@pytest.mark.parametrize(
    "problem", [BitstreamUnsupported("a PLL"), TimeoutError(), ZeroDivisionError("oh")]
)
def test_given_a_pin_of_which_nothing_is_known_then_cdone_stays_low_if_it_is_the_first(
    problem: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def simulate(_bitstream: bytes, _seconds: float, *, pin: int) -> SimulationResult:
        if pin == 27:
            raise problem
        return SimulationResult(pulses=5, exact=True, cdone=True, note="")

    monkeypatch.setattr(counts, "simulate", simulate)

    told = ask(27, 25)
    assert (told["cdone"], told["unknown"], told["rates"]) == (False, True, {})
    assert "pin 27" in told["note"]
    told = ask(25, 27)
    assert (told["cdone"], told["rates"]) == (True, {"25": 5, "27": 0})
    assert "pin 27" in told["note"]
