"""USB devices that have a serial port, looked for again and again: for systems without udev.

What has no serial port is not seen, so bootloaders are not: boards can be used, not flashed.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo

from icebus.schemas.boards.rack import is_port
from icebus.worker.hardware.usb.usb_device import DeviceChanges, OnDevices, Tty, UsbDevice

LOOK_EVERY = 1.0
"""Seconds between looks; one takes 15 ms with 20 boards."""


class PollingSource:
    """Lists the serial ports again and again.

    Args:
        list_all: lists them.
        every: seconds between looks.
    """

    def __init__(
        self,
        list_all: Callable[[], Iterable[ListPortInfo]] = list_ports.comports,
        every: float = LOOK_EVERY,
    ) -> None:
        self._list_all = list_all
        self._every = every
        self._sessions: dict[str, tuple[object, int]] = {}
        self._count = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, on_change: OnDevices) -> None:
        """Look at once, then every while, on a thread."""
        self._thread = threading.Thread(
            target=self._watch, args=(on_change,), name="serial ports", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _watch(self, on_change: OnDevices) -> None:
        changes = DeviceChanges(self._devices, on_change)
        changes.look()
        while not self._stop.wait(self._every):
            changes.look()

    def _devices(self) -> list[UsbDevice]:
        at_ports: dict[str, list[ListPortInfo]] = {}
        for each in self._list_all():
            port = (each.location or "").partition(":")[0]
            if each.vid is not None and is_port(port):
                at_ports.setdefault(port, []).append(each)
        sessions = {port: self._session(port, all_of) for port, all_of in at_ports.items()}
        self._sessions = sessions
        return [
            UsbDevice(
                port=port,
                session=str(sessions[port][1]),
                vid=all_of[0].vid,
                pid=all_of[0].pid,
                serial=all_of[0].serial_number or "",
                product=all_of[0].product or "",
                ttys=_ttys(all_of),
            )
            for port, all_of in sorted(at_ports.items())
        ]

    def _session(self, port: str, shown: list[ListPortInfo]) -> tuple[object, int]:
        """The same number for as long as the same is shown there."""
        looks = sorted((each.device, each.vid, each.pid, each.serial_number) for each in shown)
        before = self._sessions.get(port)
        if before is not None and before[0] == looks:
            return before
        self._count += 1
        return looks, self._count


def _ttys(shown: list[ListPortInfo]) -> tuple[Tty, ...]:
    """Linux gives the number of each interface; macOS names ports in their order, from 0 on."""
    ordered = sorted(shown, key=lambda each: (len(each.device), each.device))
    found = []
    for position, each in enumerate(ordered):
        number = re.search(r":\d+\.(\d+)$", each.location or "")
        path = Path(each.device)
        usable = os.access(path, os.R_OK | os.W_OK)
        found.append(Tty(path, int(number[1]) if number else position, usable))
    return tuple(sorted(found, key=lambda tty: tty.interface))
