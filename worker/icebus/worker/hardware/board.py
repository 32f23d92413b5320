"""A board as it is connected, and how boards are found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.rack import Mode


@dataclass(frozen=True)
class ConnectedBoard:
    """What is plugged into one USB port right now.

    Attributes:
        path: USB port path such as ``1-1.2``; a board is tracked by it between its two modes.
        session: changes whenever the board enumerates anew.
        chip: its microcontroller; None where an application does not say and nobody has said it.
        serial: the application's USB serial; None where it is not known, as in the bootloader of
            an RP2040, which shows the same constant on every board.
        tty: the serial port, while its application runs.
        drive: the bootloader's drive, while that runs and where it is mounted.
        virtual: whether it is a board of the rack.
        emulated: whether it is a virtual board whose chip is emulated, so that it takes and runs
            the images of real boards.
        mode: which of the two runs.
        source: what found it: two racks may give their ports the same names.
        labels: what was detected besides, such as its hub.
        slowness: how many times slower than a real one it is; deadlines are stretched by it.
        problem: why it can't be used though it is there, with the remedy; empty when it can.
    """

    path: str
    session: str
    chip: Chip | None
    serial: str | None
    tty: Path | None
    drive: Path | None
    virtual: bool
    mode: Mode
    source: str = ""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    slowness: float = 1.0
    emulated: bool = False
    problem: str = ""

    @property
    def in_bootloader(self) -> bool:
        """Whether it waits for firmware."""
        return self.mode is Mode.BOOTLOADER

    @property
    def takes_markers(self) -> bool:
        """Whether its bootloader takes marker images only, which hold nothing but a name."""
        return self.virtual and not self.emulated


Snapshot = Sequence[ConnectedBoard]


class Discovery(Protocol):
    """A source of boards: USB, a rack, or any other."""

    def start(self, on_change: Callable[[Snapshot], None]) -> None:
        """Call ``on_change`` with all boards there are, now and whenever that changes."""

    def stop(self) -> None:
        """Stop, and join what was started."""
