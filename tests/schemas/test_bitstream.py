from __future__ import annotations

import binascii
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icebus.schemas.boards import bitstream
from icebus.schemas.errors import BitstreamInvalid

CIRCUITS = Path(__file__).parents[2] / "examples" / "circuits"
GOOD = (CIRCUITS / "pulse_2khz.bin").read_bytes()
AFTER_RESET = GOOD.index(b"\x01\x05") + 2
WAKEUP = GOOD.rindex(b"\x01\x06")
CRC = WAKEUP - 2
BANK_WIDTH = GOOD.index(b"\x62\x02\xb3")


def problem(data: bytes) -> str:
    with pytest.raises(BitstreamInvalid) as caught:
        bitstream.validate(data)
    assert caught.value.message
    return str(caught.value.details["problem"])


def edited(at: int, new: bytes) -> bytes:
    return GOOD[:at] + new + GOOD[at + len(new) :]


@pytest.mark.parametrize("path", sorted(CIRCUITS.glob("*.bin")), ids=lambda path: path.stem)
def test_given_what_icepack_writes_then_it_is_valid(path: Path) -> None:
    bitstream.validate(path.read_bytes())


@pytest.mark.parametrize("size", [0, 10, 104_089, 104_091, 104_190, 250_000])
def test_given_another_size_then_both_sizes_are_named(size: int) -> None:
    with pytest.raises(BitstreamInvalid, match=f"104,090 bytes, this has {size:,}") as caught:
        bitstream.validate((GOOD * 3)[:size])
    assert caught.value.details == {"problem": "size", "expected": 104_090, "got": size}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (bytes(len(GOOD)), "preamble"),
        (edited(4, b"\x7f"), "preamble"),
        (edited(8, b"\xf1"), "command"),
        (edited(8, b"\x5f"), "command"),
        (edited(10, b"\x01\x08"), "command"),
        (edited(10, b"\x01\x02"), "command"),
        (edited(BANK_WIDTH, b"\x62\x01\x49"), "device"),
        (edited(GOOD.index(b"\x11\x03"), b"\x11\x04"), "device"),
        (edited(GOOD.index(b"\x82\x00\x00"), b"\x82\x00\x01"), "device"),
        (edited(10, b"\x01\x06"), "unchecked"),
        (edited(10, b"\x51\x00"), "unchecked"),
        (edited(50_000, bytes([GOOD[50_000] ^ 1])), "crc"),
        (edited(CRC, b"\x00\x00"), "crc"),
        (edited(WAKEUP, b"\x51\x00"), "command"),
        (edited(len(GOOD) - 1, b"\x01"), "trailing"),
    ],
)
def test_given_a_broken_file_then_the_problem_has_a_name(data: bytes, expected: str) -> None:
    assert problem(data) == expected


def test_given_no_wakeup_then_it_is_said() -> None:
    assert problem(GOOD[1:WAKEUP] + b"\x51\x00" * 2) == "wakeup"


def test_given_a_file_that_ends_inside_its_data_then_it_is_cut_off() -> None:
    assert problem((bytes(40_000) + GOOD[4:])[: len(GOOD)]) == "truncated"


def test_given_a_command_cut_off_by_the_end_then_it_is_said() -> None:
    assert problem(GOOD[2:WAKEUP] + b"\x51\x00" * 2 + b"\x72") == "truncated"


def test_given_data_without_its_end_then_the_framing_is_wrong() -> None:
    first = bitstream.bank_writes(GOOD)[0]
    assert problem(edited(first.start + first.size, b"\x01")) == "framing"


def test_when_any_single_bit_after_the_reset_flips_then_it_is_refused() -> None:
    for bit in range(AFTER_RESET * 8, len(GOOD) * 8, 997):
        data = bytearray(GOOD)
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamInvalid):
            bitstream.validate(bytes(data))


