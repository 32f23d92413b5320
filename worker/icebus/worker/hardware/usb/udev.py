"""USB devices as Linux's udev shows them: at once when they come and go."""

from __future__ import annotations

import contextlib
import errno
import grp
import logging
import os
import select
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyudev

from icebus.schemas.boards.rack import is_port
from icebus.worker.hardware.usb.usb_device import DeviceChanges, OnDevices, Tty, UsbDevice

log = logging.getLogger(__name__)

SETTLE = 2.0
"""Seconds within which all that a device shows has appeared: the kernel adds its serial ports some
milliseconds after it, and udev then sets their rights."""

LOOK_EVERY = 15.0
"""Seconds between looks without an event, which heal what an event that was missed has left wrong.
One takes 20 ms of CPU with 20 boards."""

LOOK_FOR_RIGHTS = 2.0
"""Seconds between looks while a port may not be opened: rights changed by hand are no event."""

LOOK_AGAIN = 0.1
"""Seconds after an event: what it told of may not have been complete yet."""

DAEMON = Path("/run/udev/control")
"""There while udev's daemon runs. Where it does not, only the kernel tells of devices."""

SUBSYSTEMS = ("usb", "tty")

TTYS = ("ttyACM*", "ttyUSB*")
"""Serial ports on USB; there are a hundred others to look through."""


class UdevSource:
    """Looks at everything at the start and whenever udev tells of a change.

    Which change it was does not matter, so one that was lost, as when the kernel's buffer for them
    overflows, is made good by the next look.

    Args:
        settle: seconds after which what a device does not show is missing.

    Raises:
        ImportError: there is no libudev.
    """

    def __init__(self, settle: float = SETTLE) -> None:
        self._context = pyudev.Context()
        self._settle = settle
        self._first_seen: dict[str, float] = {}
        self._removed: frozenset[str] = frozenset()
        self._thread: threading.Thread | None = None
        self._stop_read, self._stop_write = os.pipe()

    def start(self, on_change: OnDevices) -> None:
        """Look at once, then watch, on a thread."""
        source = "udev" if DAEMON.exists() else "kernel"
        monitor = pyudev.Monitor.from_netlink(self._context, source)
        for subsystem in SUBSYSTEMS:
            monitor.filter_by(subsystem)
        monitor.start()  # before the first look, so that nothing falls between
        self._thread = threading.Thread(
            target=self._watch, args=(monitor, on_change), name="udev", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        os.write(self._stop_write, b"x")
        if self._thread is not None:
            self._thread.join(timeout=5)
        os.close(self._stop_read)
        os.close(self._stop_write)

    def _watch(self, monitor: pyudev.Monitor, on_change: OnDevices) -> None:
        poll = select.poll()
        poll.register(monitor.fileno(), select.POLLIN)
        poll.register(self._stop_read, select.POLLIN)
        changes = DeviceChanges(self._devices, on_change)
        pause = LOOK_EVERY
        while True:
            changes.look()
            until = self._until_next_look(changes.devices or ())
            ready = dict(poll.poll(min(pause, until) * 1000))
            if self._stop_read in ready:
                return
            pause = LOOK_AGAIN if ready else LOOK_EVERY
            self._removed = frozenset()
            if monitor.fileno() in ready:
                events = _drain(monitor)
                if events is None:
                    poll.unregister(monitor.fileno())
                else:  # what is removed may be seen for a moment still
                    self._removed = frozenset(p for p, how in events.items() if how == "remove")

    def _until_next_look(self, devices: Sequence[UsbDevice]) -> float:
        pauses = [LOOK_EVERY]
        if any(not tty.usable for device in devices for tty in device.ttys):
            pauses.append(LOOK_FOR_RIGHTS)
        now = time.monotonic()
        settling = [since + self._settle - now for since in self._first_seen.values()]
        pauses += [left + 0.01 for left in settling if left > 0]
        return min(pauses)

    def _is_settled(self, since: float) -> bool:
        return time.monotonic() >= since + self._settle

    def _devices(self) -> list[UsbDevice]:
        ttys = self._ttys()
        found: list[UsbDevice] = []
        now = time.monotonic()
        first_seen: dict[str, float] = {}
        for each in self._context.list_devices(subsystem="usb", DEVTYPE="usb_device"):
            port = each.sys_name
            if not is_port(port) or each.sys_path in self._removed:  # or it is a root hub
                continue
            with _leaving():
                session = _session(each)
                since = self._first_seen.get(session, now)
                first_seen[session] = since
                found.append(
                    UsbDevice(
                        port=port,
                        session=session,
                        vid=int(_text(each, "idVendor"), 16),
                        pid=int(_text(each, "idProduct"), 16),
                        serial=_text(each, "serial"),
                        product=_text(each, "product"),
                        ttys=tuple(sorted(ttys.get(port, []), key=lambda tty: tty.interface)),
                        settled=self._is_settled(since),
                    )
                )
        self._first_seen = first_seen
        return sorted(found, key=lambda device: device.port)

    def _ttys(self) -> dict[str, list[Tty]]:
        found: dict[str, list[Tty]] = {}
        for pattern in TTYS:
            devices = self._context.list_devices(subsystem="tty")
            for each in devices.match_sys_name(pattern):
                with _leaving():
                    interface = each.find_parent("usb", "usb_interface")
                    device = each.find_parent("usb", "usb_device")
                    if interface is None or device is None or each.device_node is None:
                        continue
                    path = Path(each.device_node)
                    # An interface is named by its device, its configuration and its number.
                    number = int(interface.sys_name.rpartition(".")[2])
                    tty = Tty(path, number, os.access(path, os.R_OK | os.W_OK), _group(path))
                    found.setdefault(device.sys_name, []).append(tty)
        return found


def _drain(monitor: pyudev.Monitor) -> dict[str, str] | None:
    """Take all events: what last happened to each device, by its path. None if no more come."""
    events: dict[str, str] = {}
    while True:
        try:
            device = monitor.poll(timeout=0)
            if device is None:
                return events
            events[device.sys_path] = device.action
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                log.error("udev tells no more (%s); looked at every %g s", error, LOOK_EVERY)  # noqa: TRY400
                return None
            log.warning("udev told more than there was room for; everything is looked at anew")


@contextlib.contextmanager
def _leaving() -> Iterator[None]:
    """Skip a device that goes while it is looked at: its files are gone, or some of them."""
    with contextlib.suppress(OSError, LookupError, ValueError):
        yield


def _session(device: pyudev.Device) -> str:
    """The number on the bus grows with each enumeration; a new folder stands for one, too."""
    folder = Path(device.sys_path).stat().st_ino
    number = _text(device, "devnum") or device.properties.get("DEVNUM", "")
    return f"{device.sys_name}-{number}-{folder}"


def _text(device: pyudev.Device, attribute: str) -> str:
    value = device.attributes.get(attribute)
    return "" if value is None else bytes(value).decode("utf-8", "replace").strip()


def _group(path: Path) -> str:
    try:
        return grp.getgrgid(path.stat().st_gid).gr_name
    except (OSError, KeyError):
        return ""
