"""The board needs time, or a hand."""

from __future__ import annotations

from icebus.schemas.devices import DeviceState
from icebus.worker.states.framework import State


class Broken(State):
    """Rests, and tries again after a while.

    Args:
        reason: what is wrong.
        retry: seconds until the next try; None when only a change of the hardware, or of what is
            desired, can help.
    """

    reported = DeviceState.BROKEN

    def __init__(self, reason: str, retry: float | None) -> None:
        super().__init__()
        self.reason = reason
        self._retry = retry

    def on_enter(self) -> None:
        """Set the alarm."""
        if self._retry is not None:
            self.after(self._retry, self.device.retry)

    def on_desired(self) -> None:
        """What could not be had may be wanted no longer."""
        if self._retry is None:
            self.device.retry()


class Quarantined(State):
    """Set aside by an administrator."""

    reported = DeviceState.QUARANTINED

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason

    def on_desired(self) -> None:
        """Come back when the quarantine is lifted."""
        desired = self.device.desired
        if desired is None or desired.quarantined is None:
            self.device.retry()
