"""The firmware that the rack can emulate: ours and that of other packages."""

from __future__ import annotations

import functools
import logging
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final

from icebus.rack.firmware.base import Firmware, FirmwareSettings, Silent

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from icebus.schemas.boards.firmware import FirmwareMarker

log = logging.getLogger(__name__)

GROUP: Final = "icebus.virtual_firmware"
"""The entry-point group under which a package offers virtual firmware."""


@functools.cache
def installed_firmware() -> Mapping[str, type[Firmware]]:
    """Each firmware by the name in its images; what can't be loaded is logged and left out."""
    installed: dict[str, type[Firmware]] = {}
    for entry in entry_points(group=GROUP):
        try:
            found = entry.load()
        except Exception:
            log.exception("can't load virtual firmware %s from %s", entry.name, entry.value)
            continue
        if not (isinstance(found, type) and issubclass(found, Firmware)):
            log.error("virtual firmware %s: %s is no firmware", entry.name, entry.value)
        elif entry.name in installed:
            log.error("virtual firmware %s is installed twice", entry.name)
        else:
            installed[entry.name] = found
    return installed


def firmware_of(
    marker: FirmwareMarker | None, settings: FirmwareSettings, random: Random
) -> Firmware:
    """A freshly started firmware of that name; one that isn't known is silent."""
    firmware = installed_firmware().get(marker.name, Silent) if marker else Silent
    return firmware(settings, random)
