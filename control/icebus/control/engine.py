"""Control without its connection: what is heard goes in, what is to be published comes out.

All of it runs on one thread, so it needs no lock, and every change is one transaction. What was
heard but not yet recorded waits in :class:`Pending`, so that a database that fails for a moment
loses nothing.

Of several controls on one database each hears everything and answers requests; only the one that
leads records what is heard, does what falls due and beats. Whoever begins to lead looks at all
there is, as after a restart.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlmodel import select

from icebus.bus import Exchange
from icebus.control.operations import expiry as agenda
from icebus.control.operations import reminders as rounds
from icebus.control.operations.remembered_requests import carry_out, refuse
from icebus.control.operations.users import OPERATIONS, Operation
from icebus.control.pending import Pending
from icebus.control.runner import Deposed, Transactions
from icebus.control.settings import Settings
from icebus.control.store.database import Database
from icebus.control.store.lease import Lease
from icebus.control.store.tables import DeviceRow
from icebus.control.store.transaction import Outgoing, Work
from icebus.control.watch.clients import Clients
from icebus.control.watch.clock import Clock
from icebus.control.watch.kinds import Kind
from icebus.control.watch.retained import Kept
from icebus.control.watch.workers import Farm
from icebus.schemas.calls import Reply, Request
from icebus.schemas.components import (
    ClientState,
    ControlState,
    Heartbeat,
    Presence,
    WorkerHeartbeat,
    WorkerState,
)
from icebus.schemas.devices import DeviceReport
from icebus.schemas.errors import IcebusError, InternalError
from icebus.schemas.liveness import Health, is_gone
from icebus.schemas.topics import CONTROL_HEARTBEAT, DESIRED, RESERVATION

log = logging.getLogger(__name__)

RETRY_AFTER = 0.5
"""Seconds until what failed, for want of a database or by a mistake of ours, is tried again."""

LOOK_AGAIN = 60.0
"""Seconds between looks at everything, in case a step was lost to a mistake of ours."""

SETTLING = 1.0
"""Seconds at most that requests wait, after a start, for workers to answer the first heartbeat."""


class Engine:
    """The decisions of control, over its database.

    Args:
        database: migrated.
        settings: how to behave.
        epoch: this run of control, different from all others.
        publish: sends a message; must not wait.
        connected: whether the bus has its broker.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        epoch: str,
        publish: Callable[[Outgoing], None],
        connected: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._epoch = epoch
        self._connected = connected
        self._farm = Farm(settings.interval, epoch)
        self._clients = Clients()
        self._clock = Clock()
        self._kept = Kept()
        self._lease = Lease(database, epoch, settings.interval)
        self._publish = publish
        self._transactions = Transactions(
            database, self._lease, self._farm, self._clients, settings, self._send
        )
        self.leading = False
        self._challenged = False
        self._failing = False
        self._pending = Pending()
        self._health: dict[str, Health] = {}
        self._deferred: list[tuple[Exchange[Request], str, Mapping[str, Operation]]] = []
        self._sequence = 0
        started = time.monotonic()
        self._settled_at = started + self._settling
        self._campaign_at = started
        self._beat_at = started
        self._look_at = started + LOOK_AGAIN
        self._record_at = started

    def load(self) -> None:
        """Take over what the database knows."""

        def read(work: Work) -> None:
            for device in work.session.exec(select(DeviceRow)):
                try:
                    report = DeviceReport.model_validate(device.report)
                except ValidationError:
                    # Written by another version. Its worker will tell us again.
                    log.warning("the last report on %s can't be read", device.serial)
                else:
                    self._farm.remember(device.serial, device.worker, report)

        self._transactions.run(read)

    # --- what is heard --------------------------------------------------------------------------

    def on_connected(self) -> None:
        """The bus has (again) a broker, which may have forgotten what it kept for us."""
        at = self._now()
        self._farm.connected(at)
        self._clients.connected(at)
        self._transactions.online = True
        # Somebody else may lead, or have led until now.
        self._settled_at = at + self._lease.lasts + self._settling
        self._campaign_at = at
        if self.leading:
            self._begin_to_lead(at)

    def on_control(self, state: ControlState) -> None:
        """The state of another control."""
        if is_gone(state):
            self._lease.bury(state.session)
            self._campaign_at = self._now()
        else:
            self._lease.revive(state.session)

    def on_heartbeat(self, beat: Heartbeat) -> None:
        """Another control leads, or has not noticed yet that it does not."""
        at = self._now()
        self._farm.overheard(beat.epoch, beat.sequence, at)
        self._settled_at = min(self._settled_at, at + self._settling)
        if self.leading:
            self._challenged = True
            self._campaign_at = at

    def on_left(self) -> None:
        """Another control left us something to send."""
        self._pending.left = True

    def on_worker(self, worker: str, state: WorkerState | None) -> None:
        """A worker's state."""
        before = self._farm.devices_of(worker)
        new = self._farm.on_state(worker, state, self._now())
        self._pending.serials |= before | self._farm.devices_of(worker)
        if new:
            self._pending.announce |= self._farm.devices_of(worker)
        self._look(worker)

    def on_kinds(self, worker: str, kinds: dict[str, Kind]) -> None:
        """What a worker offers."""
        self._farm.on_kinds(worker, kinds)
        # Somebody may wait for such a kind.
        self._pending.serials |= self._farm.devices_of(worker)

    def on_echo(self, worker: str, echo: WorkerHeartbeat) -> None:
        """A worker's answer to a heartbeat."""
        if self._farm.on_echo(worker, echo, self._now()):
            self._look(worker)

    def on_report(self, worker: str, serial: str, report: DeviceReport | None) -> None:
        """A worker's report on a device."""
        if self._farm.on_report(worker, serial, report):
            self._pending.serials.add(serial)

    def on_client(self, user: str, client: str, state: ClientState | None) -> None:
        """A client's presence."""
        self._clients.on_sign(user, client, state, time.monotonic())
        presence = self._clients.on_state(user, client, state)
        if presence is not None:
            self._pending.clients[user, client] = presence

    def on_document(self, reservation: str, *, empty: bool, anew: bool) -> None:
        """The document that the broker keeps of a reservation is not our word.

        Args:
            reservation: which one.
            empty: whether it keeps none.
            anew: whether that was said just now: by a leader that was deposed, if we lead.
        """
        self._kept.note(RESERVATION(reservation=reservation), empty=empty)
        self._pending.documents.add(reservation)
        if anew:
            self._pending.repeated.add(reservation)

    def on_desired(self, worker: str, serial: str, *, empty: bool, anew: bool) -> None:
        """What the broker keeps as desired of a device is not our word; the rest is as above."""
        self._kept.note(DESIRED(worker=worker, serial=serial), empty=empty)
        self._pending.desired.add((worker, serial))
        if anew:
            self._pending.announce.add(serial)

    def on_request(
        self,
        exchange: Exchange[Request],
        operation: str,
        operations: Mapping[str, Operation] = OPERATIONS,
    ) -> None:
        """A request. Right after a start it waits until workers could answer us."""
        at = self._now()
        if self._deferred or not self._settled(at):
            self._deferred.append((exchange, operation, operations))
        else:
            self._answer(exchange, operation, operations)

    # --- what follows ---------------------------------------------------------------------------

    def step(self) -> float:
        """Do all there is to do now; returns the seconds until there may be more."""
        at = self._now()
        if not self._connected():
            self._transactions.online = False
            self._farm.suspend()
            self.resign()
        elif self._transactions.online and at >= self._campaign_at:
            self._campaign()
        if self.leading:
            self._lead()
        else:
            # What was heard until we lead is looked at when we do; the leader minds the clock.
            self._pending = Pending()
            self._clock.moved()
        if self._deferred and self._settled(at):
            deferred, self._deferred = self._deferred, []
            for each in deferred:
                self._answer(*each)
        return self._pause()

    def resign(self) -> None:
        """Lead no more, and let others do so at once."""
        if not self.leading:
            return
        self._stand_down()
        try:
            self._lease.give_up()
        except DBAPIError as error:
            self._complain(error)

    def _campaign(self) -> None:
        """Renew the lease, or see whether it is to be had."""
        try:
            ours, pause = self._lease.campaign()
        except DBAPIError as error:
            self._complain(error)
            self._campaign_at = time.monotonic() + RETRY_AFTER
            # Otherwise nobody can lead now, and heartbeats go on so that it hurts nobody.
            if self._challenged:
                self._stand_down()
            return
        self._failing = self._challenged = False
        at = time.monotonic()
        self._campaign_at = at + pause
        if ours and not self.leading:
            self._begin_to_lead(at)
        elif self.leading and not ours:
            self._stand_down()

    def _begin_to_lead(self, at: float) -> None:
        log.info("this control leads")
        self.leading = True
        self._beat_at = at
        self._pending = Pending(
            documents=set(self._kept.documents), desired=set(self._kept.desired)
        )
        self._tell_everything()

    def _stand_down(self) -> None:
        log.info("this control leads no more")
        self.leading = self._challenged = False
        self._campaign_at = time.monotonic()

    def _tell_everything(self) -> None:
        self._pending.connected = True
        self._pending.serials.update(self._farm.serials())

    def _lead(self) -> None:
        at = time.monotonic()
        if self._transactions.online and at >= self._beat_at:
            self._beat(at)
            self._try(rounds.remind)
        if self._transactions.in_doubt:
            self._transactions.in_doubt = False
            self._tell_everything()
        if at >= self._look_at:
            self._look_at = at + LOOK_AGAIN
            self._pending.serials.update(self._farm.serials())
            self._try(agenda.prune)
        if at >= self._record_at:
            self._record()
            if self._overdue() == 0.0 and not self._pending.shifted:
                online = self._transactions.online
                self._try(lambda work: agenda.sweep(work, connected=online))

    def _pause(self) -> float:
        at = time.monotonic()
        waits = [self._settings.interval]
        if self._transactions.online:
            waits.append(self._campaign_at - at)
        if self.leading:
            waits.append(self._beat_at - at)
            overdue = self._overdue()
            if overdue is not None:
                waits.append(max(overdue, self._record_at - at))
            if self._pending:
                waits.append(self._record_at - at)
        if self._deferred:
            waits.append(self._settled_at - at)
        return max(0.0, min(waits))

    def _overdue(self) -> float | None:
        """Seconds until something falls due; None when nothing will."""
        due = self._transactions.due
        return None if due is None else max(0.0, due.timestamp() - time.time())

    @property
    def _settling(self) -> float:
        return min(SETTLING, self._settings.interval)

    def _settled(self, at: float) -> bool:
        return at >= self._settled_at or self._farm.settled(at)

    def _now(self) -> float:
        """The moment, on the monotonic clock."""
        at = time.monotonic()
        self._farm.tick(at)
        return at

    def _send(self, message: Outgoing) -> None:
        self._publish(message)
        if message.retain:
            self._kept.note(message.topic, empty=not message.message)

    def _beat(self, at: float) -> None:
        self._farm.beaten(self._sequence, at)
        self._settled_at = min(self._settled_at, at + self._settling)
        beat = Heartbeat(
            epoch=self._epoch, sequence=self._sequence, interval=self._settings.interval
        )
        expiry = self._settings.stale_after
        self._transactions.send(Outgoing(CONTROL_HEARTBEAT(), beat, retain=True, expiry=expiry))
        self._sequence += 1
        # After a pause of ours there is nothing to catch up with.
        self._beat_at = max(self._beat_at + self._settings.interval, at)
        for worker in list(self._farm.workers()):
            self._look(worker.name)
        for user, client in self._clients.missed(at):
            log.warning("client %s of %s is silent", client, user)
            self._pending.clients[user, client] = Presence.LOST

    def _look(self, worker: str) -> None:
        """See whether a worker's health changed; its devices are then looked at again."""
        health = self._farm.health(worker, time.monotonic())
        before = self._health.get(worker)
        if health is before:
            return
        self._health[worker] = health
        if health is Health.GONE and before is not None:
            log.warning("%s", self._farm.why_gone(worker))
        elif health is Health.READY:
            log.info("worker %s is ready", worker)
        self._pending.serials |= self._farm.devices_of(worker)

    def _record(self) -> None:
        """Bring the database in line with what was heard, and with the time of day."""
        self._pending.shifted += self._clock.moved()
        if self._pending and self._try(self._pending.record):
            self._pending = Pending()

    def _try(self, step: Callable[[Work], None]) -> bool:
        """Whether a leader's step is done with: carried out, or given up for a mistake of ours."""
        try:
            self._transactions.lead(step)
        except Deposed:
            self._stand_down()
        except Exception as error:
            # In case it falls due again at once.
            self._record_at = time.monotonic() + RETRY_AFTER
            # What the database refuses for good reason it would refuse for ever.
            refused = isinstance(error, IntegrityError | DataError)
            if isinstance(error, DBAPIError) and not refused:
                self._complain(error)
                return False
            log.exception("a step failed")
        else:
            self._failing = False
        return True

    def _complain(self, error: DBAPIError) -> None:
        # It may be away for long, and this would be said of every try.
        if not self._failing:
            log.error("the database does not answer: %s", error.orig)
        self._failing = True

    def _answer(
        self, exchange: Exchange[Request], operation: str, operations: Mapping[str, Operation]
    ) -> None:
        """Answer a request, whatever becomes of it."""
        if self.leading:
            self._record()

        try:
            reply = self._decide(exchange.user, operation, exchange.request, operations)
        except DBAPIError as error:
            log.error(  # noqa: TRY400
                "the database failed on request %s: %s", exchange.request.id, error.orig
            )
            exchange.fail(
                InternalError("control's database does not answer; nothing was done, try again")
            )
        except Exception as error:  # noqa: BLE001  (no request may end the thread)
            exchange.fail(error)
        else:
            exchange.answer(Reply(id=exchange.request.id, ok=reply))

    def _decide(
        self, user: str, operation: str, request: Request, operations: Mapping[str, Operation]
    ) -> dict[str, Any]:
        run = self._transactions.run
        try:
            return run(lambda work: carry_out(work, user, operation, request, operations))
        except IcebusError as error:
            refusal = error
            before = run(lambda work: refuse(work, user, operation, request, refusal, operations))
            if before is None:
                raise
            return before
