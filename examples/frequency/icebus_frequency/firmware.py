"""The firmware as the worker knows it: how it is asked, and how it answers measurements.

It speaks in lines. ``?`` is answered with ``frequency ready``; ``measure GATE REPEATS SIZE`` and as
many bytes with ``hertz VALUE resolution VALUE``, or with ``error`` and the reason.
"""

import re
from dataclasses import dataclass

from icebus.schemas.errors import BitstreamUnsupported, IcebusError
from icebus.worker.firmware import AnsweringFirmware, AnsweringMeter

_NUMBER = r"(\d+(?:\.\d+)?)"
_READING = re.compile(f"hertz {_NUMBER} resolution {_NUMBER}")


class FrequencyFirmware(AnsweringFirmware):
    """Has images for virtual boards only; real ones are flashed by hand."""

    name = "frequency"
    question = b"\n?\n"
    answer = "frequency ready"


@dataclass(frozen=True)
class Reading:
    """What the firmware reports."""

    hertz: float
    resolution: float


class FrequencyMeter(AnsweringMeter[Reading]):
    """Understands the firmware's answers."""

    def read(self, line: str) -> Reading | IcebusError | None:
        """A reading, or why there is none."""
        if line.startswith("error "):
            return BitstreamUnsupported(line.removeprefix("error "))
        found = _READING.fullmatch(line)
        return Reading(float(found[1]), float(found[2])) if found else None
