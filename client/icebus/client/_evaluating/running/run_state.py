"""What a run decides, pure: what happens goes in, what is to be done about it comes out.

Its shell, :mod:`icebus.client._evaluating.running.run`, keeps the lock, the source and the calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

from icebus.bus import RECONNECT_MAX
from icebus.client._evaluating.distribution.board_queue import EvaluateCall, Evaluation
from icebus.client._evaluating.distribution.distribution import Distribution, FailedEvaluation
from icebus.client._evaluating.distribution.failure_causes import (
    BOARD_ERRORS,
    LASTING,
    UNSURE,
    may_be_back_soon,
    taken_away,
)
from icebus.client._evaluating.options import Options
from icebus.client._evaluating.running.timeouts import Timeouts
from icebus.schemas.errors import DeviceFailed, IcebusError, QueueFull, ReservationEnded
from icebus.schemas.liveness import RETURN_TIME
from icebus.schemas.measuring import Failure, Result

WORKER_AWAY = RETURN_TIME
"""Seconds without a worker after which what its boards owe fails, where nobody else may measure it.
One that lost its connection only has lost nothing; one that was restarted says so itself."""

QUEUE_FULL_PAUSE = 0.5
"""Seconds until a full queue is tried again if no outcome comes first: somebody else's work is in
it."""

T = TypeVar("T")


@dataclass(frozen=True)
class Added(Generic[T]):
    """Something more is to be evaluated.

    Attributes:
        item: what.
        problem: why it is sent to no board, if so.
        serials: the boards that are chosen for it; None leaves it to the distribution.
    """

    item: T
    problem: IcebusError | None = None
    serials: Sequence[str] | None = None


@dataclass(frozen=True)
class SourceEnded:
    """No more is to be evaluated."""


@dataclass(frozen=True)
class Closed:
    """Nobody waits for outcomes any more."""


@dataclass(frozen=True)
class Answered(Generic[T]):
    """A worker has answered a call, or why it has not."""

    call: EvaluateCall[T]
    error: IcebusError | None


@dataclass(frozen=True)
class OutcomeCame:
    """A worker has told an outcome, of a reservation that lives or not."""

    outcome: Result | Failure
    reservation_lives: bool = True


@dataclass(frozen=True)
class BoardsLost:
    """Boards are lost, or their worker is, which may be back in a moment with all they owe."""

    serials: Sequence[str]
    error: IcebusError


@dataclass(frozen=True)
class BoardsServe:
    """Boards serve, again or for the first time."""

    serials: Iterable[str]


@dataclass(frozen=True)
class BoardReplaced:
    """A board is lost for good, and another is being prepared in its place."""

    serial: str
    by: str


@dataclass(frozen=True)
class BoardFinished:
    """A board has told that it is done with the batch."""

    serial: str


@dataclass(frozen=True)
class Reconnected:
    """The connection was lost and is back; outcomes may have passed us by."""


@dataclass(frozen=True)
class Tick:
    """Time has passed.

    Attributes:
        connected: whether the broker is there.
        serving: the boards that serve, as far as control has told.
    """

    connected: bool
    serving: Set[str]


Happening: TypeAlias = (
    Added[T]
    | SourceEnded
    | Closed
    | Answered[T]
    | OutcomeCame
    | BoardsLost
    | BoardsServe
    | BoardReplaced
    | BoardFinished
    | Reconnected
    | Tick
)


@dataclass
class Effects(Generic[T]):
    """What is to be done.

    Attributes:
        outcomes: to hand out: what was evaluated, and the result or why there is none.
        calls: whether there may be calls to make; :meth:`RunState.calls` has them.
        tick_in: seconds until a tick is due, besides those that come regularly.
    """

    outcomes: list[tuple[Evaluation[T], Result | IcebusError]] = field(default_factory=list)
    calls: bool = False
    tick_in: float | None = None


class RunState(Generic[T]):
    """The state of a run: each evaluation that was accepted has exactly one outcome.

    Args:
        distribution: decides which board evaluates what.
        options: how long what may take.
        now: the time, as in all that follows on a clock that is never set.

    Attributes:
        unfinished: boards that were sent something and have not told that they are done.
    """

    def __init__(self, distribution: Distribution[T, Any], options: Options, now: float) -> None:
        self.unfinished = set[str]()
        self._distribution = distribution
        self._options = options
        self._timeouts = Timeouts(distribution, options, now)
        self._unconfirmed: dict[str, tuple[float, IcebusError]] = {}
        self._paused: dict[str, float] = {}
        self._reconnected_at = float("-inf")
        self._closed = False
        self._effects: Effects[T] = Effects()

    @property
    def serials(self) -> Set[str]:
        """All boards of the run, also those that are lost."""
        return self._distribution.serials

    @property
    def closed(self) -> bool:
        """Whether nobody waits for outcomes any more."""
        return self._closed

    @property
    def owing(self) -> list[str]:
        """The boards that were sent evaluations which have no outcome yet."""
        return [each for each in self._distribution.serials if self._distribution.outstanding(each)]

    @property
    def wants_more(self) -> bool:
        """Whether to take more from the source now."""
        return self._distribution.wants_more

    @property
    def done(self) -> bool:
        """Whether all that there was has its outcome."""
        return self._distribution.done

    @property
    def no_board_error(self) -> IcebusError | None:
        """Why nothing more can be evaluated, when no board is left for a source that goes on."""
        return None if self._distribution.ended else self._distribution.no_board_error

    def calls(self, now: float) -> list[EvaluateCall[T]]:
        """The calls to make now; each is to be answered."""
        calls = self._distribution.due()
        for call in calls:
            if self._distribution.outstanding(call.serial) == len(call.evaluations):
                self._timeouts.heard_from(call.serial, now)
            self.unfinished.add(call.serial)
        return calls

    def handle(self, happening: Happening[T], now: float) -> Effects[T]:
        """Take note of what has happened, and say what is to be done about it."""
        effects = self._effects = Effects()
        match happening:
            case OutcomeCame():
                self._on_outcome(happening, now)
            case Added(item, None, serials):
                self._fail(self._distribution.add(item, serials))
            case Added(item, problem, serials):
                rejected = self._distribution.reject(item, serials)
                self._fail([FailedEvaluation(each, problem) for each in rejected if problem])
            case SourceEnded():
                self._distribution.end()
                effects.calls = True
            case Closed():
                self._distribution.cancel()
                self._closed = effects.calls = True
            case Answered(call, error):
                if self._distribution.expects(call):
                    self._on_answer(call, error, now)
            case BoardsLost(serials, error):
                self._lose(serials, error, now)
            case BoardsServe(serials):
                self._join(serials, now)
            case BoardReplaced(serial, by):
                self._replace(serial, by, now)
            case BoardFinished(serial):
                self.unfinished.discard(serial)
            case Reconnected():
                self._reconnected_at = now
                self._ask_again()
            case Tick():
                self._on_tick(happening, now)
        return effects

    # --- outcomes and answers -----------------------------------------------------------------

    def _on_outcome(self, came: OutcomeCame, now: float) -> None:
        outcome = came.outcome
        serial = outcome.serial
        if serial not in self._distribution.serials:
            return
        self._timeouts.heard_from(serial, now)
        self._timeouts.board_works()
        self._effects.calls = True
        if isinstance(outcome, Failure):
            error: IcebusError = outcome.error
            if isinstance(error, ReservationEnded) and came.reservation_lives:
                error = taken_away(serial)
            self._fail(self._distribution.fail(serial, outcome.evaluation, error))
            return
        took = outcome.window  # without the upload: a busy machine is to get fewer calls, not more
        first = self._distribution.complete(serial, outcome.evaluation, took)
        if first is not None and not self._closed:
            self._effects.outcomes.append((first, outcome))

    def _on_answer(self, call: EvaluateCall[T], error: IcebusError | None, now: float) -> None:
        serial = call.serial
        self._effects.calls = True
        if error is None:
            self._distribution.accepted(serial)
            self._timeouts.board_works()
        elif isinstance(error, QueueFull):
            self._distribution.refused(serial, _room(error, len(call.evaluations) // 2))
            self._paused[serial] = now + QUEUE_FULL_PAUSE
            self._effects.tick_in = QUEUE_FULL_PAUSE
        elif isinstance(error, BOARD_ERRORS):
            if not isinstance(error, UNSURE):
                self._distribution.refused(serial, 1)
            self._lose([serial], error, now)
        else:
            self._on_refused(call, error)

    def _on_refused(self, call: EvaluateCall[T], error: IcebusError) -> None:
        """Something in a call is wrong, so all was refused: find out what by sending one each."""
        if len(call.evaluations) > 1 and not call.again:
            self._distribution.refused(call.serial, 1)
            self._distribution.resume(call.serial)
        else:
            for each in call.evaluations:
                self._fail(self._distribution.fail(call.serial, each.id, error))
            self._distribution.accepted(call.serial)

    def _fail(self, failed: Iterable[FailedEvaluation[T]]) -> None:
        """Boards may be lost by what failed: those have nothing to finish."""
        self.unfinished.difference_update(self._distribution.losses)
        if not self._closed:
            self._effects.outcomes += [(each.evaluation, each.error) for each in failed]

    def _ask_again(self) -> None:
        self._distribution.ask_again()
        self._effects.calls = True

    # --- boards that go and come --------------------------------------------------------------

    def _lose(self, serials: Sequence[str], error: IcebusError, now: float) -> None:
        if may_be_back_soon(error) and not self._distribution.reassigns:
            for serial in serials:
                self._unconfirmed.setdefault(serial, (now + WORKER_AWAY, error))
            self._effects.tick_in = WORKER_AWAY
            return
        for serial in self._ours(serials):
            self._fail(self._distribution.lose(serial, error))
        self._effects.calls = True
        if isinstance(error, LASTING):
            self._give_up(now)

    def _confirm_losses(self, tick: Tick, now: float) -> None:
        """Workers that were lost have had their time to come back."""
        due = {s: error for s, (at, error) in self._unconfirmed.items() if at <= now}
        if not due:
            return
        if not tick.connected or now < self._reconnected_at + RECONNECT_MAX + WORKER_AWAY:
            # A broker that is stopped tells of the loss of all it knows. Nobody is missed who could
            # not be seen: the time to come back begins when all have found the broker again.
            self._unconfirmed.update({s: (now + WORKER_AWAY, error) for s, error in due.items()})
            self._effects.tick_in = WORKER_AWAY
            return
        for serial, error in due.items():
            del self._unconfirmed[serial]
            if serial in tick.serving:
                self._ask_again()
            elif serial in self._distribution.serials:
                self._fail(self._distribution.lose(serial, error))
        self._effects.calls = True

    def _replace(self, serial: str, by: str, now: float) -> None:
        if self._closed or not self._options.all_boards or not self._ours([serial]):
            return
        error = DeviceFailed(f"device {serial} failed, and {by} takes its place", serial=serial)
        self._fail(self._distribution.replace(serial, by, error))
        self._timeouts.heard_from(by, now)
        self._timeouts.board_works()
        self._effects.calls = True

    def _join(self, serials: Iterable[str], now: float) -> None:
        for serial in self._ours(serials):
            if isinstance(self._distribution.losses.get(serial), LASTING) or self._closed:
                continue
            self._distribution.join(serial)
            self._timeouts.heard_from(serial, now)
        self._effects.calls = True

    def _ours(self, serials: Iterable[str]) -> list[str]:
        return [serial for serial in serials if serial in self._distribution.serials]

    # --- time ---------------------------------------------------------------------------------

    def _on_tick(self, tick: Tick, now: float) -> None:
        for serial in [serial for serial, at in self._paused.items() if at <= now]:
            del self._paused[serial]
            self._distribution.resume(serial)
            self._effects.calls = True
        if self._closed:
            return
        if (away := self._timeouts.broker_error(tick.connected, now)) is not None:
            self._lose(list(self._distribution.serials), away, now)
        for serial, error in self._timeouts.stalled(now).items():
            self._lose([serial], error, now)
        self._confirm_losses(tick, now)
        if self._timeouts.should_ask_again(now):
            self._ask_again()
        if back := [s for s in self._timeouts.maybe_back(now) if s in tick.serving]:
            self._join(back, now)
        self._give_up(now)

    def _give_up(self, now: float) -> None:
        error = self._timeouts.give_up_error(now)
        if error is not None:
            self._fail(self._distribution.give_up(error))


def _room(error: QueueFull, otherwise: int) -> int:
    """Evaluations that a board which refused some has room for."""
    capacity, depth = error.details.get("capacity"), error.details.get("depth")
    if isinstance(capacity, int) and isinstance(depth, int):
        return max(1, capacity - depth)
    return max(1, otherwise)
