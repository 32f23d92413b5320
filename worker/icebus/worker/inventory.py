"""Which device is at which port: turns snapshots of boards into what happens to devices."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from icebus.schemas.deadline import Deadline
from icebus.worker.device import Device
from icebus.worker.hardware.board import Board, Snapshot

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Place:
    board: Board
    device: Device


class Inventory:
    """The devices of a worker. Updated on one thread; ``devices`` may be read from any.

    A board is followed by its port path while it changes modes, because the bootloader of an
    RP2040 does not say which board it is; and by its serial when it comes back elsewhere.

    Args:
        make: makes the device for a serial (None: not known) met at a port path.
        on_change: called when serials were added.
    """

    def __init__(
        self, make: Callable[[str | None, str], Device], on_change: Callable[[], None]
    ) -> None:
        self.devices: dict[str, Device] = {}
        self._make = make
        self._on_change = on_change
        self._places: dict[str, _Place] = {}
        self._last_at: dict[str, Device] = {}
        self._contested: set[str] = set()

    def update(self, boards: Snapshot) -> None:
        """Take in what is plugged now."""
        before = set(self.devices)
        present = {board.path for board in boards}
        for path in [path for path in self._places if path not in present]:
            place = self._places.pop(path)
            if not self._elsewhere(place.device):
                place.device.unplug()
        serials = Counter(board.serial for board in boards if board.serial is not None)
        for board in boards:
            self._take_in(board, twins=serials[board.serial] if board.serial else 1)
        for serial in [s for s in self._contested if serials[s] < 2]:
            self._contested.discard(serial)
            self.devices[serial].contest("")
        if set(self.devices) != before:
            self._on_change()

    def stop(self, deadline: Deadline) -> None:
        """Stop all devices, side by side."""
        devices = {id(d): d for d in [*self.devices.values(), *self._last_at.values()]}
        for device in devices.values():
            device.stop(Deadline.after(0))
        for device in devices.values():
            if not device.loop.stop(deadline):
                log.error("device %s did not stop in time", device.name)

    def _take_in(self, board: Board, twins: int) -> None:
        place = self._places.get(board.path)
        device = self._device_at(board)
        if place is not None and place.device is not device and not self._elsewhere(place.device):
            self._places.pop(board.path)
            place.device.unplug()
        self._places[board.path] = _Place(board, device)
        self._last_at[board.path] = device
        if twins > 1 and board.serial is not None:
            if board.serial not in self._contested:
                self._contested.add(board.serial)
                device.contest(f"{twins} boards show the serial {board.serial}; unplug one")
            return
        if place is None or place.board != board or board.serial in self._contested:
            device.plug(board)

    def _device_at(self, board: Board) -> Device:
        known = self._last_at.get(board.path)
        if board.serial is None:
            return known or self._make(None, board.path)
        device = self.devices.get(board.serial)
        if device is None:
            if known is not None and known.serial is None:
                device = known
                device.adopt(board.serial)
            else:
                device = self._make(board.serial, board.path)
            self.devices = {**self.devices, board.serial: device}
        return device

    def _elsewhere(self, device: Device) -> bool:
        return any(place.device is device for place in self._places.values())
