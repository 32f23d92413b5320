"""A USB device as the system shows it, whatever it may be."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tty:
    """A serial port of a USB device.

    Attributes:
        path: of its device file.
        interface: number of the USB interface behind it.
        usable: whether this process may open it.
        group: whose members may; empty where the system does not say.
    """

    path: Path
    interface: int
    usable: bool = True
    group: str = ""


@dataclass(frozen=True)
class UsbDevice:
    """What is plugged into one USB port.

    Attributes:
        port: USB port path such as ``1-1.2``.
        session: changes whenever the device enumerates anew.
        vid: vendor id.
        pid: product id.
        serial: its serial, empty where it has none.
        product: its product string.
        ttys: its serial ports.
        settled: whether it has been there so long that all it shows has appeared.
    """

    port: str
    session: str
    vid: int
    pid: int
    serial: str = ""
    product: str = ""
    ttys: tuple[Tty, ...] = ()
    settled: bool = True

    @property
    def hub(self) -> str:
        """Port path of its hub; ``usb1`` for the root hub of bus 1, as Linux calls it."""
        hub, dot, _ = self.port.rpartition(".")
        return hub if dot else f"usb{self.port.partition('-')[0]}"

    @property
    def console(self) -> Tty | None:
        """The serial port of interface 0, where a board's firmware speaks.

        Those of other interfaces are pico-ice's UART to the FPGA, or whatever an application adds.
        """
        return next((tty for tty in self.ttys if tty.interface == 0), None)


OnDevices = Callable[[Sequence[UsbDevice]], None]


class DeviceChanges:
    """Tells of all devices whenever a look finds others than the last one did.

    Args:
        look: gives all devices there are now, always in the same order.
        on_change: is told.

    Attributes:
        devices: what the last look found.
    """

    def __init__(self, look: Callable[[], Sequence[UsbDevice]], on_change: OnDevices) -> None:
        self.devices: Sequence[UsbDevice] | None = None
        self._look = look
        self._on_change = on_change

    def look(self) -> None:
        """Look once; a look that fails is logged, and must not be the last."""
        try:
            found = self._look()
            if found != self.devices:
                self.devices = found
                self._on_change(found)
        except Exception:
            log.exception("USB devices could not be listed")


class UsbSource(Protocol):
    """Where USB devices are seen."""

    def start(self, on_change: OnDevices) -> None:
        """Call ``on_change``, on a thread of its own, with all devices, now and on any change."""

    def stop(self) -> None:
        """Stop, and join what was started."""
