"""A bootloader in ROM, at the edge to USB: PICOBOOT over flash memory, of both chips.

It does what the boot ROMs that Raspberry Pi publishes do: which commands it knows, what it checks,
in which order data and acknowledgements go, what it halts when it refuses, and that flash bits can
only be cleared until their sector is erased. Whoever breaks that order learns it as an assertion.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from icebus.schemas.boards import picoboot, uf2
from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.picoboot import Access, Code, Command, CommandId, CommandStatus
from icebus.schemas.errors import InvalidRequest
from icebus.worker.hardware.bootloaders.usb_edge import EndpointStalled, TransferTimedOut

BASE = uf2.FLASH_ADDRESS
PAGE, SECTOR = uf2.PAGE_SIZE, picoboot.SECTOR_SIZE
WINDOW = 16 << 20
"""Bytes of the address space that ROMs take for flash, however much there is."""

IMAGE_DEFINITION = 0xFFFFDED3
"""Begins the block in which an RP2350 looks for what to start."""

SIZES = {
    CommandId.EXCLUSIVE_ACCESS: 1,
    CommandId.REBOOT: 12,
    CommandId.FLASH_ERASE: 8,
    CommandId.READ: 8,
    CommandId.WRITE: 8,
    CommandId.EXIT_XIP: 0,
    CommandId.REBOOT2: 16,
}
RANGES = {CommandId.FLASH_ERASE, CommandId.READ, CommandId.WRITE}


def content(chip: Chip, size: int, fill: int = 0x5A) -> bytes:
    """Flash content of ``size`` bytes that the ROM of ``chip`` starts."""
    body = bytearray((fill + at // PAGE) % 251 for at in range(size))
    if chip is Chip.RP2040:
        body[252:256] = struct.pack("<I", boot_stage_checksum(bytes(body[:252])))
    else:
        body[256:260] = struct.pack("<I", IMAGE_DEFINITION)
    return bytes(body)


def boot_stage_checksum(stage: bytes) -> int:
    """CRC-32 as the RP2040's ROM makes it: not reflected, not inverted (datasheet 2.8.1.3.1)."""
    remainder = 0xFFFFFFFF
    for byte in stage:
        remainder ^= byte << 24
        for _ in range(8):
            top = remainder & 0x80000000
            remainder = (remainder << 1 ^ (0x04C11DB7 if top else 0)) & 0xFFFFFFFF
    return remainder


