"""Emulated boards in a rack: what a worker sees of them, over their pseudo-terminals and drives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
import serial
from tests.firmware.conftest import circuit
from tests.firmware.emulated_board import DEADLINE, IMAGE, Host, skip_unless_built
from tests.firmware.virtual_board import SerialPort
from tests.worker.racks import Rack
from tests.worker.waiting import eventually

from icebus.schemas.boards import picoboot
from icebus.schemas.boards.firmware import Chip, FirmwareMarker, marker_image
from icebus.schemas.boards.framed import Frame, FrameType
from icebus.schemas.boards.framed_replies import Samples
from icebus.schemas.boards.framed_requests import CountPulses, TakeSamples
from icebus.schemas.boards.rack import (
    PICOBOOT,
    BoardFile,
    Fault,
    Mode,
    RackBoard,
    read_board_file,
)
from icebus.worker.hardware.flashing import touch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

ONE = RackBoard(port="1-1.1", serial="E6616407E3000001", emulated=True)
OTHER = RackBoard(port="1-1.2", serial="E6616407E3000002", emulated=True)
WINDOW = CountPulses(window_us=50_000)


@dataclass(frozen=True)
class Place:
    """A plug of the rack, with an emulated board in it."""

    rack: Rack
    spec: RackBoard

    @property
    def folder(self) -> Path:
        return self.rack.directory / self.spec.port

    @property
    def emulators(self) -> list[int]:
        """The process of each board's emulator, and its helper after it."""
        return descendants(self.rack.process.pid, "icebus.rack.emulator.counts")

    def wait_for(self, mode: Mode, other_than: str = "") -> BoardFile:
        """The board once it is in that mode, enumerated anew since ``other_than``."""

        def found() -> BoardFile | None:
            board = read_board_file(self.folder)
            there = board is not None and board.mode is mode and board.session != other_than
            return board if there else None

        board = eventually(found, f"{self.spec.port} as {mode}")
        assert board is not None
        return board

    @contextmanager
    def opened(self) -> Iterator[Host]:
        self.wait_for(Mode.APPLICATION)
        with serial.Serial(str(self.folder / "tty"), 115_200, exclusive=True) as connection:
            yield Host(SerialPort(connection))

    def touched(self) -> BoardFile:
        """The board in its bootloader."""
        before = self.wait_for(Mode.APPLICATION)
        touch(self.folder / "tty")
        return self.wait_for(Mode.BOOTLOADER, before.session)


def descendants(process: int, word: str) -> list[int]:
    """The processes below that one with that word in their command lines."""
    children = Path(f"/proc/{process}/task/{process}/children")
    found = []
    for child in map(int, children.read_text().split() if children.exists() else []):
        if word.encode() in Path(f"/proc/{child}/cmdline").read_bytes():
            found.append(child)
        found += descendants(child, word)
    return found


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    skip_unless_built()
    rack = Rack(tmp_path_factory.mktemp("rack"), [ONE])
    yield rack
    rack.stop()


@pytest.fixture
def place(rack: Rack) -> Place:
    place = Place(rack, ONE)
    place.wait_for(Mode.APPLICATION)
    return place


def test_given_an_emulated_board_when_plugged_then_its_firmware_says_which_it_is(
    place: Place,
) -> None:
    shown = place.wait_for(Mode.APPLICATION)

    assert (shown.vid, shown.pid, shown.product) == (0x1209, 0xB1C0, "icebus pico-ice")
    assert (shown.emulated, shown.slowness, shown.chip) == (True, 4.0, Chip.RP2040)
    with place.opened() as host:
        assert host.banner().id == shown.serial == ONE.serial


@pytest.mark.parametrize("khz", [2, 8, 32])
def test_given_a_circuit_when_measured_over_the_port_then_its_pulses_are_counted(
    place: Place, khz: int
) -> None:
    with place.opened() as host:
        assert host.count(circuit(khz), WINDOW).pulses == (50 * khz,)


def test_given_a_pin_that_rises_and_falls_when_sampled_then_the_voltage_follows_it(
    place: Place,
) -> None:
    with place.opened() as host:
        # Three and an eighth periods of it, and of a pin that stands still.
        rising = sampled(host, TakeSamples(adc_input=2, rate_hz=100_000, count=39))
        still = sampled(host, TakeSamples(adc_input=3, rate_hz=100_000, count=39))

    middle = [sample > 2047 for sample in rising]
    assert sum(now != before for before, now in pairwise(middle)) in (5, 6, 7)
    assert max(rising) > 3000 > 1000 > min(rising)
    assert still == (0,) * 39


def test_given_a_host_that_closes_the_port_when_it_is_owed_a_result_then_the_next_finds_it_idle(
    place: Place,
) -> None:
    with place.opened() as host:
        host.measure(circuit(8), CountPulses(window_us=60_000_000))
        host.wait_until_measuring()

    with place.opened() as host:
        assert host.count(circuit(2), WINDOW).pulses == (100,)
        assert host.status().waiting == 0


def test_given_a_host_that_never_reads_then_it_is_held_up_and_the_next_is_served(
    place: Place,
) -> None:
    place.wait_for(Mode.APPLICATION)
    with serial.Serial(str(place.folder / "tty"), 115_200, write_timeout=2.0) as connection:
        with pytest.raises(serial.SerialTimeoutException):
            ask_without_end(connection)
        connection.reset_output_buffer()

    with place.opened() as host:
        # What lay between them and the board may have taken a request with it.
        eventually(lambda: not unanswered(host), "an answer")


