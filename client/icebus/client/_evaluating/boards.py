"""A reservation of a kind that measures: bitstreams in, exactly one outcome for each."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Generator, Iterable
from contextlib import ExitStack, closing
from typing import Any, Generic, TypeVar, Unpack

from icebus.client._connection.connection import Connection, serials_of
from icebus.client._evaluating.bitstreams import (
    Item,
    Source,
    as_sources,
    evaluations_of,
    length_of,
)
from icebus.client._evaluating.collecting import Collector
from icebus.client._evaluating.distribution.any_board import AnyBoard
from icebus.client._evaluating.distribution.distribution import Distribution
from icebus.client._evaluating.distribution.each_board import EachBoard
from icebus.client._evaluating.options import STALL, EvaluateOptions, MapOptions, Options
from icebus.client._evaluating.outcomes import EvaluationsFailed
from icebus.client._evaluating.reporting.experiment_report import ExperimentReport
from icebus.client._evaluating.reporting.missing import missing
from icebus.client._evaluating.reporting.progress import Report
from icebus.client._evaluating.running.acknowledging import Acknowledger
from icebus.client._evaluating.running.run import Run, is_withdrawn
from icebus.client._evaluating.running.withdrawing import withdraw
from icebus.client._reservation.document import is_queued, meant_devices
from icebus.client._reservation.queue_place import still_queued_error
from icebus.client._reservation.reservation import Reservation
from icebus.schemas.calls import read_event
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import IcebusError, InvalidRequest, RemoteError
from icebus.schemas.ids import new_id
from icebus.schemas.measuring import BatchFinished, Failure, Outcome, Result, Withdrawn
from icebus.schemas.operations import reservations

KEPT_FAILURES = 1000
"""Failures that `evaluate` keeps to raise at the end: an endless run must not fill the memory."""

KEPT_BATCHES = 64
"""Batches remembered after their run, so that outcomes that come late or twice are acknowledged."""

FINISHED_TIMEOUT = 2.0
"""Seconds to wait for ``finished`` events that a hook wants, after the last outcome."""

log = logging.getLogger(__name__)

R = TypeVar("R", bound=Result)


class MeasuringBoards(Reservation, Generic[R]):
    """A reservation of boards that measure bitstreams.

    Args:
        connection: to the farm.
        document: the reservation as control told it.
        result: the model of what a measurement comes to.
        keep_alive: whether to extend it while the client lives.
        remaining: seconds that are left of it, where known.

    Attributes:
        withdrawn: what was given up when a run was last left before its end, by ``break`` or
            Ctrl-C: what waited at boards is not measured any more.
    """

    def __init__(
        self,
        connection: Connection,
        document: reservations.Reservation,
        result: type[R],
        *,
        keep_alive: bool,
        remaining: float | None = None,
    ) -> None:
        super().__init__(connection, document, keep_alive=keep_alive, remaining=remaining)
        self.withdrawn: Withdrawn | None = None
        self._result = result
        self._runs: dict[str, Run[R]] = {}
        self._batches: OrderedDict[str, None] = OrderedDict()
        self._acknowledger = Acknowledger(connection, self)
        self._collections: list[Collector[R]] = []
        self._report = ExperimentReport(connection, document.id, document.kind)

    def evaluate(
        self, bitstreams: Iterable[Source], **options: Unpack[EvaluateOptions]
    ) -> Generator[R]:
        """Evaluate every bitstream on every board, and yield results as they come.

        The bitstreams are taken, on your thread, a few ahead of the boards, so they may come from
        a generator without end. What a board owes when it fails, fails with it; one that comes
        back takes part in what follows. So does one that takes its place, in a reservation that
        replaces devices: each bitstream has one outcome for each place.

        Args:
            bitstreams: paths, bytes, ``(name, bytes)``, :class:`Bitstream` or objects with
                ``data``, ``name`` and ``annotations``; ``(bitstream, serials)`` for one that is
                for those boards only. Each result's ``source`` is what was given.
            **options: any of

                - ``serials``: the boards to use, these and no others; by default all of the
                  reservation.
                - ``args={}``: what a measurement of the kind takes, the same for each.
                - ``validate=True``: whether to refuse bitstreams that would not configure an FPGA.
                - ``repeats=1``: how often each is measured; :func:`summarise` says what comes of
                  more than once.
                - ``timeout=None``: seconds for the whole run, after which it is left: what waits at
                  boards is withdrawn, and has no outcome.
                - ``stall=300.0``: seconds without a sign of life of a board after which its
                  evaluations fail, beside what a ``window`` in ``args`` takes.
                - ``progress=False``: True for a bar, in a notebook or on stderr, or a function to
                  call with a :class:`Progress`. Both are told if the broker or boards are away.
                - ``acknowledge=True``: whether workers forget each outcome when you ask for the
                  next; otherwise they keep it until you :meth:`acknowledge` it, so that a program
                  which is killed finds it with :meth:`collect`.

        Raises:
            EvaluationsFailed: after the last outcome, if any evaluation has no result.
            DeadlineExceeded: the time for the run was up.
            InvalidRequest: something that is no bitstream at all, such as a missing file, or
                ``args`` that JSON can't hold.
            InternalError: something failed in the client that nobody foresaw.
            ReservationEnded: it was over before it began.
            NotAuthorized: the broker knows this user no longer.
        """
        return _results(*self._on_each(bitstreams, Options(**options)))

    def evaluate_outcomes(
        self, bitstreams: Iterable[Source], **options: Unpack[EvaluateOptions]
    ) -> Generator[R | Failure]:
        """Like :meth:`evaluate`, but yield failures too instead of raising them at the end.

        Raises:
            InvalidRequest: something that is no bitstream at all, such as a missing file, or
                ``args`` that JSON can't hold.
            InternalError: something failed in the client that nobody foresaw.
            ReservationEnded: it was over before it began.
            NotAuthorized: the broker knows this user no longer.
            IcebusError: no board is left for a source that has no length to go by.
        """
        return _all(*self._on_each(bitstreams, Options(**options)))

    outcomes = evaluate_outcomes

    def map(self, population: Iterable[Source], **options: Unpack[MapOptions]) -> Generator[R]:
        """Evaluate every bitstream once, on whichever board is free; yield results as they come.

        What a board owes when it fails goes to the others, and a board that comes back takes part
        again, as does one that takes its place in a reservation that replaces devices. A bitstream
        that failed three boards' measurements fails.

        Args:
            population: bitstreams, as for :meth:`evaluate`; ``(bitstream, serials)`` has it
                evaluated on each of those boards, and fail with them. Each result's ``source`` is
                what was given.
            **options: as for :meth:`evaluate`, where what a board owes after ``stall`` goes to
                others, and

                - ``patience=60.0``: seconds to wait for a board to come back when none is left.

        Raises:
            EvaluationsFailed: after the last outcome, if any bitstream has no result.
            DeadlineExceeded: the time for the run was up.
            InvalidRequest: something that is no bitstream at all, such as a missing file, or
                ``args`` that JSON can't hold.
            InternalError: something failed in the client that nobody foresaw.
            ReservationEnded: it was over before it began.
            NotAuthorized: the broker knows this user no longer.
        """
        return _results(*self._on_any(population, Options(**options)))

    def map_outcomes(
        self, population: Iterable[Source], **options: Unpack[MapOptions]
    ) -> Generator[R | Failure]:
        """Like :meth:`map`, but yield failures too instead of raising them at the end.

        Raises:
            InvalidRequest: something that is no bitstream at all, such as a missing file, or
                ``args`` that JSON can't hold.
            InternalError: something failed in the client that nobody foresaw.
            ReservationEnded: it was over before it began.
            NotAuthorized: the broker knows this user no longer.
            IcebusError: no board is left for a source that has no length to go by.
        """
        return _all(*self._on_any(population, Options(**options)))

    def acknowledge(self, outcome: R | Failure) -> None:
        """Say that you have an outcome, if it is not done for you: its worker forgets it.

        Raises:
            ClientClosed: the client is closed; whoever collects next gets the outcome again.
        """
        self._connection.check_open()
        if outcome.serial:
            self._acknowledger.add(outcome.serial, outcome.evaluation)

    def collect(self, *, stall: float = STALL, acknowledge: bool = True) -> Generator[R | Failure]:
        """Yield outcomes that nobody took, such as those of a client that crashed.

        Workers keep what they measured until a client has it. Evaluations that are still to be
        measured are waited for. What is yielded is forgotten by the worker once the next is asked
        for, so an outcome may come again after a crash, and none is lost. While another client
        evaluates with this reservation, leave this alone: it would take what that one waits for.

        Args:
            stall: seconds without any outcome, with some to come, after which it is given up.
            acknowledge: whether workers forget each outcome when you ask for the next; otherwise
                they keep it until you :meth:`acknowledge` it.

        Raises:
            IcebusError: a board can't be asked now; what others had was yielded before.
        """
        self._connection.check_open()
        collection = Collector[R](self._connection, self, stall, acknowledge=acknowledge)
        self._collections.append(collection)
        try:
            with self._connection.farm_watch.waiting():
                yield from collection.outcomes()
        finally:
            self._collections.remove(collection)

    def _on_each(
        self, source: Iterable[Source], options: Options
    ) -> tuple[Run[R], Generator[R | Failure]]:
        bitstreams = as_sources(source)
        # Boards that fail give way to others only where the run is for all of the reservation.
        waits = options.all_boards and self.document.replace
        chosen = self._chosen(options)
        distribution = EachBoard[Item](new_id(), chosen, waits_for_replacement=waits)
        return self._run(distribution, bitstreams, options)

    def _on_any(
        self, source: Iterable[Source], options: Options
    ) -> tuple[Run[R], Generator[R | Failure]]:
        bitstreams = as_sources(source)
        length = length_of(bitstreams)
        total = None if length is None else length * options.repeats
        distribution = AnyBoard[Item](new_id(), self._chosen(options), total)
        return self._run(distribution, bitstreams, options)

    def _chosen(self, options: Options) -> list[str]:
        self._connection.check_open()
        if (ended := self.ended) is not None:
            raise ended
        if is_queued(self.document):
            raise still_queued_error(self.document)
        named = serials_of(options.serials)
        chosen = meant_devices(self.document, self.serials if named is None else named)
        if not chosen:
            raise InvalidRequest("no board is named; leave serials out for all of the reservation")
        return chosen

    def _run(
        self, distribution: Distribution[Item, Any], bitstreams: Iterable[Source], options: Options
    ) -> tuple[Run[R], Generator[R | Failure]]:
        run = Run[R](self._connection, self, self._acknowledger, distribution, options)
        outcomes = self._outcomes(run, bitstreams, options)
        if options.progress is False:
            return run, outcomes
        total = evaluations_of(bitstreams, distribution.copies, options.repeats)
        report = Report(
            total,
            options.progress,
            lambda: missing(self._connection, self, distribution.serials),
        )
        run.on_waiting = report.waiting
        return run, report.follow(outcomes)

    def _outcomes(
        self, run: Run[R], bitstreams: Iterable[Source], options: Options
    ) -> Generator[R | Failure]:
        self._runs[run.batch] = run
        if options.acknowledge:
            self._batches[run.batch] = None
        while len(self._batches) > KEPT_BATCHES:
            self._batches.popitem(last=False)
        log.info("batch %s begins, of reservation %s", run.batch, self.id)
        self._report.begin(run.total_of(bitstreams))
        try:
            with (
                self._connection.farm_watch.waiting(),
                closing(run.outcomes(bitstreams)) as outcomes,
            ):
                for outcome in outcomes:
                    self._report.add(outcome)
                    yield outcome
        finally:
            if not self._connection.inherited:
                self._finish(run)
                self._report.end()

    def _finish(self, run: Run[R]) -> None:
        owing = run.close()
        if self.attached:
            for serial, evaluation in run.not_taken:
                self._acknowledger.add(serial, evaluation)
        elif owing or run.not_taken:
            # It outlives us, and with it what nobody took.
            self._batches.pop(run.batch, None)
        if owing and self.ended is None and self._connection.bus.connected:
            self.withdrawn = withdraw(self._connection, self, run.batch, owing)
        if self._connection.hooks.has("finished"):
            run.wait_finished(Deadline.after(FINISHED_TIMEOUT))
        del self._runs[run.batch]
        owed = f"; outcomes are owed by {', '.join(owing)}" if owing else ""
        log.info("batch %s is over%s", run.batch, owed)
        self._acknowledger.flush()

    def close(self) -> None:
        """Let go of it without ending it."""
        if not self._connection.inherited:
            self._acknowledger.flush()
            self._report.flush()
        super().close()

    # --- on the dispatcher --------------------------------------------------------------------

    def on_kind_event(self, name: str, serial: str, worker: str, payload: bytes) -> None:
        """Outcomes go to the run they belong to, and to hooks.

        A mistake of ours there would have workers tell them for ever, and somebody wait.
        """
        with ExitStack() as runs:
            for run in list(self._runs.values()):
                runs.enter_context(run.failing())
            self._on_kind_event(name, serial, worker, payload)

    def _on_kind_event(self, name: str, serial: str, worker: str, payload: bytes) -> None:
        if name == "results":
            self._on_result(serial, payload)
        elif name == "failures":
            self._on_outcome(name, serial, read_event(Failure, payload))
        elif name == "finished":
            finished = read_event(BatchFinished, payload)
            self._connection.hooks.run(name, finished, (name, self.id, serial, finished.batch))
            if (run := self._runs.get(finished.batch)) is not None:
                run.finished(serial)
        else:
            super().on_kind_event(name, serial, worker, payload)

    def _on_result(self, serial: str, payload: bytes) -> None:
        try:
            result = read_event(self._result, payload)
        except InvalidRequest as error:
            # Whoever waits for it would wait in vain.
            unread = read_event(Outcome, payload)
            refusal = RemoteError(
                f"the worker's result is not what this client expects: {error.message}; "
                "are both of one version?",
                **error.details,
            )
            self._on_outcome("failures", serial, Failure(**dict(unread), error=refusal))
        else:
            self._on_outcome("results", serial, result)

    def _on_outcome(self, name: str, serial: str, outcome: R | Failure) -> None:
        if not outcome.serial:  # journalled by an earlier version
            outcome = outcome.model_copy(update={"serial": serial})
        self._connection.hooks.run(name, outcome, ("outcome", self.id, serial, outcome.evaluation))
        if (run := self._runs.get(outcome.batch)) is not None:
            run.outcome_came(outcome)
        elif outcome.batch in self._batches or is_withdrawn(outcome):
            self._acknowledger.add(serial, outcome.evaluation)
        else:
            for collection in list(self._collections):
                collection.put(outcome)

    def _on_reconnected(self) -> None:
        super()._on_reconnected()
        for run in list(self._runs.values()):
            run.reconnected()

    def _on_refused(self) -> None:
        super()._on_refused()
        for run in list(self._runs.values()):
            run.refused()

    def on_devices_lost(self, serials: list[str], error: IcebusError) -> None:
        """Runs under way learn that they wait in vain."""
        for run in list(self._runs.values()):
            run.boards_lost(serials, error)

    def on_devices_serve(self, serials: list[str]) -> None:
        """Runs under way may use them again."""
        for run in list(self._runs.values()):
            run.boards_back(serials)

    def on_device_replaced(self, serial: str, by: str) -> None:
        """Runs under way use the other in its place."""
        for run in list(self._runs.values()):
            run.replaced(serial, by)


def _all(run: Run[R], outcomes: Generator[R | Failure]) -> Generator[R | Failure]:
    """All outcomes, and then why there are no more, if not because the source has ended."""
    yield from outcomes
    if run.timed_out is not None:
        raise run.timed_out
    if run.no_board_error is not None:
        raise run.no_board_error


def _results(run: Run[R], outcomes: Generator[R | Failure]) -> Generator[R]:
    """The results among outcomes, and then one error that tells of all failures."""
    failures: list[Failure] = []
    failed = total = 0
    with closing(outcomes):
        for outcome in outcomes:
            total += 1
            if not isinstance(outcome, Failure):
                yield outcome
                continue
            failed += 1
            if len(failures) < KEPT_FAILURES:
                failures.append(outcome)
    if run.timed_out is not None:
        raise run.timed_out
    if failures:
        raise EvaluationsFailed.of(failures, failed, total) from run.no_board_error
    if run.no_board_error is not None:
        raise run.no_board_error
