"""Meters: what drives a board's firmware through one measurement after another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from icebus.schemas.errors import IcebusError
from icebus.worker.hardware.port import Port
from icebus.worker.loop import Callback, Timer

R = TypeVar("R")


@dataclass(frozen=True)
class Measured(Generic[R]):
    """A measurement.

    Attributes:
        report: what the board said.
        upload: seconds from the first byte sent to the board having all.
        window: seconds from when the board began with it to the report.
        waited: seconds between the two, in which the board was at work with others.
        configured: seconds of ``window`` that configuring the FPGA took; None if it doesn't tell.
    """

    report: R
    upload: float
    window: float
    waited: float = 0.0
    configured: float | None = None


@dataclass(frozen=True)
class MeterCallbacks(Generic[R]):
    """What a meter needs of the state that measures with it.

    Attributes:
        port: gives the board's port, None while it is away.
        after: runs a callback later.
        on_measuring: called with a measurement's key when the board has all of it and begins.
        on_end: called with the key, and how the measurement ended.
        on_wants_more: called when another measurement may be given.
        on_silence: called when the board has stopped answering at all.
    """

    port: Callable[[], Port | None]
    after: Callable[[float, Callback], Timer]
    on_measuring: Callable[[str], None]
    on_end: Callable[[str, Measured[R] | IcebusError], None]
    on_wants_more: Callable[[], None]
    on_silence: Callable[[str], None]


class Meter(ABC, Generic[R]):
    """One board's measuring. Its board must be idle when this begins.

    Every measurement that was given ends once, unless it is abandoned. A firmware that keeps
    measurements on the board may be given several; they end in any order.

    Args:
        callbacks: to the state that measures.
    """

    def __init__(self, callbacks: MeterCallbacks[R]) -> None:
        self._callbacks = callbacks

    @property
    @abstractmethod
    def wants_more(self) -> bool:
        """Whether another measurement may be given now."""

    @property
    @abstractmethod
    def idle(self) -> bool:
        """Whether the board is known to wait and nothing is under way."""

    @abstractmethod
    def measure(self, key: str, data: bytes) -> None:
        """Begin a measurement with what the board is to be sent; only when ``wants_more``."""

    @abstractmethod
    def receive(self, data: bytes) -> None:
        """Take in what the board says."""

    @abstractmethod
    def abandon(self) -> None:
        """Stop sending and forget what is under way; ``on_end`` is not called."""

    @property
    def in_step(self) -> bool:
        """Whether host and board agree about what is under way, so that it can be taken over."""
        return False

    def take_over(self, other: Meter[Any]) -> None:
        """Go on where ``other`` is, which is used no more; only while that is ``in_step``."""
        raise NotImplementedError(f"{type(self).__name__} takes nothing over")
