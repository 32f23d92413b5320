"""Firmware of boards: everything that one needs to have workers know a firmware of one's own.

A firmware says its name, brings its images, and finds out whether a board runs it. A meter drives
it through measurements. Workers find firmware through the entry-point group ``icebus.firmware``.
"""

from icebus.worker.firmware._line_firmware import (
    AnsweringFirmware,
    AnsweringMeter,
    RepeatingFirmware,
)
from icebus.worker.firmware._lines import Lines
from icebus.worker.firmware._meter import Measured, Meter, MeterCallbacks
from icebus.worker.firmware._plug import Firmware, Probe, ProbedBoard
from icebus.worker.firmware._policy import FirmwarePolicy
from icebus.worker.firmware._registry import RECOVERY, installed_firmware

__all__ = [
    "RECOVERY",
    "AnsweringFirmware",
    "AnsweringMeter",
    "Firmware",
    "FirmwarePolicy",
    "Lines",
    "Measured",
    "Meter",
    "MeterCallbacks",
    "Probe",
    "ProbedBoard",
    "RepeatingFirmware",
    "installed_firmware",
]
