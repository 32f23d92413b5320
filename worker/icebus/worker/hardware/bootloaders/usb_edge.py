"""The edge to USB: what PICOBOOT needs of it, without any library."""

from __future__ import annotations

import errno
from typing import Protocol


class EndpointStalled(Exception):
    """The device refuses: an endpoint is halted."""


class TransferTimedOut(Exception):
    """Nothing came, or was taken, in time."""


def device_gone() -> OSError:
    """The error of a transfer to a device that has left the bus."""
    return OSError(errno.ENODEV, "it has left the bus")


class UsbEdge(Protocol):
    """One interface with one bulk endpoint each way.

    All its methods may raise EndpointStalled (the device refuses), TransferTimedOut, or an OSError
    (it is gone).
    """

    def bulk_out(self, data: bytes, seconds: float) -> None:
        """Send all of ``data``; an empty packet if there is none."""

    def bulk_in(self, size: int, seconds: float) -> bytes:
        """At most ``size`` bytes, as soon as a short packet ends them."""

    def control_out(self, request: int, seconds: float) -> None:
        """A vendor request to the interface, without data."""

    def control_in(self, request: int, size: int, seconds: float) -> bytes:
        """The answer to a vendor request to the interface."""

    def clear_halts(self) -> None:
        """Let both endpoints begin anew, here and on the device."""

    def close(self) -> None:
        """Give it back; never raises."""
