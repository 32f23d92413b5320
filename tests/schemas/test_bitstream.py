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


@pytest.mark.parametrize("size", [0, 10, 104_089, 104_091, 250_000])
def test_given_another_size_and_no_preamble_then_both_sizes_are_named(size: int) -> None:
    with pytest.raises(BitstreamInvalid, match=f"104,090 bytes, this has {size:,}") as caught:
        bitstream.validate(bytes(size))
    assert caught.value.details == {"problem": "size", "size": size}


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


def test_given_a_wrong_size_when_repaired_then_it_keeps_it() -> None:
    damaged = bytearray(GOOD[:-1])
    damaged[50_000] ^= 0x10
    repaired = bitstream.with_crc(bytes(damaged))
    bitstream.validate(repaired)
    assert len(repaired) == len(GOOD) - 1


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


# --- of other tools -----------------------------------------------------------------------------

COMMANDS = GOOD[GOOD.index(bitstream.PREAMBLE) : WAKEUP + 2]


def command(opcode: int, argument: int, size: int) -> bytes:
    return bytes([opcode << 4 | size]) + argument.to_bytes(size, "big")


def written(blocks: list[tuple[int, int, int, int, int, bytes]], begin: bytes = b"") -> bytes:
    """Commands that write (memory, bank, width, height, offset, contents), as iCEcube2 does it."""
    checked = command(9, 0x20, 2)
    known: dict[int, int] = {}
    for memory, bank, width, height, offset, contents in blocks:
        for opcode, argument in ((6, width - 1), (7, height), (8, offset)):
            if known.get(opcode) != argument:
                known[opcode] = argument
                checked += command(opcode, argument, 2)
        checked += command(1, bank, 1) + command(0, memory, 1) + contents + b"\0\0"
    checked += b"\x22"
    crc = binascii.crc_hqx(checked, 0xFFFF).to_bytes(2, "big")
    return begin + bitstream.PREAMBLE + b"\x51\0\x01\x05" + checked + crc + b"\x01\x06"


def blocks_of(
    data: bytes, memories: tuple[str, ...]
) -> list[tuple[int, int, int, int, int, bytes]]:
    number = {"cram": 1, "bram": 3}
    return [
        (number[w.memory], w.bank, w.width, w.height, w.offset, data[w.start : w.start + w.size])
        for w in bitstream.bank_writes(data)
        if w.memory in memories
    ]


def contents(data: bytes) -> list[tuple[int, int, int, int, int, bytes]]:
    return blocks_of(data, ("cram", "bram"))


