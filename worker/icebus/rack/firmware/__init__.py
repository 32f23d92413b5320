"""Emulated firmwares: pure state machines, bytes in, lines out, timers as explicit deadlines."""

from icebus.rack.firmware.base import Evaluation, Firmware, Silent, Step
from icebus.rack.firmware.catalogue import FirmwareSettings, firmware_of
from icebus.rack.firmware.faulty import Faulty

__all__ = ["Evaluation", "Faulty", "Firmware", "FirmwareSettings", "Silent", "Step", "firmware_of"]
