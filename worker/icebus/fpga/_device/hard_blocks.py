"""The hard blocks of the iCE40UP5K: which one a wire is an output of.

The places are those of Project IceStorm's documentation of the UltraPlus devices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

BLOCK_RAM: Final = "SB_RAM40_4K"

_SPRAM_ROWS: Final = range(1, 5)
_SPI_ROWS: Final = range(19, 23)
_I2C_ROWS: Final = (29, 30)
_DSP_ROWS: Final = (5, 10, 15, 23)
_DSP_HEIGHT: Final = 5
"""Rows of a DSP; its carry out is in the last one."""

_SHARED: Final = {
    (0, 28, 7): "SB_HFOSC",
    (25, 29, 0): "SB_LFOSC",
    **{(0, 28, output): "SB_LEDDA_IP" for output in (4, 5, 6)},
    (0, 29, 0): "SB_LEDDA_IP",
    (25, 27, 1): "SB_FILTER_50NS",
    (25, 27, 2): "SB_FILTER_50NS",
    (0, 19, 0): "SB_MAC16",
    (25, 19, 0): "SB_MAC16",
}
"""(x, y, output) of the primitives that share their tiles with others."""


@dataclass(frozen=True, slots=True, order=True)
class HardBlock:
    """One block.

    Attributes:
        primitive: its name in Lattice's library.
        x, y: its first tile.
    """

    primitive: str
    x: int
    y: int


PLL: Final = HardBlock("SB_PLL40", 12, 31)

OSCILLATORS: Final = {4: HardBlock("SB_HFOSC", 0, 28), 5: HardBlock("SB_LFOSC", 25, 29)}
"""Those that can drive a global network directly, by its number."""


Condition = tuple[int, int, str, int, tuple[int, ...]]
"""A wire (tile, name, level if nothing drives it), and which constants of it leave a block idle."""

_ANY: Final = (0, 1)
_OFF: Final = (0,)


def idle_when(block: HardBlock) -> tuple[tuple[Condition, ...], ...]:
    """What leaves a block idle, such as a clock that does not run: one of these, all of its parts.

    Nothing for blocks of which that isn't known; see :func:`input_tiles_of`.
    """
    x, y = block.x, block.y
    if block.primitive == BLOCK_RAM:  # of the read port, which the lower tile has on this device
        return (
            ((x, y, "ram/RCLK", 0, _ANY),),
            ((x, y, "ram/RE", 0, _OFF),),
            ((x, y, "ram/RCLKE", 1, _OFF),),
        )
    if block.primitive == "SB_SPRAM256KA":
        return (((x, 1 if y == _SPRAM_ROWS[0] else 2, "clk", 0, _ANY),),)
    if block in OSCILLATORS.values():
        return (((x, 29, "lutff_7/in_3", 0, _OFF),), ((x, 29, "lutff_0/in_1", 0, _OFF),))
    if block == PLL:  # kept in reset, and not bypassed
        return (((16, 31, "fabout", 0, _OFF), (15, 31, "fabout", 0, _OFF)),)
    return ()


def input_tiles_of(block: HardBlock) -> tuple[tuple[int, int], ...]:
    """Tiles that have the inputs of a block, and perhaps of others."""
    first, last = block.y, block.y
    if block.primitive == "SB_MAC16":
        last += _DSP_HEIGHT - 1
    elif block.primitive == "SB_SPI":
        last = _SPI_ROWS[-1]
    elif block.primitive == "SB_I2C":
        last = _I2C_ROWS[-1]
    elif block.primitive == "SB_LEDDA_IP":
        first, last = 28, 29
    return tuple((block.x, y) for y in range(first, last + 1))


def hard_block_of_wire(x: int, y: int, name: str) -> HardBlock | None:
    """The block whose output is called ``name`` in that tile; None if there is none."""
    primitive = _primitive(x, y, name)
    return None if primitive is None else HardBlock(primitive, x, _first_row(primitive, y))


def _primitive(x: int, y: int, name: str) -> str | None:
    if name.startswith("ram/RDATA_"):
        return "SB_RAM40_4K"
    if name.startswith(("mult/", "dsp/")):
        return "SB_MAC16"
    if not name.startswith("slf_op_"):
        return None
    shared = _SHARED.get((x, y, int(name[7:])))
    if shared is not None:
        return shared
    if y in _SPRAM_ROWS:
        return "SB_SPRAM256KA"
    if y in _SPI_ROWS:
        return "SB_SPI"
    return "SB_I2C" if y in _I2C_ROWS else "SB_MAC16"


def _first_row(primitive: str, y: int) -> int:
    if primitive in ("SB_RAM40_4K", "SB_SPRAM256KA"):
        return y - (y + 1) % 2
    if primitive == "SB_MAC16":
        return next((row for row in _DSP_ROWS if row <= y < row + _DSP_HEIGHT), y)
    if primitive == "SB_SPI":
        return _SPI_ROWS[0]
    return _I2C_ROWS[0] if primitive == "SB_I2C" else y
