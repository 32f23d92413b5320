"""The reservation that the environment names, as `icebus run` does for the command that it runs."""

from __future__ import annotations

import os
from typing import Final

VARIABLE: Final = "ICEBUS_RESERVATION"
"""Names the reservation to use, as `icebus run` and `icebus reserve --shell` have it."""


def reservation_of_environment() -> str:
    """The id of the reservation that the environment names.

    Raises:
        InvalidRequest: there is none.
    """
    from icebus.schemas.errors import InvalidRequest

    if named := os.environ.get(VARIABLE):
        return named
    raise InvalidRequest(
        f"no reservation is named, and ${VARIABLE} names none either: give its id, or run this "
        "program by `icebus run`"
    )
