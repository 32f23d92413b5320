"""libusb itself, on a made-up USB: which device it takes for the bootloader at a port path.

Its transfers end at umockdev, which plays none of them; tests/worker/test_libusb.py has a backend
that does.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.usb.bus import PRELOAD

from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.rack import BOOTLOADER, PICO_APPLICATION, UsbIdentity

if TYPE_CHECKING:
    from tests.usb.bus import UsbBus

CONFIGURATION = bytes.fromhex(
    "0902370002010080fa"  # two interfaces, 500 mA
    "090400000208065000 07058102400000 07050202400000"  # the drive
    "0904010002ff000000 07050302400000 07058402400000"  # PICOBOOT
)
"""As in the boot ROM of the RP2040 (pico-bootrom-rp2040, usb_boot_device.c)."""

HUB = UsbIdentity(0x05E3, 0x0608, "hub")

LOOK = """
import sys
from icebus.schemas.boards.firmware import Chip
from icebus.worker.hardware.bootloaders import libusb
for words in sys.argv[1:]:
    port, chip = words.split()
    try:
        usb = libusb.connect(port, Chip(chip))
    except libusb.BootloaderUnreachable as error:
        print(port, error)
    else:
        print(port, usb._device.address, usb._interface, hex(usb._out), hex(usb._in))
        usb.close()
"""


def descriptors(usb: UsbIdentity) -> bytes:
    device = struct.pack(
        "<BBHBBBBHHHBBBB", 18, 1, 0x110, 0, 0, 0, 64, usb.vid, usb.pid, 0x100, 1, 2, 3, 1
    )
    return device + CONFIGURATION


def look(bus: UsbBus, *words: str) -> list[str]:
    """What :func:`icebus.worker.hardware.bootloaders.libusb.connect` finds there."""
    done = subprocess.run(
        [sys.executable, "-c", LOOK, *words],
        env={**os.environ, "LD_PRELOAD": PRELOAD, "UMOCKDEV_DIR": str(bus.root)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_given_16_bootloaders_that_look_alike_then_libusb_opens_the_one_at_the_port(
    bus: UsbBus,
) -> None:
    bus.plug_for_libusb("usb1", 1, descriptors(HUB))
    bus.plug_for_libusb("1-1", 2, descriptors(HUB))
    bus.plug_for_libusb("1-11", 3, descriptors(HUB))
    ports = [
        f"{hub}.{number}" for hub in ("1-1", "1-11") for number in (1, 2, 3, 4, 10, 11, 12, 13)
    ]
    for number, port in enumerate(ports, 4):
        bus.plug_for_libusb(port, number, descriptors(BOOTLOADER[Chip.RP2040]))

    found = look(bus, *(f"{port} rp2040" for port in ports))

    assert found == [f"{port} {number} 1 0x3 0x84" for number, port in enumerate(ports, 4)]


def test_given_something_else_at_the_port_then_libusb_opens_nothing(bus: UsbBus) -> None:
    bus.plug_for_libusb("usb1", 1, descriptors(HUB))
    bus.plug_for_libusb("1-1", 2, descriptors(BOOTLOADER[Chip.RP2350]))
    bus.plug_for_libusb("1-2", 3, descriptors(PICO_APPLICATION[Chip.RP2040]))

    wrong_chip, application, right, nothing = look(
        bus, "1-1 rp2040", "1-2 rp2040", "1-1 rp2350", "1-3 rp2040"
    )

    assert "no RP2 Boot is at USB port 1-1" in wrong_chip
    assert "no RP2 Boot is at USB port 1-2" in application
    assert right == "1-1 2 1 0x3 0x84"
    assert "no RP2 Boot is at USB port 1-3" in nothing
