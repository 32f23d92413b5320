"""The hard primitives of the iCE40UP5K that are recognised but not modelled."""

from __future__ import annotations

_SPRAM_ROWS = range(1, 5)
_SPI_ROWS = range(19, 23)
_PIN_ROWS = (27,)

_IPCON = {
    (0, 28, 7): "SB_HFOSC",
    (25, 29, 0): "SB_LFOSC",
    **{(0, 28, pin): "SB_LEDDA_IP" for pin in (4, 5, 6)},
    (0, 29, 0): "SB_LEDDA_IP",
    (25, 27, 1): "SB_FILTER_50NS",
    (25, 27, 2): "SB_FILTER_50NS",
}
"""(x, y, output) of the primitives that share their tiles with others."""


def primitive_of_wire(x: int, y: int, name: str) -> str | None:
    """The primitive whose output is called ``name`` in that tile; None if there is none.

    The places are those of Project IceStorm's documentation of the UltraPlus devices.
    """
    if name.startswith("ram/RDATA_"):
        return "SB_RAM40_4K"
    if name.startswith(("mult/", "dsp/")):
        return "SB_MAC16"
    if not name.startswith("slf_op_"):
        return None
    named = _IPCON.get((x, y, int(name[7:])))
    if named is not None:
        return named
    if y in _SPRAM_ROWS:
        return "SB_SPRAM256KA"
    if y in _SPI_ROWS:
        return "SB_SPI"
    if y in (29, 30):
        return "SB_I2C"
    return "SB_MAC16"
