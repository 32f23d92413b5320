"""Which USB devices are boards, and what is known of them: one pure function.

A worker opens and flashes what this gives, and nothing else on USB. So what is not certainly a
board is left out: a Pico that is somebody's keyboard shows the same vendor, and in its bootloader
the very same ids, as a board does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.rack import (
    BOOTLOADER,
    PICO_APPLICATION,
    PICO_ICE_APPLICATION,
    Mode,
)
from icebus.schemas.ids import is_serial
from icebus.worker.hardware.board import ConnectedBoard
from icebus.worker.hardware.port import RULES
from icebus.worker.hardware.usb.rules import UsbRules
from icebus.worker.hardware.usb.usb_device import UsbDevice

SOURCE: Final = "usb"
"""What found the boards that come from here."""

PRODUCTS: Final = {"icebus pico-ice": Chip.RP2040, "icebus pico2-ice": Chip.RP2350}
"""Product strings of icebus's own firmware. That of pico-ice-sdk, ``pico-ice``, is the same on both
chips."""

_PICO_ICE: Final = (PICO_ICE_APPLICATION.vid, PICO_ICE_APPLICATION.pid)
_PICO: Final = {(shown.vid, shown.pid): chip for chip, shown in PICO_APPLICATION.items()}
_BOOTLOADERS: Final = {(shown.vid, shown.pid): chip for chip, shown in BOOTLOADER.items()}

_OWN_SERIAL: Final = {_PICO_ICE, *_PICO, (BOOTLOADER[Chip.RP2350].vid, BOOTLOADER[Chip.RP2350].pid)}
"""Ids of what shows the serial of a board; the bootloader of an RP2040 shows that of all."""

LONGEST_SHOWN: Final = 64
"""Characters of a serial that are shown: devices may say what they like."""

NO_TTY: Final = (
    "it shows no serial port; the kernel needs the module cdc_acm: run sudo modprobe cdc_acm, or "
    "plug it in again"
)


@dataclass(frozen=True)
class KnownBoard:
    """A board that was seen at a port.

    Attributes:
        serial: of its application; None where only its bootloader was seen.
        chip: as its hardware or its firmware gave it; None where neither did.
    """

    serial: str | None
    chip: Chip | None


Known = Mapping[str, KnownBoard]
"""What was last seen at each port, by its path."""


@dataclass(frozen=True)
class FoundBoards:
    """What USB shows, as a worker takes it.

    Attributes:
        boards: that are there.
        known: what is to be remembered of ports.
        left_alone: why a device that looks like a board is none of ours, by its port.
    """

    boards: Sequence[ConnectedBoard]
    known: Known
    left_alone: Mapping[str, str]


def find_boards(devices: Iterable[UsbDevice], rules: UsbRules, known: Known) -> FoundBoards:
    """Sort out the boards among all USB devices.

    Args:
        devices: all there are, at most one a port.
        rules: what the worker was told.
        known: what was at each port before.
    """
    at_ports = {device.port: device for device in devices}
    boards: list[ConnectedBoard] = []
    before = _Before(known, at_ports)
    now_known = dict(before.here)
    left_alone: dict[str, str] = {}
    for port in sorted(at_ports, key=_in_order):
        device = at_ports[port]
        seen = _seen(device, rules, before)
        if isinstance(seen, str):
            if seen:
                left_alone[port] = seen
            if (device.vid, device.pid) not in _BOOTLOADERS:
                now_known.pop(port, None)  # another device has the board's place
            continue
        now_known[port] = seen
        board = _connected(device, rules, seen)
        if board is not None:
            boards.append(board)
    return FoundBoards(boards, now_known, left_alone)


class _Before:
    """What was known before, in the light of what is there now.

    Attributes:
        here: what was at each port, but for boards that show themselves at another one now.
    """

    def __init__(self, known: Known, at_ports: Mapping[str, UsbDevice]) -> None:
        self._known = known
        self._shown: dict[str, set[str]] = {}
        for port, device in at_ports.items():
            if (device.vid, device.pid) in _OWN_SERIAL:
                self._shown.setdefault(device.serial, set()).add(port)
        self.here = {
            port: board
            for port, board in known.items()
            if board.serial not in self._shown or port in self._shown[board.serial]
        }

    def by_serial(self, serial: str, port: str) -> KnownBoard | None:
        """What was known of the board, if what shows its serial at ``port`` can be that one.

        It can't where it was seen and is still: then there are two.
        """
        for place in sorted(self._known, key=lambda place: (place != port, place)):
            if self._known[place].serial == serial:
                still_there = place != port and place in self._shown.get(serial, ())
                return None if still_there else self._known[place]
        return None


def _seen(device: UsbDevice, rules: UsbRules, before: _Before) -> KnownBoard | str:
    """What is known of the board that ``device`` is; or why it is none, if it looks like one."""
    chip = _BOOTLOADERS.get((device.vid, device.pid))
    if chip is not None:
        return _seen_in_bootloader(device, chip, rules, before)
    if not rules.allow(device.port, device.serial):
        return ""
    known = before.by_serial(device.serial, device.port)
    pico = _PICO.get((device.vid, device.pid))
    # pico-sdk gives its applications the serial that pico-ice-sdk does, so a board that was given
    # such firmware is still known.
    ours = (device.vid, device.pid) == _PICO_ICE or (pico is not None and known is not None)
    if not ours and not rules.owns(device.port, device.serial):
        return "" if pico is None else _foreign(device, "an application of pico-sdk", None)
    if not is_serial(device.serial):
        shown = repr(device.serial[:LONGEST_SHOWN])
        return f"its serial {shown} can't name a device; its firmware has to give it one"
    here = before.here.get(device.port)
    if known is None and here is not None and here.serial is None:
        known = here  # its bootloader was seen here
    return KnownBoard(
        device.serial,
        pico or PRODUCTS.get(device.product) or (known.chip if known is not None else None),
    )


def _seen_in_bootloader(
    device: UsbDevice, chip: Chip, rules: UsbRules, before: _Before
) -> KnownBoard | str:
    own_serial = device.serial if chip is Chip.RP2350 and is_serial(device.serial) else None
    there = known = before.here.get(device.port)
    if known is not None and not _may_be(known, chip, own_serial):
        known = None
    if known is None and own_serial is not None:
        known = before.by_serial(own_serial, device.port)
    serial = own_serial or (known.serial if known is not None else None)
    if not rules.allow(device.port, serial):
        return ""
    if known is None and not rules.owns(device.port, serial):
        whose = f" {own_serial}" if own_serial is not None else ""
        return _foreign(device, f"the bootloader of an {chip}{whose}", there)
    return KnownBoard(serial, chip)


def _may_be(known: KnownBoard, chip: Chip, serial: str | None) -> bool:
    """Whether a bootloader of ``chip`` may be that of the board that was there before."""
    same_serial = serial is None or known.serial is None or known.serial == serial
    return known.chip in (None, chip) and same_serial


def _foreign(device: UsbDevice, what: str, there: KnownBoard | None) -> str:
    seen = "no board was seen there before"
    if there is not None:
        seen = f"it can't be the board that was seen there ({there.serial or there.chip})"
    return (
        f"{what}, and {seen}: if it is one, name its port in the worker's configuration: "
        f'[[usb.boards]] port = "{device.port}", owned = true'
    )


def _connected(device: UsbDevice, rules: UsbRules, seen: KnownBoard) -> ConnectedBoard | None:
    bootloader = (device.vid, device.pid) in _BOOTLOADERS
    tty, problem = (None, "") if bootloader else (device.console, _problem(device))
    if problem and not device.settled:
        return None  # what it lacks may be about to appear
    serial = seen.serial
    if bootloader and seen.chip is Chip.RP2040:
        serial = None  # every one of them shows the same
    chip = seen.chip
    if not bootloader and device.product not in PRODUCTS:
        chip = rules.chip(device.port, seen.serial) or chip
    return ConnectedBoard(
        path=device.port,
        session=device.session,
        chip=chip,
        serial=serial,
        tty=None if tty is None else tty.path,
        drive=None,  # looked for when there is something to copy to it
        virtual=False,
        mode=Mode.BOOTLOADER if bootloader else Mode.APPLICATION,
        source=SOURCE,
        labels={"hub": device.hub, **rules.labels(device.port, seen.serial)},
        problem=problem,
    )


def _problem(device: UsbDevice) -> str:
    """Why the board's application can't be spoken to, with the remedy."""
    tty = device.console
    if tty is None:
        return NO_TTY
    if tty.usable:
        return ""
    remedy = RULES
    if tty.group not in ("", "root"):
        remedy += (
            f", or add the worker's user to the group {tty.group} (sudo usermod -aG {tty.group} "
            "USER) and start the worker again"
        )
    return f"no right to open {tty.path}: {remedy}"


def _in_order(port: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", port)]
