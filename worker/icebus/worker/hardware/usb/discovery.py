"""Discovery of boards on USB: joins a source, what the worker was told, and what it remembers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from icebus.worker.hardware.board import Snapshot
from icebus.worker.hardware.usb.boards import find_boards
from icebus.worker.hardware.usb.port_memory import PortMemory
from icebus.worker.hardware.usb.rules import UsbRules
from icebus.worker.hardware.usb.usb_device import UsbDevice, UsbSource

log = logging.getLogger(__name__)


class UsbDiscovery:
    """Finds the boards among all USB devices.

    Args:
        source: where those are seen.
        rules: which may be taken, and what is said of them.
        memory: of what was at which port.
    """

    def __init__(self, source: UsbSource, rules: UsbRules, memory: PortMemory) -> None:
        self._source = source
        self._rules = rules
        self._memory = memory
        self._known = memory.load()
        self._left_alone: Mapping[str, str] = {}
        self._last: Snapshot | None = None

    def start(self, on_change: Callable[[Snapshot], None]) -> None:
        """Report all boards now, and again whenever they change."""
        self._source.start(lambda devices: self._on_devices(devices, on_change))

    def stop(self) -> None:
        """Stop looking."""
        self._source.stop()

    def _on_devices(
        self, devices: Sequence[UsbDevice], on_change: Callable[[Snapshot], None]
    ) -> None:
        found = find_boards(devices, self._rules, self._known)
        if found.known != self._known:
            # Before anybody acts on it: whoever sends a board to its bootloader and is killed then
            # has to know it again.
            self._memory.save(found.known)
            self._known = found.known
        for port, why in found.left_alone.items():
            if self._left_alone.get(port) != why:
                log.info("left alone at USB port %s: %s", port, why)
        self._left_alone = found.left_alone
        if found.boards != self._last:
            self._last = found.boards
            on_change(found.boards)
