"""The kinds of states that are installed: ours and those of other packages."""

from __future__ import annotations

from icebus.schemas.plugins import installed_classes
from icebus.worker.states._framework import Reservable

GROUP = "icebus.states"
"""The entry-point group under which a package offers its kinds."""


def installed_kinds() -> dict[str, type[Reservable]]:
    """Every kind this worker can offer, by name; what can't be loaded is logged and left out."""
    return installed_classes(GROUP, Reservable, _kind_of)


def _kind_of(state: type[Reservable]) -> str:
    if "kind" not in vars(state):
        raise TypeError("it is not marked with @reservable")
    return state.kind
