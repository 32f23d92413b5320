"""A USB tree made up by a test, and the unmodified worker's process that sees no other."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.worker.waiting import TIMEOUT

from icebus.broker.embedded import EmbeddedBroker
from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.rack import RP2040_BOOTLOADER_SERIAL

ROOT = Path(__file__).parents[2]
PRELOAD = "libumockdev-preload.so.0"
CONTROLLER = "/sys/devices/pci0000:00/0000:00:14.0"


def missing() -> str:
    """Why these tests can't be run here; empty if they can."""
    if sys.platform != "linux":
        return "umockdev is there for Linux only"
    if shutil.which("umockdev-run") is None:
        return "needs umockdev: script/bootstrap --usb"
    return ""


@dataclass(frozen=True)
class Shown:
    """A device as it shows itself on USB.

    Attributes:
        ttys: device files that its serial ports show, by the number of their interfaces.
        block: name of its drive.
    """

    vid: int
    pid: int
    serial: str
    product: str
    ttys: Mapping[int, str] = field(default_factory=dict)
    block: str = ""


def application(serial: str, tty: str, product: str = "pico-ice", *more: str) -> Shown:
    """An application made with pico-ice-sdk; ``more`` are its UART and what else it has."""
    ttys = {2 * number: name for number, name in enumerate((tty, *more))}
    return Shown(0x1209, 0xB1C0, serial, product, ttys)


def bootloader(chip: Chip, serial: str = "", block: str = "") -> Shown:
    if chip is Chip.RP2040:
        return Shown(0x2E8A, 0x0003, RP2040_BOOTLOADER_SERIAL, "RP2 Boot", block=block)
    return Shown(0x2E8A, 0x000F, serial, "RP2350 Boot", block=block)


class UsbBus:
    """A machine's USB, made up; ports are named as in ``1-1.2``."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.usb.testbed_process"],
            cwd=ROOT,
            env={**os.environ, "LD_PRELOAD": PRELOAD},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.root = Path(self._process.stdout.readline().strip())
        (self.root / "dev").mkdir(exist_ok=True)
        self._plugged: dict[str, list[str]] = {}
        self._numbers = 1

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(TIMEOUT) == 0
        assert self._process.stdout is not None
        self._process.stdout.close()

    def device_file(self, name: str, target: Path) -> None:
        """Have ``/dev/name`` be another file, such as the port of a board in a rack."""
        link = self.root / "dev" / name
        link.unlink(missing_ok=True)
        link.symlink_to(target.resolve())

    def plug(self, port: str, shown: Shown) -> None:
        """A device enumerates at a port; each part of it with an event of its own."""
        self._numbers = self._numbers % 127 + 1
        path = self.path(port)
        number = self._numbers
        parts = [
            self._add(
                path,
                {"SUBSYSTEM": "usb", "DEVTYPE": "usb_device", "DEVNUM": f"{number:03}"},
                idVendor=f"{shown.vid:04x}",
                idProduct=f"{shown.pid:04x}",
                serial=shown.serial,
                product=shown.product,
                busnum=port.partition("-")[0],
                devnum=str(number),
                bNumInterfaces=str(len(shown.ttys)),
            )
        ]
        interfaces = {*shown.ttys, *([0] if shown.block else [])}
        for interface in sorted(interfaces):
            folder = f"{path}/{port}:1.{interface}"
            kind = {"SUBSYSTEM": "usb", "DEVTYPE": "usb_interface"}
            parts.append(self._add(folder, kind, bInterfaceNumber=f"{interface:02x}"))
            if interface in shown.ttys:
                name = shown.ttys[interface]
                tty = {"SUBSYSTEM": "tty", "DEVNAME": f"/dev/{name}"}
                parts.append(
                    self._add(
                        f"{folder}/tty/{name}", tty, [f"device=../../../{port}:1.{interface}"]
                    )
                )
            elif shown.block:
                place = f"{folder}/host0/target0:0:0/0:0:0:0/block/{shown.block}"
                disk = {"SUBSYSTEM": "block", "DEVTYPE": "disk", "DEVNAME": f"/dev/{shown.block}"}
                parts.append(self._add(place, disk))
        self._plugged[port] = parts

    def plug_for_libusb(self, port: str, number: int, descriptors: bytes) -> None:
        """A device, or a controller such as ``usb1``, with what libusb reads of it."""
        path = f"{CONTROLLER}/{port}" if port.startswith("usb") else self.path(port)
        file = f"bus/usb/001/{number:03}"
        lines = [
            *(f"P: {path.removeprefix('/sys')}", f"N: {file}"),
            *("E: SUBSYSTEM=usb", "E: DEVTYPE=usb_device", f"E: DEVNAME=/dev/{file}"),
            *("A: busnum=1", f"A: devnum={number}", "A: speed=12", "A: bConfigurationValue=1"),
            f"H: descriptors={descriptors.hex().upper()}",
        ]
        self._do("add", "\n".join([*lines, "", ""]))
        self._plugged[port] = [path]

    def unplug(self, port: str) -> None:
        """What is at the port goes, part by part."""
        for path in reversed(self._plugged.pop(port)):
            self._do("remove", path)

    def change(self, port: str) -> None:
        """Tell of a change of all that is at the port."""
        for path in self._plugged[port]:
            self._do("change", path)

    def path(self, port: str) -> str:
        """Where a device is in the tree, below its hubs."""
        bus, _, numbers = port.partition("-")
        steps = numbers.split(".")
        hubs = [f"{bus}-{'.'.join(steps[:count])}" for count in range(1, len(steps) + 1)]
        return "/".join([CONTROLLER, f"usb{bus}", *hubs])

    def _add(
        self,
        path: str,
        properties: Mapping[str, str],
        links: Sequence[str] = (),
        **attributes: str,
    ) -> str:
        lines = [
            f"P: {path.removeprefix('/sys')}",
            *(f"E: {key}={value}" for key, value in properties.items()),
        ]
        lines += [f"A: {key}={value}" for key, value in attributes.items()]
        lines += [f"L: {link}" for link in links]
        self._do("add", "\n".join([*lines, "", ""]))
        return path

    def _do(self, step: str, argument: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([step, argument]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        assert answer == "ok", answer


class UsbWorker:
    """``icebus-worker --usb``, as it is, on a machine with a made-up USB.

    Args:
        bus: what it sees.
        broker: that it speaks through, as ``w1``.
        directory: for what it keeps, its configuration and its log.
        configuration: in TOML.
        wrapper: a program that starts it.
    """

    def __init__(
        self,
        bus: UsbBus,
        broker: EmbeddedBroker,
        directory: Path,
        configuration: str = "",
        wrapper: Sequence[str] = (),
    ) -> None:
        directory.mkdir(exist_ok=True)
        config = directory / "worker.toml"
        config.write_text(configuration)
        program = str(Path(sys.executable).parent / "icebus-worker")
        self.log = directory / "worker.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(*wrapper, program, "--usb", "--config", str(config)),
                    *("--directory", str(directory / "state")),
                ],
                env={
                    **os.environ,
                    "ICEBUS_BROKER": broker.address("w1").url(),
                    "LD_PRELOAD": PRELOAD,
                    "UMOCKDEV_DIR": str(bus.root),
                },
                stderr=log,
            )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(TIMEOUT)

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(TIMEOUT)
