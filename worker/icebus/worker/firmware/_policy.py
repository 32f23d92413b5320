"""What becomes of firmware on boards that works, but is not what the worker would give them."""

from __future__ import annotations

from enum import StrEnum


class FirmwarePolicy(StrEnum):
    """Whether boards keep it.

    ``KEEP``: whatever serves is used as it is. ``UPGRADE``: a board is given what its kinds prefer,
    or a newer version of that, when nobody holds it or before it serves; once for each version.
    """

    KEEP = "keep"
    UPGRADE = "upgrade"
