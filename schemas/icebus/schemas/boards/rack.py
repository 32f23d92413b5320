"""The rack's directory: where the rack and the worker meet.

The rack (writer) and the worker (reader) share no code but this module. Directly under the rack's
directory:

=====================  =============================================================================
``rack.json``          which boards are plugged (:class:`RackFile`). The rack follows it: to plug or
                       unplug a board, edit it (:func:`edit_rack_file`).
``rack.id``            what tells this rack from all others; serials of its boards come of it.
``rack.lock``          held (flock) by the rack that runs here.
``1-1.2/``             a plugged board, named by its USB port path; gone while the board is absent
``1-1.2/device.json``  :class:`BoardFile`, written last when a board appears and removed first when
                       it goes: without it the folder means nothing
``1-1.2/tty``          symlink to the board's serial port, while its application runs
``1-1.2/boot/``        the bootloader's drive, while that runs: copy a UF2 file into it, or a
                       PICOBOOT command named ``PICOBOOT``
=====================  =============================================================================

Files are replaced by rename, so a reader sees a whole old one or a whole new one. A board's folder
is touched after each change of its ``device.json``, so whoever watches the rack's directory alone
learns of every change: to watch a tree whose folders come and go is to race with them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from icebus.schemas.boards.firmware import Chip
from icebus.schemas.errors import InvalidRequest
from icebus.schemas.ids import Serial
from icebus.schemas.programs.private_files import open_private

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RACK_FILE: Final = "rack.json"
LOCK_FILE: Final = "rack.lock"
BOARD_FILE: Final = "device.json"
TTY: Final = "tty"
BOOT: Final = "boot"
PICOBOOT: Final = "PICOBOOT"
"""In the drive stands for the bootloader's other USB interface: what is written there is taken as a
command (:mod:`icebus.schemas.boards.picoboot`). A real drive has no such file."""

DRIVE_FILES: Final = ("INDEX.HTM", "INFO_UF2.TXT")
"""What a bootloader's drive holds before anything is copied to it."""

PORT_PATTERN: Final = r"^[0-9]{1,3}-[0-9]{1,3}(\.[0-9]{1,3}){0,5}$"
"""A USB port path as Linux names it: bus, then the port at each hub."""

Port = Annotated[str, Field(pattern=PORT_PATTERN)]

_EDIT_LOCK: Final = ".rack.json.lock"


class UsbIdentity(NamedTuple):
    """How a device names itself on USB."""

    vid: int
    pid: int
    product: str


PICO_ICE_APPLICATION: Final = UsbIdentity(0x1209, 0xB1C0, "pico-ice")
"""An application made with pico-ice-sdk, on both boards."""

PICO_APPLICATION: Final = {
    Chip.RP2040: UsbIdentity(0x2E8A, 0x000A, "Pico"),
    Chip.RP2350: UsbIdentity(0x2E8A, 0x0009, "Pico"),
}
"""An application made with pico-sdk's stdio_usb."""

BOOTLOADER: Final = {
    Chip.RP2040: UsbIdentity(0x2E8A, 0x0003, "RP2 Boot"),
    Chip.RP2350: UsbIdentity(0x2E8A, 0x000F, "RP2350 Boot"),
}
"""The chip's own bootloader."""

RP2040_BOOTLOADER_SERIAL: Final = "E0C9125B0D9B"
"""USB serial of the bootloader of every RP2040: it is in ROM and the same for all."""


class Mode(StrEnum):
    """What runs on a board that is there."""

    APPLICATION = "application"
    BOOTLOADER = "bootloader"


class BoardFile(BaseModel):
    """A board as USB enumeration shows it: the content of ``device.json``."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    port: Port = Field(description="USB port path, such as 1-1.2; what a board is tracked by.")
    serial: Serial = Field(
        description="USB serial in this mode; every RP2040 bootloader has the same one."
    )
    vid: int = Field(ge=0, le=0xFFFF, description="USB vendor id.")
    pid: int = Field(ge=0, le=0xFFFF, description="USB product id.")
    product: str = Field(description="USB product string.")
    chip: Chip = Field(description="The board's chip.")
    mode: Mode = Field(description="What runs on the board.")
    session: str = Field(description="A new random id at each enumeration.")
    tty: Literal["tty"] | None = Field(
        default=None, description="Name of the serial port in the board's folder."
    )
    boot: Literal["boot"] | None = Field(
        default=None, description="Name of the bootloader's drive in the board's folder."
    )
    emulated: bool = Field(
        default=False,
        description="Whether its chip is emulated: its bootloader takes the images of real boards "
        "then, and runs them. Others take marker images.",
    )
    slowness: float = Field(
        default=1.0,
        ge=1.0,
        description="How many times slower than a real one it is: deadlines stretch by it.",
    )


class Fault(StrEnum):
    """What may be wrong with a board, for as long as ``rack.json`` says so."""

    HANG = "hang"
    """The chip stands still: it takes nothing, says nothing, and can't be reset over USB."""
    WEDGE = "wedge"
    """The same, but a reset over USB mends it."""
    STALL = "stall"
    """It takes half a bitstream and then nothing more, until it is rebooted."""
    BABBLE = "babble"
    """It says much without end, and does not listen."""
    GARBAGE = "garbage"
    """It works, but all that it says is random bytes."""
    MISREPORT = "misreport"
    """It works, but its reports can't be understood."""
    BOOTLOADER = "bootloader"
    """Whenever it starts, it starts its bootloader."""


