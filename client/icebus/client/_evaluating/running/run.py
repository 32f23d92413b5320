"""One run of evaluations: the shell around its state that sends, listens and never hangs.

The caller's thread takes bitstreams from the source and hands out outcomes. Everything that is sent
is sent from the bus's dispatcher, so that calls to one board leave in order, and boards are
supplied while the caller is busy with a result.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from icebus.bus import wait_on
from icebus.client._connection.connection import Connection
from icebus.client._evaluating.bitstreams import Chosen, Item, Source, evaluations_of, load
from icebus.client._evaluating.distribution.board_queue import EvaluateCall, Evaluation
from icebus.client._evaluating.distribution.distribution import Distribution
from icebus.client._evaluating.options import Options
from icebus.client._evaluating.running.acknowledging import Acknowledger
from icebus.client._evaluating.running.board_calls import BoardCalls
from icebus.client._evaluating.running.run_state import (
    Added,
    Answered,
    BoardFinished,
    BoardReplaced,
    BoardsLost,
    BoardsServe,
    Closed,
    Happening,
    OutcomeCame,
    Reconnected,
    RunState,
    SourceEnded,
    Tick,
)
from icebus.client._reservation.reservation import Reservation
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import (
    DeadlineExceeded,
    EvaluationWithdrawn,
    IcebusError,
    InternalError,
)
from icebus.schemas.measuring import Failure, Outcome, Result
from icebus.schemas.message import now as present

log = logging.getLogger(__name__)

TICK = 1.0
"""Seconds between looks at the clock."""

GATHER = 0.02
"""Seconds to go on taking from the source before what was taken is sent: one call for several
bitstreams when the source is quick, no delay when it is slow."""

R = TypeVar("R", bound=Result)


def is_withdrawn(outcome: Outcome) -> bool:
    """Whether it only tells that its evaluation was given up."""
    return isinstance(outcome, Failure) and isinstance(outcome.error, EvaluationWithdrawn)


class Run(Generic[R]):
    """Bitstreams of a source on boards of a reservation, each evaluation with exactly one outcome.

    Args:
        connection: to the workers.
        reservation: that holds the boards.
        acknowledger: of the reservation.
        distribution: decides which board evaluates what.
        options: how to go about it.

    Attributes:
        batch: its id on the bus.
        no_board_error: why the run ended before its source did, when no board was left.
        on_waiting: called about once a second, on the caller's thread, while it waits for outcomes.
        timed_out: the error for a run that was left because its time was up, if it was.
    """

    def __init__(
        self,
        connection: Connection,
        reservation: Reservation,
        acknowledger: Acknowledger,
        distribution: Distribution[Item, Any],
        options: Options,
    ) -> None:
        self.batch = distribution.batch
        self.no_board_error: IcebusError | None = None
        self.on_waiting: Callable[[], object] = lambda: None
        self.timed_out: DeadlineExceeded | None = None
        self._connection = connection
        self._reservation = reservation
        self._acknowledger = acknowledger
        self._options = options
        self._copies = distribution.copies
        self._calls = BoardCalls(
            connection,
            reservation,
            acknowledger,
            self.batch,
            inline=distribution.copies == 1,
            validate=options.validate,
            args=options.args,
        )
        for serial in distribution.serials:
            reservation.device(serial)
        self._condition = threading.Condition()
        now = time.monotonic()
        self._state = RunState(distribution, options, now)
        self._next_tick = now + TICK
        self._deadline = None if options.timeout is None else Deadline.after(options.timeout)
        self._ready: deque[R | Failure] = deque()
        self._not_taken = set[tuple[str, str]]()
        self._calls_scheduled = False
        self._internal_error: InternalError | None = None

    # --- the caller's thread ------------------------------------------------------------------

    def total_of(self, source: Iterable[Source]) -> int | None:
        """Outcomes that a source will have; None where nobody can tell."""
        try:
            return evaluations_of(source, self._copies, self._options.repeats)
        except IcebusError:
            return None  # what is wrong with it is raised when the run comes to that

    def outcomes(self, source: Iterable[Source]) -> Generator[R | Failure]:
        """Hand out outcomes as they come; the source is consumed no faster than boards need it.

        When no board is left, a source of known length is still drained, for each of its
        bitstreams has an outcome; another one is left, and ``no_board_error`` says why.

        Raises:
            InternalError: something failed on the dispatcher that nobody foresaw.
            NotAuthorized: the broker knows this user no longer.
        """
        for serial in list(self._state.serials):
            if (problem := self._reservation.problem(serial)) is not None:
                self.boards_lost([serial], problem)
        drain = isinstance(source, Sized)
        items = self._items(source)
        while True:
            yield from self._take_ready()
            if self._deadline is not None and self._deadline.expired:
                self.timed_out = DeadlineExceeded(
                    f"the run did not end within {self._options.timeout:g} s; what has no outcome "
                    "was not measured"
                )
                return
            if time.monotonic() >= self._next_tick:
                self._next_tick = time.monotonic() + TICK
                self._tick()
                self.on_waiting()
            with self._condition:
                if self._ready:
                    continue
                if self._internal_error is not None:
                    raise self._internal_error
                if self._state.done:
                    return
                # With nobody to tell of them, no outcomes come any more.
                self._connection.check_not_refused()
                no_board_error = self._state.no_board_error
                wants_more = self._state.wants_more or (no_board_error is not None and drain)
            if wants_more:
                self._take_from(items)
            elif no_board_error is not None:
                self.no_board_error = no_board_error
                return
            else:
                self._wait()

    def close(self) -> list[str]:
        """Tell boards that no more will come; outcomes that come still are dropped.

        Returns:
            The boards that owe outcomes still.
        """
        self._calls.close()
        with self._condition:
            self._handle(Closed())
            return self._state.owing

    @property
    def not_taken(self) -> list[tuple[str, str]]:
        """Serials and ids of the evaluations whose outcomes came, and were not handed out."""
        with self._condition:
            return list(self._not_taken)

    def wait_finished(self, deadline: Deadline) -> None:
        """Wait until the boards have told that the batch is finished, if they do in time."""
        with self._condition:
            self._condition.wait_for(
                lambda: (
                    not self._state.unfinished
                    or self._internal_error is not None
                    or self._connection.refusal is not None
                ),
                deadline.remaining,
            )

    def _take_ready(self) -> Iterator[R | Failure]:
        while True:
            if self._connection.inherited:
                self._connection.check_open()
            with self._condition:
                if not self._ready:
                    return
                outcome = self._ready.popleft()
                self._not_taken.discard((outcome.serial, outcome.evaluation))
            try:
                yield outcome
            finally:
                # Not before: a user who was killed with it under way has it not.
                if self._options.acknowledge and outcome.serial:
                    self._acknowledger.add(outcome.serial, outcome.evaluation)

    def _items(self, sources: Iterable[Source]) -> Iterator[tuple[Item, Sequence[str] | None]]:
        """What is to be evaluated, and on which boards if they are chosen."""
        for source in sources:
            chosen = Chosen.of(source).among(self._reservation.document)
            item = Item(source, load(chosen.source, validate=self._options.validate))
            for _ in range(self._options.repeats):
                yield item, chosen.serials

    def _take_from(self, items: Iterator[tuple[Item, Sequence[str] | None]]) -> None:
        until = time.monotonic() + GATHER
        while True:
            try:
                item, serials = next(items)
            except StopIteration:
                self._handle(SourceEnded())
                return
            with self._condition:
                self._handle(Added(item, item.bitstream.problem, serials))
                if self._ready or not self._state.wants_more or time.monotonic() > until:
                    self._schedule_calls()
                    return

    def _wait(self) -> None:
        with self._condition:
            if not self._has_work():
                left = TICK if self._deadline is None else min(TICK, self._deadline.remaining)
                wait_on(self._condition, left)

    def _has_work(self) -> bool:
        """Whether there is anything for the caller's thread to do."""
        return (
            bool(self._ready)
            or self._internal_error is not None
            or self._connection.refusal is not None
            or self._state.wants_more
            or self._state.done
        )

    # --- what happens: on the dispatcher ------------------------------------------------------

    def outcome_came(self, outcome: R | Failure) -> None:
        """An outcome has come; the first one counts.

        One that the user is handed is acknowledged when they have it, others at once, unless they
        left the run and the reservation outlives us: then they may want it still.
        """
        what = "failed" if isinstance(outcome, Failure) else "measured"
        log.debug("%s on %s: %s", outcome.bitstream, outcome.serial, what)
        lives = isinstance(outcome, Result) or self._reservation.ended is None
        with self._condition:
            self._handle(OutcomeCame(outcome, lives))
            waits = (outcome.serial, outcome.evaluation) in self._not_taken
        kept = self._state.closed and not self._reservation.attached and not is_withdrawn(outcome)
        if self._options.acknowledge and not waits and not kept:
            self._acknowledger.add(outcome.serial, outcome.evaluation)

    def finished(self, serial: str) -> None:
        """A board has told that it is done with the batch."""
        self._handle(BoardFinished(serial))

    def boards_lost(self, serials: Sequence[str], error: IcebusError) -> None:
        """Boards are lost, or their worker is, which may be back in a moment with all they owe."""
        self._handle(BoardsLost(serials, error))

    def replaced(self, serial: str, by: str) -> None:
        """A board is lost for good, and another is being prepared in its place."""
        self._handle(BoardReplaced(serial, by))
        self.boards_back([by])

    def boards_back(self, serials: Sequence[str]) -> None:
        """Boards may be back: those that serve, again or for the first time, get work."""
        self._handle(BoardsServe(self._serving(serials)))

    def reconnected(self) -> None:
        """The connection was lost and is back; outcomes may have passed us by."""
        self._handle(Reconnected())

    def refused(self) -> None:
        """The broker will not have us back: whoever waits looks why."""
        with self._condition:
            self._condition.notify_all()

    def _tick(self) -> None:
        with self._failing_the_run():
            # A copy: boards may be added meanwhile.
            serving = self._serving(list(self._state.serials))
            self._handle(Tick(self._connection.bus.connected, serving))

    def _serving(self, serials: Iterable[str]) -> set[str]:
        ours = self._state.serials
        return {each for each in serials if each in ours and self._reservation.serves(each)}

    def _handle(self, happening: Happening[Item]) -> None:
        with self._failing_the_run(), self._condition:
            effects = self._state.handle(happening, time.monotonic())
            for evaluation, outcome in effects.outcomes:
                self._ready.append(self._outcome(evaluation, outcome))
                self._not_taken.add((evaluation.serial, evaluation.id))
            if effects.calls:
                self._schedule_calls()
            if effects.outcomes or not self._state.unfinished:
                self._condition.notify_all()
            if effects.tick_in is not None:
                self._connection.bus.call_later(effects.tick_in, self._tick)

    @contextmanager
    def failing(self) -> Iterator[None]:
        """What fails in here for a reason that nobody foresaw ends the run, and is raised."""
        try:
            yield
        except IcebusError:
            raise
        except Exception as error:
            self._fail(error)
            raise

    def _fail(self, error: Exception) -> None:
        with self._condition:
            self._internal_error = InternalError(f"the run failed: {error!r}")
            self._condition.notify_all()

    @contextmanager
    def _failing_the_run(self) -> Iterator[None]:
        """Whoever waits hears of what fails in here, which would be lost on the dispatcher."""
        try:
            yield
        except Exception as error:
            log.exception("a step of a run failed")
            self._fail(error)

    def _outcome(self, evaluation: Evaluation[Item], outcome: Result | IcebusError) -> Any:
        """What the user is handed."""
        source, bitstream = evaluation.item.source, evaluation.item.bitstream
        if isinstance(outcome, Result):
            return outcome.with_source(source, present())
        at = present()
        return Failure(
            serial=evaluation.serial,
            evaluation=evaluation.id,
            batch=self.batch,
            bitstream=bitstream.name,
            sha256=bitstream.blob.sha256,
            annotations=dict(bitstream.annotations),
            at=at,
            error=outcome,
        ).with_source(source, at)

    # --- calls: on the dispatcher -------------------------------------------------------------

    def _schedule_calls(self) -> None:
        """Something has changed: see soon what is to be sent, once for all that changes by then."""
        if not self._calls_scheduled:
            self._calls_scheduled = True
            self._connection.bus.call_soon(self._make_calls)

    def _make_calls(self) -> None:
        with self._failing_the_run():
            with self._condition:
                self._calls_scheduled = False
                calls = self._state.calls(time.monotonic())
                # To be woken for nothing would cost the caller more than all else here.
                if self._has_work():
                    self._condition.notify_all()
            for call in calls:
                self._calls.make(call, self._answered)

    def _answered(self, call: EvaluateCall[Item], error: IcebusError | None) -> None:
        if error is not None and error is self._connection.refusal:
            return  # it ends the run: that is told once, and not of each evaluation
        self._handle(Answered(call, error))
