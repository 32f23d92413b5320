"""The board needs time, or a hand."""

from __future__ import annotations

from datetime import timedelta

from icebus.schemas.devices import DeviceState
from icebus.schemas.message import now
from icebus.worker.states.core.state import CoreState


class Broken(CoreState):
    """Rests, and tries again after a while.

    Args:
        reason: what is wrong.
        retry: seconds until the next try; None when only a change of the hardware, or of what is
            desired, can help.
    """

    reported = DeviceState.BROKEN
    commandable = True

    def __init__(self, reason: str, retry: float | None) -> None:
        super().__init__()
        self.reason = reason
        self._retry = retry
        self.retry_at = None if retry is None else now() + timedelta(seconds=retry)

    def on_enter(self) -> None:
        """Set the alarm."""
        if self._retry is not None:
            self.after(self._retry, self.device.look_again)

    def on_desired(self) -> None:
        """An administrator may set it aside; what could not be had may be wanted no longer."""
        desired = self.device.desired
        if desired is not None and desired.quarantined is not None:
            self.device.become_desired()
        elif self._retry is None:
            self.device.look_again()


class SetAside(Broken):
    """Was tried often enough: tested seldom, and whenever control wants something else of it."""

    reported = DeviceState.QUARANTINED

    def on_desired(self) -> None:
        """Whoever lifts a quarantine, or wants anything else of it, may have mended it."""
        desired = self.device.desired
        if desired is not None and desired.quarantined is not None:
            self.device.become_desired()
        else:
            self.device.look_again()


class Quarantined(CoreState):
    """Set aside by an administrator."""

    reported = DeviceState.QUARANTINED
    commandable = True

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason

    def on_desired(self) -> None:
        """Come back when the quarantine is lifted."""
        desired = self.device.desired
        if desired is None or desired.quarantined is None:
            self.device.look_again()
        elif desired.quarantined != self.reason:
            self.device.become_desired()
