"""What other packages bring: classes found by the entry points of a group."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from icebus.schemas.errors import ProgramMissing
from icebus.schemas.programs.installation import install_again

log = logging.getLogger(__name__)

C = TypeVar("C")


def installed_classes(
    group: str, base: type[C], name_of: Callable[[type[C]], str] | None = None
) -> dict[str, type[C]]:
    """The classes that entry points of ``group`` name, ours and those of other packages.

    What can't be loaded, is no ``base``, or has the name of one that is there already is logged and
    left out: one package's mistake must not keep the others from working. Ours come first, so that
    nobody takes their names.

    Args:
        group: of the entry points.
        base: what they have to be subclasses of.
        name_of: the name of one; by default that of its entry point. What it raises counts as a
            mistake of the class.
    """
    installed: dict[str, type[C]] = {}
    for entry in sorted(entry_points(group=group), key=_order):
        try:
            found = entry.load()
            if not (isinstance(found, type) and issubclass(found, base)):
                raise TypeError(f"it is no {base.__name__}")
            name = entry.name if name_of is None else name_of(found)
            if name in installed:
                raise ValueError(f"{name!r} is installed twice")
        except (Exception, SystemExit):  # a script that ends itself is a mistake like others
            log.exception("%s: %s from %s is left out", group, entry.name, entry.value)
        else:
            installed[name] = found
    return installed


def _order(entry: EntryPoint) -> tuple[bool, str, str]:
    return entry.dist is None or entry.dist.name != "icebus", entry.name, entry.value


def require(name: str, installed: Container[str], group: str) -> None:
    """Refuse to go on without what icebus itself brings.

    Raises:
        ProgramMissing: it is not installed as it should be.
    """
    if name not in installed:
        raise ProgramMissing(
            f"{name!r} of {group} is not installed; install icebus again: {install_again()}",
            group=group,
        )
