"""Where the iCE40UP5K keeps each configuration bit, as Project IceStorm documents the device.

A tile's bits are named by row and column inside the tile; the file holds four banks of rows. This
module knows the way from one to the other, and the bits of a tile that are not routing.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from icebus.schemas.boards.bitstream import CRAM_HEIGHTS, CRAM_WIDTH, BankWrite

WIDTH: Final = 26
HEIGHT: Final = 32
"""Tiles of the device, the ring of IO, DSP and IPConnect tiles included."""

CRAM_BITS: Final = CRAM_WIDTH * sum(CRAM_HEIGHTS)

Pad = tuple[int, int, int]
"""An IO: x and y of its tile, and which of the tile's two blocks it is."""

PADS: Final[dict[int, Pad]] = {
    2: (8, 0, 0),
    3: (9, 0, 1),
    4: (9, 0, 0),
    6: (13, 0, 1),
    9: (15, 0, 0),
    10: (16, 0, 0),
    11: (17, 0, 0),
    12: (18, 0, 0),
    13: (19, 0, 0),
    14: (23, 0, 0),
    15: (24, 0, 0),
    16: (24, 0, 1),
    17: (23, 0, 1),
    18: (22, 0, 1),
    19: (21, 0, 1),
    20: (19, 0, 1),
    21: (18, 0, 1),
    23: (19, 31, 0),
    25: (19, 31, 1),
    26: (18, 31, 0),
    27: (18, 31, 1),
    28: (17, 31, 0),
    31: (16, 31, 1),
    32: (16, 31, 0),
    34: (13, 31, 1),
    35: (12, 31, 1),
    36: (9, 31, 1),
    37: (13, 31, 0),
    38: (8, 31, 1),
    39: (4, 31, 0),
    40: (5, 31, 0),
    41: (6, 31, 0),
    42: (8, 31, 0),
    43: (9, 31, 0),
    44: (6, 0, 1),
    45: (7, 0, 1),
    46: (5, 0, 0),
    47: (6, 0, 0),
    48: (7, 0, 0),
}
"""The pad of each pin of the SG48 package."""

PIN_OF_PAD: Final = {pad: pin for pin, pad in PADS.items()}

PINS: Final = tuple(PADS)
"""The pins of the package that are IOs of the FPGA."""

OUTPUT_PIN: Final = 27
"""What the boards count."""

CLOCK_PIN: Final = 35
"""Where the microcontroller's clock comes in."""

CLOCK_HZ: Final = 48_000_000

OUTPUT_PAD: Final = PADS[OUTPUT_PIN]
CLOCK_PAD: Final = PADS[CLOCK_PIN]

PLL_PADS: Final = ((12, 31, 1), (13, 31, 0))
"""Inputs that carry the PLL's outputs once it is enabled."""

LUT_LABELS: Final = (4, 14, 15, 5, 6, 16, 17, 7, 3, 13, 12, 2, 1, 11, 10, 0)
"""LC bit that holds each row of the truth table, row = in_0 + 2 in_1 + 4 in_2 + 8 in_3."""

LC_LABELS: Final = (*LUT_LABELS, 8, 9, 18, 19)
"""LC bits in the order of a logic cell's word: the truth table, then the four flags below."""

CARRY_ENABLE, DFF_ENABLE, SET_NO_RESET, ASYNC_SR = 1 << 16, 1 << 17, 1 << 18, 1 << 19

LOGIC_BITS: Final = ((0, 0), (1, 50))
"""(row, column) of NegClk and CarryInSet of a logic tile."""

IO_BITS: Final = (
    *((3, 17), (3, 16), (0, 17), (0, 16), (4, 16), (4, 17)),
    *((13, 17), (13, 16), (10, 17), (10, 16), (14, 16), (14, 17)),
    *((9, 13), (15, 13)),
)
"""(row, column) of PINTYPE 0-5 of block 0, of block 1, and the two NegClk bits of an IO tile."""

PLL_TYPE_BITS: Final = ((12, 31, 2, 3), (14, 31, 0, 2), (14, 31, 3, 3))
"""(x, y, row, column) of the three PLLTYPE bits; all clear means that the PLL is off."""

RAM_POWER_UP: Final = (1, 7)
"""(row, column) of the bit, in the lower tile of a block RAM, that powers it up."""

PAD_TO_GLOBAL: Final = (
    *((0, 690, 334), (0, 691, 334), (1, 690, 175), (1, 691, 175)),
    *((1, 690, 174), (1, 691, 174), (0, 690, 335), (0, 691, 335)),
)
"""(bank, column, row) of the bit that lets a pad drive global network 0 to 7 directly."""

