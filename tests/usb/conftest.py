"""What tests of boards on USB share: a made-up USB, a rack behind it, the worker's process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from tests.usb import bus as usb
from tests.usb.bus import UsbBus, UsbWorker
from tests.usb.opened import Untouchable
from tests.worker.peers import Peers
from tests.worker.racks import Rack

from icebus.broker.embedded import EmbeddedBroker
from icebus.schemas.boards.rack import RackBoard


@pytest.fixture
def bus() -> Iterator[UsbBus]:
    """A machine's USB, with nothing plugged."""
    missing = usb.missing()
    if missing and os.environ.get("CI"):
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)
    bus = UsbBus()
    yield bus
    bus.close()


@pytest.fixture
def peers(broker: EmbeddedBroker) -> Iterator[Peers]:
    """Everybody but the worker."""
    everybody = Peers(broker)
    yield everybody
    everybody.close()


class StartWorker(Protocol):
    def __call__(self, configuration: str = "", *wrapper: str) -> UsbWorker: ...


@pytest.fixture
def start_worker(bus: UsbBus, broker: EmbeddedBroker, tmp_path: Path) -> Iterator[StartWorker]:
    """Starts lives of one worker; killed at the end."""
    running: list[UsbWorker] = []

    def start(configuration: str = "", *wrapper: str) -> UsbWorker:
        running.append(UsbWorker(bus, broker, tmp_path / "worker", configuration, wrapper))
        return running[-1]

    yield start
    for each in running:
        each.kill()


class Behind:
    """Boards of a rack behind the device files of a made-up USB."""

    def __init__(self, bus: UsbBus, rack: Rack) -> None:
        self._bus = bus
        self.rack = rack
        self._ports = {board.serial: board.port for board in rack.boards}

    def put(self, serial: str, tty: str) -> str:
        """Have ``/dev/tty…`` lead to the board; gives its name."""
        self._bus.device_file(tty, self.rack.directory / self._ports[serial] / "tty")
        return tty


class MakeBoards(Protocol):
    def __call__(self, count: int, firmware: str = "default") -> Behind: ...


@pytest.fixture
def make_boards(bus: UsbBus, tmp_path: Path) -> Iterator[MakeBoards]:
    """Boards ``B1`` and so on, which nobody sees until they are plugged."""
    racks: list[Rack] = []

    def make(count: int, firmware: str = "default") -> Behind:
        boards = [
            RackBoard(port=f"9-{number}", serial=f"B{number}", firmware=firmware)
            for number in range(1, count + 1)
        ]
        racks.append(Rack(tmp_path / "rack", boards))
        racks[-1].wait()
        return Behind(bus, racks[-1])

    yield make
    for rack in racks:
        rack.stop()


@pytest.fixture
def untouchable() -> Iterator[Untouchable]:
    """A serial port that must not be opened."""
    port = Untouchable()
    yield port
    port.close()
    assert not port.opened
