"""What every emulated firmware is to the board that runs it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from icebus.rack.environment import Environment
from icebus.rack.firmware.settings import FirmwareSettings
from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.pulse_count_text import BITSTREAM_SIZE
from icebus.schemas.boards.rack import PICO_ICE_APPLICATION

if TYPE_CHECKING:
    from random import Random

    from icebus.rack.verdict import Verdict

EOL: Final = "\r\n"

OUTPUT_PIN: Final = 27
"""ICE_27, the pin of the FPGA's package whose pulses are counted unless others are asked for."""


class Reset(StrEnum):
    """Why a firmware was started."""

    POWER = "power"
    REQUEST = "request"


class Restart(StrEnum):
    """What a firmware has its chip start instead of it."""

    BOOTLOADER = "bootloader"
    FIRMWARE = "firmware"


@dataclass(frozen=True, slots=True)
class RunsOn:
    """The board that a firmware runs on.

    Attributes:
        serial: of its flash.
        chip: its microcontroller.
        version: of the firmware, as its image says.
        reset: why it was started.
    """

    serial: str = "E6616407E3000000"
    chip: Chip = Chip.RP2040
    version: str = "0"
    reset: Reset = Reset.POWER


ANY_BOARD: Final = RunsOn()
"""For firmware that does not care, and tests."""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """A request to simulate the FPGA; each is one of its own.

    Attributes:
        bitstream: what the FPGA is configured with.
        cycles: how many of its clocks are counted for.
        pins: of the FPGA's package, whose rising edges are counted.
    """

    bitstream: bytes
    cycles: int
    pins: tuple[int, ...] = (OUTPUT_PIN,)


@dataclass(frozen=True, slots=True)
class Step:
    """What a firmware does in answer to one input.

    Attributes:
        output: sent to the host now.
        evaluations: started now; their verdicts come back through :meth:`Firmware.measured`.
        restart: what the chip starts now; the firmware and its port are gone with it.
        report: what the log says that the board has reported.
    """

    output: bytes = b""
    evaluations: tuple[Evaluation, ...] = ()
    restart: Restart | None = None
    report: str = ""


NOTHING = Step()


def said(*lines: str) -> bytes:
    """What a firmware sends that speaks in lines of ASCII."""
    return "".join(line + EOL for line in lines).encode("ascii")


class Firmware:
    """A firmware that does nothing; the others override what they do.

    Inputs carry the time ``now``, in seconds of a steady clock; nothing here reads a clock. A
    package offers its own by the entry-point group ``icebus.virtual_firmware``, under the name that
    images have.

    Args:
        settings: times.
        random: of the board, for what differs from one measurement to the next.
        runs_on: the board.
    """

    waits_for_host = False
    """Whether what the host does not read now is kept for it, and nothing more is read from it
    until it has; otherwise it is lost, as with most firmware that prints."""

    salvages = False
    """Whether :meth:`salvage` finds what is the new host's where the port was closed and opened
    again at once. Otherwise a transfer that was cut so is dropped with all that has come."""

    def __init__(
        self, settings: FirmwareSettings, random: Random, runs_on: RunsOn = ANY_BOARD
    ) -> None:
        self.settings = settings
        self.random = random
        self.runs_on = runs_on
        self.environment = Environment(settings.environment, random)

    @property
    def product(self) -> str:
        """What it calls itself on USB."""
        return PICO_ICE_APPLICATION.product

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
        return BITSTREAM_SIZE // 2

    def garble(self, output: bytes) -> bytes:
        """``output`` as a board says it whose reports can't be understood."""
        lines = output.split(EOL.encode())
        return EOL.encode().join(line[: len(line) // 2] for line in lines)

    def salvage(self, unread: bytes) -> bytes:
        """What to take of bytes that may be the old host's or the new one's."""
        return unread

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

    def measured(self, evaluation: Evaluation, verdict: Verdict, now: float) -> Step:
        """The verdict on an evaluation that was started, in whatever order they end."""
        return NOTHING

    def host_closed(self, now: float) -> Step:
        """The host has closed the port (DTR fell)."""
        return NOTHING


class Silent(Firmware):
    """Some firmware that the rack doesn't know: it enumerates, and that is all to be seen of it."""
