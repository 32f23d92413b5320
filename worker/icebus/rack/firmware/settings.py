"""How emulated firmware behaves, and how long it takes for what."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from icebus.rack.environment import EnvironmentSettings
from icebus.schemas.boards import pulse_count_text as text

LOAD_SECONDS: Final = 0.0359
"""Configuring the FPGA with a full bitstream: 1.2 ms in which it clears its memory after CRESET,
and 104,092 bytes at 24 MHz. Measured with the firmware of docs/firmware.md in the emulator; never
on silicon."""

UNPACK_SECONDS: Final = 0.0154
"""Unpacking a deflated bitstream of a typical circuit and checking it. Measured with the firmware
of docs/firmware.md in the emulator; dense bitstreams take up to three times as long."""


@dataclass(frozen=True, slots=True)
class FirmwareSettings:
    """What may differ from a real board, for tests and benchmarks.

    Attributes:
        window: seconds that pulses are counted for, where the host doesn't say.
        watchdog: seconds that a transfer of the text protocol may take.
        load: seconds that configuring the FPGA with a full bitstream takes.
        speedup: how many times faster than on a board windows pass, for trying things out; what is
            counted and told is that of the whole window.
        unpack: seconds that unpacking and checking a bitstream takes.
        interval: seconds between the lines of firmware that says one again and again.
            *Unverified*: that of the real firmware isn't known.
        environment: what disturbs measurements.
    """

    window: float = text.WINDOW_SECONDS
    speedup: float = 1.0
    watchdog: float = text.WATCHDOG_SECONDS
    load: float = LOAD_SECONDS
    unpack: float = UNPACK_SECONDS
    interval: float = 0.25
    environment: EnvironmentSettings = field(default_factory=EnvironmentSettings)
