"""Which device a bitstream was made for, when it is not the iCE40UP5K of the boards.

All iCE40 devices share one file format. They differ in the size of the configuration memory, from
which Project IceStorm's icepack tells them, too; parts that share a die can't be told apart.
"""

from __future__ import annotations

from typing import Final

_DEVICES: Final = {
    (182, 80): "iCE40LP384",
    (332, 144): "iCE40HX1K or iCE40LP1K",
    (872, 272): "iCE40HX8K or iCE40LP8K (or HX4K or LP4K, which are the same die)",
    (692, 176): "iCE5LP4K (iCE40 Ultra, u4k)",
    (656, 176): "iCE40LM4K",
}
"""By the bits in a row and the rows of a bank of configuration memory."""

_PACKAGE: Final = ("UP5K", "SG48")
"""What the name of the boards' part has in it."""


def device_of(width: int, height: int) -> str:
    """The device whose banks of configuration memory are that large; empty if unknown."""
    return _DEVICES.get((width, height), "")


def other_part_in(comment: bytes) -> str:
    """The part that Lattice's tools name in a file's comment, such as ``iCE40UP5K-UWG30``.

    Empty if the comment names none, or the one that the boards have.
    """
    for line in comment.split(b"\0"):
        if line.startswith(b"Part: "):
            part = line[6:46].decode("ascii", "replace").strip()
            return "" if all(word in part for word in _PACKAGE) else part
    return ""
