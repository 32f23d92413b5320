"""Emulated firmwares: pure state machines, bytes in, lines out, timers as explicit deadlines."""

from icebus.rack.firmware.base import Evaluation, Firmware, Silent, Step
from icebus.rack.firmware.catalogue import FirmwareSettings, firmware_of

__all__ = ["Evaluation", "Firmware", "FirmwareSettings", "Silent", "Step", "firmware_of"]
