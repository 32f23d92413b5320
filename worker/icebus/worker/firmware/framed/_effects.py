"""What an exchange with a board leads to: for whoever has the port to carry out."""

from __future__ import annotations

from dataclasses import dataclass

from icebus.schemas.boards.framed_replies import Result
from icebus.schemas.boards.framed_requests import Measurement
from icebus.schemas.errors import IcebusError
from icebus.worker.firmware._meter import Measured


@dataclass(frozen=True)
class FramedReport:
    """A measurement as the board reports it.

    Attributes:
        measurement: what was asked for.
        result: what came of it, with pulses, times and temperature.
        samples: all of them in order, 12 bits each; none when pulses were counted.
    """

    measurement: Measurement
    result: Result
    samples: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Send:
    """Send these bytes, behind what is still being sent."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Began:
    """The board makes this measurement now."""

    key: str


@dataclass(frozen=True, slots=True)
class Ended:
    """So this measurement has ended."""

    key: str
    how: Measured[FramedReport] | IcebusError


@dataclass(frozen=True, slots=True)
class Silent:
    """Nothing more is to be had from the board; always the last effect."""

    how: str


Effect = Send | Began | Ended | Silent
