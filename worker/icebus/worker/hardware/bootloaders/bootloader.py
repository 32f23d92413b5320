"""What can be done with a board that waits in its bootloader, whatever leads there."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Protocol

from icebus.schemas.deadline import Deadline


class BootloaderFailed(Exception):
    """The bootloader is there and did not do what it was asked for; the message says what."""


class BootloaderUnreachable(BootloaderFailed):
    """This way does not lead to the bootloader; nothing was changed, so another may be tried."""


@dataclass(frozen=True)
class StepLimit:
    """Until when a step on a helper thread goes on.

    Attributes:
        deadline: by when it must have ended.
        abandoned: set when nobody waits for it any more.
    """

    deadline: Deadline
    abandoned: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Go on only while somebody waits.

        Raises:
            BootloaderFailed: nobody does.
        """
        if self.abandoned.is_set():
            raise BootloaderFailed("was given up")
        if self.deadline.expired:
            raise BootloaderFailed("took longer than allowed")

    def seconds(self, most: float) -> float:
        """What a single transfer may take: ``most``, or what is left."""
        return max(0.001, min(most, self.deadline.remaining))


class Bootloader(Protocol):
    """One way to the bootloader of one board. Its methods block; they are for helper threads."""

    def flash(self, image: bytes, limit: StepLimit) -> None:
        """Put a UF2 file in flash, which was checked to be for this board, and start it.

        That it returns proves nothing of what comes up.

        Raises:
            BootloaderUnreachable: this way does not lead there; nothing was changed.
            BootloaderFailed: it did not take the image.
            OSError: it went away, perhaps because it has started what it was given.
        """

    def reboot(self, limit: StepLimit) -> None:
        """Start what is in flash.

        Raises:
            BootloaderUnreachable: this way does not lead there, or can't do that.
            BootloaderFailed: it refused.
            OSError: it went away.
        """
