"""The state: a bounded, journalled queue of bitstreams in front of a meter."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from icebus.schemas.boards import bitstream
from icebus.schemas.boards import pulse_count_text as text
from icebus.schemas.errors import (
    BitstreamInvalid,
    IcebusError,
    InvalidRequest,
    JournalUnavailable,
    MeasurementFailed,
    QueueFull,
    WorkerRestarted,
)
from icebus.schemas.files import File
from icebus.schemas.ids import Id, new_id
from icebus.schemas.kinds.pulsecount import FIRMWARE, KIND, PulseCountArgs, PulseCountResult
from icebus.schemas.measuring import (
    COLLECT_PAGE,
    QUEUE_CAPACITY,
    Acknowledged,
    BatchFinished,
    Collected,
    Failure,
    Outcome,
    Queued,
    QueueStatus,
)
from icebus.schemas.message import Natural, now
from icebus.worker.device.journal import Journal, Settled
from icebus.worker.firmware.measuring import Measured, Meter
from icebus.worker.states._framework import Event, Hold, Reservable, reservable
from icebus.worker.states._methods import method
from icebus.worker.states.kinds.pulsecount.batches import Batches, Finished

log = logging.getLogger(__name__)

LONGEST_ENTRY = 64 << 10
"""Bytes of JSON that an evaluation is described with, mostly the client's annotations: they go back
with its outcome, which has to fit into one message."""

PATIENCE = 3
"""Measurements in a row that may fail before the board is looked at: one is a bad cable's, three
are a board's that serves nobody."""

WRITE_AGAIN = 5.0
"""Seconds until an outcome is written down again that the disk had no room for."""

Bitstreams = Annotated[list[File], Field(max_length=QUEUE_CAPACITY)]
Evaluations = Annotated[list[Id], Field(max_length=1024)]


class Entry(Outcome):
    """An accepted evaluation as the journal describes it; ``at`` is when it was accepted."""


_EVENTS: dict[str, TypeAdapter[PulseCountResult] | TypeAdapter[Failure]] = {
    "results": TypeAdapter(PulseCountResult),
    "failures": TypeAdapter(Failure),
}


@dataclass(frozen=True)
class _Evaluation:
    entry: Entry
    file: File


