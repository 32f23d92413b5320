"""How a rack's boards behave."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from icebus.rack.firmware import FirmwareSettings

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
        seed: makes serials, window lengths and the FPGAs' delays repeatable.
    """

    firmware: FirmwareSettings = field(default_factory=FirmwareSettings)
    bandwidth: float | None = BANDWIDTH
    absence: float = 0.05
    detach: float = 0.02
    seed: int = 0
