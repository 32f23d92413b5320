"""Which firmware an image is, by the marker in its content."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from icebus.rack.firmware.base import Firmware, Silent
from icebus.rack.firmware.default import INTERVAL_SECONDS, Default
from icebus.rack.firmware.pulse_count import PulseCount, PulseCountSettings

if TYPE_CHECKING:
    from random import Random

    from icebus.schemas.boards.firmware import FirmwareMarker


@dataclass(frozen=True, slots=True)
class FirmwareSettings:
    """Settings of all firmwares that the rack can emulate."""

    default_interval: float = INTERVAL_SECONDS
    pulse_count: PulseCountSettings = field(default_factory=PulseCountSettings)


def firmware_of(
    marker: FirmwareMarker | None, settings: FirmwareSettings, random: Random
) -> Firmware:
    """A freshly started firmware of that name; one that isn't known is silent."""
    match marker.name if marker else None:
        case "default":
            return Default(settings.default_interval)
        case "pulse_count":
            return PulseCount(settings.pulse_count, random)
        case _:
            return Silent()
