"""PICOBOOT: the commands that the bootloaders in ROM take over USB; of them, the reboot.

A command is 32 bytes on a bulk endpoint: magic, token, id, size of the arguments, a reserved word,
length of the data that follows, and 16 bytes for arguments (RP2040 datasheet 2.8.5, RP2350
datasheet 5.6).
"""

from __future__ import annotations

import struct
from typing import Final

from icebus.schemas.boards.firmware import Chip

SIZE: Final = 32
"""Bytes of a command."""

_MAGIC: Final = 0x431FD10B
_COMMAND: Final = struct.Struct("<IIBBHI16s")

_REBOOT: Final = 0x02
_REBOOT_ARGS: Final = struct.Struct("<III")
"""Program counter (0: boot from flash as usual), stack pointer, delay in ms."""

_REBOOT2: Final = 0x0A
_REBOOT2_ARGS: Final = struct.Struct("<IIII")
"""Flags (0: boot as usual), delay in ms, two parameters. The RP2350 has only this one."""

_DELAY_MS: Final = 10
"""So that the command is acknowledged before the bootloader goes."""


def reboot(chip: Chip, token: int = 1) -> bytes:
    """The command to start what is in flash."""
    if chip is Chip.RP2040:
        command, args = _REBOOT, _REBOOT_ARGS.pack(0, 0, _DELAY_MS)
    else:
        command, args = _REBOOT2, _REBOOT2_ARGS.pack(0, _DELAY_MS, 0, 0)
    return _COMMAND.pack(_MAGIC, token, command, len(args), 0, 0, args)


def is_reboot(data: bytes, chip: Chip) -> bool:
    """Whether ``data`` is such a command for the bootloader of ``chip``."""
    if len(data) != SIZE:
        return False
    magic, _, command, size, _, length, _ = _COMMAND.unpack(data)
    wanted = (_REBOOT, _REBOOT_ARGS) if chip is Chip.RP2040 else (_REBOOT2, _REBOOT2_ARGS)
    return (magic, command, size, length) == (_MAGIC, wanted[0], wanted[1].size, 0)
