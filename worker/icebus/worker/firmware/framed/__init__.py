"""Our own firmware, which speaks in frames: how it is recognised, how it measures."""

from icebus.worker.firmware.framed._effects import FramedReport
from icebus.worker.firmware.framed._firmware import FramedFirmware
from icebus.worker.firmware.framed._meter import FramedMeter

__all__ = ["FramedFirmware", "FramedMeter", "FramedReport"]
