"""The state: evaluations wait in a queue in front of a meter."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import deque
from functools import partial
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, Field

from icebus.schemas.boards import bitstream
from icebus.schemas.boards.bitstream import Normalised
from icebus.schemas.errors import (
    BitstreamInvalid,
    EvaluationWithdrawn,
    IcebusError,
    InvalidRequest,
    KindFailed,
    MeasurementFailed,
    QueueFull,
    WorkerRestarted,
)
from icebus.schemas.files import File
from icebus.schemas.ids import Id, new_id
from icebus.schemas.measuring import (
    QUEUE_CAPACITY,
    Acknowledged,
    BatchFinished,
    Collected,
    Failure,
    Queued,
    QueueStatus,
    Result,
    Withdrawn,
)
from icebus.schemas.message import Args, Natural
from icebus.schemas.programs.logs import about
from icebus.worker.firmware import Measured, Meter, MeterCallbacks
from icebus.worker.states._framework import Event, Reservable
from icebus.worker.states._hosts import Hold
from icebus.worker.states._methods import ModelOfKind, method
from icebus.worker.states._mistakes import kind_failed, mistakes_of
from icebus.worker.states.measuring._batches import Batches, EndedBatch
from icebus.worker.states.measuring._outcomes import DIGITS, Entry, Evaluation, Outcomes

log = logging.getLogger(__name__)

FAILURES_IN_A_ROW = 3
"""Measurements in a row that may fail before the board is tested: one is a bad cable's, three are a
board's that serves nobody."""

LONGEST_READY = 16 << 10
"""Bytes of what a meter is given that are kept until a file's turn: ten times what our firmware is
sent of a typical bitstream. Longer ones, such as text firmware's, are made when they are needed."""

Bitstreams = Annotated[list[File], Field(max_length=QUEUE_CAPACITY)]
Evaluations = Annotated[list[Id], Field(max_length=1024)]

R = TypeVar("R")


