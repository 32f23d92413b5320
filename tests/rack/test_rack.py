from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import struct
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import serial

from icebus.rack.layout import ChipChoice
from icebus.rack.pty import PtyPort
from icebus.rack.rack import Rack
from icebus.schemas.boards.firmware import Chip, FirmwareMarker, marker_image
from icebus.schemas.boards.rack import Mode, RackBoard, RackFile, edit_rack_file, read_boards
from icebus.schemas.boards.uf2 import FLASH_ADDRESS, RP2040, encode
from icebus.schemas.errors import Conflict

SIZE = 104_090
WAITING = b"Waiting for bitstream transfer\r\n"
FLASHING = b"Flashing FPGA\r\n"


def image(name: str, chip: Chip = Chip.RP2040) -> bytes:
    return marker_image(FirmwareMarker(name=name, chip=chip))


def bitstream(ones: int) -> bytes:
    return b"\1" * ones + bytes(SIZE - ones)


@contextlib.contextmanager
def open_raw(path: str) -> Iterator[int]:
    host = os.open(path, os.O_RDWR | os.O_NOCTTY)
    try:
        yield host
    finally:
        os.close(host)


def attributes_of(port: serial.Serial) -> list[Any]:
    return termios.tcgetattr(port.fileno())


def unread(host: int) -> int:
    waiting: int = struct.unpack("i", fcntl.ioctl(host, termios.FIONREAD, bytes(4)))[0]
    return waiting


def report(port: serial.Serial) -> list[bytes]:
    """The lines up to the next time that the firmware waits."""
    data = port.read_until(WAITING)
    assert data.endswith(WAITING), data
    return data.splitlines()


def test_given_a_rack_when_started_then_boards_show_as_usb_would_show_them(start_rack: Any) -> None:
    rack = start_rack(boards=2, chips=ChipChoice.MIXED)

    first = rack.wait_for(Mode.APPLICATION, "1-1.1")
    second = rack.wait_for(Mode.APPLICATION, "1-1.2")

    assert (first.chip, second.chip) == (Chip.RP2040, Chip.RP2350)
    assert (first.vid, first.pid, first.product) == (0x1209, 0xB1C0, "pico-ice")
    assert len(first.serial) == len(second.serial) == 16
    assert first.serial != second.serial
    assert first.session != second.session
    assert (rack.folder() / "tty").is_symlink()
    assert not (rack.folder() / "boot").exists()


def test_given_a_bitstream_when_sent_then_its_count_comes_back_in_the_text_protocol(
    start_rack: Any,
) -> None:
    rack = start_rack()
    with rack.open() as port:
        for ones in (17, 0, 1998):
            port.write(bitstream(ones))
            lines = report(port)
            assert f", pulses: {ones}".encode() in lines
            assert lines[:2] == [b"Bitstream transfer started", b"Receiving bitstream"]
            assert lines[3:5] == [b"Flashing FPGA", b"virtual FPGA: exact"]
    seeds = {seed for _, seed in rack.evaluators[0].seen}
    assert len(seeds) == 1


def test_given_a_report_when_written_then_it_is_logged_for_who_looks_closely(
    start_rack: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "icebus.rack.application")
    rack = start_rack()
    with rack.open() as port:
        port.write(bitstream(17))
        report(port)

    (record,) = [r for r in caplog.records if r.name == "icebus.rack.application"]
    assert record.getMessage() == f"{rack.board().serial} reports 17 pulses"


def test_given_a_firmware_that_has_greeted_when_the_host_opens_then_it_sees_nothing(
    start_rack: Any,
) -> None:
    rack = start_rack()
    with rack.open() as port:
        port.timeout = 0.2
        assert port.read(1) == b""


def test_given_lines_not_read_by_one_host_when_the_next_opens_then_they_are_gone(
    start_rack: Any,
) -> Any:
    rack = start_rack(watchdog=0.05)
    rack.wait_for(Mode.APPLICATION)
    path = str(rack.folder() / "tty")
    # Not pyserial, which flushes on open itself.
    with open_raw(path) as host:
        # As hosts do: what comes before this may be what one before it wrote as it closed.
        termios.tcsetattr(host, termios.TCSANOW, termios.tcgetattr(host))
        os.write(host, b"x")
        rack.wait_until(lambda: unread(host))

    def nothing_unread() -> bool:
        with open_raw(path) as host:
            return unread(host) == 0

    rack.wait_until(nothing_unread)


