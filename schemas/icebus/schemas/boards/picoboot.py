"""PICOBOOT: what the bootloaders in ROM take over USB, as bytes.

A command is 32 bytes on a bulk endpoint: magic, token, id, size of the arguments, a reserved word,
length of the data that follows, and 16 bytes for arguments. Data goes in the direction that the
highest bit of the id says; an empty packet in the other direction acknowledges the command. Two
control requests stand beside: the status of the last command, and a reset of the interface.

Sources: RP2040 datasheet 2.8.5, RP2350 datasheet 5.6, and the headers and boot ROMs that Raspberry
Pi publishes (pico-sdk, pico-bootrom-rp2040, pico-bootrom-rp2350). *Unverified* on silicon.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from icebus.schemas.boards.firmware import Chip
from icebus.schemas.errors import InvalidRequest

SIZE: Final = 32
"""Bytes of a command."""

STATUS_SIZE: Final = 16
"""Bytes of a status; the bootloader answers to no other length."""

RESET_REQUEST: Final = 0x41
"""Vendor request to the interface, out, no data: un-stalls both endpoints, aborts what is under
way, and ends exclusive access."""

STATUS_REQUEST: Final = 0x42
"""Vendor request to the interface, in: the status of the last command."""

SECTOR_SIZE: Final = 4096
"""Bytes of flash that are erased at a time; addresses and sizes of erasing are multiples of it."""

IN_FLAG: Final = 0x80
"""Set in ids of commands whose data goes to the host."""

_MAGIC: Final = 0x431FD10B
_COMMAND: Final = struct.Struct("<IIBBHI16s")
_STATUS: Final = struct.Struct("<IIBB6x")
_RANGE: Final = struct.Struct("<II")

_REBOOT_ARGS: Final = struct.Struct("<III")
"""Program counter (0: boot from flash as usual), stack pointer, delay in ms."""

_REBOOT2_ARGS: Final = struct.Struct("<IIII")
"""Flags (0: boot as usual), delay in ms, two parameters. The RP2350 has only this one."""

_DELAY_MS: Final = 10
"""So that the command is acknowledged before the bootloader goes."""


class CommandId(IntEnum):
    """The commands that icebus uses."""

    EXCLUSIVE_ACCESS = 0x01
    REBOOT = 0x02
    FLASH_ERASE = 0x03
    WRITE = 0x05
    EXIT_XIP = 0x06
    REBOOT2 = 0x0A
    READ = 0x84


class Code(IntEnum):
    """How a command ended."""

    OK = 0
    UNKNOWN_COMMAND = 1
    INVALID_COMMAND_LENGTH = 2
    INVALID_TRANSFER_LENGTH = 3
    INVALID_ADDRESS = 4
    BAD_ALIGNMENT = 5
    INTERLEAVED_WRITE = 6
    REBOOTING = 7
    UNKNOWN_ERROR = 8
    INVALID_STATE = 9
    NOT_PERMITTED = 10
    INVALID_ARGUMENT = 11
    BUFFER_TOO_SMALL = 12
    PRECONDITION_NOT_MET = 13
    MODIFIED_DATA = 14
    INVALID_DATA = 15
    NOT_FOUND = 16
    UNSUPPORTED_MODIFICATION = 17


class Access(IntEnum):
    """Who may write to the flash; the argument of ``EXCLUSIVE_ACCESS``."""

    SHARED = 0
    EXCLUSIVE = 1
    """The drive takes no more files."""
    EXCLUSIVE_AND_EJECT = 2


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    Attributes:
        id: which; a plain number where icebus has no name for it.
        arguments: at most 16 bytes.
        length: bytes of data that follow.
    """

    id: int
    arguments: bytes = b""
    length: int = 0

    @property
    def is_in(self) -> bool:
        """Whether its data goes to the host."""
        return bool(self.id & IN_FLAG)

    @property
    def name(self) -> str:
        """For people: ``FLASH_ERASE``."""
        return CommandId(self.id).name if self.id in set(CommandId) else f"{self.id:#04x}"

    @property
    def range(self) -> tuple[int, int]:
        """Address and size, of a command that has these."""
        address, size = _RANGE.unpack(self.arguments)
        return address, size

    def pack(self, token: int) -> bytes:
        """The 32 bytes.

        Args:
            token: a number that the status of the command repeats.
        """
        return _COMMAND.pack(
            _MAGIC, token, self.id, len(self.arguments), 0, self.length, self.arguments
        )

    @classmethod
    def unpack(cls, data: bytes) -> tuple[Command, int]:
        """A command with its token.

        Raises:
            InvalidRequest: not a command.
        """
        if len(data) != SIZE:
            raise InvalidRequest(f"a PICOBOOT command has {SIZE} bytes, this has {len(data)}")
        magic, token, number, size, _, length, arguments = _COMMAND.unpack(data)
        if magic != _MAGIC or size > len(arguments):
            raise InvalidRequest("not a PICOBOOT command")
        return cls(number, arguments[:size], length), token


@dataclass(frozen=True, slots=True)
class CommandStatus:
    """What the bootloader says of the last command.

    Attributes:
        token: of it.
        code: how it ended; a plain number where icebus has no name for it.
        id: which it was.
        in_progress: whether it has not ended.
    """

    token: int
    code: int
    id: int = 0
    in_progress: bool = False

    @property
    def name(self) -> str:
        """For people: ``BAD_ALIGNMENT``."""
        return Code(self.code).name if self.code in set(Code) else f"error {self.code}"

    def pack(self) -> bytes:
        """The 16 bytes."""
        return _STATUS.pack(self.token, self.code, self.id, self.in_progress)

    @classmethod
    def unpack(cls, data: bytes) -> CommandStatus:
        """A status.

        Raises:
            InvalidRequest: not a status.
        """
        if len(data) != STATUS_SIZE:
            raise InvalidRequest(f"a PICOBOOT status has {STATUS_SIZE} bytes, not {len(data)}")
        token, code, number, in_progress = _STATUS.unpack(data)
        return cls(token, code, number, bool(in_progress))


def exclusive_access(access: Access) -> Command:
    """Have the bootloader's drive leave the flash to us, or not."""
    return Command(CommandId.EXCLUSIVE_ACCESS, bytes([access]))


def exit_xip() -> Command:
    """Make the flash ready to be erased and written: executing from it ends."""
    return Command(CommandId.EXIT_XIP)


def flash_erase(address: int, size: int) -> Command:
    """Erase whole sectors."""
    return Command(CommandId.FLASH_ERASE, _RANGE.pack(address, size))


def write(address: int, size: int) -> Command:
    """Write so many bytes, which follow, to erased flash; the address is that of a page."""
    return Command(CommandId.WRITE, _RANGE.pack(address, size), size)


def read(address: int, size: int) -> Command:
    """Read so many bytes of flash; the address is that of a page."""
    return Command(CommandId.READ, _RANGE.pack(address, size), size)


def reboot(chip: Chip) -> Command:
    """Start what is in flash."""
    if chip is Chip.RP2040:
        return Command(CommandId.REBOOT, _REBOOT_ARGS.pack(0, 0, _DELAY_MS))
    return Command(CommandId.REBOOT2, _REBOOT2_ARGS.pack(0, _DELAY_MS, 0, 0))


def is_reboot(data: bytes, chip: Chip) -> bool:
    """Whether ``data`` is such a command for the bootloader of ``chip``."""
    try:
        command, _ = Command.unpack(data)
    except InvalidRequest:
        return False
    wanted = reboot(chip)
    return (command.id, len(command.arguments), command.length) == (
        wanted.id,
        len(wanted.arguments),
        0,
    )
