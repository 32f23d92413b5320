"""Commands of administrators and holders: each is carried out once, over restarts of the worker.

A command is a number in the desired state that has grown. What was acted on stands in the device's
journal before it is begun: a worker that dies at it does not begin it again.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from icebus.schemas.devices import Desired
from icebus.worker.device.journal import Journal


class Command(StrEnum):
    """What somebody may want of a device once: the holder a reboot, an administrator both."""

    REBOOT = "reboot"
    REFLASH = "reflash"


def nonces_of(desired: Desired) -> dict[str, int]:
    """The commands' numbers in a desired state."""
    return {Command.REBOOT: desired.reboot, Command.REFLASH: desired.reflash}


def due(wanted: dict[str, int], done: dict[str, int]) -> Command | None:
    """The command to carry out; a reflash is a reboot, too."""
    for command in (Command.REFLASH, Command.REBOOT):
        if wanted[command] > done.get(command, 0):
            return command
    return None


class Commands:
    """The commands of one device.

    Args:
        journal: the device's memory.
    """

    def __init__(self, journal: Callable[[], Journal]) -> None:
        self._journal = journal
        self._done: dict[str, int] | None = None

    def next(self, desired: Desired) -> Command | None:
        """The command to carry out now, which is then done as far as this can know.

        Whoever has no memory of a device takes the first numbers it sees as done.

        Raises:
            JournalUnavailable: it can't be written down, so it must not be begun yet.
        """
        wanted = nonces_of(desired)
        if self._done is None:
            self._done = self._journal().nonces()
        if self._done and due(wanted, self._done) is None:
            return None
        command = due(wanted, self._done) if self._done else None
        done = {name: max(value, self._done.get(name, 0)) for name, value in wanted.items()}
        self._journal().write_nonces(done)
        self._done = done
        return command
