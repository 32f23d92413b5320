"""The unmodified worker gives boards on a made-up USB another firmware, and they come back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.usb import fake_picotool
from tests.usb.followed import FollowedRack
from tests.worker.racks import Rack

from icebus.schemas.boards import uf2
from icebus.schemas.boards.firmware import Chip, FirmwareMarker, marker_bytes
from icebus.schemas.boards.rack import RackBoard
from icebus.schemas.devices import DeviceReport, DeviceState

if TYPE_CHECKING:
    from tests.usb.bus import UsbBus
    from tests.usb.conftest import StartWorker
    from tests.worker.peers import Peers

pytestmark = pytest.mark.slow


@pytest.fixture
def rack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rack]:
    """Two boards of either chip with the firmware of boards that nobody uses."""
    chips = [Chip.RP2040, Chip.RP2350, Chip.RP2040, Chip.RP2350]
    rack = Rack(
        tmp_path / "rack",
        [
            RackBoard(port=f"1-1.{number}", serial=f"B{number}", chip=chip, firmware="default")
            for number, chip in enumerate(chips, 1)
        ],
    )
    rack.wait()
    monkeypatch.setenv("ICEBUS_TEST_RACK", str(rack.directory))
    yield rack
    rack.stop()


@pytest.fixture
def picotool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the path, with what stands for it here."""
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "picotool"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{fake_picotool.__file__}" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of images of the pulse-count firmware for real boards."""
    folder = tmp_path / "images"
    folder.mkdir()
    for chip in Chip:
        content = bytes(256) + marker_bytes(FirmwareMarker(name="pulse_count", chip=chip))
        image = uf2.encode(content, chip.family, uf2.FLASH_ADDRESS)
        (folder / f"{chip}.uf2").write_bytes(image)
    return folder


def configuration(rack: Rack, images: Path) -> str:
    boards = "".join(
        f'[[usb.boards]]\nport = "{board.port}"\nchip = "{board.chip}"\n' for board in rack.boards
    )
    return f'firmware.folders = ["{images}"]\n{boards}'


def test_given_boards_with_the_wrong_firmware_when_reserved_then_they_are_flashed_and_serve(
    bus: UsbBus,
    rack: Rack,
    picotool: None,
    images: Path,
    start_worker: StartWorker,
    peers: Peers,
) -> None:
    followed = FollowedRack(bus, rack)
    start_worker(configuration(rack, images))
    serials = [board.serial for board in rack.boards]
    for serial in serials:
        assert peers.wait_state(serial, DeviceState.READY).firmware == "default"
    peers.reserve(*serials)
    for board in rack.boards:
        report = peers.wait_state(board.serial, DeviceState.SERVING)
        assert (report.firmware, report.chip) == ("pulse_count", board.chip)
        assert report.port == board.port
    assert sorted(peers.reports) == serials
    followed.stop()


Phase = Callable[[DeviceReport], bool]

PHASES: Mapping[str, Phase] = {
    "B1": lambda report: report.reason == "flashing pulse_count",
    "B2": lambda report: report.progress is not None,  # its bootloader is there
    "B3": lambda report: report.state is DeviceState.PREPARING and not report.reason,  # tested
    "B4": lambda report: report.state is DeviceState.SERVING,
}
"""When each board is unplugged."""


def test_given_boards_that_are_unplugged_in_each_phase_and_a_worker_that_is_killed_then_all_serve(
    bus: UsbBus,
    rack: Rack,
    picotool: None,
    images: Path,
    start_worker: StartWorker,
    peers: Peers,
) -> None:
    followed = FollowedRack(bus, rack)
    worker = start_worker(configuration(rack, images))
    boards = {board.serial: board for board in rack.boards}
    for serial in boards:
        peers.wait_state(serial, DeviceState.READY)
    for serial, phase in PHASES.items():
        mark = peers.mark(serial)
        peers.desire(serial, peers.hold)
        wait_phase(peers, serial, mark, phase)
        rack.unplug(serial)
        peers.wait_since(serial, mark, DeviceState.ABSENT)
        rack.plug(boards[serial])
    mark = peers.mark("B1")
    peers.desire("B1", peers.hold, reflash=next(peers.nonces))
    wait_phase(peers, "B1", mark, PHASES["B2"])
    worker.kill()
    marks = {serial: peers.mark(serial) for serial in boards}
    start_worker(configuration(rack, images))
    for serial in boards:
        peers.wait_since(serial, marks[serial], DeviceState.SERVING)
    followed.stop()


def wait_phase(peers: Peers, serial: str, mark: int, phase: Phase) -> None:
    """Wait until a device has reported a phase since ``mark``."""
    peers.wait(
        lambda: any(report and phase(report) for report in peers.reports[serial][mark:]),
        f"the phase of {serial}",
    )
