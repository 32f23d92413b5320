"""Emulated firmware: pure state machines, bytes in, lines out, timers as explicit deadlines."""

from icebus.rack.firmware.base import (
    EOL,
    NOTHING,
    Evaluation,
    Firmware,
    FirmwareSettings,
    Silent,
    Step,
)
from icebus.rack.firmware.faulty import Faulty
from icebus.rack.firmware.installed import firmware_of, installed_firmware, name_of

__all__ = [
    "EOL",
    "NOTHING",
    "Evaluation",
    "Faulty",
    "Firmware",
    "FirmwareSettings",
    "Silent",
    "Step",
    "firmware_of",
    "installed_firmware",
    "name_of",
]