def empty(width: int, heights: tuple[int, int, int, int]) -> bytes:
    """An empty bitstream of a device with such banks."""
    return written(
        [
            (1, bank, width, height, 0, bytes(width * height // 8))
            for bank, height in enumerate(heights)
        ]
    )


LATTICE = b"\xff\0Lattice\0iCEcube2 2017.08\0Part: iCE40UP5K-%s\0Date: May 6 2018\0\xff47\0"


@pytest.mark.parametrize(
    "other",
    [
        GOOD[:-1],
        GOOD + bytes(100),
        GOOD + b"\xff" * 4096,
        COMMANDS,
        b"\xff\0another comment\0\0\xff" + COMMANDS,
        written(contents(GOOD), LATTICE % b"SG48") + b"\0",
        written(blocks_of(GOOD, ("cram",))),
    ],
    ids=["cut", "longer", "flash", "bare", "comment", "lattice", "no block RAM"],
)
def test_given_what_another_tool_writes_when_normalised_then_the_boards_take_it(
    other: bytes,
) -> None:
    bitstream.validate(other)

    normalised = bitstream.normalise(other)

    assert len(normalised.data) == bitstream.BITSTREAM_SIZE
    assert f"from {len(other):,} bytes" in normalised.note
    assert contents(normalised.data) == contents(other)
    assert normalised.data.endswith(b"\x01\x06"), "nothing lies between wake-up and measuring"
    assert bitstream.normalise(normalised.data) == bitstream.Normalised(normalised.data, "")


def test_given_the_boards_size_when_normalised_then_it_is_not_looked_at() -> None:
    noise = b"\xff" * len(GOOD)
    assert bitstream.normalise(noise) == bitstream.Normalised(noise, "")


def test_given_another_package_when_normalised_then_the_note_names_it() -> None:
    other = written(contents(GOOD), LATTICE % b"UWG30")
    assert "iCE40UP5K-UWG30" in bitstream.normalise(other).note
    same = written(contents(GOOD), LATTICE % b"SG48I")
    assert "SG48I" not in bitstream.normalise(same).note


@pytest.mark.parametrize("damage", [b"\x01", b"\0\xff\xfe"])
def test_given_more_than_padding_behind_the_wakeup_then_it_is_refused(damage: bytes) -> None:
    assert problem(COMMANDS + damage) == "trailing"


@given(st.binary(max_size=300), st.integers(0, 3000), st.sampled_from([b"\0", b"\xff"]))
def test_given_any_comment_and_padding_then_what_is_written_stays_the_same(
    comment: bytes, padding: int, with_what: bytes
) -> None:
    comment = comment.replace(bitstream.PREAMBLE, b"")
    other = comment + COMMANDS + with_what * padding
    normalised = bitstream.normalise(other).data
    assert contents(normalised) == contents(GOOD)


@pytest.mark.parametrize(
    ("width", "heights", "name"),
    [
        (182, (80, 80, 80, 80), "iCE40LP384"),
        (332, (144, 144, 144, 144), "iCE40HX1K or iCE40LP1K"),
        (872, (272, 272, 272, 272), "iCE40HX8K or iCE40LP8K"),
        (692, (176, 176, 176, 176), "u4k"),
        (656, (176, 176, 176, 176), "iCE40LM4K"),
    ],
)
def test_given_another_device_then_it_is_named_by_size_and_header(
    width: int, heights: tuple[int, int, int, int], name: str
) -> None:
    data = empty(width, heights)
    for call in (bitstream.validate, bitstream.normalise):
        with pytest.raises(BitstreamInvalid, match=name) as caught:
            call(data)
        assert caught.value.details["problem"] == "device"
        assert f"{len(data):,} bytes" in caught.value.message
        assert f"{heights[0]} rows of {width} bits" in caught.value.message


def test_given_a_device_that_differs_in_height_only_when_it_writes_block_ram_then_it_is_named() -> (
    None
):
    cram = [(1, bank, 692, 176, 0, bytes(692 * 22)) for bank in range(4)]
    with pytest.raises(BitstreamInvalid, match="u4k"):
        bitstream.validate(written([*cram, (3, 0, 80, 128, 0, bytes(10 * 128))]))


def test_given_an_unknown_device_then_its_banks_are_told() -> None:
    with pytest.raises(BitstreamInvalid, match="16 rows of 88 bits") as caught:
        bitstream.validate(empty(88, (16, 16, 16, 16)))
    assert caught.value.details["problem"] == "device"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b".comment from nextpnr\n.device 5k\n", "icepack"),
        (bitstream.PREAMBLE + b"\x92\0\0\x44\x03\0\0\xa0\x82\0\0\x01\x08" + bytes(15), "icemulti"),
    ],
)
def test_given_what_is_one_step_from_a_bitstream_then_the_step_is_named(
    data: bytes, told: str
) -> None:
    with pytest.raises(BitstreamInvalid, match=told):
        bitstream.validate(data)


def test_given_more_commands_than_a_board_has_room_for_then_it_is_refused() -> None:
    twice = written([*contents(GOOD), *contents(GOOD)])
    with pytest.raises(BitstreamInvalid, match="commands alone") as caught:
        bitstream.normalise(twice)
    assert caught.value.details == {"problem": "size", "size": len(twice)}
