"""How a rack's boards behave."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from icebus.rack.firmware import FirmwareSettings

SLOWNESS: Final = 4.0
"""How many times slower than a real one an emulated board is, on a core of its own: rp2040js runs
our firmware at 0.25 to 0.35 of real time."""

BANDWIDTH: Final = 1_000_000.0
"""Bytes per second that USB full speed moves to a board, at best."""


@dataclass(frozen=True, slots=True)
class BoardSettings:
    """Settings of the boards of a rack.

    Attributes:
        firmware: of the emulated firmwares.
        bandwidth: bytes per second of each board's USB; 0 or ``None`` for no limit.
        absence: seconds that a board is absent when it changes mode.
        detach: seconds from the host's 1200 baud until the port is gone; the host's own close of
            the port ends it earlier. *Unverified*: on USB it is the hub's time to notice.
        slowness: how many times slower than a real one an emulated board is that has a core of this
            machine to itself; more than it has cores are slower.
        seed: makes serials, window lengths and the FPGAs' delays repeatable.
    """

    firmware: FirmwareSettings = field(default_factory=FirmwareSettings)
    bandwidth: float | None = BANDWIDTH
    absence: float = 0.05
    detach: float = 0.02
    slowness: float = SLOWNESS
    seed: int = 0