@reservable(KIND, firmware=FIRMWARE)
class PulseCount(Reservable):
    """Counts the pulses that circuits give on pin ICE_27 in the firmware's measuring window."""

    class Args(PulseCountArgs):
        """What a reservation may ask for."""

    takes_over = True
    results = Event(PulseCountResult, "One bitstream was measured.")
    failures = Event(Failure, "One bitstream will have no result on this device.")
    finished = Event(BatchFinished, "Every evaluation of a batch has had its outcome here.")

    def __init__(self, hold: Hold, args: BaseModel) -> None:
        super().__init__(hold, args)
        self._queue: deque[_Evaluation] = deque()
        self._current: _Evaluation | None = None
        self._ahead: tuple[_Evaluation, bytes] | None = None
        self._ended: list[tuple[_Evaluation, Measured | IcebusError]] = []
        self._unwritten: deque[Settled] = deque()
        self._batches = Batches()
        self._stopping = False
        self._failed_in_a_row = 0
        self._meter = Meter(
            port=lambda: self.device.port,
            after=self.after,
            on_measuring=self._look_ahead,
            on_end=self._on_end,
            on_idle=self._begin_next,
            on_silence=lambda why: self.device.fail(f"the board {why}"),
        )

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
    ) -> Queued:
        """Queue bitstreams; each ends in one event ``results`` or ``failures``.

        All are accepted or none. ``more`` announces further calls of the same batch; ``finished``
        is sent once a call without it was accepted and every evaluation has had its outcome. An
        evaluation of an id that is known already is not measured again: its outcome is repeated,
        unless it is a failure and ``retry`` asks for another try.
        ``acknowledge`` saves a call: it names outcomes that have arrived.
        """
        self.acknowledge(acknowledge)
        known = {f.id for f in bitstreams if self._journal.knows(self.hold.reservation, f.id)}
        again = {evaluation for evaluation in known if retry and self._has_failed(evaluation)}
        known -= again
        fresh = [f for f in bitstreams if f.id not in known]
        if len({f.id for f in fresh}) != len(fresh):
            raise InvalidRequest("two bitstreams of one call have the same id")
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
        accepted = [_Evaluation(_entry(self.device.name, file, name), file) for file in fresh]
        self._journal.accept(
            self.hold.reservation,
            [(each.entry.evaluation, _json(each.entry)) for each in accepted],
            again,
        )
        for evaluation in known:
            self._repeat(evaluation)
        self._queue.extend(accepted)
        self._tell_finished(self._batches.accept(name, len(accepted), more))
        self._begin_next()
        return Queued(evaluations=[f.id for f in bitstreams], depth=self.load)

    @method
    def acknowledge(self, evaluations: Evaluations) -> Acknowledged:
        """Say that outcomes have arrived: the device forgets them."""
        return Acknowledged(forgotten=self._journal.acknowledge(self.hold.reservation, evaluations))

    @method
    def collect(self, after: Natural = 0) -> Collected:
        """Repeat outcomes that nobody has acknowledged, as the events they were sent as.

        For a client that takes over from one that died. They come in pages, so that a client is not
        buried: acknowledge one, then ask for what is ``after`` it.
        """
        page = self._journal.settled(self.hold.reservation, after, COLLECT_PAGE + 1)
        page, rest = page[:COLLECT_PAGE], page[COLLECT_PAGE:]
        for settled in page:
            self._send(settled)
        return Collected(
            repeated=len(page),
            next=page[-1].position if rest else None,
            outstanding=self.load,
        )

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
        return self._meter.idle

    # --- hooks --------------------------------------------------------------------------------

    def on_enter(self) -> None:
        """Settle what an earlier life of the worker had accepted, and repeat what it measured."""
        if self.probe is not None:
            self._meter.take_over(self.probe)
        try:
            self._journal.keep_only(self.hold.reservation)
        except JournalUnavailable as full:
            log.warning("device %s: %s", self.device.name, full.message)  # it is only tidying
        repeated = self._journal.settled(self.hold.reservation)
        for description in self._journal.unsettled(self.hold.reservation):
            entry = Entry.model_validate_json(description)
            error = WorkerRestarted(
                "the worker was restarted before this was measured; evaluate it again"
            )
            self._settle("failures", _failure(entry, error))
        for settled in repeated:
            self._send(settled)

    def on_data(self, data: bytes) -> None:
        """Follow the conversation."""
        self._meter.hear(data)

    def on_stop(self, why: IcebusError) -> None:
        """What waits fails; what is on the board is seen through."""
        self._stopping = True
        self._fail_queue(why)
        self._stop_when_done()

    def on_exit(self, why: IcebusError) -> None:
        """Every evaluation that has no outcome yet fails with ``why``."""
        self._meter.abandon()
        self._settle_ended()
        current, self._current = self._current, None
        if current is not None:
            self._end(current, "failures", _failure(current.entry, why))
        self._fail_queue(why)
        for finished in self._batches.abandon():
            self._tell_finished(finished)
        self._write()

    def _fail_queue(self, why: IcebusError) -> None:
        queue, self._queue = self._queue, deque()
        for each in queue:
            self._end(each, "failures", _failure(each.entry, why))

    def _stop_when_done(self) -> None:
        if self._stopping and self._current is None and not self._ended:
            self.device.finished()

    def _begin_next(self) -> None:
        if not self._queue or not self._meter.idle:
            return
        current = self._current = self._queue.popleft()
        ahead, self._ahead = self._ahead, None
        data = ahead[1] if ahead and ahead[0] is current else current.file.blob.read()
        self._meter.measure(data)

    def _look_ahead(self) -> None:
        """Unpack the next while the board measures, so that it need not wait for that."""
        if self._queue:
            self._ahead = (self._queue[0], self._queue[0].file.blob.read())

    def _on_end(self, how: Measured | IcebusError) -> None:
        current, self._current = self._current, None
        if current is not None:
            # First the next is begun, here and on the other boards that are ready: none is to wait
            # while results are written down and sent.
            self._ended.append((current, how))
            self.device.loop.post(lambda: self.device.run(self, self._settle_ended))

    def _settle_ended(self) -> None:
        ended, self._ended = self._ended, []
        for evaluation, how in ended:
            self._settle_one(evaluation, how)
            failed = isinstance(how, MeasurementFailed)
            self._failed_in_a_row = self._failed_in_a_row + 1 if failed else 0
        self._stop_when_done()
        if self._failed_in_a_row >= PATIENCE and self.device.state is self:
            self._failed_in_a_row = 0
            self.device.fail(f"{PATIENCE} measurements in a row failed")

    def _settle_one(self, evaluation: _Evaluation, how: Measured | IcebusError) -> None:
        if isinstance(how, IcebusError):
            self._end(evaluation, "failures", _failure(evaluation.entry, how))
            return
        result = PulseCountResult(
            **_described(evaluation.entry),
            pulses=how.report.pulses,
            exact=how.report.exact,
            cdone=how.report.cdone,
            note=how.report.note,
            upload=how.upload,
            window=how.window,
        )
        self._end(evaluation, "results", result)

    # --- outcomes --------------------------------------------------------------------------------

    @property
    def _journal(self) -> Journal:
        return self.device.journal

    def _end(
        self, evaluation: _Evaluation, event: str, outcome: PulseCountResult | Failure
    ) -> None:
        self._settle(event, outcome)
        self._tell_finished(self._batches.settle(outcome.batch, event == "results"))

    def _tell_finished(self, batch: Finished | None) -> None:
        if batch is not None:
            reservation, serial = self.hold.reservation, self.device.name
            self.finished(
                BatchFinished(
                    reservation=reservation,
                    serial=serial,
                    batch=batch.name,
                    results=batch.results,
                    failures=batch.failures,
                )
            )

    def _settle(self, event: str, outcome: PulseCountResult | Failure) -> None:
        self._unwritten.append(Settled(outcome.evaluation, event, outcome.model_dump_json()))
        if len(self._unwritten) == 1:  # or the others are waited for
            self._write()
        self.device.emit(self.hold, event, outcome)

    def _write(self) -> None:
        """Write down the outcomes that are not; those that can't be are tried again later."""
        while self._unwritten:
            settled = self._unwritten[0]
            try:
                self._journal.settle(
                    self.hold.reservation, settled.evaluation, settled.event, settled.outcome
                )
            except JournalUnavailable as error:
                log.warning("device %s: outcomes wait: %s", self.device.name, error.message)
                self.after(WRITE_AGAIN, self._write)
                return
            self._unwritten.popleft()

    def _has_failed(self, evaluation: str) -> bool:
        outcome = self._journal.outcome(self.hold.reservation, evaluation)
        return outcome is not None and outcome.event == "failures"

    def _repeat(self, evaluation: str) -> None:
        outcome = self._journal.outcome(self.hold.reservation, evaluation)
        if outcome is not None:
            self._send(outcome)

    def _send(self, settled: Settled) -> None:
        try:
            outcome = _EVENTS[settled.event].validate_json(settled.outcome)
        except (KeyError, ValidationError):
            log.exception("device %s: unreadable outcome in the journal", self.device.name)
            return
        self.device.emit(self.hold, settled.event, outcome)


def _check(file: File, validate: bool) -> None:
    data = file.read()
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


def _entry(serial: str, file: File, batch: str) -> Entry:
    return Entry(
        serial=serial,
        evaluation=file.id,
        batch=batch,
        bitstream=file.name,
        sha256=file.hash,
        annotations=file.annotations,
        at=now(),
    )


def _json(entry: Entry) -> str:
    described = entry.model_dump_json()
    if len(described.encode()) > LONGEST_ENTRY:
        raise InvalidRequest(
            f"{entry.bitstream}: its annotations are too long; keep them by the evaluation's id "
            f"instead, or below {LONGEST_ENTRY} bytes",
            limit=LONGEST_ENTRY,
        )
    return described


def _described(entry: Entry) -> dict[str, object]:
    return {**{name: getattr(entry, name) for name in Outcome.model_fields}, "at": now()}


def _failure(entry: Entry, error: IcebusError) -> Failure:
    return Failure(**_described(entry), error=error)
