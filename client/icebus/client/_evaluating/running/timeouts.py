"""What the passing of time says of a run: who is silent, who may be back, when to give up. Pure."""

from __future__ import annotations

from typing import Any

from icebus.client._evaluating.distribution.distribution import Distribution
from icebus.client._evaluating.distribution.failure_causes import LASTING
from icebus.client._evaluating.options import Options
from icebus.schemas.errors import BrokerUnavailable, DeadlineExceeded, IcebusError

ASK_AGAIN = 20.0
"""Seconds of silence of a board that owes outcomes after which it is asked for them again. A
broker drops what has expired when its clock is set, and no connection ends that would tell us.

What measuring takes is no silence: it is added, here and to what is borne at all."""

SLOWEST = 4.0
"""Seconds that a window of one second may take: emulated boards run at a quarter of real time."""

RETURN = 5.0
"""Seconds after which a lost board that is said to serve is tried again, when its return was not
told: control may never have noticed that it was away."""


class Timeouts:
    """Keeps the times of a run's boards. What is lost is the distribution's to say.

    Args:
        distribution: of the run.
        options: how long what may take.
        now: the time, as in all that follows on a clock that is never set.
    """

    def __init__(self, distribution: Distribution[Any, Any], options: Options, now: float) -> None:
        self._distribution = distribution
        self._options = options
        self._heard = dict.fromkeys(distribution.serials, now)
        self._lost: dict[str, float] = {}
        self._asked_again = now
        self._broker_away_since: float | None = None
        self._no_board_since: float | None = None

    def heard_from(self, serial: str, now: float) -> None:
        """A board was heard from, or has only now something to be heard of."""
        self._heard[serial] = now

    def board_works(self) -> None:
        """Some board works: one does not wait for the return of all."""
        self._no_board_since = None

    def broker_error(self, connected: bool, now: float) -> BrokerUnavailable | None:
        """The error for a broker that is away for too long."""
        if connected:
            self._broker_away_since = None
        elif self._broker_away_since is None:
            self._broker_away_since = now
        elif now - self._broker_away_since > self._options.broker_away:
            return BrokerUnavailable(
                f"the broker has been away for {self._options.broker_away:g} s; "
                "evaluate again when the farm is back"
            )
        return None

    def stalled(self, now: float) -> dict[str, IcebusError]:
        """Boards that owe outcomes and were silent for too long."""
        longest = self._options.stall + self._measuring
        return {
            serial: DeadlineExceeded(
                f"device {serial} gave no outcome in {longest:g} s; "
                "`icebus devices` shows what it does",
                serial=serial,
            )
            for serial in self._silent(longest, now)
        }

    def should_ask_again(self, now: float) -> bool:
        """Whether to ask for outcomes again; then not for a while."""
        pause = ASK_AGAIN + self._measuring
        if now - self._asked_again <= pause or not self._silent(pause, now):
            return False
        self._asked_again = now
        return True

    @property
    def _measuring(self) -> float:
        """Seconds that a board may be silent because it measures."""
        return SLOWEST * self._options.window

    def _silent(self, seconds: float, now: float) -> list[str]:
        losses = self._distribution.losses
        return [
            serial
            for serial in self._distribution.serials
            if serial not in losses
            and self._distribution.outstanding(serial)
            and now - self._heard[serial] > seconds
        ]

    def maybe_back(self, now: float) -> list[str]:
        """Lost boards that may be back without anybody having told."""
        self._lost = {serial: self._lost.get(serial, now) for serial in self._distribution.losses}
        return [serial for serial, at in self._lost.items() if now - at > RETURN]

    def give_up_error(self, now: float) -> IcebusError | None:
        """Why to give up, when all boards are lost and none came back in time, or ever will."""
        losses = self._distribution.losses
        if self._distribution.no_board_error is not None or len(losses) < len(
            self._distribution.serials
        ):
            return None
        if self._no_board_since is None:
            self._no_board_since = now
        may_return = any(not isinstance(loss, LASTING) for loss in losses.values())
        if may_return and now - self._no_board_since <= self._options.patience:
            return None
        last = list(losses.values())[-1]
        waited = f"; no board came back in {self._options.patience:g} s" if may_return else ""
        return type(last)(f"{last.message}{waited}", **last.details)
