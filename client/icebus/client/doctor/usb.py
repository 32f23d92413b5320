"""The facts about boards on USB, as Linux shows them in files; elsewhere there are few.

Each function is given the folders that it looks into.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from icebus.client.doctor.boards import (
    RULES_NAME,
    BoardFacts,
    FlashingTools,
    Hub,
    UsbBoard,
)
from icebus.schemas.boards.images import directories, read_images
from icebus.schemas.boards.rack import (
    BOOTLOADER,
    PICO_APPLICATION,
    PICO_ICE_APPLICATION,
)

_BOOTLOADERS: Final = {(shown.vid, shown.pid): chip for chip, shown in BOOTLOADER.items()}
_APPLICATIONS: Final = {(shown.vid, shown.pid): chip for chip, shown in PICO_APPLICATION.items()}
_PICO_ICE: Final = (PICO_ICE_APPLICATION.vid, PICO_ICE_APPLICATION.pid)
_KNOWN: Final = {*_BOOTLOADERS, *_APPLICATIONS, _PICO_ICE}

_SELF_POWERED: Final = 0x40
"""Bit of ``bmAttributes``."""

_LIBUSB: Final = ("libusb-1.0.so.0", "libusb-1.0.dylib")


@dataclass(frozen=True)
class Roots:
    """Where this machine shows what it has.

    Attributes:
        devices: USB devices, ``/sys/bus/usb/devices``.
        dev: device files.
        processes: ``/proc``.
        rules: folders of udev rules, the one that goes before others first.
    """

    devices: Path = Path("/sys/bus/usb/devices")
    dev: Path = Path("/dev")
    processes: Path = Path("/proc")
    rules: Sequence[Path] = (
        Path("/etc/udev/rules.d"),
        Path("/run/udev/rules.d"),
        Path("/usr/local/lib/udev/rules.d"),
        Path("/usr/lib/udev/rules.d"),
        Path("/lib/udev/rules.d"),
    )


def gather(roots: Roots, running: Sequence[str], member: bool) -> BoardFacts:
    """All facts.

    Args:
        roots: where to look.
        running: names of programs.
        member: whether the user is in the group of serial ports.
    """
    boards = find_boards(roots)
    files = [file for board in boards for file in board.files]
    return BoardFacts(
        boards=boards,
        closed=[file for file in files if not os.access(file, os.R_OK | os.W_OK)],
        member=member,
        rules=find_rules(roots.rules),
        has_udev=any(folder.is_dir() for folder in roots.rules),
        running=running,
        holders=find_holders(roots.processes, files),
        braille_rules=find_braille_rules(roots.rules),
        hubs=find_hubs(roots.devices, [board.port for board in boards]),
        tools=find_tools(),
        images=find_images(directories()),
    )


# --- boards ---------------------------------------------------------------------------------------


def find_boards(roots: Roots) -> list[UsbBoard]:
    """Boards of known USB ids, with the files they are used through."""
    found = []
    for folder in _folders(roots.devices):
        identity = _identity(folder)
        if identity not in _KNOWN:
            continue
        chip = _BOOTLOADERS.get(identity) or _APPLICATIONS.get(identity)
        found.append(
            UsbBoard(
                port=folder.name,
                product=_text(folder / "product") or "board",
                chip=chip.value if chip is not None else "",
                bootloader=identity in _BOOTLOADERS,
                files=list(_files(folder, roots.dev)),
            )
        )
    return found


def _folders(devices: Path) -> list[Path]:
    """The folders of devices, root hubs included; those of interfaces have a colon."""
    return sorted(each for each in devices.glob("*") if ":" not in each.name)


def _identity(folder: Path) -> tuple[int, int]:
    return _number(folder / "idVendor", 16), _number(folder / "idProduct", 16)


def _files(folder: Path, dev: Path) -> Iterator[Path]:
    bus, address = _number(folder / "busnum"), _number(folder / "devnum")
    if bus and address:
        yield dev / "bus" / "usb" / f"{bus:03}" / f"{address:03}"
    for tty in sorted(folder.glob(f"{folder.name}:*/tty/*")):
        yield dev / tty.name


# --- udev and other programs ----------------------------------------------------------------------


def find_rules(folders: Iterable[Path]) -> Path | None:
    """Icebus's udev rules, under their own name."""
    return next((f / RULES_NAME for f in folders if (f / RULES_NAME).is_file()), None)


