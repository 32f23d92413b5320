"""How much of what users send a worker takes; the rest is refused before it is read.

It goes by the devices that a user holds here: a board measures some hundred files a second at most,
if it is a virtual one, so whoever sends more than that for each only fills queues.
"""

from __future__ import annotations

from icebus.bus import Allowance
from icebus.schemas.errors import IcebusError


def calls(devices: int, refusal: IcebusError | None = None) -> Allowance:
    """Of the calls of a user.

    Args:
        devices: that the user holds here.
        refusal: why none is taken now.
    """
    return Allowance(
        per_second=20 + 200 * devices,
        at_once=200 + 500 * devices,
        bytes_per_second=(1 + 4 * devices) << 20,
        bytes_at_once=(8 + 8 * devices) << 20,
        waiting=200 + 200 * devices,
        waiting_bytes=16 << 20,
        refusal=refusal,
    )


def blobs(devices: int) -> Allowance:
    """Of the files of a user. Who holds nothing can't have any measured.

    Args:
        devices: that the user holds here.
    """
    if devices == 0:
        return Allowance(
            per_second=1,
            at_once=20,
            bytes_per_second=64 << 10,
            bytes_at_once=4 << 20,
            waiting=20,
            waiting_bytes=4 << 20,
        )
    return Allowance(
        per_second=60 * devices,
        at_once=500 + 200 * devices,
        bytes_per_second=(8 * devices) << 20,
        bytes_at_once=64 << 20,
        waiting=2000 + 500 * devices,
        waiting_bytes=32 << 20,
    )
