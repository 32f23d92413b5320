"""What the firmware and the boards that it runs on can do: limits.h, and the headers in boards/."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from icebus.schemas.boards.firmware import Chip

BITSTREAM_SIZE: Final = 104_096
QUEUE_BYTES: Final = 120 * 1024
QUEUE_LENGTH: Final = 64
WINDOW_US: Final = (1000, 60_000_000)
RATE_HZ: Final = (1000, 500_000)
MOST_SAMPLES: Final = 2048

REQUEST_SIZE: Final = 28
"""Bytes of a MEASURE ahead of its encoded bitstream."""

RESTART_SECONDS: Final = 0.02
"""From the request to restart until the chip does."""


@dataclass(frozen=True, slots=True)
class BoardLimits:
    """What one of the boards has.

    Attributes:
        name: of the board.
        pins: of the FPGA's package that can be counted.
        adc_inputs: that can be sampled.
    """

    name: str
    pins: tuple[int, ...]
    adc_inputs: tuple[int, ...]


BOARDS: Final = {
    Chip.RP2040: BoardLimits("pico-ice", (27, 25, 21, 19, 26, 23, 20, 18), (2, 3)),
    Chip.RP2350: BoardLimits(
        "pico2-ice", (27, 9, 11, 18, 19, 20, 21, 23, 25, 26), (1, 2, 3, 4, 5, 6)
    ),
}
