"""A backend of pyusb that holds bootloaders as those in ROM, in place of libusb."""

from __future__ import annotations

import array
import errno
from types import SimpleNamespace
from typing import Any

import usb.backend  # type: ignore[import-untyped]
import usb.core  # type: ignore[import-untyped]
from tests.worker.fake_bootloader import FakeBootloader

from icebus.schemas.boards.rack import BOOTLOADER
from icebus.worker.hardware.bootloaders import libusb
from icebus.worker.hardware.bootloaders.usb_edge import EndpointStalled, TransferTimedOut

OUT, IN, INTERFACE = 0x03, 0x84, 1


class Plugged:
    """A device on the bus, with the descriptors of the boot ROMs."""

    def __init__(self, path: str, fake: FakeBootloader, product: int | None = None) -> None:
        self.bus, self.ports = libusb.port_path(path)
        self.fake = fake
        self.product = product if product is not None else BOOTLOADER[fake.chip].pid
        self.permitted = True
        self.claimed: set[int] = set()
        self.opened = 0


class Backend(usb.backend.IBackend):  # type: ignore[misc]
    """Stands for libusb. What pyusb's own backend makes of errors is made of them here, too."""

    def __init__(self, *plugged: Plugged) -> None:
        self.plugged = list(plugged)

    def replace(self, device: Plugged) -> None:
        """Plug a device in, in place of what was at its port."""
        where = (device.bus, device.ports)
        others = [each for each in self.plugged if (each.bus, each.ports) != where]
        self.plugged = [*others, device]

    def enumerate_devices(self) -> Any:
        return iter(self.plugged)

    def get_parent(self, dev: Plugged) -> None:
        return None

    def get_device_descriptor(self, dev: Plugged) -> Any:
        return SimpleNamespace(
            bLength=18,
            bDescriptorType=1,
            bcdUSB=0x110,
            bDeviceClass=0,
            bDeviceSubClass=0,
            bDeviceProtocol=0,
            bMaxPacketSize0=64,
            idVendor=0x2E8A,
            idProduct=dev.product,
            bcdDevice=0x100,
            iManufacturer=1,
            iProduct=2,
            iSerialNumber=3,
            bNumConfigurations=1,
            address=9,
            bus=dev.bus,
            port_number=dev.ports[-1],
            port_numbers=dev.ports,
            speed=2,
        )

    def get_configuration_descriptor(self, dev: Plugged, config: int) -> Any:
        if config:
            raise IndexError
        return SimpleNamespace(
            bLength=9,
            bDescriptorType=2,
            wTotalLength=55,
            bNumInterfaces=2,
            bConfigurationValue=1,
            iConfiguration=0,
            bmAttributes=0x80,
            bMaxPower=0xFA,
            extra_descriptors=[],
        )

    def get_interface_descriptor(self, dev: Plugged, intf: int, alt: int, config: int) -> Any:
        if intf > 1 or alt:
            raise IndexError
        kind = (0x08, 0x06, 0x50) if intf == 0 else (0xFF, 0, 0)
        return SimpleNamespace(
            bLength=9,
            bDescriptorType=4,
            bInterfaceNumber=intf,
            bAlternateSetting=0,
            bNumEndpoints=2,
            bInterfaceClass=kind[0],
            bInterfaceSubClass=kind[1],
            bInterfaceProtocol=kind[2],
            iInterface=0,
            extra_descriptors=[],
        )

    def get_endpoint_descriptor(
        self, dev: Plugged, ep: int, intf: int, alt: int, config: int
    ) -> Any:
        return SimpleNamespace(
            bLength=7,
            bDescriptorType=5,
            bEndpointAddress=((0x81, 0x02), (OUT, IN))[intf][ep],
            bmAttributes=2,
            wMaxPacketSize=64,
            bInterval=0,
            bRefresh=0,
            bSynchAddress=0,
            extra_descriptors=[],
        )

    def open_device(self, dev: Plugged) -> Plugged:
        if not dev.permitted:
            raise usb.core.USBError("Access denied (insufficient permissions)", -3, errno.EACCES)
        dev.opened += 1
        return dev

    def close_device(self, dev_handle: Plugged) -> None:
        dev_handle.opened -= 1

    def get_configuration(self, dev_handle: Plugged) -> int:
        return 1

    def claim_interface(self, dev_handle: Plugged, intf: int) -> None:
        if intf in dev_handle.claimed:
            raise usb.core.USBError("Resource busy", -6, errno.EBUSY)
        dev_handle.claimed.add(intf)

    def release_interface(self, dev_handle: Plugged, intf: int) -> None:
        dev_handle.claimed.discard(intf)

    def bulk_write(self, dev_handle: Plugged, ep: int, intf: int, data: Any, timeout: int) -> int:
        assert (ep, intf) == (OUT, INTERFACE)
        self._do(lambda: dev_handle.fake.bulk_out(bytes(data), timeout / 1000))
        return len(data)

    def bulk_read(self, dev_handle: Plugged, ep: int, intf: int, buff: Any, timeout: int) -> int:
        assert (ep, intf) == (IN, INTERFACE)
        data = self._do(lambda: dev_handle.fake.bulk_in(len(buff), timeout / 1000))
        buff[: len(data)] = array.array("B", data)
        return len(data)

    def ctrl_transfer(
        self,
        dev_handle: Plugged,
        bmRequestType: int,  # noqa: N803
        bRequest: int,  # noqa: N803
        wValue: int,  # noqa: N803
        wIndex: int,  # noqa: N803
        data: Any,
        timeout: int,
    ) -> int:
        assert (wValue, wIndex) == (0, INTERFACE)
        fake, seconds = dev_handle.fake, timeout / 1000
        if bmRequestType == 0x41:
            assert len(data) == 0
            self._do(lambda: fake.control_out(bRequest, seconds))
            return 0
        assert bmRequestType == 0xC1
        answer = self._do(lambda: fake.control_in(bRequest, len(data), seconds))
        data[: len(answer)] = array.array("B", answer)
        return len(answer)

    def clear_halt(self, dev_handle: Plugged, ep: int) -> None:
        assert ep in (OUT, IN)
        self._do(dev_handle.fake.clear_halts)

    @staticmethod
    def _do(step: Any) -> Any:
        try:
            return step()
        except EndpointStalled:
            raise usb.core.USBError("Pipe error", -9, errno.EPIPE) from None
        except TransferTimedOut:
            raise usb.core.USBTimeoutError("Operation timed out", -7, errno.ETIMEDOUT) from None
        except OSError:
            raise usb.core.USBError("No such device", -4, errno.ENODEV) from None
