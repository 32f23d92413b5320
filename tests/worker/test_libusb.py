"""The edge to USB: pyusb itself, over a backend that holds bootloaders of the ROMs' kind."""

from __future__ import annotations

import pytest
from tests.worker.fake_bootloader import SECTOR, FakeBootloader, content
from tests.worker.usb_backend import INTERFACE, Backend, Plugged

from icebus.schemas.boards import uf2
from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.rack import PICO_APPLICATION, RP2040_BOOTLOADER_SERIAL
from icebus.schemas.deadline import Deadline
from icebus.worker.hardware.bootloaders import libusb
from icebus.worker.hardware.bootloaders.bootloader import (
    BootloaderFailed,
    BootloaderUnreachable,
    StepLimit,
)
from icebus.worker.hardware.bootloaders.picoboot import Picoboot


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
    with pytest.raises(BootloaderUnreachable, match=r"libusb-1\.0-0"):
        libusb.connect("1-1", Chip.RP2040)


def test_given_the_packages_that_a_worker_brings_then_libusb_is_found() -> None:
    assert libusb.is_available()
