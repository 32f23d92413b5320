"""The firmware that is installed: ours and that of other packages."""

from __future__ import annotations

import logging
from importlib.metadata import entry_points

from icebus.worker.firmware._plug import Firmware

log = logging.getLogger(__name__)

GROUP = "icebus.firmware"
"""The entry-point group under which a package offers its firmware."""

RECOVERY = "default"
"""The firmware that a board is given when what it runs does not work."""


def installed_firmware() -> dict[str, Firmware]:
    """Every firmware this worker knows, by name; what can't be loaded is logged and left out."""
    installed: dict[str, Firmware] = {}
    for entry in entry_points(group=GROUP):
        try:
            found = entry.load()
        except Exception:
            log.exception("can't load firmware %s from %s", entry.name, entry.value)
            continue
        if not (isinstance(found, type) and issubclass(found, Firmware)):
            log.error("firmware %s: %s is no firmware", entry.name, entry.value)
        elif found.name in installed:
            log.error("firmware %s is installed twice; %s is ignored", found.name, entry.value)
        else:
            installed[found.name] = found()
    return installed