@dataclass
class FakeBootloader:
    """A board whose bootloader runs, until it restarts.

    Attributes:
        chip: of the board.
        flash: its content.
        worn: sectors that keep a bit whatever is written to them.
        unplug_at: the number of the transfer before which it is unplugged.
        stall_at: the number of the command that it refuses, with ``stall_code``.
        silent_at: the number of the command that it never answers.
    """

    chip: Chip = Chip.RP2040
    flash: bytearray = field(default_factory=lambda: bytearray(b"\xff" * 64 * 1024))
    worn: set[int] = field(default_factory=set)
    unplug_at: int | None = None
    stall_at: int | None = None
    stall_code: int = Code.UNKNOWN_ERROR
    silent_at: int | None = None
    on_transfer: Callable[[int], None] = lambda _number: None
    on_unplug: Callable[[], None] = lambda: None
    on_restart: Callable[[], None] = lambda: None
    transfers: int = 0
    commands: list[str] = field(default_factory=list)
    present: bool = True
    restarted: bool = False
    opened: int = 0
    closed: int = 0
    exclusive: int = Access.SHARED
    xip: bool = True
    _halted: bool = False
    _status: CommandStatus = field(default_factory=lambda: CommandStatus(0, Code.OK))
    _command: Command | None = None
    _owed: bytes = b""
    _taken: bytearray = field(default_factory=bytearray)
    _ack_in: bool = False
    _ack_out: bool = False
    _silent: bool = False

    # --- what a host sees -----------------------------------------------------------------------

    def connect(self) -> FakeBootloader:
        """Claim the interface, as the worker's edge would."""
        self.opened += 1
        return self

    def bulk_out(self, data: bytes, seconds: float) -> None:
        self._transfer(seconds)
        if self._halted:
            raise EndpointStalled
        if self._silent:
            raise TransferTimedOut
        if self._ack_out:
            assert data == b"", "data where the ROM waits for an acknowledgement"
            self._ack_out = False
        elif self._command is not None:
            self._take(data)
        else:
            assert not self._ack_in, "a command before the last one was acknowledged"
            self._begin(data)

    def bulk_in(self, size: int, seconds: float) -> bytes:
        self._transfer(seconds)
        if self._halted:
            raise EndpointStalled
        if self._silent:
            raise TransferTimedOut
        if self._owed:
            data, self._owed = self._owed[:size], self._owed[size:]
            self._ack_out = not self._owed
            return data
        if not self._ack_in:
            raise TransferTimedOut
        self._ack_in = False
        if self.restarted:
            self.present = False
            self.on_restart()
        return b""

    def control_out(self, request: int, seconds: float) -> None:
        self._transfer(seconds)
        assert request == picoboot.RESET_REQUEST
        self._halted = self._ack_in = self._ack_out = self._silent = False
        self._command, self._owed = None, b""
        self._taken.clear()
        self.exclusive = Access.SHARED
        self._status = CommandStatus(0, Code.OK)

    def control_in(self, request: int, size: int, seconds: float) -> bytes:
        self._transfer(seconds)
        assert (request, size) == (picoboot.STATUS_REQUEST, picoboot.STATUS_SIZE)
        return self._status.pack()

    def clear_halts(self) -> None:
        self._transfer(1.0)

    def close(self) -> None:
        self.closed += 1

    # --- what becomes of it ---------------------------------------------------------------------

    def power_cycle(self) -> str:
        """Unplug it and plug it in again: what comes up?"""
        first = bytes(self.flash[:SECTOR])
        if self.chip is Chip.RP2040:
            (said,) = struct.unpack_from("<I", first, 252)
            starts = said == boot_stage_checksum(first[:252])
        else:
            starts = struct.pack("<I", IMAGE_DEFINITION) in first
        return "application" if starts else "bootloader"

    # --- the ROM --------------------------------------------------------------------------------

    def _transfer(self, seconds: float) -> None:
        assert 0 < seconds < 60, "every transfer has a timeout"
        self.transfers += 1
        self.on_transfer(self.transfers)
        if self.transfers == self.unplug_at:
            self.present = False
            self.on_unplug()
        if not self.present:
            raise OSError(errno.ENODEV, "No such device")

    def _begin(self, data: bytes) -> None:
        try:
            command, token = Command.unpack(data)
        except InvalidRequest:
            self._halted = True
            return
        self.commands.append(command.name)
        code = self._check(command)
        if len(self.commands) == self.stall_at:
            code = self.stall_code
        self._status = CommandStatus(token, code, command.id, in_progress=False)
        if code != Code.OK:
            self._halted = True
        elif len(self.commands) == self.silent_at:
            self._silent = True
            self._status = CommandStatus(token, code, command.id, in_progress=True)
        else:
            self._execute(command)

    def _check(self, command: Command) -> int:
        reboot = CommandId.REBOOT if self.chip is Chip.RP2040 else CommandId.REBOOT2
        wrong_reboot = {CommandId.REBOOT, CommandId.REBOOT2} - {reboot}
        if command.id not in SIZES or command.id in wrong_reboot:
            return Code.UNKNOWN_COMMAND
        if len(command.arguments) != SIZES[CommandId(command.id)]:
            return Code.INVALID_COMMAND_LENGTH
        if command.id not in RANGES:
            return Code.OK
        address, size = command.range
        moves = 0 if command.id == CommandId.FLASH_ERASE else size
        if command.length != moves:
            return Code.INVALID_TRANSFER_LENGTH
        unit = SECTOR if command.id == CommandId.FLASH_ERASE else PAGE
        if address % unit or (command.id == CommandId.FLASH_ERASE and size % unit):
            return Code.BAD_ALIGNMENT
        if not BASE <= address <= address + size <= BASE + WINDOW:
            return Code.INVALID_ADDRESS
        return Code.OK

    def _execute(self, command: Command) -> None:
        if command.id == CommandId.READ:
            self._owed = self._read(*command.range)
            return
        if command.id == CommandId.WRITE:
            assert not self.xip, "flash can't be written while code may run from it"
            self._command = command
            return
        if command.id == CommandId.EXCLUSIVE_ACCESS:
            self.exclusive = command.arguments[0]
        elif command.id == CommandId.EXIT_XIP:
            self.xip = False
        elif command.id == CommandId.FLASH_ERASE:
            assert not self.xip, "flash can't be erased while code may run from it"
            self._erase(*command.range)
        else:
            self.restarted = True
        self._ack_in = True

    def _take(self, data: bytes) -> None:
        assert self._command is not None
        address, size = self._command.range
        self._taken += data
        assert len(self._taken) <= size, "more data than the command announced"
        # Whole pages reach the flash as they come.
        while len(self._taken) >= PAGE or (self._taken and len(data) < 64):
            page = bytes(self._taken[:PAGE])
            del self._taken[:PAGE]
            self._program(address, page)
            address += PAGE
            size -= PAGE
        if size <= 0:
            self._command = None
            self._ack_in = True
        else:
            self._command = picoboot.write(address, size)

    def _program(self, address: int, page: bytes) -> None:
        at = (address - BASE) % len(self.flash)
        for offset, byte in enumerate(page):
            self.flash[at + offset] &= byte
        if at // SECTOR in self.worn:
            self.flash[at] ^= 0x01

    def _erase(self, address: int, size: int) -> None:
        for at in range(address - BASE, address - BASE + size):
            self.flash[at % len(self.flash)] = 0xFF

    def _read(self, address: int, size: int) -> bytes:
        start = address - BASE
        return bytes(self.flash[at % len(self.flash)] for at in range(start, start + size))
