from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icebus.schemas.boards import picoboot
from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.picoboot import Access, Code, Command, CommandId, CommandStatus
from icebus.schemas.errors import InvalidRequest

WORD = st.integers(0, (1 << 32) - 1)
COMMANDS = st.builds(Command, st.integers(0, 255), st.binary(max_size=16), WORD)


@given(command=COMMANDS, token=WORD)
def test_given_any_command_when_packed_then_unpacking_gives_it_back(
    command: Command, token: int
) -> None:
    data = command.pack(token)

    assert len(data) == picoboot.SIZE
    assert Command.unpack(data) == (command, token)
    assert command.name


@given(st.builds(CommandStatus, WORD, WORD, st.integers(0, 255), st.booleans()))
def test_given_any_status_when_packed_then_unpacking_gives_it_back(status: CommandStatus) -> None:
    data = status.pack()

    assert len(data) == picoboot.STATUS_SIZE
    assert CommandStatus.unpack(data) == status
    assert status.name


@given(st.binary(max_size=40))
def test_given_any_bytes_when_unpacked_then_nothing_but_the_typed_error_comes(data: bytes) -> None:
    with pytest.raises(InvalidRequest):
        Command.unpack(data)
    if len(data) != picoboot.STATUS_SIZE:
        with pytest.raises(InvalidRequest):
            CommandStatus.unpack(data)


def test_given_more_arguments_than_there_is_room_for_then_it_is_no_command() -> None:
    data = bytearray(picoboot.exit_xip().pack(1))
    data[9] = 17
    with pytest.raises(InvalidRequest, match="not a PICOBOOT command"):
        Command.unpack(bytes(data))


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (picoboot.exclusive_access(Access.EXCLUSIVE), (0x01, 1, 0, b"\1")),
        (picoboot.exit_xip(), (0x06, 0, 0, b"")),
        (
            picoboot.flash_erase(0x10001000, 0x2000),
            (0x03, 8, 0, b"\x00\x10\x00\x10\x00\x20\x00\x00"),
        ),
        (picoboot.write(0x10000100, 256), (0x05, 8, 256, b"\x00\x01\x00\x10\x00\x01\x00\x00")),
        (picoboot.read(0x10000000, 4096), (0x84, 8, 4096, b"\x00\x00\x00\x10\x00\x10\x00\x00")),
        (picoboot.reboot(Chip.RP2040), (0x02, 12, 0, bytes(8) + b"\x0a\0\0\0")),
        (picoboot.reboot(Chip.RP2350), (0x0A, 16, 0, bytes(4) + b"\x0a\0\0\0" + bytes(8))),
    ],
)
def test_given_the_datasheets_when_packing_then_every_field_is_where_they_say(
    command: Command, expected: Any
) -> None:
    number, size, length, arguments = expected

    assert command.pack(7) == (
        b"\x0b\xd1\x1f\x43"
        + struct.pack("<IBBHI", 7, number, size, 0, length)
        + arguments.ljust(16, b"\0")
    )


def test_given_a_command_then_its_id_says_where_its_data_goes() -> None:
    assert picoboot.read(0, 1).is_in
    assert not picoboot.write(0, 1).is_in
    assert picoboot.read(256, 512).range == (256, 512)


def test_given_what_icebus_has_no_name_for_then_people_see_the_number() -> None:
    assert Command(0x8C).name == "0x8c"
    assert Command(CommandId.READ).name == "READ"
    assert CommandStatus(1, 99).name == "error 99"
    assert CommandStatus(1, Code.BAD_ALIGNMENT).name == "BAD_ALIGNMENT"