def test_given_a_touch_when_a_real_image_is_copied_then_the_board_runs_it(place: Place) -> None:
    bootloader = place.touched()

    assert (bootloader.vid, bootloader.pid, bootloader.emulated) == (0x2E8A, 0x0003, True)
    assert place.emulators == []
    (place.folder / "boot" / "ICEBUS.UF2").write_bytes(IMAGE.read_bytes())
    place.wait_for(Mode.APPLICATION, bootloader.session)
    with place.opened() as host:
        assert host.banner().firmware == "icebus"


def test_given_a_marker_image_when_copied_then_it_is_refused_and_a_reboot_still_works(
    place: Place,
) -> None:
    bootloader = place.touched()
    drive = place.folder / "boot"
    marker = drive / "MARKER.UF2"

    marker.write_bytes(marker_image(FirmwareMarker(name="icebus", chip=Chip.RP2040)))
    eventually(lambda: not marker.exists(), "the refusal")
    (drive / PICOBOOT).write_bytes(picoboot.reboot(Chip.RP2040).pack(1))

    place.wait_for(Mode.APPLICATION, bootloader.session)


def test_given_a_restart_when_asked_for_then_the_board_goes_and_comes_back(place: Place) -> None:
    before = place.wait_for(Mode.APPLICATION)
    with place.opened() as host:
        assert host.reply(host.send(FrameType.RESTART)).type is FrameType.ACCEPTED
        host.wait_until_closed()

    after = place.wait_for(Mode.APPLICATION, before.session)
    assert after.serial == before.serial
    with place.opened() as host:
        assert host.banner().reset == "request"


def test_given_an_emulator_that_is_killed_in_a_window_then_the_board_goes_and_comes_back(
    place: Place,
) -> None:
    before = place.wait_for(Mode.APPLICATION)
    emulator, helper = place.emulators
    with place.opened() as host:
        host.measure(circuit(8), CountPulses(window_us=60_000_000))
        host.wait_until_measuring()
        os.kill(emulator, signal.SIGKILL)
        host.wait_until_closed()

    place.wait_for(Mode.APPLICATION, before.session)
    assert helper not in place.emulators
    with place.opened() as host:
        assert host.count(circuit(8), WINDOW).pulses == (400,)


def test_given_another_emulated_board_when_plugged_and_unplugged_then_both_work_and_nothing_is_left(
    rack: Rack, place: Place
) -> None:
    other = Place(rack, OTHER)
    rack.plug(OTHER)
    with other.opened() as host, place.opened() as same:
        sequence = host.measure(circuit(8), WINDOW)
        assert same.count(circuit(2), WINDOW).pulses == (100,)
        assert host.result(sequence).pulses == (400,)
        rack.unplug(OTHER.serial)
        host.wait_until_closed()
        assert same.count(circuit(2), WINDOW).pulses == (100,)

    eventually(lambda: len(place.emulators) == 2, "the end of the other emulator")
    assert not other.folder.exists()


def test_given_a_chip_that_hangs_then_it_answers_nothing_until_that_is_over(
    rack: Rack, place: Place
) -> None:
    with place.opened() as host:
        host.banner()
        rack.change(lambda board: {"fault": Fault.HANG})
        eventually(lambda: unanswered(host), "the hang")
        rack.change(lambda board: {"fault": None})
        host.reply(host.send(FrameType.ABORT), FrameType.ABORTED)


def test_given_a_rack_that_is_killed_then_its_emulators_end(tmp_path: Path) -> None:
    skip_unless_built()
    rack = Rack(tmp_path, [ONE])
    place = Place(rack, ONE)
    place.wait_for(Mode.APPLICATION)
    processes = place.emulators
    assert len(processes) == 2

    rack.process.kill()
    rack.process.wait()

    eventually(lambda: not any(is_running(process) for process in processes), "their end")


def sampled(host: Host, wanted: TakeSamples) -> tuple[int, ...]:
    sequence = host.measure(circuit(8), wanted)
    samples = host.reply(sequence, FrameType.SAMPLES).payload
    assert isinstance(samples, Samples)
    return samples.values


def ask_without_end(connection: serial.Serial) -> None:
    while True:
        connection.write(Frame(FrameType.STATUS, 1).pack() * 64)


def unanswered(host: Host) -> bool:
    sequence = host.send(FrameType.STATUS)
    return not host.port.read(0.2) and sequence > 0


def is_running(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    try:
        return status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


# --- what is missing ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "remedy"),
    [
        ({"ICEBUS_EMULATOR": "/nowhere"}, "ICEBUS_EMULATOR=/nowhere script/emulator"),
        ({"ICEBUS_FIRMWARE": "/nowhere"}, "script/firmware"),
    ],
)
@pytest.mark.parametrize("command", [["emulator"], ["run", "--emulated", "1"]])
def test_given_a_part_that_is_missing_then_the_command_that_brings_it_is_named(
    tmp_path: Path, variables: dict[str, str], remedy: str, command: list[str]
) -> None:
    skip_unless_built()
    asked = subprocess.run(
        [sys.executable, "-m", "icebus.rack.cli", *command],
        env={**os.environ, "ICEBUS_RACK_DIRECTORY": str(tmp_path), **variables},
        stderr=subprocess.PIPE,
        text=True,
        timeout=DEADLINE,
    )

    assert asked.returncode == 1
    assert remedy in asked.stderr
    assert list(tmp_path.iterdir()) == []


Make = Callable[[], RackBoard]


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (
            lambda: RackBoard(port="1-1", serial=ONE.serial, chip=Chip.RP2350, emulated=True),
            "nothing emulates the rp2350",
        ),
        (lambda: RackBoard(port="1-1", serial="BOARD1", emulated=True), "no flash id"),
        (
            lambda: RackBoard(port="1-1", serial=ONE.serial, emulated=True, fault=Fault.BABBLE),
            "can't babble",
        ),
    ],
)
def test_given_a_board_that_can_not_be_emulated_then_the_rack_file_says_why(
    make: Make, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        make()