@given(st.binary(max_size=400))
def test_given_any_bytes_then_nothing_but_a_refusal(data: bytes) -> None:
    with pytest.raises(BitstreamInvalid):
        bitstream.validate(data)


@settings(max_examples=200)
@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=64), st.booleans())
def test_given_any_damage_then_valid_or_refused(at: int, new: bytes, repair: bool) -> None:
    data = edited(at, new)[: len(GOOD)]
    with suppress(BitstreamInvalid):
        if repair:
            data = bitstream.with_crc(data)
            bitstream.validate(data)
            assert bitstream.with_crc(data) == data
        else:
            bitstream.validate(data)
            assert data[AFTER_RESET:] == GOOD[AFTER_RESET:]


@given(st.binary(max_size=3000), st.integers(0, 4000))
def test_given_commands_that_make_no_sense_then_valid_or_refused(body: bytes, at: int) -> None:
    data = bytes(at) + bitstream.PREAMBLE + body
    data += bytes(bitstream.BITSTREAM_SIZE - len(data))
    with pytest.raises(BitstreamInvalid):
        bitstream.validate(data)


def test_given_an_edit_when_the_checksum_is_repaired_then_only_that_changes() -> None:
    damaged = edited(50_000, bytes([GOOD[50_000] ^ 0x10]))
    repaired = bitstream.with_crc(damaged)
    bitstream.validate(repaired)
    assert repaired[:CRC] == damaged[:CRC]
    assert repaired[CRC + 2 :] == damaged[CRC + 2 :]
    crc = binascii.crc_hqx(repaired[AFTER_RESET:CRC], 0xFFFF)
    assert repaired[CRC : CRC + 2] == crc.to_bytes(2, "big")


def test_given_a_wrong_size_when_repaired_then_it_is_refused() -> None:
    with pytest.raises(BitstreamInvalid):
        bitstream.with_crc(GOOD[:-1])


def test_given_a_good_file_then_its_banks_are_found() -> None:
    writes = bitstream.bank_writes(GOOD)
    cram = [write for write in writes if write.memory == "cram"]
    assert [(w.bank, w.width, w.height, w.offset) for w in cram] == [
        (bank, 692, height, 0) for bank, height in enumerate((336, 176, 336, 176))
    ]
    bram = [write for write in writes if write.memory == "bram"]
    assert sum(write.size for write in bram) == 2 * 256 * (160 + 80) // 8
    for write in writes:
        assert GOOD[write.start + write.size : write.start + write.size + 2] == b"\0\0"


def cold(data: bytes) -> dict[str, object]:
    """What a process says that has seen no bitstream before; empty if it is valid."""
    bitstream._reference.clear()
    try:
        bitstream.validate(data)
    except BitstreamInvalid as refused:
        return refused.details
    return {}


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=600)), max_size=8
    ),
    st.booleans(),
)
def test_given_another_seen_before_then_the_answer_is_the_same(
    edits: list[tuple[int, bytes]], repaired: bool
) -> None:
    data = bytearray(GOOD)
    for at, new in edits:
        data[at : at + len(new)] = new[: len(GOOD) - at]
    if repaired:
        with suppress(BitstreamInvalid):
            data = bytearray(bitstream.with_crc(bytes(data)))
    expected = cold(bytes(data))
    bitstream._reference.clear()
    bitstream.validate(GOOD)

    try:
        bitstream.validate(bytes(data))
        found: dict[str, object] = {}
    except BitstreamInvalid as refused:
        found = refused.details

    assert found == expected


def test_given_a_file_that_is_quite_another_when_seen_then_the_next_are_compared_with_it() -> None:
    bitstream.validate(GOOD)
    other = bytearray(GOOD)
    for write in bitstream.bank_writes(GOOD):
        block = slice(write.start, write.start + write.size)
        other[block] = bytes(byte ^ 0xA5 for byte in other[block])
    different = bitstream.with_crc(bytes(other))

    bitstream.validate(different)

    assert bitstream._reference[0].data == different
    bitstream.validate(GOOD)
