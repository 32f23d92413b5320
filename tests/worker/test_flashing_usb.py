"""A whole worker flashing boards through PICOBOOT: touch, pyusb, ROM, and what comes up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.worker.fake_bootloader import FakeBootloader
from tests.worker.usb_backend import Backend
from tests.worker.usb_boards import UsbBoards, write_image
from tests.worker.waiting import TIMEOUT

from icebus.broker.embedded import EmbeddedBroker
from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.rack import Fault, RackBoard
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import DeviceState
from icebus.worker.hardware.bootloaders import libusb
from icebus.worker.states.core import via_bootloader
from icebus.worker.worker import Worker

if TYPE_CHECKING:
    from tests.worker.conftest import MakeRack
    from tests.worker.peers import Peers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

Own = Callable[[UsbBoards], None]
Images = dict[tuple[str, Chip], bytes]

COUNTS = ("icebus", "pulse_count")
"""Firmware that boards may be given for the kind pulsecount."""


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Backend:
    """The machine's USB, as pyusb sees it."""
    backend = Backend()
    monkeypatch.setattr(libusb, "_backend", lambda: backend)
    return backend


@pytest.fixture(autouse=True)
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Images:
    """Firmware that counts pulses, for both chips, where the worker finds it; its flash content."""
    folder = tmp_path / "images"
    monkeypatch.setenv("ICEBUS_FIRMWARE", str(folder))
    return {
        (name, chip): write_image(folder, name, "0.3.0", chip) for name in COUNTS for chip in Chip
    }


@pytest.fixture
def own(
    broker: EmbeddedBroker, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Own]:
    """Starts the worker of some boards."""
    workers: list[Worker] = []

    def start(boards: UsbBoards) -> None:
        worker = Worker(broker.address("w1"), [boards], tmp_path / "journals")
        workers.append(worker)
        worker.start(Deadline.after(TIMEOUT))

    yield start
    for worker in workers:
        worker.stop(Deadline.after(TIMEOUT))


def test_given_16_boards_of_both_chips_when_all_are_reserved_then_each_rom_gets_its_own_image(
    make_rack: MakeRack, own: Own, peers: Peers, backend: Backend, images: Images
) -> None:
    boards = [
        RackBoard(
            port=f"1-1.{1 + number // 4}.{1 + number % 4}",
            serial=f"USB{number}",
            chip=Chip.RP2350 if number % 4 == 3 else Chip.RP2040,
            firmware="default",
        )
        for number in range(16)
    ]
    usb = UsbBoards(make_rack(*boards, window=0.05), backend)
    own(usb)
    for board in boards:
        peers.wait_state(board.serial, DeviceState.READY)

    peers.reserve(*(board.serial for board in boards))

    for board in boards:
        report = peers.last(board.serial)
        assert report is not None
        assert report.firmware in COUNTS
        assert report.port == board.port
        rom = usb.roms[board.port]
        assert rom.commands.count("EXIT_XIP") == 1, "flashed once, and nobody else's image either"
        assert bytes(rom.flash).startswith(images[report.firmware, board.chip])
        assert (rom.opened, rom.closed) == (0, 0)  # it was pyusb that opened it
    assert not any(device.opened or device.claimed for device in backend.plugged)


def test_given_flash_that_is_worn_out_then_the_board_says_so_and_never_starts_what_is_damaged(
    make_rack: MakeRack, own: Own, peers: Peers, backend: Backend
) -> None:
    board = RackBoard(port="1-1.1", serial="WORN", firmware="default")
    usb = UsbBoards(make_rack(board, window=0.05), backend)

    def wear(_path: str, rom: FakeBootloader) -> None:
        rom.worn = {1}

    usb.on_rom = wear
    own(usb)
    peers.wait_state("WORN", DeviceState.READY)
    peers.desire("WORN", peers.hold)

    said = "its bootloader: the flash at 0x10001000 reads"
    peers.wait(lambda: [r for r in peers.reports["WORN"] if r and said in r.reason], said)
    assert usb.roms["1-1.1"].power_cycle() == "bootloader"


def test_given_a_plug_that_is_pulled_while_flashed_when_it_is_back_then_it_is_flashed_and_serves(
    make_rack: MakeRack,
    own: Own,
    peers: Peers,
    backend: Backend,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(via_bootloader, "RESTART_DEADLINE", 2.0)
    board = RackBoard(port="1-1.1", serial="PULLED", firmware="default")
    rack = make_rack(board, window=0.05)
    usb = UsbBoards(rack, backend)
    pulled = threading.Event()

    def pull_once(_path: str, rom: FakeBootloader) -> None:
        if not pulled.is_set():
            rom.unplug_at = 14
            rom.on_unplug = pulled.set

    usb.on_rom = pull_once
    own(usb)
    peers.wait_state("PULLED", DeviceState.READY)
    peers.desire("PULLED", peers.hold)
    assert pulled.wait(TIMEOUT)
    assert usb.roms["1-1.1"].power_cycle() == "bootloader"
    rack.unplug("PULLED")
    peers.wait_state("PULLED", DeviceState.ABSENT)
    rack.plug(board.model_copy(update={"fault": Fault.BOOTLOADER}))

    report = peers.wait_state("PULLED", DeviceState.SERVING)
    assert report.firmware in COUNTS
    assert usb.roms["1-1.1"].power_cycle() == "application"
