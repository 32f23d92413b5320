"""The udev rules: what they do with each device that icebus knows, and that udev takes them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from icebus.schemas.boards.rack import (
    BOOTLOADER,
    PICO_APPLICATION,
    PICO_ICE_APPLICATION,
    UsbIdentity,
)

RULES = Path(__file__).parents[2] / "worker" / "udev" / "70-icebus.rules"
APPLICATIONS = [PICO_ICE_APPLICATION, *PICO_APPLICATION.values()]
BOOTLOADERS = list(BOOTLOADER.values())
KEYBOARD = UsbIdentity(0x2E8A, 0x1234, "somebody's keyboard")
PART = re.compile(r'([A-Z]+)(?:\{(\w+)\})?(==|\+=|=)"([^"]*)"')


class Event:
    """A device as udev shows it to rules: of the few keys that these rules use."""

    def __init__(self, subsystem: str, usb: UsbIdentity, action: str = "add") -> None:
        ids = {"idVendor": f"{usb.vid:04x}", "idProduct": f"{usb.pid:04x}"}
        self.keys = {("ACTION", ""): action, ("SUBSYSTEM", ""): subsystem}
        self.keys |= {("ATTRS", name): value for name, value in ids.items()}
        if subsystem == "usb":
            self.keys |= {("ATTR", name): value for name, value in ids.items()}
            self.keys["ENV", "DEVTYPE"] = "usb_device"
        self.set: dict[str, str] = {}


def run(event: Event) -> dict[str, str]:
    """What the rules set for a device, as udev reads them."""
    rules = [PART.findall(line) for line in RULES.read_text().splitlines() if line[:1] not in "#"]
    rules = [rule for rule in rules if rule]
    at = 0
    while at < len(rules):
        rule, at = rules[at], at + 1
        matches = [part for part in rule if part[2] == "=="]
        if any(event.keys.get((key, name)) != value for key, name, _, value in matches):
            continue
        for key, name, how, value in rule:
            if how == "==" or key == "LABEL":
                continue
            if key == "GOTO":
                labels = [number for number, each in enumerate(rules) if each[0][3] == value]
                [at] = [number for number in labels if rules[number][0][0] == "LABEL"]
            else:
                event.set[name or key] = value
    return event.set


GIVEN = {
    "MODE": "0660",
    "GROUP": "dialout",
    "TAG": "uaccess",
    "ID_MM_DEVICE_IGNORE": "1",
    "ID_MM_PORT_IGNORE": "1",
}


@pytest.mark.parametrize("usb", [*APPLICATIONS, *BOOTLOADERS], ids=lambda usb: usb.product)
def test_given_a_board_then_the_group_may_use_it_and_no_modem_is_looked_for(
    usb: UsbIdentity,
) -> None:
    assert run(Event("usb", usb)) == GIVEN
    assert run(Event("usb", usb, "change")) == GIVEN
    assert run(Event("usb", usb, "remove")) == {}


@pytest.mark.parametrize("usb", APPLICATIONS, ids=lambda usb: usb.product)
def test_given_a_serial_port_of_a_board_then_it_is_the_group_s(usb: UsbIdentity) -> None:
    assert run(Event("tty", usb)) == GIVEN


@pytest.mark.parametrize("usb", BOOTLOADERS, ids=lambda usb: usb.product)
def test_given_a_bootloader_s_drive_then_no_desktop_mounts_it_by_itself(usb: UsbIdentity) -> None:
    assert run(Event("block", usb)) == {"UDISKS_AUTO": "0"}


@pytest.mark.parametrize("subsystem", ["usb", "tty", "block"])
def test_given_somebody_else_s_device_of_the_same_vendor_then_it_is_left_alone(
    subsystem: str,
) -> None:
    assert run(Event(subsystem, KEYBOARD)) == {}


def test_given_the_rules_then_every_line_is_read_by_these_tests() -> None:
    for line in RULES.read_text().splitlines():
        if line and not line.startswith("#"):
            assert PART.sub("", line).strip(", ") == "", line
    assert 50 < int(RULES.name[:2]) < 73, "after the system's defaults, before uaccess is applied"


def test_given_udev_then_it_finds_nothing_wrong() -> None:
    udevadm = shutil.which("udevadm")
    if udevadm is None or subprocess.run([udevadm, "verify", "--help"], check=False).returncode:
        pytest.skip("udevadm can't verify rules; systemd 254 and newer can")
    done = subprocess.run(
        [udevadm, "verify", "--resolve-names=never", str(RULES)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