class Measuring(Reservable, ABC, Generic[R]):
    """A kind that measures files: each that is accepted has exactly one outcome.

    A kind declares ``results = Event(ItsResult)``, and says with which meter the board is driven
    and what a report of that means. ``R`` is what the meter reports.

    Attributes:
        MeasurementArgs: what a call of ``evaluate`` may ask for.
    """

    measures = True
    results: ClassVar[Event[Any]]
    failures = Event(Failure, "One bitstream will have no result on this device.")
    finished = Event(BatchFinished, "Every evaluation of a batch has had its outcome here.")

    class MeasurementArgs(Args):
        """Nothing, unless a kind says otherwise."""

    def __init__(self, hold: Hold, args: BaseModel) -> None:
        super().__init__(hold, args)
        self._queue: deque[Evaluation] = deque()
        self._under_way: dict[str, Evaluation] = {}
        self._ended: deque[tuple[Evaluation, Measured[R] | IcebusError]] = deque()
        self._outcomes = Outcomes(self)
        self._batches = Batches()
        self._stopping = False
        self._failed_in_a_row = 0
        self._meter: Meter[R] | None = None

    # --- what a kind says -----------------------------------------------------------------------

    @abstractmethod
    def make_meter(self, callbacks: MeterCallbacks[R]) -> Meter[R]:
        """What drives the board's firmware, which is ``board_firmware``."""

    @abstractmethod
    def result(self, report: R) -> dict[str, object]:
        """The fields of the kind's result that ``report`` gives."""

    def result_of(self, report: R, args: Any) -> dict[str, object]:
        """The same, for kinds whose results depend on what was asked for: ``MeasurementArgs``."""
        return self.result(report)

    def check_args(self, args: Any) -> None:
        """Refuse a measurement that this board can't make, before anything is accepted.

        Args:
            args: the kind's ``MeasurementArgs``.

        Raises:
            MeasurementUnsupported: another board may, which the message helps to find.
        """

    def check(self, data: bytes, validate: bool) -> None:
        """Refuse a file before it is accepted; thoroughly, if the client wants to ``validate``.

        Raises:
            BitstreamInvalid: it can't be measured.
        """
        if validate:
            bitstream.validate(data)

    def to_send(self, data: bytes, args: Any) -> bytes:
        """What the meter is given for a file; ``args`` are the kind's ``MeasurementArgs``.

        A valid bitstream of another size has been brought to the boards' (see
        :func:`icebus.schemas.boards.bitstream.normalise`); the ``note`` of the result says so, if
        the kind's result has one.
        """
        return data

    # --- methods ------------------------------------------------------------------------------

    @method
    def evaluate(
        self,
        bitstreams: Bitstreams,
        batch: Id | None = None,
        more: bool = False,
        validate: bool = True,
        acknowledge: Evaluations = [],  # noqa: B006 - copied for each call
        retry: bool = False,
        args: Annotated[BaseModel, ModelOfKind("MeasurementArgs")] = MeasurementArgs(),  # noqa: B008
    ) -> Queued:
        """Queue bitstreams; each ends in one event ``results`` or ``failures``.

        All are accepted or none. ``more`` announces further calls of the same batch; ``finished``
        is sent once a call without it was accepted and every evaluation has had its outcome. An
        evaluation of an id that is known already is not measured again: its outcome is repeated,
        unless it is a failure and ``retry`` asks for another try.
        ``acknowledge`` saves a call: it names outcomes that have arrived. ``args`` is how they are
        measured, as the kind says.
        """
        self.acknowledge(acknowledge)
        known = {file.id for file in bitstreams if self._outcomes.knows(file.id)}
        again = {id_ for id_ in known if retry and self._outcomes.has_failed(id_)}
        known -= again
        fresh = [file for file in bitstreams if file.id not in known]
        if len({file.id for file in fresh}) != len(fresh):
            raise InvalidRequest("two bitstreams of one call have the same id")
        if self.load + len(fresh) > QUEUE_CAPACITY:
            raise QueueFull(
                f"the queue takes {QUEUE_CAPACITY} evaluations and holds {self.load}; "
                "send more when results have come",
                capacity=QUEUE_CAPACITY,
                depth=self.load,
            )
        if fresh:
            with mistakes_of(self.kind, "check_args"):
                self.check_args(args)
        checked = [self._checked(file, validate) for file in fresh]
        name = batch or new_id()
        accepted = [
            Evaluation(
                entry=Entry.accepted(self.device.name, file, name),
                file=file,
                args=args,
                note=normalised.note,
                ready=self._ready(normalised.data, args),
                problem="" if validate else _problem(normalised.data),
            )
            for file, normalised in zip(fresh, checked, strict=True)
        ]
        self._outcomes.accept(accepted, again)
        for evaluation in known:
            self._outcomes.repeat(evaluation)
        self._queue.extend(accepted)
        self._on_batch_ended(self._batches.accept(name, len(accepted), more))
        self._begin_next()
        return Queued(evaluations=[file.id for file in bitstreams], depth=self.load)

    @method
    def acknowledge(self, evaluations: Evaluations) -> Acknowledged:
        """Say that outcomes have arrived: the device forgets them."""
        self.device.acknowledged(evaluations)
        return Acknowledged(forgotten=self._outcomes.acknowledge(evaluations))

    @method
    def collect(self, after: Natural = 0) -> Collected:
        """Repeat outcomes that nobody has acknowledged, as the events they were sent as.

        For a client that takes over from one that died. They come in pages, so that a client is not
        buried: acknowledge one, then ask for what is ``after`` it.
        """
        repeated, following = self._outcomes.repeat_page(after)
        return Collected(repeated=repeated, next=following, outstanding=self.load)

    @method
    def withdraw(self, batch: Id) -> Withdrawn:
        """Give up what waits of a batch, and take no more of it: nobody wants it any longer.

        Each evaluation that waited ends in a failure. What is on the board is seen through.
        """
        waiting = [each for each in self._queue if each.entry.batch == batch]
        self._queue = deque(each for each in self._queue if each.entry.batch != batch)
        why = EvaluationWithdrawn("it was given up before it was measured")
        for evaluation in waiting:
            self._end(evaluation, why)
        self._on_batch_ended(self._batches.close(batch))
        measuring = sum(each.entry.batch == batch for each in self._under_way.values())
        return Withdrawn(withdrawn=len(waiting), measuring=measuring)

    @method
    def status(self) -> QueueStatus:
        """How much waits, what is measured now, and how many outcomes are unacknowledged."""
        return QueueStatus(
            queued=len(self._queue),
            measuring=next(iter(self._under_way), None),
            unacknowledged=self._outcomes.unacknowledged,
        )

    @property
    def load(self) -> int:
        """Evaluations that wait or are measured."""
        return len(self._queue) + len(self._under_way)

    @property
    def idle(self) -> bool:
        """Whether the board waits for a measurement and none is under way."""
        return self._meter is not None and self._meter.idle

    # --- hooks --------------------------------------------------------------------------------

    def on_enter(self) -> None:
        """Fail what was accepted before the worker was restarted, and repeat what was measured."""
        self._meter = self._made_meter()
        if self.probe is not None:
            self._meter.take_over(self.probe)
        self._outcomes.forget_others()
        unfinished = self._outcomes.without_outcome()
        self._outcomes.repeat_all()
        error = WorkerRestarted(
            "the worker was restarted before this was measured; evaluate it again"
        )
        for entry in unfinished:
            self._outcomes.add("failures", entry.failure(error))

    def on_data(self, data: bytes) -> None:
        """Hand it to the meter."""
        if self._meter is not None:
            self._meter.receive(data)

    def on_stop(self, why: IcebusError) -> None:
        """What waits fails; what is on the board is seen through."""
        self._stopping = True
        self._fail_queue(why)
        self._stop_when_done()

    def leave(self, why: IcebusError) -> None:
        """End the state: every evaluation that has no outcome yet fails with ``why``."""
        try:
            super().leave(why)
        finally:  # whatever code of the kind raises
            try:
                if self._meter is not None:
                    self._meter.abandon()
            finally:
                self._end_all(why)

    def _end_all(self, why: IcebusError) -> None:
        self._end_measured()
        under_way, self._under_way = self._under_way, {}
        for evaluation in under_way.values():
            self._end(evaluation, why)
        self._fail_queue(why)
        for batch in self._batches.abandon():
            self._on_batch_ended(batch)
        self._outcomes.write()

    # --- measuring ------------------------------------------------------------------------------

    def _begin_next(self) -> None:
        try:
            while self._queue and self._meter is not None and self._meter.wants_more:
                self._begin(self._queue.popleft(), self._meter)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - raised again, in a step
            # Whoever calls may be about to answer that evaluations are accepted, which is so.
            self.after(0, partial(_raise, error))

    def _made_meter(self) -> Meter[R]:
        with mistakes_of(self.kind, "make_meter"):
            meter = self.make_meter(
                MeterCallbacks(
                    port=lambda: self.device.port,
                    after=self.after,
                    on_measuring=lambda _key: None,
                    on_end=self._on_end,
                    on_wants_more=self._begin_next,
                    on_silence=lambda how: self.device.fail(f"the board {how}"),
                )
            )
            if not isinstance(meter, Meter):
                raise TypeError(f"it gave {type(meter).__name__}, which is no Meter")
        return meter

    def _begin(self, evaluation: Evaluation, meter: Meter[R]) -> None:
        self._under_way[evaluation.id] = evaluation
        try:
            data = self._read(evaluation)
        except IcebusError as error:
            self._on_end(evaluation.id, error)
            return
        try:
            meter.measure(evaluation.id, data)
        except (Exception, SystemExit) as error:
            log.exception(
                "device %s: %s was not begun",
                self.device.name,
                evaluation.id,
                extra=self._about(evaluation),
            )
            self._on_end(evaluation.id, kind_failed(self.kind, "measure", error))
            if not meter.wants_more:  # it may wait for the end of what was never sent
                raise

    def _ready(self, data: bytes, args: BaseModel) -> bytes | None:
        """What the meter is given for a file, if that is short enough to wait in the queue."""
        try:
            sent = self._to_send(data, args)
        except IcebusError:
            return None  # told when it is its turn
        return sent if len(sent) <= LONGEST_READY else None

    def _read(self, evaluation: Evaluation) -> bytes:
        if evaluation.ready is not None:
            return evaluation.ready
        return self._to_send(_normalised(evaluation.file.blob.read()).data, evaluation.args)

    def _to_send(self, data: bytes, args: BaseModel) -> bytes:
        with mistakes_of(self.kind, "to_send"):
            sent = self.to_send(data, args)
            if not isinstance(sent, bytes):
                raise TypeError(f"it gave {type(sent).__name__}, not bytes")
            if not sent:  # a board would be waited for that was sent nothing
                raise ValueError("it gave no bytes")
        return sent

    def _on_end(self, key: str, how: Measured[R] | IcebusError) -> None:
        evaluation = self._under_way.pop(key, None)
        if evaluation is not None:
            # First the next is begun, here and on the other boards that are ready: none is to wait
            # while results are written down and sent.
            self._ended.append((evaluation, how))
            self.after(0, self._end_measured)

    def _end_measured(self) -> None:
        while self._ended:
            evaluation, how = self._ended.popleft()
            if isinstance(how, Measured):
                self._end(evaluation, self._result(evaluation, how))
            else:
                self._end(evaluation, how)
            failed = isinstance(how, MeasurementFailed)
            self._failed_in_a_row = self._failed_in_a_row + 1 if failed else 0
        self._stop_when_done()
        if self._failed_in_a_row >= FAILURES_IN_A_ROW and self.alive:
            self._failed_in_a_row = 0
            self.device.fail(f"{FAILURES_IN_A_ROW} measurements in a row failed")

    def _result(self, evaluation: Evaluation, measured: Measured[R]) -> Result | IcebusError:
        on_board = measured.upload + measured.waited + measured.window
        queued = evaluation.age - on_board
        try:
            with mistakes_of(self.kind, "result"):
                fields = self.result_of(measured.report, evaluation.args)
                # Where the board does not tell whether the FPGA took it, the file does.
                problem = evaluation.problem if fields.get("cdone") is None else ""
                if "note" in fields:
                    notes = (evaluation.note, problem, fields["note"])
                    fields["note"] = "; ".join(str(note) for note in notes if note)
                if "exact" in fields and (problem or fields.get("cdone") is False):
                    fields["exact"] = False
                result: Result = self.events["results"].data(
                    **evaluation.entry.envelope(queued),
                    **fields,
                    upload=round(measured.upload, DIGITS),
                    waited=round(measured.waited, DIGITS),
                    window=round(measured.window, DIGITS),
                    configured=measured.configured,
                )
        except IcebusError as error:
            log.exception(
                "device %s: no result of %s",
                self.device.name,
                evaluation.id,
                extra=self._about(evaluation),
            )
            return error
        return result

    def _about(self, evaluation: Evaluation) -> dict[str, str]:
        hold = self.hold
        return about(
            self.device.name,
            reservation=hold.reservation,
            user=hold.user,
            evaluation=evaluation.id,
        )

    def _end(self, evaluation: Evaluation, how: Result | IcebusError) -> None:
        """Give an evaluation its outcome, or if that can't be sent, one that says so."""
        failed = isinstance(how, IcebusError)
        try:
            if isinstance(how, IcebusError):
                self._add_failure(evaluation, how)
            else:
                self._outcomes.add("results", how)
                self.device.evaluated(self.kind, how)
        except KindFailed as mistake:
            failed = True
            self._add_failure(evaluation, mistake)
        self._on_batch_ended(self._batches.end_one(evaluation.entry.batch, succeeded=not failed))

    def _add_failure(self, evaluation: Evaluation, error: IcebusError) -> None:
        failure = evaluation.entry.failure(error, evaluation.age)
        self._outcomes.add("failures", failure)
        self.device.evaluated(self.kind, failure)

    def _on_batch_ended(self, batch: EndedBatch | None) -> None:
        if batch is not None:
            self.finished(
                BatchFinished(
                    reservation=self.hold.reservation,
                    serial=self.device.name,
                    batch=batch.name,
                    results=batch.results,
                    failures=batch.failures,
                )
            )

    def _fail_queue(self, why: IcebusError) -> None:
        queue, self._queue = self._queue, deque()
        for evaluation in queue:
            self._end(evaluation, why)

    def _stop_when_done(self) -> None:
        if self._stopping and not self._under_way and not self._ended:
            self.device.finished()

    def _checked(self, file: File, validate: bool) -> Normalised:
        data = file.read()
        try:
            self.check(data, validate)
        except BitstreamInvalid as error:
            raise BitstreamInvalid(
                f"{file.name}: {error.message}", **{**error.details, "bitstream": file.name}
            ) from None
        return _normalised(data)


def _normalised(data: bytes) -> Normalised:
    """What is sent of a file: all of it if it is no bitstream, and the kind takes it anyway."""
    try:
        return bitstream.normalise(data)
    except BitstreamInvalid:
        return Normalised(data, "")


def _problem(data: bytes) -> str:
    """Why boards may refuse a file that its user did not want validated; empty if they will not."""
    try:
        bitstream.validate(data)
    except BitstreamInvalid as error:
        return f"not a valid bitstream: {error.message.partition(';')[0]}"
    return ""


def _raise(error: BaseException) -> None:
    raise error
