"""Flashing through PICOBOOT, the USB interface of the bootloaders in ROM.

Nothing that is cut short, at whatever point, leaves a board that starts half of an image: the
first sector is erased before all others and written after them. Without it neither boot ROM finds
anything to start (an RP2040 wants the checksum of the boot stage in its first 256 bytes, an RP2350
an image definition in its first 4 kB), and so the board comes up in its bootloader again.

What was written is read back. *Unverified* on silicon.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from icebus.schemas.boards import picoboot, uf2
from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.picoboot import Access, Code, Command, CommandStatus
from icebus.schemas.errors import InvalidRequest
from icebus.worker.hardware.bootloaders.bootloader import BootloaderFailed, StepLimit
from icebus.worker.hardware.bootloaders.usb_edge import (
    EndpointStalled,
    TransferTimedOut,
    UsbEdge,
)

TRANSFER_SECONDS: Final = 3.0
"""For one transfer. Erasing a sector is the longest: its acknowledgement comes after 0.4 s at most
(W25Q32JV datasheet, table of AC characteristics; 45 ms are typical)."""

READ_SIZE: Final = 16 * picoboot.SECTOR_SIZE
"""Bytes read back by one command."""


class Picoboot:
    """The bootloader of a board on USB.

    Args:
        connect: opens its interface; raises BootloaderUnreachable where it can't.
        chip: of the board.
    """

    def __init__(self, connect: Callable[[], UsbEdge], chip: Chip) -> None:
        self._connect = connect
        self._chip = chip

    def flash(self, image: bytes, limit: StepLimit) -> None:
        """Erase, write, read back, start."""
        decoded = uf2.decode(image)
        with self._conversation(limit) as conversation:
            conversation.run(picoboot.exclusive_access(Access.EXCLUSIVE))
            conversation.run(picoboot.exit_xip())
            _write(decoded.address, decoded.payload, conversation)
            conversation.restart(self._chip)

    def reboot(self, limit: StepLimit) -> None:
        """Start what is in flash."""
        with self._conversation(limit) as conversation:
            conversation.restart(self._chip)

    @contextmanager
    def _conversation(self, limit: StepLimit) -> Iterator[Conversation]:
        limit.check()
        usb = self._connect()
        try:
            conversation = Conversation(usb, limit)
            conversation.begin()
            yield conversation
        finally:
            usb.close()


def _write(address: int, payload: bytes, conversation: Conversation) -> None:
    """Put ``payload`` in flash, its first sector last."""
    sectors = range(0, len(payload), picoboot.SECTOR_SIZE)
    first, *others = [(start, _sector(payload, start)) for start in sectors]
    conversation.erase(address)
    for start, content in others:
        conversation.erase(address + start)
        conversation.write(address + start, content)
    rest = address + picoboot.SECTOR_SIZE
    _verify(rest, b"".join(content for _, content in others), conversation)
    conversation.write(address, first[1])
    _verify(address, first[1], conversation)


def _sector(payload: bytes, start: int) -> bytes:
    return payload[start : start + picoboot.SECTOR_SIZE]


def _verify(address: int, content: bytes, conversation: Conversation) -> None:
    for start in range(0, len(content), READ_SIZE):
        wanted = content[start : start + READ_SIZE]
        found = conversation.read(address + start, len(wanted))
        if found != wanted:
            at = next(
                at for at, pair in enumerate(zip(found, wanted, strict=True)) if _differ(pair)
            )
            raise BootloaderFailed(
                f"the flash at {address + start + at:#010x} reads {found[at]:#04x} after "
                f"{wanted[at]:#04x} was written; it may be worn out"
            )


def _differ(pair: tuple[int, int]) -> bool:
    return pair[0] != pair[1]


class Conversation:
    """Commands to one bootloader, one after the other.

    Args:
        usb: its interface.
        limit: until when they go on.
    """

    def __init__(self, usb: UsbEdge, limit: StepLimit) -> None:
        self._usb = usb
        self._limit = limit
        self._tokens = itertools.count(1)

    def begin(self) -> None:
        """End whatever somebody, who may have been killed, has left under way.

        The endpoints begin anew after the reset, so that both ends agree on the next packet's
        number.
        """
        try:
            self._reset()
        except (EndpointStalled, TransferTimedOut):
            raise BootloaderFailed("can't be reset; unplug the board") from None

    def run(self, command: Command, data: bytes = b"") -> bytes:
        """Give one command, with the data that it takes or the size of what it gives.

        Raises:
            BootloaderFailed: it refused, or did not answer.
            OSError: it is gone.
        """
        self._limit.check()
        token = next(self._tokens)
        try:
            return self._transfers(command, token, data)
        except EndpointStalled:
            raise BootloaderFailed(f"refused {command.name}: {self._why(token)}") from None
        except TransferTimedOut:
            with contextlib.suppress(EndpointStalled, TransferTimedOut):
                self._reset()
            raise BootloaderFailed(
                f"did not answer {command.name} within {TRANSFER_SECONDS:.0f} s"
            ) from None

    def erase(self, address: int) -> None:
        """Erase one sector."""
        self.run(picoboot.flash_erase(address, picoboot.SECTOR_SIZE))

    def write(self, address: int, content: bytes) -> None:
        """Write whole pages to erased flash."""
        self.run(picoboot.write(address, len(content)), content)

    def read(self, address: int, size: int) -> bytes:
        """What is in flash."""
        return self.run(picoboot.read(address, size))

    def restart(self, chip: Chip) -> None:
        """Start what is in flash. A bootloader that is gone before it acknowledges did so."""
        with contextlib.suppress(OSError):
            self.run(picoboot.reboot(chip))

    def _transfers(self, command: Command, token: int, data: bytes) -> bytes:
        usb = self._usb
        usb.bulk_out(command.pack(token), self._seconds)
        if command.is_in:
            data = self._receive(command.length)
            usb.bulk_out(b"", self._seconds)
            return data
        if data:
            usb.bulk_out(data, self._seconds)
        usb.bulk_in(1, self._seconds)
        return b""

    def _receive(self, size: int) -> bytes:
        received = b""
        while len(received) < size:
            data = self._usb.bulk_in(size - len(received), self._seconds)
            if not data:
                raise BootloaderFailed(f"sent {len(received)} bytes where {size} were asked for")
            received += data
        return received

    @property
    def _seconds(self) -> float:
        return self._limit.seconds(TRANSFER_SECONDS)

    def _why(self, token: int) -> str:
        """What the bootloader says of the command that it refused, with it ready for the next."""
        try:
            data = self._usb.control_in(
                picoboot.STATUS_REQUEST, picoboot.STATUS_SIZE, self._seconds
            )
            status = CommandStatus.unpack(data)
            self._reset()
        except (EndpointStalled, TransferTimedOut, InvalidRequest):
            return "it does not say why"
        if status.token != token or status.code == Code.OK:
            return "it does not say why"
        return status.name

    def _reset(self) -> None:
        self._usb.control_out(picoboot.RESET_REQUEST, self._seconds)
        self._usb.clear_halts()
