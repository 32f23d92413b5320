"""Kind ``pulsecount``: measures queued bitstreams one after another with the existing firmware."""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from icebus.schemas import bitstream
from icebus.schemas import pulse_count_text as text
from icebus.schemas.errors import (
    BitstreamInvalid,
    BitstreamUnsupported,
    DecoderUnavailable,
    IcebusError,
    MeasurementFailed,
    QueueFull,
    WorkerRestarted,
)
from icebus.schemas.files import File
from icebus.schemas.ids import Id, new_id
from icebus.schemas.kinds.pulsecount import (
    FIRMWARE,
    KIND,
    QUEUE_CAPACITY,
    Acknowledged,
    EvaluationFailure,
    Finished,
    Outcome,
    PulseCountArgs,
    PulseCountResult,
    Queued,
    QueueStatus,
)
from icebus.schemas.message import now
from icebus.worker.firmware.lines import Lines
from icebus.worker.firmware.pulse_count import (
    Conversation,
    NoReport,
    Received,
    Report,
    Started,
    Waiting,
    Watchdog,
)
from icebus.worker.journal import Journal
from icebus.worker.states.framework import Event, Hold, Reservable, method, reservable

log = logging.getLogger(__name__)

UPLOAD_DEADLINE = 10.0
"""Seconds for a transfer. The firmware's own watchdog drops it after 2; a board that does not even
say so is dead."""

REPORT_DEADLINE = 20.0
"""Seconds from the end of a transfer to the report: four times the longest window known."""

ATTEMPTS = 2
"""Transfers of one bitstream that the watchdog may cut off before the evaluation fails."""

QUIET = 0.25
"""Seconds without a new transfer after a watchdog, which show that no stray bytes are left."""

Bitstreams = Annotated[list[File], Field(max_length=QUEUE_CAPACITY)]


class Entry(Outcome):
    """An accepted evaluation as the journal describes it; ``at`` is when it was accepted."""


_EVENTS: dict[str, TypeAdapter[PulseCountResult] | TypeAdapter[EvaluationFailure]] = {
    "results": TypeAdapter(PulseCountResult),
    "failures": TypeAdapter(EvaluationFailure),
}


@dataclass
class _Evaluation:
    entry: Entry
    file: File
    attempts: int = 0
    begun: float = 0.0
    received: float = 0.0


@dataclass
class _Batch:
    more: bool = True
    outstanding: int = 0
    results: int = 0
    failures: int = 0


