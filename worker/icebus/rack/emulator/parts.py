"""What emulating needs besides Python, and where that is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from platformdirs import user_cache_path

from icebus.schemas.errors import ProgramMissing

FOLDER_VARIABLE: Final = "ICEBUS_EMULATOR"
"""Names the folder that script/emulator has filled; by default the checkout's, or the user's."""

IMAGE_VARIABLE: Final = "ICEBUS_EMULATOR_IMAGE"
"""Names the image that emulated boards come with; by default that of the checkout."""

_CHECKOUT: Final = Path(__file__).resolve().parents[4]


@dataclass(frozen=True, slots=True)
class EmulatorParts:
    """Where the parts of the emulator are.

    Attributes:
        folder: with the emulator from npm.
        node: Node.js.
        boot_rom: the chip's boot ROM, its words as JSON.
        image: the firmware that boards come with, a UF2 file.
    """

    folder: Path
    node: Path
    boot_rom: Path
    image: Path


def find_parts() -> EmulatorParts:
    """All parts.

    Raises:
        ProgramMissing: one isn't there; the message has the command that brings it.
    """
    folder = _folder()
    image = os.environ.get(IMAGE_VARIABLE)
    parts = EmulatorParts(
        folder=folder,
        node=folder / "node",
        boot_rom=folder / "boot_rom.json",
        image=Path(image) if image else _CHECKOUT / "build" / "firmware" / "icebus-pico-ice.uf2",
    )
    bring = f"in a checkout of icebus, run: {FOLDER_VARIABLE}={folder} script/emulator"
    if folder == _CHECKOUT / "build" / "emulator":
        bring = f"run {_CHECKOUT}/script/emulator"
    emulator = folder / "node_modules" / "rp2040js" / "package.json"
    _check(parts.node, "Node.js of the emulator", bring)
    _check(emulator, "the emulator rp2040js", bring)
    _check(parts.boot_rom, "the boot ROM of the RP2040", bring)
    build = "script/bootstrap --firmware && script/firmware"
    elsewhere = f"or name an image for the pico-ice with {IMAGE_VARIABLE}"
    _check(parts.image, "the firmware to emulate", f"in a checkout, run {build}; {elsewhere}")
    return parts


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
