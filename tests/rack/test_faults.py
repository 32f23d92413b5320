"""Boards that misbehave, as their host sees them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

import pytest
import serial
from hypothesis import given
from hypothesis import strategies as st
from tests.rack.steps import ASKED

from icebus.rack.firmware import Faulty, FirmwareSettings, said
from icebus.rack.firmware.pulse_count import PulseCount
from icebus.rack.verdict import Verdict
from icebus.schemas.boards import picoboot
from icebus.schemas.boards import pulse_count_text as text
from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.rack import PICOBOOT, Fault, Mode, RackFile, edit_rack_file

if TYPE_CHECKING:
    from tests.rack.conftest import RunningRack

    StartRack = Callable[..., RunningRack]

BLANK = b"\xff" * text.BITSTREAM_SIZE
EXACT = Verdict.of(7)
WAITING = f"{text.WAITING}\r\n".encode()


def set_fault(rack: RunningRack, fault: Fault | None, port: str = "1-1.1") -> None:
    def change(file: RackFile) -> RackFile:
        boards = (
            board.model_copy(update={"fault": fault}) if board.port == port else board
            for board in file.boards
        )
        return RackFile(boards=tuple(boards))

    edit_rack_file(rack.directory, change)


# --- the firmware, without a board ----------------------------------------------------------------


def conversation(fault: Fault) -> tuple[Faulty, bytes]:
    """All that a firmware with a fault takes of an upload, and what it says until it is idle."""
    firmware = Faulty(PulseCount(FirmwareSettings(load=0), Random(0)), fault, Random(1))
    output, rest, now = firmware.start(0).output, BLANK, 0.0
    while rest and (wants := firmware.wants):
        output += firmware.receive(rest[:wants], now).output
        rest = rest[wants:]
    output += firmware.measured(ASKED, EXACT, 0.5).output
    return firmware, output + firmware.wake(1.0).output + firmware.wake(5.0).output


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.WEDGE, Fault.STALL])
def test_given_a_board_that_stands_still_then_it_says_nothing(fault: Fault) -> None:
    firmware, output = conversation(fault)
    begun = said(text.CONNECTED, text.WAITING, text.STARTED, text.RECEIVING)
    assert output == (begun if fault is Fault.STALL else b"")
    assert firmware.wants == 0
    assert firmware.touchable is (fault is not Fault.HANG)


def test_given_a_board_that_babbles_then_it_takes_nothing_and_never_ends() -> None:
    firmware, output = conversation(Fault.BABBLE)
    assert output.startswith(b"babble")
    assert text.WAITING.encode() not in output
    assert firmware.wants == 0
    assert firmware.deadline is not None


def test_given_a_board_that_says_garbage_then_it_works_but_no_line_is_left() -> None:
    firmware, output = conversation(Fault.GARBAGE)
    assert len(output) > 100
    assert text.IDLE.encode() not in output
    assert firmware.wants == 1, "it waits for the next"


def test_given_a_board_that_misreports_then_all_but_the_report_is_as_it_should_be() -> None:
    _, output = conversation(Fault.MISREPORT)
    _, well = conversation(Fault.BOOTLOADER)  # concerns the board, not its firmware
    lines = list(zip(output.splitlines(), well.splitlines(), strict=True))
    assert [a.decode() for a, b in lines if a != b] == [
        text.FLASH_TIMES_PREFIX[:20],
        f"{text.PULSES_PREFIX}12three",
    ]


@given(st.sampled_from(list(Fault)), st.lists(st.integers(1, 70_000), max_size=8))
def test_given_any_fault_then_no_more_is_taken_than_is_wanted(
    fault: Fault, pieces: list[int]
) -> None:
    firmware = Faulty(PulseCount(FirmwareSettings(), Random(0)), fault, Random(1))
    taken = 0
    for number, piece in enumerate(pieces):
        size = min(piece, firmware.wants)
        if size:
            firmware.receive(b"\0" * size, number / 1000)
            taken += size
        firmware.wake(number / 1000)
        assert firmware.wants >= 0
    if fault in (Fault.HANG, Fault.WEDGE, Fault.BABBLE):
        assert taken == 0
    if fault is Fault.STALL:
        assert taken <= firmware.stalls_at


# --- boards ---------------------------------------------------------------------------------------


def measure(port: serial.Serial) -> bytes:
    port.write(BLANK)
    said = port.read_until(f"{text.IDLE}\r\n".encode())
    return said + port.read_until(WAITING)


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.STALL, Fault.BABBLE])
def test_given_a_fault_that_is_switched_off_then_the_same_port_works_again(
    start_rack: StartRack, fault: Fault
) -> None:
    rack = start_rack(watchdog=0.1)
    before = rack.wait_for(Mode.APPLICATION)
    with rack.open() as port:
        assert b"pulses: 0" in measure(port)
        set_fault(rack, fault)
        if fault is Fault.BABBLE:
            assert port.read_until(b"babble")
        else:
            rack.wait_until(lambda: rack.rack._boards["1-1.1"].spec.fault is fault)
        set_fault(rack, None)
        rack.wait_until(lambda: rack.rack._boards["1-1.1"].spec.fault is None)
        port.reset_input_buffer()
        assert b"pulses: 0" in measure(port)
    after = rack.board()
    assert after is not None
    assert after.session == before.session, "a fault is no unplugging"


def test_given_a_wedged_board_when_it_is_reset_then_it_is_well(start_rack: StartRack) -> None:
    rack = start_rack()
    rack.wait_for(Mode.APPLICATION)
    set_fault(rack, Fault.WEDGE)
    rack.wait_until(lambda: rack.rack._boards["1-1.1"].spec.fault is Fault.WEDGE)
    bootloader = rack.touch()
    (rack.folder() / "boot" / PICOBOOT).write_bytes(picoboot.reboot(Chip.RP2040).pack(1))
    rack.wait_for(Mode.APPLICATION, other_than=bootloader.session)
    with rack.open() as port:
        assert b"pulses: 0" in measure(port)


def test_given_a_hanging_board_then_it_can_only_be_unplugged(start_rack: StartRack) -> None:
    rack = start_rack(boards=2)
    before = rack.wait_for(Mode.APPLICATION)
    set_fault(rack, Fault.HANG)
    rack.wait_until(lambda: rack.rack._boards["1-1.1"].spec.fault is Fault.HANG)
    serial.Serial(str(rack.folder() / "tty"), 1200).close()
    rack.touch("1-1.2")  # what is said after it has been heard after it
    assert rack.board() == before


@pytest.mark.parametrize("how", ["reboot", "plug"])
def test_given_a_board_that_never_leaves_its_bootloader_then_it_starts_nothing_else(
    start_rack: StartRack, how: str
) -> None:
    rack = start_rack()
    board = rack.touch()
    set_fault(rack, Fault.BOOTLOADER)
    rack.wait_until(lambda: rack.rack._boards["1-1.1"].spec.fault is Fault.BOOTLOADER)
    if how == "reboot":
        (rack.folder() / "boot" / PICOBOOT).write_bytes(picoboot.reboot(Chip.RP2040).pack(1))
    else:
        plugged = edit_rack_file(rack.directory, lambda file: file)
        edit_rack_file(rack.directory, lambda _: RackFile())
        rack.wait_gone()
        edit_rack_file(rack.directory, lambda _: plugged)
    again = rack.wait_for(Mode.BOOTLOADER, other_than=board.session)
    set_fault(rack, None)
    rack.wait_until(lambda: rack.rack._boards["1-1.1"].spec.fault is None)
    (rack.folder() / "boot" / PICOBOOT).write_bytes(picoboot.reboot(Chip.RP2040).pack(1))
    rack.wait_for(Mode.APPLICATION, other_than=again.session)


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.parametrize("chip", list(Chip))
def test_given_a_reboot_command_then_it_is_one_for_that_chip_only(chip: Chip) -> None:
    command = picoboot.reboot(chip).pack(1)
    assert len(command) == picoboot.SIZE
    assert command[:4] == b"\x0b\xd1\x1f\x43"
    assert [other for other in Chip if picoboot.is_reboot(command, other)] == [chip]


@given(st.binary(max_size=40))
def test_given_any_bytes_then_they_are_no_command_by_accident(data: bytes) -> None:
    assert not picoboot.is_reboot(data, Chip.RP2040)
