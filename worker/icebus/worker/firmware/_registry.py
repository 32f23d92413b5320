"""The firmware that is installed: ours and that of other packages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from icebus.schemas.programs.plugins import installed_classes, require
from icebus.worker.firmware._plug import Firmware

GROUP = "icebus.firmware"
"""The entry-point group under which a package offers its firmware."""

RECOVERY = ("icebus", "default")
"""The firmware that a board is given when what it runs does not work: the first of which there is
an image for it."""


def installed_firmware(image_folders: Sequence[Path] | None = None) -> dict[str, Firmware]:
    """Every firmware this worker knows, by name; what can't be loaded is logged and left out.

    Args:
        image_folders: where images of it are looked for, if not where they are by themselves.

    Raises:
        ProgramMissing: not even icebus's own is there.
    """
    found = installed_classes(
        GROUP,
        Firmware,  # type: ignore[type-abstract] # those that stay so are left out
        lambda firmware: firmware().name,
    )
    require(RECOVERY[0], found, GROUP)
    known = {name: firmware() for name, firmware in found.items()}
    for firmware in known.values():
        firmware.image_folders = image_folders
    return known