def test_given_default_firmware_when_opened_then_it_prints_its_line_again_and_again(
    start_rack: Any,
) -> None:
    rack = start_rack(firmware="default")
    with rack.open() as port:
        port.read_until(b"\n")
        assert port.read_until(b"\n") == b"default firmware\r\n"
        assert port.read_until(b"\n") == b"default firmware\r\n"


@pytest.mark.parametrize(
    ("chips", "chip", "pid", "same_serial"),
    [
        (ChipChoice.RP2040, Chip.RP2040, 0x0003, False),
        (ChipChoice.RP2350, Chip.RP2350, 0x000F, True),
    ],
)
def test_given_a_touch_and_an_image_when_copied_then_the_board_runs_that_firmware(
    start_rack: Any, chips: Any, chip: Any, pid: Any, same_serial: Any
) -> None:
    rack = start_rack(chips=chips, firmware="default")
    before = rack.wait_for(Mode.APPLICATION)

    boot = rack.touch()
    assert (boot.vid, boot.pid) == (0x2E8A, pid)
    assert (boot.serial == before.serial) is same_serial
    names = sorted(path.name for path in (rack.folder() / "boot").iterdir())
    assert names == ["INDEX.HTM", "INFO_UF2.TXT"]
    assert not (rack.folder() / "tty").exists()

    (rack.folder() / "boot" / "any name").write_bytes(image("pulse_count", chip))
    after = rack.wait_for(Mode.APPLICATION, other_than=boot.session)
    assert after.serial == before.serial
    assert not (rack.folder() / "boot").exists()
    with rack.open() as port:
        port.write(bitstream(5))
        assert b", pulses: 5" in report(port)


def test_given_two_rp2040_boards_in_the_bootloader_when_looked_at_then_only_ports_differ(
    start_rack: Any,
) -> None:
    rack = start_rack(boards=2)

    assert rack.touch("1-1.1").serial == rack.touch("1-1.2").serial


def test_given_a_file_that_is_no_image_for_the_chip_when_copied_then_it_is_refused(
    start_rack: Any,
) -> None:
    rack = start_rack()
    boot = rack.touch()
    drive = rack.folder() / "boot"

    for data in (
        image("default", Chip.RP2350),
        image("default")[:-1],
        b"not a UF2 file",
        encode(b"x", RP2040, FLASH_ADDRESS + 256),
    ):
        (drive / "firmware.uf2").write_bytes(data)
        rack.wait_until(lambda: not (drive / "firmware.uf2").exists())
        assert rack.board() == boot

    (drive / "firmware.uf2").write_bytes(image("default"))
    rack.wait_for(Mode.APPLICATION)


def test_given_an_image_renamed_into_the_drive_when_whole_then_it_is_flashed(
    start_rack: Any, tmp_path: Path
) -> None:
    rack = start_rack()
    rack.touch()
    (tmp_path / "firmware").write_bytes(image("default"))

    (tmp_path / "firmware").rename(rack.folder() / "boot" / "firmware.uf2")

    rack.wait_for(Mode.APPLICATION)


@pytest.mark.parametrize("data", [image("blinky"), encode(b"some code", RP2040, FLASH_ADDRESS)])
def test_given_firmware_that_the_rack_does_not_know_when_flashed_then_the_board_is_silent(
    start_rack: Any, data: bytes
) -> None:
    rack = start_rack()
    boot = rack.touch()

    (rack.folder() / "boot" / "firmware.uf2").write_bytes(data)

    rack.wait_for(Mode.APPLICATION, other_than=boot.session)
    with rack.open() as port:
        port.timeout = 0.1
        port.write(b"hello?")
        assert port.read(1) == b""
    rack.touch()


def test_given_an_open_port_when_set_to_1200_baud_then_the_board_leaves_while_it_is_open(
    start_rack: Any,
) -> None:
    rack = start_rack()
    with rack.open() as port:
        port.baudrate = 1200
        rack.wait_for(Mode.BOOTLOADER)
        with pytest.raises(serial.SerialException):
            port.read(1)


