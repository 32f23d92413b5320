"""The kinds of states that are installed: ours and those of other packages."""

from __future__ import annotations

import logging

from icebus.schemas.components import KindInfo
from icebus.schemas.programs.plugins import installed_classes
from icebus.worker.states._framework import Reservable

log = logging.getLogger(__name__)

GROUP = "icebus.states"
"""The entry-point group under which a package offers its kinds."""

LONGEST_INFO = 128 << 10
"""Bytes of JSON that may describe one kind: ours takes a twelfth of that."""

LONGEST_INFOS = 1 << 20
"""Bytes that all kinds of a worker may take together: they are published in one message, of which
a broker takes 2 MiB."""


def installed_kinds() -> dict[str, type[Reservable]]:
    """Every kind this worker can offer, by name.

    What can't be loaded, or can't be published, is logged and left out.
    """
    offered: dict[str, type[Reservable]] = {}
    length = 0
    for name, kind in installed_classes(GROUP, Reservable, _kind_of).items():
        with_it = length + length_of_info(kind)
        if with_it > LONGEST_INFOS:
            log.error(
                "kind %s is left out: %d bytes would describe the kinds, of at most %d",
                *(name, with_it, LONGEST_INFOS),
            )
        else:
            length = with_it
            offered[name] = kind
    return offered


def _kind_of(state: type[Reservable]) -> str:
    if "kind" not in vars(state):
        raise TypeError("it is not marked with @reservable")
    length = length_of_info(state)
    if length > LONGEST_INFO:
        raise ValueError(f"{length} bytes describe it, of at most {LONGEST_INFO}")
    return state.kind


def length_of_info(state: type[Reservable]) -> int:
    """Bytes that describe a kind on the bus; what has no JSON schema raises."""
    info = state.info()
    if not isinstance(info, KindInfo):
        raise TypeError(f"info() gives {type(info).__name__}")
    return len(info.model_dump_json().encode())
