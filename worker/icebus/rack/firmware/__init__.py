"""Emulated firmware: pure state machines, bytes in, bytes out, timers as explicit deadlines."""

from icebus.rack.firmware.base import (
    ANY_BOARD,
    EOL,
    NOTHING,
    Evaluation,
    Firmware,
    Reset,
    Restart,
    RunsOn,
    Silent,
    Step,
    said,
)
from icebus.rack.firmware.faulty import Faulty
from icebus.rack.firmware.installed import firmware_of, installed_firmware, name_of
from icebus.rack.firmware.settings import FirmwareSettings

__all__ = [
    "ANY_BOARD",
    "EOL",
    "NOTHING",
    "Evaluation",
    "Faulty",
    "Firmware",
    "FirmwareSettings",
    "Reset",
    "Restart",
    "RunsOn",
    "Silent",
    "Step",
    "firmware_of",
    "installed_firmware",
    "name_of",
    "said",
]