EMULATED_FAULTS: Final = (None, Fault.HANG, Fault.BOOTLOADER)
"""What may be wrong with an emulated board; what it says is its firmware's own."""

FLASH_ID_PATTERN: Final = r"[0-9A-F]{16}"
"""The unique id of a board's flash, as firmware made with pico-sdk gives it as its USB serial."""


FIRMWARE: Final = "icebus"
"""What boards come with: the firmware for all kinds that icebus ships."""


class RackBoard(BaseModel):
    """A board that shall be plugged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    port: Port = Field(description="USB port path, such as 1-1.2.")
    serial: Serial = Field(description="The board's flash id: its serial as an application.")
    chip: Chip = Field(default=Chip.RP2040, description="The board's chip.")
    firmware: str = Field(
        default=FIRMWARE,
        pattern=r"^[a-z][a-z0-9_]{0,63}$",
        description="What is in its flash when it is plugged for the first time.",
    )
    emulated: bool = Field(
        default=False,
        description="Whether its chip is emulated, and runs the image of the firmware unchanged. "
        "It comes with the firmware of icebus then, whatever `firmware` says.",
    )
    fault: Fault | None = Field(default=None, description="What is wrong with it, from now on.")

    @model_validator(mode="after")
    def _can_be_emulated(self) -> RackBoard:
        if not self.emulated:
            return self
        if self.chip is not Chip.RP2040:
            raise ValueError(f"nothing emulates the {self.chip.value}, only the rp2040")
        if not re.fullmatch(FLASH_ID_PATTERN, self.serial):
            raise ValueError(
                f"{self.serial} is no flash id, which an emulated board's serial has to be: "
                "16 digits of 0-9A-F"
            )
        if self.fault not in EMULATED_FAULTS:
            known = ", ".join(fault.value for fault in EMULATED_FAULTS if fault)
            raise ValueError(f"an emulated board can't {self.fault}; it can: {known}")
        return self

    def same_plug(self, other: RackBoard | None) -> bool:
        """Whether ``other`` is this board in this port, however well it is."""
        return other is not None and self == other.model_copy(update={"fault": self.fault})


class RackFile(BaseModel):
    """Which boards are plugged: the content of ``rack.json``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    boards: tuple[RackBoard, ...] = Field(default=(), description="The plugged boards.")

    @model_validator(mode="after")
    def _one_board_a_port(self) -> RackFile:
        ports = [board.port for board in self.boards]
        if len(set(ports)) != len(ports):
            raise ValueError("two boards on one port")
        return self


def is_port(name: str) -> bool:
    """Whether ``name`` is a USB port path, and so the name of a board's folder."""
    return re.fullmatch(PORT_PATTERN, name) is not None


def write_board_file(folder: Path, board: BoardFile) -> None:
    """Commit ``device.json`` to a board's folder; everything else in it must be there by now."""
    _replace(folder / BOARD_FILE, board.model_dump_json(indent=2))
    os.utime(folder)


def remove_board_file(folder: Path) -> None:
    """Let a board be absent; whatever else its folder holds means nothing now."""
    with contextlib.suppress(FileNotFoundError):
        (folder / BOARD_FILE).unlink()
        os.utime(folder)


def read_board_file(folder: Path) -> BoardFile | None:
    """The board in that folder; ``None`` when it is absent or not (yet) what it should be."""
    try:
        return BoardFile.model_validate_json((folder / BOARD_FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def read_boards(directory: Path) -> list[BoardFile]:
    """All boards that are in the rack's directory now, in the order of their ports."""
    try:
        names = [path.name for path in directory.iterdir() if is_port(path.name)]
    except OSError:
        return []
    names.sort(key=lambda name: [int(part) for part in re.split(r"[-.]", name)])
    boards = (read_board_file(directory / name) for name in names)
    return [board for board in boards if board is not None]


def write_rack_file(directory: Path, rack: RackFile) -> None:
    """Replace ``rack.json``: the running rack follows."""
    _replace(directory / RACK_FILE, rack.model_dump_json(indent=2))


def read_rack_file(directory: Path) -> RackFile | None:
    """The content of ``rack.json``; ``None`` if there is no such file.

    Raises:
        InvalidRequest: the file can't be read or isn't what it should be, perhaps because somebody
            is writing it in place right now.
    """
    path = directory / RACK_FILE
    try:
        return RackFile.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidRequest(f"Can't read {path}: {error.strerror}.") from error
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise InvalidRequest(
            f"{path} is not a rack file: {problems[0]}.", problems=problems
        ) from error


def edit_rack_file(directory: Path, edit: Callable[[RackFile], RackFile]) -> RackFile:
    """Replace ``rack.json`` by what ``edit`` makes of it; edits at the same time queue up.

    Raises:
        InvalidRequest: what is there is not a rack file, or the lock beside it not a file.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with os.fdopen(open_private(directory / _EDIT_LOCK), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        rack = edit(read_rack_file(directory) or RackFile())
        write_rack_file(directory, rack)
    return rack


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text + "\n")
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
