"""Which device is at which port: turns snapshots of boards into what happens to devices."""

from __future__ import annotations

from collections.abc import Callable

from icebus.worker.device.device import Device
from icebus.worker.hardware.board import ConnectedBoard, Snapshot


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
        self._plugged: dict[Device, ConnectedBoard] = {}
        self._last_at: dict[tuple[str, str], Device] = {}
        self._in_conflict: set[Device] = set()

    def update(self, boards: Snapshot) -> None:
        """Take in what is plugged now."""
        known = set(self.devices)
        before = set(self._last_at.values())
        found: dict[Device, list[ConnectedBoard]] = {}
        # A serial is certain and a port path is a guess, so the boards without a serial come last.
        for board in sorted(boards, key=lambda board: board.serial is None):
            found.setdefault(self._device_of(board, found), []).append(board)
        for device in [device for device in self._plugged if device not in found]:
            del self._plugged[device]
            device.unplug()
        for device, places in found.items():
            self._plug(device, places)
        for device in self._in_conflict - set(found):
            self._in_conflict.discard(device)
            device.set_conflict("")
        for device in before - set(self._last_at.values()):
            if device.serial is None:  # it was one of those that are known by now
                device.stop()
        if set(self.devices) != known:
            self._on_change()

    @property
    def all(self) -> set[Device]:
        """Every device, those without a serial included."""
        return {*self.devices.values(), *self._last_at.values()}

    def stop(self) -> None:
        """Have all devices end what they do."""
        for device in self.all:
            device.stop()

    def _plug(self, device: Device, places: list[ConnectedBoard]) -> None:
        if len(places) > 1:
            if device not in self._in_conflict:
                self._in_conflict.add(device)
                device.set_conflict(
                    f"{len(places)} boards show the serial {device.serial}; unplug one"
                )
            return
        if self._plugged.get(device) != places[0]:
            self._plugged[device] = places[0]
            device.plug(places[0])
        if device in self._in_conflict:
            self._in_conflict.discard(device)
            device.set_conflict("")

    def _device_of(
        self, board: ConnectedBoard, found: dict[Device, list[ConnectedBoard]]
    ) -> Device:
        place = (board.source, board.path)
        last = self._last_at.get(place)
        if last in found:
            last = None  # it has shown itself elsewhere
        device = last
        if board.serial is not None:
            device = self.devices.get(board.serial)
            if device is None and last is not None and last.serial is None:
                device = last
                device.set_serial(board.serial)
        if device is None:
            device = self._make(board.serial, board.path)
        if board.serial is not None:
            self.devices = {**self.devices, board.serial: device}
        self._last_at = {at: each for at, each in self._last_at.items() if each is not device}
        self._last_at[place] = device
        return device
