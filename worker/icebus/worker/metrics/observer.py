"""What devices tell whoever counts: called on their loop, so it must cost next to nothing."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from icebus.schemas.measuring import Outcome
from icebus.worker.states import State
from icebus.worker.states.core import Broken, Flashing, Rebooting, SetAside


class Step(StrEnum):
    """What a board goes through that people want counted."""

    REBOOT = "reboot"
    FLASH = "flash"
    REST = "rest"
    SET_ASIDE = "set_aside"


_STEPS: tuple[tuple[type[State], Step], ...] = (
    (Rebooting, Step.REBOOT),
    (Flashing, Step.FLASH),
    (SetAside, Step.SET_ASIDE),
    (Broken, Step.REST),
)


def step_of(state: State) -> Step | None:
    """What a board goes through in a state; None in most."""
    return next((step for kind, step in _STEPS if isinstance(state, kind)), None)


class Observer:
    """Takes note of nothing: what devices have unless somebody counts."""

    def evaluated(self, serial: str, kind: str, outcome: Outcome) -> None:
        """An evaluation has its outcome."""

    def acknowledged(self, evaluations: Iterable[str]) -> None:
        """Clients have the outcomes of these."""

    def failed(self, serial: str) -> None:
        """A board did not do what it should."""

    def stepped(self, step: Step) -> None:
        """A board is rebooted or flashed, or left alone because that did not help."""


UNOBSERVED: Final = Observer()
