"""The pulse-count firmware: how it is recognised, how it is asked, how it measures."""

from icebus.worker.firmware.pulse_count._conversation import Report
from icebus.worker.firmware.pulse_count._firmware import PulseCountFirmware
from icebus.worker.firmware.pulse_count._meter import PulseCountMeter

__all__ = ["PulseCountFirmware", "PulseCountMeter", "Report"]
