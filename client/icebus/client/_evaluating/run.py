"""One run of evaluations: the shell around an account that sends, listens and never hangs.

The caller's thread takes bitstreams from the source and hands out outcomes. Everything that is sent
is sent from the bus's dispatcher, so that calls to one board leave in order, and boards are
supplied while the caller is busy with a result.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence, Sized
from functools import partial
from typing import Any, Generic, TypeVar

from icebus.bus import RECONNECT_MAX
from icebus.client._connection.connection import Connection
from icebus.client._evaluating.acknowledging import Acknowledger
from icebus.client._evaluating.bitstreams import Item, Source, load
from icebus.client._evaluating.board_calls import Caller, room
from icebus.client._evaluating.board_queue import Send, Slot
from icebus.client._evaluating.distribution import Account, Failed
from icebus.client._evaluating.failure_causes import (
    BOARD_ERRORS,
    LASTING,
    UNSURE,
    may_pass,
    taken_away,
)
from icebus.client._evaluating.options import Options
from icebus.client._evaluating.timeouts import Vigil
from icebus.client._reservation.reservation import Reservation
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import DeviceFailed, IcebusError, QueueFull, ReservationEnded
from icebus.schemas.liveness import RETURN_TIME
from icebus.schemas.measuring import Failure, Result
from icebus.schemas.message import now as present

WORKER_AWAY = RETURN_TIME
"""Seconds without a worker after which what its boards owe fails, where nobody else may measure it.
One that lost its connection only has lost nothing; one that was restarted says so itself."""

TICK = 1.0
"""Seconds between looks at the clock."""

GATHER = 0.02
"""Seconds to go on taking from the source before what was taken is sent: one call for several
bitstreams when the source is quick, no delay when it is slow."""

BACKOFF = 0.5
"""Seconds until a full queue is tried again if no outcome comes first: somebody else's work is in
it."""


R = TypeVar("R", bound=Result)


class Run(Generic[R]):
    """Bitstreams of a source on boards of a reservation, each evaluation with exactly one outcome.

    Args:
        connection: to the workers.
        reservation: that holds the boards.
        account: decides which board evaluates what.
        options: how to go about it.

    Attributes:
        batch: its id on the bus.
        forsaken: why the run ended before its source did, when no board was left.
    """

    def __init__(
        self,
        connection: Connection,
        reservation: Reservation,
        acknowledger: Acknowledger,
        account: Account[Item, Any],
        options: Options,
    ) -> None:
        self.batch = account.batch
        self.forsaken: IcebusError | None = None
        self._connection = connection
        self._reservation = reservation
        self._options = options
        self._caller = Caller(
            connection,
            reservation,
            acknowledger,
            self.batch,
            inline=account.copies == 1,
            validate=options.validate,
            args=options.args,
        )
        for serial in account.serials:
            reservation.device(serial)
        self._condition = threading.Condition()
        self._account = account
        self._ready: deque[R | Failure] = deque()
        self._unfinished = set[str]()
        now = time.monotonic()
        self._vigil = Vigil(account, options, now)
        self._next_look = now + TICK
        self._reached = float("-inf")
        self._pumping = False
        self._closed = False

    # --- the caller's thread ------------------------------------------------------------------

    def outcomes(self, source: Iterable[Source]) -> Iterator[R | Failure]:
        """Hand out outcomes as they come; the source is consumed no faster than boards need it.

        When no board is left, a source of known length is still drained, for each of its
        bitstreams has an outcome; another one is left, and ``forsaken`` says why.
        """
        for serial in list(self._account.serials):
            if (problem := self._reservation.problem(serial)) is not None:
                self.lose([serial], problem)
        drain = isinstance(source, Sized)
        items = iter(source)
        while True:
            yield from self._take()
            self._look_at_the_clock()
            with self._condition:
                if self._ready:
                    continue
                if self._account.done:
                    return
                forsaken = None if self._account.ended else self._account.forsaken
                hungry = self._account.hungry or (forsaken is not None and drain)
            if hungry:
                self._feed(items)
            elif forsaken is not None:
                self.forsaken = forsaken
                return
            else:
                self._wait()

    def close(self) -> None:
        """Tell boards that no more will come; outcomes that come still are dropped."""
        with self._condition:
            self._account.cancel()
            self._closed = True
            self._stir()

    def wait_finished(self, deadline: Deadline) -> None:
        """Wait until the boards have told that the batch is finished, if they do in time."""
        with self._condition:
            self._condition.wait_for(lambda: not self._unfinished, deadline.remaining)

    def _take(self) -> Iterator[R | Failure]:
        while True:
            with self._condition:
                if not self._ready:
                    return
                outcome = self._ready.popleft()
            yield outcome

    def _feed(self, items: Iterator[Source]) -> None:
        until = time.monotonic() + GATHER
        while True:
            try:
                source = next(items)
            except StopIteration:
                with self._condition:
                    self._account.end()
                    self._stir()
                return
            item = Item(source, load(source, validate=self._options.validate))
            with self._condition:
                self._add(item)
                if self._ready or not self._account.hungry or time.monotonic() > until:
                    self._stir()
                    return

    def _add(self, item: Item) -> None:
        problem = item.bitstream.problem
        if problem is None:
            self._tell(self._account.add(item))
        else:
            self._tell([Failed(slot, problem) for slot in self._account.reject(item)])

    def _wait(self) -> None:
        with self._condition:
            self._condition.wait_for(self._called_for, TICK)

    def _called_for(self) -> bool:
        return bool(self._ready) or self._account.hungry or self._account.done

    def _look_at_the_clock(self) -> None:
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + TICK
        with self._condition:
            away = self._vigil.broker(self._connection.bus.connected, now)
            silent = self._vigil.stalled(now)
        if away is not None:
            self.lose(list(self._account.serials), away)
        for serial, error in silent.items():
            self.lose([serial], error)
        with self._condition:
            if self._vigil.doubts(now):
                self._account.doubt()
                self._stir()
            returning = self._vigil.returning(now)
        self.rejoin(returning)
        self._give_up(now)

    def _give_up(self, now: float) -> None:
        with self._condition:
            error = self._vigil.hopeless(now)
            if error is not None:
                self._tell(self._account.give_up(error))

    # --- outcomes and losses: on the dispatcher -----------------------------------------------

    def settle(self, outcome: R | Failure) -> None:
        """An outcome has come; the first one counts."""
        serial = outcome.serial
        if serial not in self._account.serials:
            return
        with self._condition:
            self._vigil.sign(serial, time.monotonic())
            self._vigil.hope()
            if isinstance(outcome, Failure):
                error = outcome.error
                if isinstance(error, ReservationEnded) and self._reservation.ended is None:
                    error = taken_away(serial)
                self._fail(self._account.fail(serial, outcome.evaluation, error))
            else:
                self._succeed(outcome)
            self._stir()

    def _succeed(self, result: R) -> None:
        took = result.window  # without the upload: a busy machine is to get fewer calls, not more
        slot = self._account.settle(result.serial, result.evaluation, took)
        if slot is not None and not self._closed:
            self._ready.append(result.with_source(slot.item.source))
            self._condition.notify_all()

    def finished(self, serial: str) -> None:
        """A board has told that it is done with the batch."""
        with self._condition:
            self._unfinished.discard(serial)
            self._condition.notify_all()

    def lose(self, serials: Sequence[str], error: IcebusError) -> None:
        """Boards are lost, or their worker is, which may be back in a moment with all they owe."""
        if may_pass(error) and not self._account.forgiving:
            self._allow(list(serials), error)
        else:
            self._lose(serials, error)

    def _allow(self, serials: list[str], error: IcebusError) -> None:
        self._connection.bus.call_later(WORKER_AWAY, partial(self._confirm, serials, error))

    def _confirm(self, serials: list[str], error: IcebusError) -> None:
        """Their worker has had its time to come back."""
        if self._closed:
            return
        again = self._reached + RECONNECT_MAX
        if not self._connection.bus.connected or time.monotonic() < again + WORKER_AWAY:
            # A broker that is stopped tells of the loss of all it knows. Nobody is missed who could
            # not be seen: the time to come back begins when all have found the broker again.
            self._allow(serials, error)
            return
        back = [serial for serial in self._ours(serials) if self._reservation.serves(serial)]
        self._lose([serial for serial in serials if serial not in back], error)
        if back:
            self._doubt()

    def _lose(self, serials: Sequence[str], error: IcebusError) -> None:
        """The account knows what becomes of what they owe."""
        with self._condition:
            for serial in self._ours(serials):
                self._fail(self._account.lose(serial, error))
            self._stir()
        if isinstance(error, LASTING):
            self._give_up(time.monotonic())

    def replaced(self, serial: str, by: str) -> None:
        """A board is lost for good, and another is being prepared in its place."""
        with self._condition:
            if self._closed or not self._options.whole or serial not in self._account.serials:
                return
            error = DeviceFailed(f"device {serial} failed, and {by} takes its place", serial=serial)
            self._fail(self._account.replace(serial, by, error))
            self._vigil.sign(by, time.monotonic())
            self._vigil.hope()
            self._stir()
        self.rejoin([by])

    def rejoin(self, serials: Sequence[str]) -> None:
        """Boards may be back: those that serve, again or for the first time, get work."""
        with self._condition:
            for serial in self._ours(serials):
                if isinstance(self._account.losses.get(serial), LASTING) or self._closed:
                    continue
                if self._reservation.serves(serial):
                    self._account.join(serial)
                    self._vigil.sign(serial, time.monotonic())
            self._stir()

    def _ours(self, serials: Iterable[str]) -> list[str]:
        return [serial for serial in serials if serial in self._account.serials]

    def _fail(self, failed: Iterable[Failed[Item]]) -> None:
        """Boards may be lost by what failed: those have nothing to finish."""
        self._unfinished.difference_update(self._account.losses)
        self._tell(failed)

    def _tell(self, failed: Iterable[Failed[Item]]) -> None:
        if not self._closed:
            self._ready.extend(self._failure(each.slot, each.error) for each in failed)
        self._condition.notify_all()

    def _failure(self, slot: Slot[Item], error: IcebusError) -> Failure:
        bitstream = slot.item.bitstream
        return Failure(
            serial=slot.serial,
            evaluation=slot.evaluation,
            batch=self.batch,
            bitstream=bitstream.name,
            sha256=bitstream.blob.sha256,
            annotations=dict(bitstream.annotations),
            at=present(),
            error=error,
        ).with_source(slot.item.source)

    def reconnected(self) -> None:
        """The connection was lost and is back; outcomes may have passed us by."""
        self._reached = time.monotonic()
        self._doubt()

    def _doubt(self) -> None:
        with self._condition:
            self._account.doubt()
            self._stir()

    # --- calls: on the dispatcher -------------------------------------------------------------

    def _stir(self) -> None:
        """Something has changed: see soon what is to be sent, once for all that changes by then."""
        if not self._pumping:
            self._pumping = True
            self._connection.bus.call_soon(self._pump)

    def _pump(self) -> None:
        with self._condition:
            self._pumping = False
            sends = self._account.due()
            now = time.monotonic()
            for send in sends:
                if not self._account.outstanding(send.serial) - len(send.slots):
                    self._vigil.sign(send.serial, now)
                self._unfinished.add(send.serial)
            # To be woken for nothing would cost the caller more than all else here.
            if self._called_for():
                self._condition.notify_all()
        for send in sends:
            self._caller.send(send, self._answered)

    def _answered(self, send: Send[Item], error: IcebusError | None) -> None:
        serial = send.serial
        with self._condition:
            if not self._account.awaits(send):
                return
            if error is None:
                self._account.accepted(serial)
                self._vigil.hope()
                self._stir()
                return
            if isinstance(error, QueueFull):
                self._account.refused(serial, room(error, len(send.slots) // 2))
                self._connection.bus.call_later(BACKOFF, partial(self._nudge, serial))
                self._stir()
                return
            if not isinstance(error, BOARD_ERRORS):
                self._blame(send, error)
                return
            if not isinstance(error, UNSURE):
                self._account.refused(serial, 1)
        self.lose([serial], error)

    def _blame(self, send: Send[Item], error: IcebusError) -> None:
        """Something in a call is wrong, so all was refused: find out what by sending one each."""
        if len(send.slots) > 1 and not send.again:
            self._account.refused(send.serial, 1)
            self._account.nudge(send.serial)
        else:
            for slot in send.slots:
                self._fail(self._account.fail(send.serial, slot.evaluation, error))
            self._account.accepted(send.serial)
        self._stir()

    def _nudge(self, serial: str) -> None:
        with self._condition:
            self._account.nudge(serial)
            self._stir()