def test_given_a_host_that_cleared_all_flags_when_it_sets_1200_baud_then_it_is_seen(
    start_rack: Any,
) -> None:
    rack = start_rack()
    with rack.open() as port:
        for speed in (termios.B9600, termios.B115200):
            attributes = attributes_of(port)
            attributes[3] = 0
            attributes[4] = attributes[5] = speed
            termios.tcsetattr(port.fileno(), termios.TCSANOW, attributes)
            # The board puts back what lets it see the next change.
            rack.wait_until(lambda: attributes_of(port)[3] & 0o200000)
        port.baudrate = 1200
        rack.wait_for(Mode.BOOTLOADER)


def test_given_a_board_that_is_unplugged_when_used_then_the_host_gets_an_error(
    start_rack: Any,
) -> None:
    rack = start_rack(boards=2)
    with rack.open("1-1.1") as port, rack.open("1-1.2") as other:
        edit_rack_file(
            rack.directory,
            lambda found: RackFile(boards=tuple(b for b in found.boards if b.port != "1-1.1")),
        )
        with pytest.raises(serial.SerialException):
            port.read(1)
        with pytest.raises(serial.SerialException):
            port.write(b"x")
        other.write(bitstream(3))
        assert b", pulses: 3" in report(other)
    rack.wait_gone("1-1.1")


def test_given_a_board_that_was_flashed_when_plugged_again_then_its_flash_is_what_it_was(
    start_rack: Any,
) -> Any:
    rack = start_rack(firmware="default")
    boot = rack.touch()
    (rack.folder() / "boot" / "f").write_bytes(image("pulse_count"))
    rack.wait_for(Mode.APPLICATION, other_than=boot.session)
    plugged: list[RackBoard] = []

    def unplug(found: RackFile) -> RackFile:
        plugged.extend(found.boards)
        return RackFile()

    edit_rack_file(rack.directory, unplug)
    rack.wait_gone()
    edit_rack_file(rack.directory, lambda _: RackFile(boards=tuple(plugged)))

    with rack.open() as port:
        port.write(bitstream(9))
        assert b", pulses: 9" in report(port)


def test_given_a_rack_file_that_is_torn_when_seen_then_the_boards_stay(start_rack: Any) -> None:
    rack = start_rack()
    board = rack.wait_for(Mode.APPLICATION)
    whole = (rack.directory / "rack.json").read_text()

    (rack.directory / "rack.json").write_text(whole[:20])
    with rack.open() as port:
        port.write(bitstream(1))
        report(port)
    assert rack.board() == board

    (rack.directory / "rack.json").write_text('{"boards": []}')
    rack.wait_gone()


def test_given_a_byte_too_many_when_sent_then_it_shifts_the_next_bitstream(start_rack: Any) -> None:
    rack = start_rack(watchdog=30)
    with rack.open() as port:
        port.write(bitstream(2) + b"!")
        report(port)
        port.write(bitstream(2))
        assert b", pulses: 2" in report(port)
    assert rack.evaluators[0].seen[1][0].bitstream == b"!" + bitstream(2)[:-1]


def test_given_a_transfer_that_stops_when_time_is_up_then_the_watchdog_barks(
    start_rack: Any,
) -> None:
    rack = start_rack(watchdog=1.0)
    with rack.open() as port:
        port.write(bitstream(2)[:-90])
        lines = report(port)
        assert lines[-2:] == [
            b"Watchdog timeout, 104000 bytes received of 104090",
            WAITING.strip(),
        ]
        port.write(bitstream(4))
        assert b", pulses: 4" in report(port)


@pytest.mark.parametrize("bandwidth", [0, 1_000_000])
@pytest.mark.parametrize("gap", [0.0, 0.05])
def test_given_a_host_that_closes_within_a_transfer_when_it_comes_back_then_nothing_is_shifted(
    start_rack: Any, bandwidth: Any, gap: Any
) -> None:
    rack = start_rack(watchdog=30, bandwidth=bandwidth)
    with rack.open() as port:
        port.write(b"\1" * 50_000)
        port.read_until(b"Receiving bitstream\r\n")
    time.sleep(gap)
    with rack.open() as port:
        # With no gap the board may have to guess where the new bytes begin; it must not be wrong.
        time.sleep(0.05)
        port.write(bitstream(6))
        assert b", pulses: 6" in report(port)


