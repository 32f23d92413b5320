"""How USB devices are seen: by polling, and by udev as far as that can be tried without any.

``tests/usb`` has the rest, on a made-up USB.
"""

from __future__ import annotations

import errno
import queue
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from serial.tools.list_ports_common import ListPortInfo
from tests.worker.waiting import eventually

from icebus.schemas.errors import InvalidRequest
from icebus.worker.hardware.board import Snapshot
from icebus.worker.hardware.usb import Finding, PortMemory, UsbDiscovery, UsbRules, open_source
from icebus.worker.hardware.usb.polling import PollingSource
from icebus.worker.hardware.usb.usb_device import OnDevices, Tty, UsbDevice

TIMEOUT = 20.0


def port(device: str, location: str | None, **fields: Any) -> ListPortInfo:
    info = ListPortInfo(device)
    shown = {"vid": 0x1209, "pid": 0xB1C0, "serial_number": "A", "product": "pico-ice", **fields}
    for name, value in {"location": location, **shown}.items():
        setattr(info, name, value)
    return info


class Desk:
    """Serial ports that a test plugs, and what a source says of them."""

    def __init__(self, folder: Path) -> None:
        self.ports: list[ListPortInfo] = []
        self.failing = False
        self.told: queue.Queue[Sequence[UsbDevice]] = queue.Queue()
        self._folder = folder

    def list_all(self) -> list[ListPortInfo]:
        if self.failing:
            raise OSError("no sysfs")
        return self.ports

    def next(self) -> Sequence[UsbDevice]:
        return self.told.get(timeout=TIMEOUT)

    def file(self, name: str) -> str:
        path = self._folder / name
        path.touch()
        return str(path)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    source = PollingSource(desk.list_all, every=0.001)
    source.start(desk.told.put)
    assert desk.next() == []
    yield desk
    source.stop()


# --- polling ------------------------------------------------------------------------------------


def test_given_a_board_on_linux_then_its_interfaces_are_told_apart_by_their_numbers(
    desk: Desk,
) -> None:
    uart, console = desk.file("ttyACM0"), desk.file("ttyACM1")
    desk.ports = [port(uart, "1-1.2:1.2"), port(console, "1-1.2:1.0"), port("/dev/ttyS0", None)]
    (device,) = desk.next()
    assert (device.port, device.vid, device.serial) == ("1-1.2", 0x1209, "A")
    assert device.ttys == (Tty(Path(console), 0), Tty(Path(uart), 2))


def test_given_a_board_on_macos_then_its_interfaces_are_in_the_order_of_their_names(
    desk: Desk,
) -> None:
    console, uart = desk.file("cu.usbmodem9"), desk.file("cu.usbmodem11")
    desk.ports = [port(uart, "20-1.2"), port(console, "20-1.2")]
    (device,) = desk.next()
    assert device.console == Tty(Path(console), 0)


def test_given_a_board_that_goes_and_returns_then_it_has_enumerated_anew(desk: Desk) -> None:
    tty = desk.file("ttyACM0")
    desk.ports = [port(tty, "1-1")]
    (first,) = desk.next()
    desk.ports = []
    assert desk.next() == []
    desk.ports = [port(tty, "1-1")]
    (second,) = desk.next()
    assert first.session != second.session
    desk.ports = [port(tty, "1-1"), port(desk.file("ttyACM1"), "1-2")]
    third, _ = desk.next()
    assert third == second


def test_given_ports_that_cant_be_listed_then_the_next_look_may_succeed(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.failing = True
    desk.ports = [port("/nowhere", "1-1")]
    eventually(lambda: "could not be listed" in caplog.text, "the failure")
    desk.failing = False
    (device,) = desk.next()
    assert not device.ttys[0].usable


# --- which source -------------------------------------------------------------------------------


def test_given_no_udev_then_ports_are_polled_unless_udev_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "icebus.worker.hardware.usb.udev", None)
    assert isinstance(open_source(Finding.AUTO), PollingSource)
    assert isinstance(open_source(Finding.POLLING), PollingSource)
    with pytest.raises(InvalidRequest, match="there is no udev here"):
        open_source(Finding.UDEV)


# --- udev ---------------------------------------------------------------------------------------


class Monitor:
    """Gives events, or fails, as a test says."""

    def __init__(self, *events: Any) -> None:
        self._events = list(events)

    def poll(self, timeout: float) -> Any:
        event = self._events.pop(0)
        if isinstance(event, OSError):
            raise event
        return event


def event(path: str, action: str) -> Any:
    return SimpleNamespace(sys_path=path, action=action)


def test_given_more_events_than_there_was_room_for_then_those_that_came_are_taken() -> None:
    udev = pytest.importorskip("icebus.worker.hardware.usb.udev", exc_type=ImportError)
    overflow = OSError(errno.ENOBUFS, "No buffer space available")
    monitor = Monitor(event("/1-1", "remove"), overflow, event("/1-1", "add"), None)
    assert udev._drain(monitor) == {"/1-1": "add"}


def test_given_events_that_end_then_that_is_told(caplog: pytest.LogCaptureFixture) -> None:
    udev = pytest.importorskip("icebus.worker.hardware.usb.udev", exc_type=ImportError)
    assert udev._drain(Monitor(OSError(errno.EBADF, "Bad file descriptor"))) is None
    assert "udev tells no more" in caplog.text


def test_given_this_machine_then_its_usb_can_be_looked_at() -> None:
    try:
        source = open_source(Finding.UDEV)
    except InvalidRequest as missing:
        pytest.skip(missing.message)
    told: queue.Queue[Sequence[UsbDevice]] = queue.Queue()
    source.start(told.put)
    told.get(timeout=TIMEOUT)
    source.stop()


# --- what becomes of it -------------------------------------------------------------------------


class Source:
    """Says what a test says."""

    def __init__(self) -> None:
        self.say: Callable[[Sequence[UsbDevice]], None] = lambda _: None
        self.stopped = False

    def start(self, on_change: OnDevices) -> None:
        self.say = on_change

    def stop(self) -> None:
        self.stopped = True


def test_given_devices_then_boards_are_reported_when_they_change_and_others_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    source, told = Source(), list[Snapshot]()
    discovery = UsbDiscovery(source, UsbRules(), PortMemory(tmp_path / "ports.json"))
    discovery.start(told.append)
    board = UsbDevice("1-1", "s", 0x1209, 0xB1C0, "A", "pico-ice", (Tty(Path("/dev/x"), 0),))
    keyboard = UsbDevice("1-2", "k", 0x2E8A, 0x000A, "K", "Pico")
    source.say([])
    source.say([keyboard])
    source.say([board, keyboard])
    source.say([board, keyboard])
    assert [[each.serial for each in snapshot] for snapshot in told] == [[], ["A"]]
    assert caplog.text.count("left alone at USB port 1-2") == 1
    assert PortMemory(tmp_path / "ports.json").load()["1-1"].serial == "A"
    discovery.stop()
    assert source.stopped
