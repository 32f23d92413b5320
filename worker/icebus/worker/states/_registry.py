"""The kinds of states that are installed: ours and those of other packages."""

from __future__ import annotations

import logging
from importlib.metadata import entry_points

from icebus.worker.states._framework import Reservable

log = logging.getLogger(__name__)

GROUP = "icebus.states"
"""The entry-point group under which a package offers its kinds."""


def installed_kinds() -> dict[str, type[Reservable]]:
    """Every kind this worker can offer, by name; what can't be loaded is logged and left out."""
    kinds: dict[str, type[Reservable]] = {}
    for entry in entry_points(group=GROUP):
        try:
            found = entry.load()
        except Exception:
            log.exception("can't load kind %s from %s", entry.name, entry.value)
            continue
        if not (
            isinstance(found, type) and issubclass(found, Reservable) and "kind" in vars(found)
        ):
            log.error("kind %s: %s is not a reservable state", entry.name, entry.value)
        elif found.kind in kinds:
            log.error("kind %s is installed twice; %s is ignored", found.kind, entry.value)
        else:
            kinds[found.kind] = found
    return kinds
