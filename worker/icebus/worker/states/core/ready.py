"""The board is proved and idle."""

from __future__ import annotations

import zlib

from icebus.schemas.boards import pulse_count_text as text
from icebus.schemas.devices import DeviceState
from icebus.schemas.errors import IcebusError, MeasurementFailed
from icebus.worker.firmware import catalogue, pulse_count
from icebus.worker.firmware.lines import Lines
from icebus.worker.firmware.measuring import Measured, Meter
from icebus.worker.states._framework import State
from icebus.worker.states.core.testing import BLANK


class Ready(State):
    """Waits for a reservation, and looks now and then whether the board still answers.

    The pulse-count firmware is silent by itself, so it is probed with a blank bitstream; the
    default firmware repeats its name, so it is enough to have listened. Other words of the board
    are read and forgotten.

    Args:
        firmware: what the board was proved to run.
        every: seconds from one look to the next, about; 0 for never.
    """

    reported = DeviceState.READY
    commandable = True

    def __init__(self, firmware: str, every: float) -> None:
        super().__init__()
        self.probe: Meter | None = None
        self._firmware = firmware
        self._every = every
        self._lines = Lines()
        self._heard = False

    def on_enter(self) -> None:
        """Set the alarm for the first look."""
        self._wait()

    def on_desired(self) -> None:
        """Begin to serve."""
        self.device.settle()

    def on_data(self, data: bytes) -> None:
        """Hear the answer to a probe, or the sign of life of a firmware that gives one."""
        if self.probe is not None:
            self.probe.hear(data)
        elif self._firmware == catalogue.DEFAULT:
            self._heard = text.DEFAULT_LINE in self._lines.feed(data) or self._heard

    def _wait(self) -> None:
        self.probe = None
        if self._every:
            self.after(self._every * pace(self.device.name), self._look)

    def _look(self) -> None:
        if self._firmware == pulse_count.NAME:
            self.probe = Meter(
                port=lambda: self.device.port,
                after=self.after,
                on_measuring=lambda: None,
                on_end=self._on_end,
                on_idle=self._wait,
                on_silence=lambda why: self._ill(f"the board {why}"),
            )
            self.probe.measure(BLANK)
        elif self._firmware == catalogue.DEFAULT and not self._heard:
            self._ill("the board said nothing")
        else:
            self._heard = False
            self._wait()

    def _on_end(self, how: Measured | IcebusError) -> None:
        if isinstance(how, MeasurementFailed):  # a board that can't know the count answers, too
            self._ill(how.message)

    def _ill(self, why: str) -> None:
        if self.device.state is self:  # a probe may tell of its end in two ways
            self.device.fail(f"while idle, {why}")


def pace(name: str) -> float:
    """Between 0.5 and 1.5, for each device its own: they are not to be probed all at once."""
    return 0.5 + zlib.crc32(name.encode()) / 2**32
