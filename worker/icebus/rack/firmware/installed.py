"""The firmware that the rack can emulate: ours and that of other packages."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Final

from icebus.rack.firmware.base import Firmware, Reset, RunsOn, Silent
from icebus.schemas.boards.rack import FIRMWARE
from icebus.schemas.programs.plugins import installed_classes, require

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from icebus.rack.firmware.settings import FirmwareSettings
    from icebus.schemas.boards.firmware import FirmwareMarker
    from icebus.schemas.boards.rack import RackBoard

_LOG = logging.getLogger(__name__)

GROUP: Final = "icebus.virtual_firmware"
"""The entry-point group under which a package offers virtual firmware."""


@functools.cache
def installed_firmware() -> Mapping[str, type[Firmware]]:
    """Each firmware by the name in its images; what can't be loaded is logged and left out.

    Raises:
        ProgramMissing: not even icebus's own is there.
    """
    installed = installed_classes(GROUP, Firmware)
    require(FIRMWARE, installed, GROUP)
    return installed


def firmware_of(
    marker: FirmwareMarker | None,
    settings: FirmwareSettings,
    random: Random,
    board: RackBoard,
    reset: Reset = Reset.POWER,
) -> Firmware:
    """A freshly started firmware of that name; one that isn't known, or can't start, is silent."""
    firmware = installed_firmware().get(marker.name, Silent) if marker else Silent
    runs_on = RunsOn(board.serial, board.chip, marker.version if marker else "", reset)
    try:
        return firmware(settings, random, runs_on)
    except (Exception, SystemExit):  # noqa: BLE001 (logged; it is a package's code)
        _LOG.exception("%s can't start", name_of(firmware))
        return Silent(settings, random, runs_on)


def name_of(firmware: type[Firmware]) -> str:
    """What a log calls a firmware, so that whoever wrote it knows it."""
    return f"firmware {firmware.__module__}.{firmware.__qualname__}"
