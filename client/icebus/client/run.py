"""One run of an evaluation: the shell around the ledger that sends, listens and never hangs.

The caller's thread takes bitstreams from the source and hands out outcomes. Everything that is sent
is sent from the bus's dispatcher, so that calls to one board leave in order, and boards are
supplied while the caller is busy with a result.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from functools import partial

from icebus.client.bitstreams import Bitstream, Source, load
from icebus.client.board_calls import BOARD_ERRORS, Caller
from icebus.client.ledger import DEPTH, Ledger, Send, Slot
from icebus.client.link import Link
from icebus.client.outcomes import Failure, Outcome
from icebus.client.reservation import Reservation
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import BrokerUnavailable, DeadlineExceeded, IcebusError, QueueFull
from icebus.schemas.ids import new_id

STALL = 300.0
"""Seconds without a sign of a board that owes outcomes after which they fail: the last resort, when
no will, no event and no state told of trouble. A full queue of the slowest firmware (64 × 5 s)
still says something every 5 s."""

BROKER_AWAY = 30.0
"""Seconds without the broker after which outstanding evaluations fail."""

TICK = 1.0
"""Seconds between looks at the clock while nothing happens."""

PATIENCE = 0.02
"""Seconds to go on taking from the source before what was taken is sent: one call for several
bitstreams when the source is quick, no delay when it is slow."""

BACKOFF = 0.5
"""Seconds until a full queue is tried again if no outcome comes first: somebody else's work is in
it."""


@dataclass(frozen=True)
class RunSettings:
    """How a run goes about it.

    Attributes:
        validate: whether to refuse broken bitstreams, here and on the worker.
        stall: seconds without a sign of a board after which its evaluations fail.
        broker_away: likewise, of the broker.
        depth: evaluations on a board without an outcome, at most.
    """

    validate: bool = True
    stall: float = STALL
    broker_away: float = BROKER_AWAY
    depth: int = DEPTH


class Run:
    """Every bitstream of a source on every board, each with exactly one outcome.

    Attributes:
        batch: its id on the bus.
        forsaken: why the run ended before its source did, when no board was left.
    """

    def __init__(
        self, link: Link, reservation: Reservation, serials: Sequence[str], settings: RunSettings
    ) -> None:
        self.batch = new_id()
        self.forsaken: IcebusError | None = None
        self._link = link
        self._reservation = reservation
        self._settings = settings
        self._caller = Caller(link, reservation, self.batch, validate=settings.validate)
        self._workers = {serial: reservation.device(serial).worker for serial in serials}
        self._condition = threading.Condition()
        self._ledger: Ledger[Bitstream] = Ledger(self.batch, serials, depth=settings.depth)
        self._ready: deque[Outcome] = deque()
        self._losses: dict[str, IcebusError] = {}
        self._sign = dict.fromkeys(serials, time.monotonic())
        self._unfinished = set[str]()
        self._away_since: float | None = None
        self._closed = False

    # --- the caller's thread ------------------------------------------------------------------

    def outcomes(self, source: Iterable[Source]) -> Iterator[Outcome]:
        """Hand out outcomes as they come; the source is consumed no faster than boards need it.

        When no board is left, a source of known length is still drained, for each of its
        bitstreams has an outcome; another one is left, and ``forsaken`` says why.
        """
        for serial in self._workers:
            if (problem := self._reservation.problem(serial)) is not None:
                self.lose([serial], problem)
        drain = isinstance(source, Sized)
        items = iter(source)
        while True:
            yield from self._take()
            with self._condition:
                if self._ready:
                    continue
                if self._ledger.done:
                    return
                forsaken = not self._ledger.alive and not self._ledger.ended
                hungry = self._ledger.hungry or (forsaken and drain)
            if hungry:
                self._feed(items)
            elif forsaken:
                self.forsaken = next(iter(self._losses.values()))
                return
            else:
                self._wait()

    def close(self) -> None:
        """Tell boards that no more will come; outcomes that come still are dropped."""
        with self._condition:
            self._ledger.cancel()
            self._closed = True
        self._link.bus.defer(self._pump)

    def wait_finished(self, deadline: Deadline) -> None:
        """Wait until the boards have told that the batch is finished, if they do in time."""
        with self._condition:
            self._condition.wait_for(lambda: not self._unfinished, deadline.remaining)

    def _take(self) -> Iterator[Outcome]:
        while True:
            with self._condition:
                if not self._ready:
                    return
                outcome = self._ready.popleft()
            yield outcome

    def _feed(self, items: Iterator[Source]) -> None:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                source = next(items)
            except StopIteration:
                with self._condition:
                    self._ledger.end()
                break
            bitstream = load(source, validate=self._settings.validate)
            with self._condition:
                self._add(bitstream)
                if self._ready or not self._ledger.hungry or time.monotonic() > until:
                    break
        self._link.bus.defer(self._pump)

    def _add(self, bitstream: Bitstream) -> None:
        if bitstream.problem is not None:
            for slot in self._ledger.reject(bitstream):
                self._fail(slot, bitstream.problem)
            return
        for slot in self._ledger.add(bitstream):
            self._fail(slot, self._losses[slot.serial])

    def _wait(self) -> None:
        with self._condition:
            self._condition.wait_for(
                lambda: self._ready or self._ledger.hungry or self._ledger.done, TICK
            )
        self._look_at_the_clock()

    def _look_at_the_clock(self) -> None:
        now = time.monotonic()
        if self._link.bus.connected:
            self._away_since = None
        elif self._away_since is None:
            self._away_since = now
        elif now - self._away_since > self._settings.broker_away:
            away = BrokerUnavailable(
                f"the broker has been away for {self._settings.broker_away:g} s; "
                "evaluate again when the farm is back"
            )
            self.lose(list(self._workers), away)
            return
        with self._condition:
            stalled = [
                serial
                for serial in self._ledger.alive
                if self._ledger.outstanding(serial)
                and now - self._sign[serial] > self._settings.stall
            ]
        for serial in stalled:
            error = DeadlineExceeded(
                f"device {serial} gave no outcome in {self._settings.stall:g} s; "
                "`icebus devices` shows what it does",
                serial=serial,
            )
            self.lose([serial], error)

    # --- outcomes and losses: on the dispatcher -----------------------------------------------

    def settle(self, serial: str, evaluation: str, outcome: Outcome) -> None:
        """An outcome has come; the first of its evaluation counts."""
        with self._condition:
            if serial in self._sign:
                self._sign[serial] = time.monotonic()
            if self._ledger.settle(serial, evaluation) is not None and not self._closed:
                self._ready.append(outcome)
            self._condition.notify_all()
        self._pump()

    def finished(self, serial: str) -> None:
        """A board has told that it is done with the batch."""
        with self._condition:
            self._unfinished.discard(serial)
            self._condition.notify_all()

    def lose(self, serials: Sequence[str], error: IcebusError) -> None:
        """Boards are lost: what they owe fails, and so does what they were to be sent."""
        with self._condition:
            for serial in serials:
                if serial in self._workers:
                    self._losses.setdefault(serial, error)
                    for slot in self._ledger.lose(serial):
                        self._fail(slot, self._losses[serial])
                    self._unfinished.discard(serial)
            self._condition.notify_all()

    def _fail(self, slot: Slot[Bitstream], error: IcebusError) -> None:
        if not self._closed:
            failure = Failure(
                serial=slot.serial,
                bitstream=slot.item.name,
                error=error,
                evaluation=slot.evaluation,
                annotations=dict(slot.item.annotations),
            )
            self._ready.append(failure)

    def reconnected(self) -> None:
        """The connection was lost and is back; outcomes may have passed us by."""
        with self._condition:
            self._ledger.doubt()
        self._pump()

    # --- calls: on the dispatcher -------------------------------------------------------------

    def _pump(self) -> None:
        with self._condition:
            sends = self._ledger.due()
            now = time.monotonic()
            for send in sends:
                if not self._ledger.outstanding(send.serial) - len(send.slots):
                    self._sign[send.serial] = now
                self._unfinished.add(send.serial)
            self._condition.notify_all()
        for send in sends:
            self._caller.send(send, self._answered)

    def _answered(self, send: Send[Bitstream], error: IcebusError | None) -> None:
        serial = send.serial
        if isinstance(error, QueueFull):
            with self._condition:
                self._ledger.refused(serial, _room(error, len(send.slots) // 2))
            self._link.bus.call_later(BACKOFF, partial(self._nudge, serial))
            return
        if isinstance(error, BOARD_ERRORS):
            self.lose([serial], error)
            return
        with self._condition:
            if error is not None:
                for slot in send.slots:
                    if self._ledger.settle(serial, slot.evaluation) is not None:
                        self._fail(slot, error)
            self._ledger.accepted(serial)
            self._condition.notify_all()
        self._pump()

    def _nudge(self, serial: str) -> None:
        with self._condition:
            self._ledger.nudge(serial)
        self._pump()


def _room(error: QueueFull, otherwise: int) -> int:
    capacity, depth = error.details.get("capacity"), error.details.get("depth")
    if isinstance(capacity, int) and isinstance(depth, int):
        return max(1, capacity - depth)
    return max(1, otherwise)
