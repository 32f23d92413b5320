"""The firmware of boards that nobody uses: it repeats its name, which shows that they live."""

from __future__ import annotations

from icebus.schemas.boards.pulse_count_text import DEFAULT_LINE
from icebus.worker.firmware import RepeatingFirmware


class DefaultFirmware(RepeatingFirmware):
    """Prints ``default firmware`` again and again."""

    name = "default"
    line = DEFAULT_LINE
