"""The edge to USB through pyusb and libusb: a board's bootloader, found by its port path.

By nothing else: all RP2040 show the same serial number in their bootloaders.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Final

from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.rack import BOOTLOADER, UsbIdentity
from icebus.schemas.programs.installation import install_extra
from icebus.worker.hardware.bootloaders.bootloader import BootloaderUnreachable
from icebus.worker.hardware.bootloaders.usb_edge import (
    EndpointStalled,
    TransferTimedOut,
    device_gone,
)

RULES: Final = "install icebus's udev rules (docs/boards.md) and plug it in again"

_VENDOR_CLASS: Final = 0xFF
_VENDOR_OUT: Final = 0x41
_VENDOR_IN: Final = 0xC1
"""bmRequestType: vendor, to an interface."""

_DIRECTION_IN: Final = 0x80


def install_advice() -> str:
    """What to do where the libraries are missing."""
    return (
        f"{install_extra('worker')}, or, on Debian and Ubuntu, `sudo apt-get install libusb-1.0-0`"
    )


def is_available() -> bool:
    """Whether both libraries are there."""
    return _backend() is not None


def port_path(path: str) -> tuple[int, tuple[int, ...]]:
    """The bus and the ports, from the root hub on, of a USB port path such as ``1-1.2``."""
    bus, _, ports = path.partition("-")
    return int(bus), tuple(int(port) for port in ports.split("."))


def connect(path: str, chip: Chip) -> LibusbInterface:
    """Open the PICOBOOT interface of the bootloader at a USB port path.

    Raises:
        BootloaderUnreachable: no library, no right, or something else is there.
    """
    backend = _backend()
    if backend is None:
        raise BootloaderUnreachable(f"pyusb or libusb is not installed: {install_advice()}")
    identity = BOOTLOADER[chip]
    device = _find(backend, path, identity)
    if device is None:
        raise BootloaderUnreachable(
            f"no {identity.product} is at USB port {path}; a container sees only the USB "
            "devices that it was given"
        )
    try:
        return _open(device)
    except OSError as error:  # of pyusb, its USBError is one
        with contextlib.suppress(Exception):
            _module("usb.util").dispose_resources(device)
        if error.errno == errno.EACCES:
            raise BootloaderUnreachable(
                f"this user may not use the bootloader at USB port {path}: {RULES}"
            ) from None
        raise BootloaderUnreachable(
            f"the bootloader at USB port {path} can't be opened: {error}"
        ) from None


class LibusbInterface:
    """A claimed interface.

    Args:
        device: pyusb's.
        interface: its number.
        out: address of its bulk endpoint to the device.
        in_: address of that to the host.
    """

    def __init__(self, device: Any, interface: int, out: int, in_: int) -> None:
        self._device = device
        self._interface = interface
        self._out = out
        self._in = in_

    def bulk_out(self, data: bytes, seconds: float) -> None:
        """Send all of ``data``."""
        sent = _translated(lambda: self._device.write(self._out, data, _ms(seconds)))
        if sent != len(data):
            raise TransferTimedOut

    def bulk_in(self, size: int, seconds: float) -> bytes:
        """At most ``size`` bytes."""
        return bytes(_translated(lambda: self._device.read(self._in, size, _ms(seconds))))

    def control_out(self, request: int, seconds: float) -> None:
        """A vendor request without data."""
        transfer = self._device.ctrl_transfer
        _translated(lambda: transfer(_VENDOR_OUT, request, 0, self._interface, None, _ms(seconds)))

    def control_in(self, request: int, size: int, seconds: float) -> bytes:
        """The answer to a vendor request."""
        transfer = self._device.ctrl_transfer
        return bytes(
            _translated(
                lambda: transfer(_VENDOR_IN, request, 0, self._interface, size, _ms(seconds))
            )
        )

    def clear_halts(self) -> None:
        """Let both endpoints begin anew."""
        for endpoint in (self._out, self._in):
            _translated(partial(self._device.clear_halt, endpoint))

    def close(self) -> None:
        """Give it back."""
        with contextlib.suppress(Exception):
            _module("usb.util").dispose_resources(self._device)


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))  # libusb takes 0 for ever


def _translated(transfer: Callable[[], Any]) -> Any:
    """What ``transfer`` gives, with pyusb's errors as those of the edge."""
    try:
        return transfer()
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise EndpointStalled from None
        if error.errno == errno.ETIMEDOUT:
            raise TransferTimedOut from None
        raise device_gone() from error


def _find(backend: Any, path: str, identity: UsbIdentity) -> Any | None:
    bus, ports = port_path(path)

    def is_it(device: Any) -> bool:
        return device.bus == bus and tuple(device.port_numbers or ()) == ports

    return _module("usb.core").find(
        backend=backend, idVendor=identity.vid, idProduct=identity.pid, custom_match=is_it
    )


def _open(device: Any) -> LibusbInterface:
    """Claim the vendor interface; the configuration is left as the system has set it."""
    util = _module("usb.util")
    for interface in device.get_active_configuration():
        addresses = [endpoint.bEndpointAddress for endpoint in interface.endpoints()]
        out = [address for address in addresses if not address & _DIRECTION_IN]
        in_ = [address for address in addresses if address & _DIRECTION_IN]
        if interface.bInterfaceClass == _VENDOR_CLASS and (len(out), len(in_)) == (1, 1):
            util.claim_interface(device, interface.bInterfaceNumber)
            return LibusbInterface(device, interface.bInterfaceNumber, out[0], in_[0])
    raise OSError(errno.ENXIO, "it has no PICOBOOT interface")


@cache
def _backend() -> Any | None:
    """What pyusb uses: libusb of the system, or of a package. None where a part is missing."""
    try:
        libusb1 = _module("usb.backend.libusb1")
    except ImportError:
        return None
    backend = libusb1.get_backend()
    if backend is None:
        with contextlib.suppress(ImportError):
            package = _module("libusb_package")
            backend = libusb1.get_backend(find_library=package.find_library)
    return backend


def _module(name: str) -> Any:
    """A module that may not be installed, and has no types."""
    return importlib.import_module(name)