def find_braille_rules(folders: Iterable[Path]) -> list[str]:
    """Rules of brltty, in use, that name a board by its USB id."""
    shown = {f"{vid:x}/{pid:x}/" for vid, pid in _KNOWN}
    found = []
    seen: set[str] = set()
    for path in [path for folder in folders for path in sorted(folder.glob("*brltty*.rules"))]:
        if path.name in seen:  # a file of the same name goes before it
            continue
        seen.add(path.name)
        with contextlib.suppress(OSError):
            lines = path.read_text(errors="replace").lower().splitlines()
            rules = [line for line in lines if not line.lstrip().startswith("#")]
            if any(name in line for line in rules for name in shown):
                found.append(str(path))
    return found


def find_holders(processes: Path, files: Iterable[Path]) -> dict[str, list[str]]:
    """Names of programs that have one of these files open, as far as this user may know."""
    wanted = {str(file) for file in files}
    found: dict[str, list[str]] = {}
    for link in processes.glob("[0-9]*/fd/*"):
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if target in wanted:
            name = _text(link.parents[1] / "comm") or f"pid {link.parents[1].name}"
            names = found.setdefault(target, [])
            if name not in names:
                names.append(name)
    return found


# --- power ----------------------------------------------------------------------------------------


def find_hubs(devices: Path, boards: Iterable[str]) -> list[Hub]:
    """The hubs, and the machine's own controllers, that these boards are plugged into."""
    behind = {port: list(_hubs_of(port)) for port in boards}
    wanted = {hub for hubs in behind.values() for hub in hubs}
    return [_hub(devices, name) for name in sorted(wanted) if (devices / name).is_dir()]


def _hubs_of(port: str) -> Iterator[str]:
    """The hubs between a port and the machine, and the controller: ``1-1.2``, ``1-1``, ``usb1``."""
    if "-" not in port:  # a controller itself
        yield ""
        return
    while "." in port:
        port = port.rpartition(".")[0]
        yield port
    yield f"usb{port.partition('-')[0]}"


def _hub(devices: Path, name: str) -> Hub:
    folder = devices / name
    is_root = name.startswith("usb")
    children = [child for child in _folders(devices) if next(_hubs_of(child.name)) == name]
    return Hub(
        port=name,
        # What a controller gives is the machine's, of which nothing is known.
        own_supply=is_root or bool(_number(folder / "bmAttributes", 16) & _SELF_POWERED),
        wanted=sum(_milliamperes(child / "bMaxPower") for child in children),
        over_current={
            count.parent.name: number
            for count in sorted(folder.glob("*:*/*-port*/over_current_count"))
            if (number := _number(count))
        },
    )


def _milliamperes(path: Path) -> int:
    text = _text(path).removesuffix("mA")
    return int(text) if text.isdecimal() else 0


# --- firmware -------------------------------------------------------------------------------------


def find_tools() -> FlashingTools:
    """What is installed to flash with, where this program is."""
    return FlashingTools(
        pyusb=find_spec("usb") is not None,
        libusb=find_spec("libusb_package") is not None or _has_libusb(),
        picotool=shutil.which("picotool") is not None,
    )


def _has_libusb() -> bool:
    import ctypes

    for name in _LIBUSB:
        with contextlib.suppress(OSError):
            ctypes.CDLL(name)
            return True
    return False


def find_images(where: Iterable[Path]) -> dict[str, list[str]]:
    """Firmware of which there are images, with versions, by chip."""
    found: dict[str, list[str]] = {}
    for image in read_images(where):
        shown = f"{image.marker.name} {image.marker.version}"
        names = found.setdefault(image.marker.chip.value, [])
        if shown not in names:
            names.append(shown)
    return found


# --- files ----------------------------------------------------------------------------------------


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path, base: int = 10) -> int:
    try:
        return int(_text(path), base)
    except ValueError:
        return 0