@reservable(KIND, firmware=FIRMWARE)
class PulseCount(Reservable):
    """Counts the pulses that circuits give on pin ICE_27 in the firmware's measuring window."""

    class Args(PulseCountArgs):
        """What a reservation may ask for."""

    results = Event(PulseCountResult, "One bitstream was measured.")
    failures = Event(EvaluationFailure, "One bitstream will have no result on this device.")
    finished = Event(Finished, "Every evaluation of a batch has had its outcome here.")

    def __init__(self, hold: Hold, args: BaseModel) -> None:
        super().__init__(hold, args)
        self._queue: deque[_Evaluation] = deque()
        self._current: _Evaluation | None = None
        self._batches: dict[str, _Batch] = {}
        self._lines = Lines()
        self._conversation = Conversation()
        # The device is proved idle before this state begins.
        self._waiting = True
        self._strayed = False
        self._step = 0

    # --- methods ------------------------------------------------------------------------------

    @method
    def evaluate(
        self,
        bitstreams: Bitstreams,
        batch: Id | None = None,
        more: bool = False,
        validate: bool = True,
    ) -> Queued:
        """Queue bitstreams; each ends in one event ``results`` or ``failures``.

        All are accepted or none. ``more`` announces further calls of the same batch; ``finished``
        is sent once a call without it was accepted and every evaluation has had its outcome. An
        evaluation of an id that is known already is not measured again: its outcome is repeated.
        """
        known = {f.id for f in bitstreams if self._journal.knows(self.hold.reservation, f.id)}
        fresh = [f for f in bitstreams if f.id not in known]
        if len({f.id for f in fresh}) != len(fresh):
            raise BitstreamInvalid("two bitstreams have the same id", problem="id")
        if self.load + len(fresh) > QUEUE_CAPACITY:
            raise QueueFull(
                f"the queue takes {QUEUE_CAPACITY} evaluations and holds {self.load}; "
                "send more when results have come",
                capacity=QUEUE_CAPACITY,
                depth=self.load,
            )
        for file in fresh:
            _check(file, validate)
        name = batch or new_id()
        accepted = [_Evaluation(_entry(file, name), file) for file in fresh]
        self._journal.accept(
            self.hold.reservation,
            [(each.entry.evaluation, each.entry.model_dump_json()) for each in accepted],
        )
        for evaluation in known:
            self._repeat(evaluation)
        state = self._batches.setdefault(name, _Batch())
        state.more = more
        state.outstanding += len(accepted)
        self._queue.extend(accepted)
        self._close_batch(name)
        self._begin_next()
        return Queued(evaluations=[f.id for f in bitstreams], depth=self.load)

    @method
    def acknowledge(self, evaluations: Annotated[list[Id], Field(max_length=1024)]) -> Acknowledged:
        """Say that outcomes have arrived: the device forgets them."""
        return Acknowledged(forgotten=self._journal.acknowledge(self.hold.reservation, evaluations))

    @method
    def status(self) -> QueueStatus:
        """How much waits, what is measured now, and how many outcomes are unacknowledged."""
        return QueueStatus(
            queued=len(self._queue),
            measuring=None if self._current is None else self._current.entry.evaluation,
            unacknowledged=self._journal.count_settled(self.hold.reservation),
        )

    @property
    def load(self) -> int:
        """Evaluations that wait or are measured."""
        return len(self._queue) + (self._current is not None)

    @property
    def idle(self) -> bool:
        """Whether the board waits for a transfer and none is under way."""
        return self._waiting and self._current is None

    # --- hooks --------------------------------------------------------------------------------

    def on_enter(self) -> None:
        """Settle what an earlier life of the worker had accepted, and repeat what it measured."""
        self._journal.keep_only(self.hold.reservation)
        repeated = self._journal.settled(self.hold.reservation)
        for description in self._journal.unsettled(self.hold.reservation):
            entry = Entry.model_validate_json(description)
            error = WorkerRestarted(
                "the worker was restarted before this was measured; evaluate it again"
            )
            self._settle("failures", _failure(entry, error))
        for settled in repeated:
            self._repeat(settled.evaluation)

    def on_data(self, data: bytes) -> None:
        """Follow the conversation."""
        for line in self._lines.feed(data):
            match self._conversation.hear(line):
                case Waiting():
                    self._on_waiting()
                case Started():
                    self._on_started()
                case Received():
                    self._on_received()
                case Watchdog(received):
                    self._on_watchdog(received)
                case Report() as report:
                    self._on_report(report)
                case NoReport(decoder, reason):
                    error = DecoderUnavailable if decoder else BitstreamUnsupported
                    self._fail_current(error(reason))
                case None:
                    pass

    def on_exit(self, why: IcebusError) -> None:
        """Every evaluation that has no outcome yet fails with ``why``."""
        if self.device.port is not None and self.device.port.sending:
            self.device.port.discard()
        unmeasured = [self._current] if self._current is not None else []
        unmeasured += self._queue
        self._current = None
        self._queue.clear()
        for each in unmeasured:
            self._end_evaluation(each, "failures", _failure(each.entry, why))
        for name in list(self._batches):
            self._batches[name].more = False
            self._close_batch(name)

    # --- the conversation ------------------------------------------------------------------------

    def _begin_next(self) -> None:
        port = self.device.port
        if not self._waiting or self._current is not None or not self._queue or port is None:
            return
        evaluation = self._queue.popleft()
        self._current = evaluation
        self._waiting = False
        evaluation.attempts += 1
        evaluation.begun = time.monotonic()
        evaluation.received = 0.0
        self._expect_within(UPLOAD_DEADLINE, "did not take the bitstream")
        port.send(evaluation.file.blob.read())

    def _on_waiting(self) -> None:
        current = self._current
        if current is not None and not self._strayed:
            if current.received:
                # It went back to waiting with neither a report nor a word why.
                self._fail_current(MeasurementFailed("the board ended without a report"))
            else:
                return  # said before it saw the first byte
        if self._strayed:
            self._expect_quiet()
            return
        self._waiting = True
        self._begin_next()

    def _on_started(self) -> None:
        self._waiting = False
        if self._current is None:
            self._strayed = True

    def _on_received(self) -> None:
        if self._current is not None:
            self._current.received = time.monotonic()
            self._expect_within(REPORT_DEADLINE, "took the bitstream but gave no report")

    def _on_watchdog(self, received: int) -> None:
        current, self._current = self._current, None
        if self.device.port is not None:
            self.device.port.discard()
        self._strayed = True
        self._waiting = False
        if current is None:
            return
        if current.attempts < ATTEMPTS:
            self._queue.appendleft(current)
            return
        self._end_evaluation(
            current,
            "failures",
            _failure(
                current.entry,
                MeasurementFailed(
                    f"the transfer broke off twice, with {received} of {text.BITSTREAM_SIZE} "
                    "bytes received; check the board's cable and hub",
                    received=received,
                ),
            ),
        )

    def _on_report(self, report: Report) -> None:
        current, self._current = self._current, None
        if current is None or not current.received:
            # Of a transfer that was not ours, or a number out of place: never anyone's result.
            self._current = current
            return
        at = time.monotonic()
        result = PulseCountResult(
            **_described(current.entry),
            pulses=report.pulses,
            exact=report.exact,
            cdone=report.cdone,
            note=report.note,
            upload=current.received - current.begun,
            window=at - current.received,
        )
        self._end_evaluation(current, "results", result)

    def _expect_within(self, seconds: float, otherwise: str) -> None:
        self._step += 1
        step = self._step
        self.after(seconds, lambda: self._too_late(step, otherwise))

    def _too_late(self, step: int, otherwise: str) -> None:
        if step == self._step and self._current is not None:
            self._fail_current(MeasurementFailed(f"the board {otherwise} in time"))
            self.device.fail(otherwise)

    def _expect_quiet(self) -> None:
        self._step += 1
        step = self._step
        self._strayed = False
        self.after(QUIET, lambda: self._quiet(step))

    def _quiet(self, step: int) -> None:
        if step == self._step and not self._strayed and self._current is None:
            self._waiting = True
            self._begin_next()

    # --- outcomes --------------------------------------------------------------------------------

    @property
    def _journal(self) -> Journal:
        return self.device.journal

    def _fail_current(self, error: IcebusError) -> None:
        current, self._current = self._current, None
        if current is not None:
            self._end_evaluation(current, "failures", _failure(current.entry, error))

    def _end_evaluation(
        self, evaluation: _Evaluation, event: str, outcome: PulseCountResult | EvaluationFailure
    ) -> None:
        batch = self._batches.get(evaluation.entry.batch)
        if batch is not None:
            batch.outstanding -= 1
            batch.results += event == "results"
            batch.failures += event == "failures"
        self._settle(event, outcome)
        self._close_batch(evaluation.entry.batch)

    def _settle(self, event: str, outcome: PulseCountResult | EvaluationFailure) -> None:
        self._journal.settle(
            self.hold.reservation, outcome.evaluation, event, outcome.model_dump_json()
        )
        self.device.emit(self.hold, event, outcome)

    def _repeat(self, evaluation: str) -> None:
        for settled in self._journal.settled(self.hold.reservation, evaluation):
            try:
                outcome = _EVENTS[settled.event].validate_json(settled.outcome)
            except (KeyError, ValidationError):
                log.exception("device %s: unreadable outcome in the journal", self.device.name)
                continue
            self.device.emit(self.hold, settled.event, outcome)

    def _close_batch(self, name: str) -> None:
        batch = self._batches.get(name)
        if batch is None or batch.more or batch.outstanding > 0:
            return
        del self._batches[name]
        self.finished(Finished(batch=name, results=batch.results, failures=batch.failures))


def _check(file: File, validate: bool) -> None:
    data = file.blob.read()
    try:
        if validate:
            bitstream.validate(data)
        elif len(data) != text.BITSTREAM_SIZE:
            raise BitstreamInvalid(
                f"{len(data)} bytes, but the board takes exactly {text.BITSTREAM_SIZE}: any other "
                "number would shift the uploads after it",
                problem="size",
            )
    except BitstreamInvalid as error:
        raise BitstreamInvalid(
            f"{file.name}: {error.message}", **{**error.details, "bitstream": file.name}
        ) from None


def _entry(file: File, batch: str) -> Entry:
    return Entry(
        evaluation=file.id,
        batch=batch,
        bitstream=file.name,
        sha256=file.hash,
        annotations=file.annotations,
        at=now(),
    )


def _described(entry: Entry) -> dict[str, object]:
    return {**{name: getattr(entry, name) for name in Outcome.model_fields}, "at": now()}


def _failure(entry: Entry, error: IcebusError) -> EvaluationFailure:
    return EvaluationFailure(**_described(entry), error=error.info())
