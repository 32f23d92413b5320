"""A device as the rest of the worker uses it: from any thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from pydantic import JsonValue

from icebus.schemas.devices import Desired
from icebus.schemas.errors import IcebusError
from icebus.worker.device.actor import CHECK_EVERY, DeviceActor
from icebus.worker.device.device_report import DeviceStatus
from icebus.worker.device.state_runner import invoke
from icebus.worker.hardware.board import ConnectedBoard
from icebus.worker.states import Hold

__all__ = ["CHECK_EVERY", "Device"]


class Device(DeviceActor):
    """One board. Methods here may be used from any thread; its loop does what they ask for."""

    @property
    def status(self) -> DeviceStatus:
        """What it does now, as far as others need to know."""
        return self._reporter.status

    def plug(self, board: ConnectedBoard) -> None:
        """The board is there, or has come back in another mode or at another port."""
        self._loop.post(lambda: self._on_plugged(board))

    def unplug(self) -> None:
        """The board is gone from its port."""
        self._loop.post(self._on_unplugged)

    def desire(self, desired: Desired) -> None:
        """Control wants something of the device."""
        self._loop.post(lambda: self._on_desired(desired))

    def set_conflict(self, reason: str) -> None:
        """Refuse to work while something about the device is ambiguous; empty to go on."""
        self._loop.post(lambda: self._on_conflict(reason))

    def invoke(
        self,
        hold: Hold,
        method: str,
        arguments: dict[str, Any],
        on_spent: Callable[[float], None] = lambda _seconds: None,
    ) -> Future[JsonValue]:
        """Call a method of the state that serves ``hold``.

        Args:
            hold: that the caller has.
            method: its name.
            arguments: as the method takes them.
            on_spent: called, on the loop, with the seconds of the loop's time that it took.
        """
        future: Future[JsonValue] = Future()

        def answer() -> None:
            begun = time.thread_time()
            try:
                future.set_result(invoke(self.name, self.state, hold, method, arguments))
            except IcebusError as error:
                future.set_exception(error)
            self._reporter.refresh(self.state)
            on_spent(time.thread_time() - begun)

        self._loop.post(answer)
        return future

    def set_serial(self, serial: str) -> None:
        """The board's serial is known; from now on the device is published."""
        self.serial = self.name = serial

    def report_again(self) -> None:
        """Report again, for a broker that has lost what it retained."""
        self._loop.post(lambda: self._report() if self.state is not None else None)

    def finish(self) -> Future[None]:
        """End what waits, finish what is under way, and stop; done when that is."""
        done: Future[None] = Future()
        self._loop.post(lambda: self._finish(done))
        return done

    def stop(self) -> None:
        """End its state; nothing happens to it any more."""
        self._loop.post(self._stop)
