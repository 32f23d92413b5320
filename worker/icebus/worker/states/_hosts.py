"""What states see of their device: little for the states of kinds, more for the core's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from icebus.schemas.devices import Desired
from icebus.schemas.measuring import Outcome
from icebus.schemas.message import Message
from icebus.worker.device.journal import Journal
from icebus.worker.firmware import Firmware
from icebus.worker.hardware.board import ConnectedBoard
from icebus.worker.hardware.port import Port
from icebus.worker.loop import Callback, Timer

if TYPE_CHECKING:
    from icebus.worker.states._framework import State


@dataclass(frozen=True)
class Hold:
    """The reservation a device serves."""

    reservation: str
    user: str


class Host(Protocol):
    """What a kind's state may use of its device.

    A state never chooses its successor. It says what has happened, and the device decides what
    comes next.
    """

    @property
    def name(self) -> str:
        """The device's serial, or where it is while that is not known."""

    @property
    def board(self) -> ConnectedBoard | None:
        """The board as it is plugged."""

    @property
    def firmware(self) -> str:
        """The name of what the board was last proved to run; empty when it never was."""

    @property
    def port(self) -> Port | None:
        """Its serial port, while that is open."""

    @property
    def journal(self) -> Journal:
        """What the device remembers of evaluations, on disk."""

    def after(self, state: State, seconds: float, callback: Callback) -> Timer:
        """Run ``callback`` in ``seconds``; what it does not foresee is the device's failure."""

    def emit(self, hold: Hold, event: str, data: Message) -> None:
        """Send an event to the device's holder."""

    def emit_json(self, hold: Hold, event: str, data: str) -> None:
        """The same, of data that are JSON already."""

    def evaluated(self, kind: str, outcome: Outcome) -> None:
        """An evaluation has its outcome: for whoever counts."""

    def acknowledged(self, evaluations: Iterable[str]) -> None:
        """Clients have the outcomes of these."""

    def fail(self, reason: str) -> None:
        """The board does not do what it should."""

    def finished(self) -> None:
        """What was under way when the worker began to stop has ended."""


class CoreHost(Host, Protocol):
    """What the states that every device goes through may use besides."""

    @property
    def desired(self) -> Desired | None:
        """What control wants of the device."""

    @property
    def known_firmware(self) -> Mapping[str, Firmware]:
        """The firmware that the worker knows, those that the board may well run first."""

    def open(self) -> None:
        """Open the board's port."""

    def close(self) -> None:
        """Close the board's port."""

    def proved(self, firmware: str, version: str = "") -> None:
        """The board runs ``firmware``, of ``version`` if it says so, and is idle."""

    def unrecognised(self) -> None:
        """The board lives but runs nothing known."""

    def found(self, expect: str | None = None, version: str = "") -> None:
        """The board is back, its port open; it must run ``expect`` if it was given that."""

    def lost(self, reason: str) -> None:
        """The board is gone."""

    def look_again(self) -> None:
        """Test the board anew: time has passed, or something about it has changed."""

    def become_desired(self) -> None:
        """Be what control wants, for a board that is proved and idle."""

    def progress(self, fraction: float) -> None:
        """Report how far a long step is."""

    def run_on_thread(
        self,
        state: State,
        step: Callback,
        then: Callback,
        otherwise: Callable[[Exception], None],
    ) -> None:
        """Run a step that may block on a thread; if ``state`` is alive then, it learns the end."""