GLOBAL_PADS: Final = (
    *((19, 0, 1), (6, 0, 1), (13, 31, 0), (13, 0, 0)),
    *(None, None, (12, 0, 1), (12, 31, 1)),
)
"""The pad of each such bit. On this device networks 4 and 5 have the oscillators instead."""

GLOBAL_FABRIC: Final = (
    *((13, 0), (13, 31), (19, 31), (6, 31), (12, 31), (12, 0), (6, 0), (19, 0)),
)
"""The IO tile whose ``fabout`` drives global network 0 to 7."""

_RAM_COLUMNS: Final = (6, 19)
_FIRST_TOP_ROW: Final = 21
_IO_COLUMNS: Final = (23, 25, 26, 27, 16, 17, 18, 19, 20, 14, 32, 33, 34, 35, 36, 37, 4, 5)
_IO_ROWS: Final = (0, 1, 3, 2, 4, 5, 7, 6, 8, 9, 11, 10, 12, 13, 15, 14)

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


def _column_tables() -> tuple[Ints, Ints]:
    """For each x: the bank column of tile column 0, and the direction of the next ones."""
    base = np.zeros(WIDTH, np.int64)
    step = np.ones(WIDTH, np.int64)
    left = 0
    for x in range(WIDTH // 2):
        width = 42 if x in _RAM_COLUMNS else 54
        base[x], base[WIDTH - 1 - x] = left, left + width - 1
        step[WIDTH - 1 - x] = -1
        left += width
    return base, step


_COLUMN_BASE, _COLUMN_STEP = _column_tables()
_BANK_BASE: Final = np.cumsum((0, *(CRAM_WIDTH * rows for rows in CRAM_HEIGHTS)))[:4]
_IO_COLUMN_MAP: Final = np.array((*_IO_COLUMNS, *(0,) * 46))
_IO_ROW_MAP: Final = np.array(_IO_ROWS)


def cram_index(
    x: npt.ArrayLike, y: npt.ArrayLike, row: npt.ArrayLike, column: npt.ArrayLike
) -> Ints:
    """Positions, in the four banks laid end to end, of bits given by tile, row and column."""
    x, y = np.asarray(x, np.int64), np.asarray(y, np.int64)
    row, column = np.asarray(row, np.int64), np.asarray(column, np.int64)
    edge = (y == 0) | (y == HEIGHT - 1)
    column = np.where(edge, _IO_COLUMN_MAP[column], column)
    row = np.where(edge, _IO_ROW_MAP[row], row)
    top = y >= _FIRST_TOP_ROW
    bank_row = np.where(
        top, (HEIGHT - 1 - y) * 16 + 15 - row, np.where(edge, 15 - row, y * 16 + row)
    )
    bank_column = _COLUMN_BASE[x] + _COLUMN_STEP[x] * column
    bank = top + 2 * (x >= WIDTH // 2)
    return np.asarray(_BANK_BASE[bank] + bank_row * CRAM_WIDTH + bank_column, np.int64)


def bank_index(bank: int, column: int, row: int) -> int:
    """Position, in the four banks laid end to end, of a bit given by its place in a bank."""
    return int(_BANK_BASE[bank]) + row * CRAM_WIDTH + column


def cram_of(data: bytes, writes: tuple[BankWrite, ...]) -> Bytes:
    """The four banks that a valid bitstream writes, laid end to end, eight bits to a byte.

    ``writes`` are the bitstream's :func:`icebus.schemas.boards.bitstream.bank_writes`.
    """
    cram = np.zeros(CRAM_BITS // 8, np.uint8)
    for write in writes:
        if write.memory == "cram":
            first = int(_BANK_BASE[write.bank]) + write.offset * CRAM_WIDTH
            block = np.frombuffer(data, np.uint8, write.size, write.start)
            if first % 8 == 0 and write.width * write.height % 8 == 0:
                cram[first // 8 : first // 8 + write.size] = block
            else:  # a block that starts in the middle of a byte: no tool writes one
                bits = np.unpackbits(cram)
                new = np.unpackbits(block)
                bits[first : first + len(new)] = new
                cram = np.packbits(bits)
    return cram


def set_bits(cram: Bytes) -> npt.NDArray[np.intp]:
    """Positions of the bits that are set in :func:`cram_of`, in ascending order."""
    some = np.flatnonzero(cram.view(np.bool_))  # most bytes are 0
    ones = np.flatnonzero(np.unpackbits(cram[some]).view(np.bool_))
    positions: npt.NDArray[np.intp] = some[ones >> 3] * 8 + (ones & 7)
    return positions
