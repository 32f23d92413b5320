"""What emulating needs besides Python, and where that is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from platformdirs import user_cache_path

from icebus.schemas.boards import images, uf2
from icebus.schemas.boards.firmware import Chip
from icebus.schemas.errors import ProgramMissing

FOLDER_VARIABLE: Final = "ICEBUS_EMULATOR"
"""Names the folder that script/emulator has filled; by default the checkout's, or the user's."""

FIRMWARE: Final = "icebus"
"""What emulated boards come with."""

_CHECKOUT: Final = Path(__file__).resolve().parents[4]


@dataclass(frozen=True, slots=True)
class EmulatorParts:
    """Where the parts of the emulator are.

    Attributes:
        folder: with the emulator from npm.
        node: Node.js.
        boot_rom: the chip's boot ROM, its words as JSON.
        flash: the firmware that boards come with, as it lies in flash.
    """

    folder: Path
    node: Path
    boot_rom: Path
    flash: bytes


def find_parts() -> EmulatorParts:
    """All parts.

    Raises:
        ProgramMissing: one isn't there; the message has the command that brings it.
    """
    folder = _folder()
    node, boot_rom = folder / "node", folder / "boot_rom.json"
    bring = f"in a checkout of icebus, run: {FOLDER_VARIABLE}={folder} script/emulator"
    if folder == _CHECKOUT / "build" / "emulator":
        bring = f"run {_CHECKOUT}/script/emulator"
    emulator = folder / "node_modules" / "rp2040js" / "package.json"
    _check(node, "Node.js of the emulator", bring)
    _check(emulator, "the emulator rp2040js", bring)
    _check(boot_rom, "the boot ROM of the RP2040", bring)
    return EmulatorParts(folder, node, boot_rom, _flash())


def _flash() -> bytes:
    """What the image that workers would flash has for flash, or the one that was built here."""
    where = images.directories()
    if images.VARIABLE not in os.environ:
        where.insert(0, _CHECKOUT / "build" / "firmware")
    image = images.find_image(FIRMWARE, Chip.RP2040, where)
    if image is None:
        raise ProgramMissing(
            "there is no image of the firmware for the RP2040: in a checkout of icebus, run "
            "script/bootstrap --firmware && script/firmware; or name the folder of one with "
            f"{images.VARIABLE}"
        )
    return uf2.decode(image.data).payload


def _folder() -> Path:
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named).resolve()
    if (_CHECKOUT / "script" / "emulator").exists():
        return _CHECKOUT / "build" / "emulator"
    return user_cache_path("icebus") / "emulator"


def _check(path: Path, what: str, remedy: str) -> None:
    if not path.exists():
        raise ProgramMissing(f"{what} is missing ({path}): {remedy}")
