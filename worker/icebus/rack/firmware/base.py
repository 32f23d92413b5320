"""What every emulated firmware is to the board that runs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from icebus.schemas.boards import pulse_count_text as text

if TYPE_CHECKING:
    from random import Random

    from icebus.rack.verdict import Verdict

EOL: Final = "\r\n"


@dataclass(frozen=True, slots=True)
class FirmwareSettings:
    """What may differ from a real board, for tests and benchmarks.

    Attributes:
        window: seconds that pulses are counted for.
        watchdog: seconds that a transfer may take.
        load: seconds that loading the FPGA takes (on a board: tens of milliseconds, *unverified*).
        interval: seconds between the lines of firmware that says one again and again.
            *Unverified*: that of the real firmware isn't known.
    """

    window: float = text.WINDOW_SECONDS
    watchdog: float = text.WATCHDOG_SECONDS
    load: float = 0.0
    interval: float = 0.25


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A request to simulate the FPGA.

    Attributes:
        bitstream: what the FPGA is loaded with.
        cycles: how many of its clocks the counting window lasts.
    """

    bitstream: bytes
    cycles: int


@dataclass(frozen=True, slots=True)
class Step:
    """What a firmware does in answer to one input.

    Attributes:
        lines: printed now, without their line ends.
        evaluation: started now; its verdict comes back through :meth:`Firmware.measured`.
        pulses: the count that the lines report, if they do.
        noise: printed after the lines, as it is.
    """

    lines: tuple[str, ...] = ()
    evaluation: Evaluation | None = None
    pulses: int | None = None
    noise: bytes = b""


NOTHING = Step()


class Firmware:
    """A firmware that does nothing; the others override what they do.

    Inputs carry the time ``now``, in seconds of a steady clock; nothing here reads a clock. A
    package offers its own by the entry-point group ``icebus.virtual_firmware``, under the name that
    images have.

    Args:
        settings: times.
        random: of the board, for what differs from one measurement to the next.
    """

    def __init__(self, settings: FirmwareSettings, random: Random) -> None:
        self.settings = settings
        self.random = random

    @property
    def wants(self) -> int:
        """How many bytes it would read now; others wait at the port."""
        return 0

    @property
    def receiving(self) -> bool:
        """Whether it is in the middle of a transfer, which ends when the host closes the port."""
        return False

    @property
    def touchable(self) -> bool:
        """Whether the host's 1200 baud resets the chip."""
        return True

    @property
    def stalls_at(self) -> int:
        """How many bytes of a transfer a board takes that stalls."""
        return text.BITSTREAM_SIZE // 2

    def garble(self, line: str) -> str:
        """``line`` as a board says it whose reports can't be understood."""
        return line[: len(line) // 2]

    @property
    def deadline(self) -> float | None:
        """When to call :meth:`wake`, if nothing else happens before."""
        return None

    def start(self, now: float) -> Step:
        """The board was enumerated."""
        return NOTHING

    def receive(self, data: bytes, now: float) -> Step:
        """Bytes from the host."""
        return NOTHING

    def wake(self, now: float) -> Step:
        """The deadline may have passed."""
        return NOTHING

    def measured(self, verdict: Verdict, now: float) -> Step:
        """The verdict on the evaluation that was started last."""
        return NOTHING

    def host_closed(self, now: float) -> Step:
        """The host has closed the port (DTR fell)."""
        return NOTHING


class Silent(Firmware):
    """Some firmware that the rack doesn't know: it enumerates, and that is all to be seen of it."""