def test_given_a_port_just_found_closed_when_a_host_opens_and_writes_then_its_bytes_are_not_dropped(
    start_rack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts: list[serial.Serial] = []
    looks: list[bool] = []

    class HostAtTheWorstMoment(PtyPort):
        def is_closed(self) -> bool:
            closed = super().is_closed()
            looks.append(closed)
            if looks == [True, True]:  # the greeting, then the hang-up of a port not opened yet
                host = serial.Serial(self.path, timeout=10.0)
                host.write(bitstream(5)[:3_000])
                hosts.append(host)
            return closed

    monkeypatch.setattr("icebus.rack.application.PtyPort", HostAtTheWorstMoment)
    rack = start_rack(watchdog=30)
    rack.wait_until(lambda: hosts)
    with hosts[0] as port:
        port.write(bitstream(5)[3_000:])
        assert b", pulses: 5" in report(port)


def test_given_bandwidth_when_a_bitstream_is_sent_then_it_takes_the_time_that_usb_takes(
    start_rack: Any,
) -> Any:
    def seconds(bandwidth: float) -> float:
        rack = start_rack(bandwidth=bandwidth)
        with rack.open() as port:
            start = time.monotonic()
            port.write(bitstream(1))
            assert port.read_until(FLASHING).endswith(FLASHING)
            return time.monotonic() - start

    assert seconds(500_000) >= SIZE / 500_000
    assert seconds(0) < SIZE / 500_000


def test_given_a_window_when_measured_then_it_takes_that_time(start_rack: Any) -> None:
    rack = start_rack(window=0.2)
    with rack.open() as port:
        port.write(bitstream(1))
        port.read_until(FLASHING)
        start = time.monotonic()
        report(port)
        assert time.monotonic() - start >= 0.198 - 0.05  # the line itself may have come late


def test_given_a_directory_with_a_rack_when_another_starts_then_it_refuses(start_rack: Any) -> None:
    rack = start_rack()
    rack.wait_for(Mode.APPLICATION)

    prepared: list[bool] = []
    with pytest.raises(Conflict, match=rf"runs in .* \(process {os.getpid()}\)"):
        Rack(rack.directory).run(lambda: prepared.append(True))

    assert not prepared
    assert rack.board()


def test_given_a_rack_when_stopped_then_no_folder_and_no_thread_is_left(start_rack: Any) -> None:
    threads = set(threading.enumerate())
    rack = start_rack(boards=4)
    for port in ("1-1.1", "1-1.2", "1-1.3", "1-1.4"):
        rack.wait_for(Mode.APPLICATION, port)
    rack.touch("1-1.1")

    rack.stop()

    assert read_boards(rack.directory) == []
    assert not any(path.is_dir() for path in rack.directory.iterdir())
    assert set(threading.enumerate()) <= threads


def test_given_many_boards_when_used_at_once_then_each_answers_its_own_host(
    start_rack: Any,
) -> None:
    rack = start_rack(boards=8, window=0.02)
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(rack.open(f"1-1.{n}")) for n in range(1, 9)]
        for turn in range(3):
            for number, port in enumerate(ports):
                port.write(bitstream(10 * turn + number))
            for number, port in enumerate(ports):
                assert f", pulses: {10 * turn + number}".encode() in report(port)


def test_given_no_pty_to_be_had_when_enumerating_then_the_board_comes_once_there_is(
    start_rack: Any, monkeypatch: pytest.MonkeyPatch
) -> Any:
    failures = iter([OSError("no more PTYs")])

    def scarce() -> PtyPort:
        for failure in failures:
            raise failure
        return PtyPort()

    monkeypatch.setattr("icebus.rack.application.PtyPort", scarce)
    monkeypatch.setattr("icebus.rack.board._RETRY_SECONDS", 0.01)

    start_rack().wait_for(Mode.APPLICATION)
