"""The edge to USB: pyusb itself, over a backend that holds bootloaders of the ROMs' kind."""

from __future__ import annotations

import array
import errno
from types import SimpleNamespace
from typing import Any

import pytest
import usb.backend  # type: ignore[import-untyped]
import usb.core  # type: ignore[import-untyped]
from tests.worker.fake_bootloader import SECTOR, FakeBootloader, content

from icebus.schemas.boards import uf2
from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.rack import BOOTLOADER, PICO_APPLICATION, RP2040_BOOTLOADER_SERIAL
from icebus.schemas.deadline import Deadline
from icebus.worker.hardware.bootloaders import libusb
from icebus.worker.hardware.bootloaders.bootloader import (
    BootloaderFailed,
    BootloaderUnreachable,
    StepLimit,
)
from icebus.worker.hardware.bootloaders.picoboot import Picoboot
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


def limit() -> StepLimit:
    return StepLimit(Deadline.after(30))


def new_board(chip: Chip = Chip.RP2040) -> FakeBootloader:
    return FakeBootloader(chip, bytearray(b"\xff" * 4 * SECTOR))


def install(monkeypatch: pytest.MonkeyPatch, *plugged: Plugged) -> None:
    backend = Backend(*plugged)
    monkeypatch.setattr(libusb, "_backend", lambda: backend)


def flash(path: str, chip: Chip, image: bytes) -> None:
    Picoboot(lambda: libusb.connect(path, chip), chip).flash(image, limit())


def image(chip: Chip, fill: int = 1) -> bytes:
    return uf2.encode(content(chip, 2 * SECTOR, fill), chip.family, uf2.FLASH_ADDRESS)


@pytest.mark.parametrize("chip", list(Chip))
def test_given_a_bootloader_on_usb_when_flashed_then_it_has_the_image_and_is_given_back(
    monkeypatch: pytest.MonkeyPatch, chip: Chip
) -> None:
    device = Plugged("1-1.2", new_board(chip))
    install(monkeypatch, device)
    flash("1-1.2", chip, image(chip))
    assert bytes(device.fake.flash[: 2 * SECTOR]) == content(chip, 2 * SECTOR, 1)
    assert device.fake.restarted
    assert (device.opened, device.claimed) == (0, set())


def test_given_16_bootloaders_of_one_serial_then_each_port_path_leads_to_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert RP2040_BOOTLOADER_SERIAL  # the same for all, so nothing looks at it
    paths = [f"{bus}-{hub}.{port}" for bus in (1, 2) for hub in (1, 11) for port in (1, 2, 3, 11)]
    devices = [Plugged(path, new_board()) for path in paths]
    install(monkeypatch, *devices)
    for number, path in enumerate(reversed(paths)):
        flash(path, Chip.RP2040, image(Chip.RP2040, fill=number))
    for number, device in enumerate(reversed(devices)):
        assert bytes(device.fake.flash[: 2 * SECTOR]) == content(Chip.RP2040, 2 * SECTOR, number)


def test_given_something_else_at_the_port_then_it_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    application = Plugged("1-1.2", new_board(), PICO_APPLICATION[Chip.RP2040].pid)
    other_chip = Plugged("1-1.3", new_board(Chip.RP2350))
    install(monkeypatch, application, other_chip)
    for path in ("1-1.2", "1-1.3", "1-1.4", "2-1.2", "1-1"):
        with pytest.raises(BootloaderUnreachable, match=f"no RP2 Boot is at USB port {path}"):
            flash(path, Chip.RP2040, image(Chip.RP2040))
    assert application.fake.transfers == other_chip.fake.transfers == 0


def test_given_no_right_to_the_device_then_the_udev_rules_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = Plugged("1-1.2", new_board())
    device.permitted = False
    install(monkeypatch, device)
    with pytest.raises(BootloaderUnreachable, match="udev rules"):
        flash("1-1.2", Chip.RP2040, image(Chip.RP2040))


def test_given_an_interface_that_another_program_holds_then_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = Plugged("1-1.2", new_board())
    device.claimed.add(INTERFACE)
    install(monkeypatch, device)
    with pytest.raises(BootloaderUnreachable, match="busy"):
        flash("1-1.2", Chip.RP2040, image(Chip.RP2040))
    assert device.opened == 0


def test_given_stalls_silence_and_an_unplugged_board_then_each_is_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stalls, hangs, leaves = new_board(), new_board(), new_board()
    stalls.stall_at, hangs.silent_at, leaves.unplug_at = 4, 4, 14
    install(monkeypatch, Plugged("1-1", stalls), Plugged("1-2", hangs), Plugged("1-3", leaves))
    with pytest.raises(BootloaderFailed, match="refused FLASH_ERASE: UNKNOWN_ERROR"):
        flash("1-1", Chip.RP2040, image(Chip.RP2040))
    with pytest.raises(BootloaderFailed, match="did not answer FLASH_ERASE"):
        flash("1-2", Chip.RP2040, image(Chip.RP2040))
    with pytest.raises(OSError, match="left the bus"):
        flash("1-3", Chip.RP2040, image(Chip.RP2040))


def test_given_no_libusb_then_what_to_install_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libusb, "_backend", lambda: None)
    assert not libusb.is_available()
    with pytest.raises(BootloaderUnreachable, match="pip install"):
        libusb.connect("1-1", Chip.RP2040)


def test_given_the_packages_that_a_worker_brings_then_libusb_is_found() -> None:
    assert libusb.is_available()
