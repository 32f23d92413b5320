"""Control without its connection: what is heard goes in, what is to be published comes out.

All of it runs on one thread, so it needs no lock, and every change is one transaction. What was
heard but not yet recorded waits in :class:`Pending`, so that a database that fails for a moment
loses nothing.

Of several controls on one database each hears everything and answers requests; only the one that
leads records what is heard, does what falls due and sends heartbeats. Whoever begins to lead looks
at all there is, as after a restart.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from sqlalchemy.exc import DBAPIError

from icebus.bus import Exchange
from icebus.control.cleaning import Cleaning
from icebus.control.leadership import RETRY_AFTER, Leadership
from icebus.control.limits_file import LimitsFile
from icebus.control.metrics import facts
from icebus.control.metrics.facts import FarmFacts
from icebus.control.metrics.observer import UNOBSERVED, Observer
from icebus.control.operations.due import expiry, removed_users
from icebus.control.operations.reports import device_reports, republishing
from icebus.control.operations.requests.remembered_requests import Operations, answer, find
from icebus.control.operations.requests.table import ADMINISTRATORS, USERS
from icebus.control.pending import Pending
from icebus.control.runner import NotLeading, TransactionRunner
from icebus.control.settings import Settings
from icebus.control.store.database import Database
from icebus.control.store.database_failures import is_away
from icebus.control.store.lease import Lease
from icebus.control.store.outbox import Outgoing
from icebus.control.transaction import Transaction
from icebus.control.watch.clients import Clients
from icebus.control.watch.clock import Clock
from icebus.control.watch.kinds import Kind
from icebus.control.watch.retained import RetainedTopics
from icebus.control.watch.roster import Roster
from icebus.control.watch.throughput import FarmThroughput
from icebus.control.watch.workers import Workers
from icebus.schemas.calls import Reply, Request
from icebus.schemas.components import (
    ClientState,
    ControlState,
    Heartbeat,
    Presence,
    Principals,
    WorkerHeartbeat,
    WorkerState,
)
from icebus.schemas.devices import DeviceReport
from icebus.schemas.liveness import Health
from icebus.schemas.throughput import Throughput
from icebus.schemas.topics import CONTROL_HEARTBEAT, CONTROL_THROUGHPUT

log = logging.getLogger(__name__)

MARGIN = 0.5
"""Seconds to be on the safe side of a moment that is stored in another precision."""

LOOK_AGAIN = 60.0
"""Seconds between looks at everything, in case a step was lost to a mistake of ours."""

SETTLE = 2
"""Heartbeats after a minute, until all workers have told what they counted in it."""

FIRST_ANSWERS = 1.0
"""Seconds at most that requests wait, after a start, for workers to answer the first heartbeat."""


class Engine:
    """The decisions of control, over its database.

    Args:
        database: migrated.
        settings: how to behave.
        epoch: this run of control, different from all others.
        publish: sends a message; must not wait.
        connected: whether the bus has its broker.
        roster: who the broker knows; told to us as it changes.
        together: sends all that is published in its block at once.
        observer: is told of requests that were answered.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        epoch: str,
        publish: Callable[[Outgoing], None],
        connected: Callable[[], bool],
        roster: Roster,
        together: Callable[[], AbstractContextManager[None]] = nullcontext,
        observer: Observer = UNOBSERVED,
    ) -> None:
        self.settings = settings
        self._observer = observer
        self._connected = connected
        self._workers = Workers(settings.interval, settings.release_after)
        self._throughput = FarmThroughput(time.time(), settle=SETTLE * settings.interval)
        self._clients = Clients()
        self._roster = roster
        self._clock = Clock()
        self.retained = RetainedTopics()
        file = settings.limits_file
        self._limits_file = None if file is None else LimitsFile(file)
        lease = Lease(database, epoch, settings.interval)
        self.leadership = Leadership(lease, epoch, settings.interval)
        self._runner = TransactionRunner(
            database, lease, self._workers, self._clients, roster, settings, publish, together
        )
        self._availability = database.availability
        self._cleaning = Cleaning(database)
        self._heard_all = True
        self._pending = Pending()
        self._published_history: int | None = None
        self._health: dict[str, Health] = {}
        self._waiting: list[tuple[Exchange[Request], str, Operations]] = []
        started = time.monotonic()
        self._answer_from = started + self._first_answers
        self._look_at = started + LOOK_AGAIN
        self._compare_at = math.inf
        self._record_at = started

    def load(self) -> None:
        """Take over what the database knows."""
        self._runner.run(device_reports.restore)

    @property
    def leading(self) -> bool:
        """Whether this control leads."""
        return self.leadership.leading

    def facts(self) -> FarmFacts:
        """The farm as it stands, as far as its database can be asked."""
        reservations = None
        try:
            reservations = self._runner.run(facts.of_reservations)
        except DBAPIError as error:
            if is_away(error):
                self._availability.failed(error)
        return facts.of_workers(
            self._workers, self._now(), leading=self.leading, reservations=reservations
        )

    # --- what is heard --------------------------------------------------------------------------

    def on_connected(self, *, heard_all: bool = True) -> None:
        """The bus has (again) a broker, which may have forgotten what it retained for us.

        Args:
            heard_all: whether nothing is to come of what it retained; see :meth:`on_all_heard`.
        """
        at = self._now()
        self._heard_all = heard_all
        self._workers.connected(at)
        self._clients.connected(at)
        self._runner.connected = True
        # Another control may lead, or have led until now.
        self._answer_from = at + self.leadership.lease.duration + self._first_answers
        self.leadership.check_at = at
        if self.leading:
            self.leadership.heartbeat_at = at
            self._publish_everything()

    def on_all_heard(self) -> None:
        """All has been heard that the broker retained when we connected."""
        self._heard_all = True

    def on_control(self, state: ControlState) -> None:
        """The state of another control."""
        self.leadership.on_control(state)

    def on_heartbeat(self, heartbeat: Heartbeat) -> None:
        """A heartbeat of another control."""
        at = self._now()
        self._workers.on_heartbeat(heartbeat.epoch, heartbeat.sequence, at)
        self._answer_from = min(self._answer_from, at + self._first_answers)
        self.leadership.on_heartbeat(heartbeat)

    def on_throughput(self, told: Throughput) -> None:
        """What another control has counted, or this one before it was started anew."""
        self._throughput.on_told(told, time.time())

    def on_outbox(self) -> None:
        """Another control left us something to send."""
        self._pending.outbox = True

    def on_worker(self, worker: str, state: WorkerState | None) -> None:
        """A worker's state."""
        before = self._workers.devices_of(worker)
        if state is not None and self._workers.get(worker).state is None:
            self._pending.appeared.add(worker)
        if state is None:
            self._throughput.on_retired(worker)
        new = self._workers.on_state(worker, state, self._now())
        self._pending.serials |= before | self._workers.devices_of(worker)
        if new:
            self._pending.republish |= self._workers.devices_of(worker)
        self._check_health(worker)

    def on_kinds(self, worker: str, kinds: dict[str, Kind]) -> None:
        """What a worker offers."""
        self._workers.on_kinds(worker, kinds)
        # Somebody may wait for such a kind.
        self._pending.serials |= self._workers.devices_of(worker)

    def on_echo(self, worker: str, echo: WorkerHeartbeat) -> None:
        """A worker's answer to a heartbeat."""
        self._throughput.on_echo(worker, echo, time.time(), time.monotonic())
        if self._workers.on_echo(worker, echo, self._now()):
            self._check_health(worker)

    def on_report(self, worker: str, serial: str, report: DeviceReport | None) -> None:
        """A worker's report on a device."""
        if report is not None and self._workers.get(worker).state is None:
            self._pending.appeared.add(worker)
        if self._workers.on_report(worker, serial, report, self._now()):
            self._pending.serials.add(serial)

    def on_client(self, user: str, client: str, state: ClientState | None) -> None:
        """A client's presence."""
        presence = self._clients.on_state(user, client, state, time.monotonic())
        if presence is not None:
            self._pending.clients[user, client] = presence

    def on_principals(self, principals: Principals | None) -> None:
        """Who the broker knows."""
        if self._roster.on_principals(principals):
            self._pending.roster = True
            # What was given lately is looked at when the list can't be older than it.
            later = removed_users.LATE.total_seconds() + MARGIN
            self._compare_at = time.monotonic() + later
        else:
            log.warning("the broker's list of principals is not believed: it lacks this control")

    def on_document(self, reservation: str, *, live: bool) -> None:
        """The document that the broker retains of a reservation is another control's word.

        Args:
            reservation: which one.
            live: whether that was said just now: by a leader that was replaced, if we lead.
        """
        self._pending.documents.add(reservation)
        if live:
            self._pending.overwritten.add(reservation)

    def on_desired(self, worker: str, serial: str, *, live: bool) -> None:
        """What is retained as desired of a device is another's word; the rest is as above."""
        self._pending.desired.add((worker, serial))
        if live:
            self._pending.republish.add(serial)

    def on_claim(self, serial: str, *, live: bool) -> None:
        """The alarm that is retained of a device is another's word; whenever that was said."""
        del live
        self._pending.claims.add(serial)

    def on_request(
        self, exchange: Exchange[Request], operation: str, operations: Operations = USERS
    ) -> None:
        """A request. Right after a start it waits until workers could answer us."""
        at = self._now()
        if self._waiting or not self._may_answer(at):
            self._waiting.append((exchange, operation, operations))
        else:
            self._answer(exchange, operation, operations)

    # --- what follows ---------------------------------------------------------------------------

    def step(self) -> float:
        """Do all there is to do now; returns the seconds until there may be more."""
        at = self._now()
        if not self._connected():
            self._runner.connected = False
            self._workers.disconnected()
            self.release_lease()
        elif self._runner.connected and at >= self.leadership.check_at:
            self._check_lease()
        if self._limits_file is not None and (limits := self._limits_file.changed(at)) is not None:
            self.settings = self._runner.settings = replace(self.settings, limits=limits)
            # Those who wait may have more now.
            self._pending.roster = True
        if self.leading:
            self._lead()
        else:
            # What was heard until we lead is looked at when we do; the leader minds the clock.
            self._pending = Pending()
            self._clock.moved()
        if self._waiting and self._may_answer(at):
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                self._answer(*each)
        return self._pause()

    def release_lease(self) -> None:
        """Lead no more, and let others do so at once."""
        if not self.leading:
            return
        self.leadership.stop()
        try:
            self.leadership.lease.release()
        except DBAPIError as error:
            self._availability.failed(error)

    def _check_lease(self) -> None:
        try:
            begins = self.leadership.check()
        except DBAPIError as error:
            self._availability.failed(error)
            return
        self._availability.works()
        if begins:
            self._publish_everything()

    def _publish_everything(self) -> None:
        """Say all anew, and clear what the leader before us had no time to clear."""
        self._pending.everything = True
        self._pending.documents |= self.retained.documents
        self._published_history = None
        self._throughput.repeat()
        self._pending.desired |= self.retained.desired
        self._pending.claims |= self.retained.claims
        self._pending.serials.update(self._workers.serials())

    def _lead(self) -> None:
        at = time.monotonic()
        if self._runner.connected and at >= self.leadership.heartbeat_at:
            self._send_heartbeat(at)
            self._run_as_leader(self._repeat)
        if self._runner.in_doubt:
            self._runner.in_doubt = False
            self._publish_everything()
        if at >= self._compare_at:
            self._compare_at = math.inf
            self._pending.roster = True
        if at >= self._look_at:
            self._look_at = at + LOOK_AGAIN
            self._pending.serials.update(self._workers.serials())
            self._pending.roster = True
        self._cleaning.run_if_due(self._run_as_leader)
        if at >= self._record_at:
            self._record()
            if self._until_due() == 0.0 and not self._pending.clock_set_by:
                connected = self._runner.connected
                self._run_as_leader(
                    lambda transaction: expiry.do_due(transaction, connected=connected)
                )

    def _repeat(self, transaction: Transaction) -> None:
        """Say with each heartbeat what somebody has not taken up, or has not been told."""
        republishing.repeat_desired(transaction)
        last = republishing.publish_history(transaction, self._published_history)

        def note() -> None:
            self._published_history = last

        transaction.afterwards.append(note)

    def _pause(self) -> float:
        at = time.monotonic()
        waits = [self.settings.interval]
        if self._runner.connected:
            waits.append(self.leadership.check_at - at)
        if self.leading:
            waits.append(self.leadership.heartbeat_at - at)
            waits.append(self._cleaning.at - at)
            until_due = self._until_due()
            if until_due is not None:
                waits.append(max(until_due, self._record_at - at))
            if self._pending:
                waits.append(self._record_at - at)
        if self._waiting:
            waits.append(self._answer_from - at)
        return max(0.0, min(waits))

    def _until_due(self) -> float | None:
        """Seconds until something falls due; None when nothing will."""
        due = self._runner.due
        return None if due is None else max(0.0, due.timestamp() - time.time())

    @property
    def _first_answers(self) -> float:
        return min(FIRST_ANSWERS, self.settings.interval)

    def _may_answer(self, at: float) -> bool:
        """Whether requests need not wait for workers to answer a first heartbeat."""
        answered = self._heard_all and self._workers.all_answered(at)
        return at >= self._answer_from or answered

    def _now(self) -> float:
        """The moment, on the monotonic clock."""
        at = time.monotonic()
        self._workers.discount_pause(at)
        return at

    def _send_heartbeat(self, at: float) -> None:
        heartbeat = self.leadership.next_heartbeat(at, self._availability.trouble)
        self._workers.on_heartbeat(heartbeat.epoch, heartbeat.sequence, at)
        self._answer_from = min(self._answer_from, at + self._first_answers)
        self._runner.send(Outgoing(CONTROL_HEARTBEAT(), heartbeat, self.settings.interval))
        # Before all is heard that the broker retains, less would be written over more.
        if self._heard_all and (counted := self._throughput.due(time.time())) is not None:
            self._runner.send(Outgoing(CONTROL_THROUGHPUT(), counted))
        for worker in list(self._workers.all()):
            self._check_health(worker.name)
        self._pending.serials |= self._workers.settle_contested(at)
        for user, client in self._clients.drop_silent(at):
            log.warning("client %s of %s is silent", client, user, extra={"subject": user})
            self._pending.clients[user, client] = Presence.LOST

    def _check_health(self, worker: str) -> None:
        """See whether a worker's health changed; its devices are then looked at again."""
        health = self._workers.health(worker, time.monotonic())
        before = self._health.get(worker)
        if health is before:
            return
        self._health[worker] = health
        if health is Health.GONE and before is not None:
            log.warning("%s", self._workers.why_gone(worker))
        elif health is Health.READY:
            log.info("worker %s is ready", worker)
        self._pending.serials |= self._workers.devices_of(worker)
        self._pending.serials |= self._workers.settle_contested(time.monotonic())

    def _record(self) -> None:
        """Bring the database in line with what was heard, and with the time of day."""
        self._pending.clock_set_by += self._clock.moved()
        if self._pending and self._run_as_leader(self._pending.record):
            self._pending = Pending()

    def _run_as_leader(self, step: Callable[[Transaction], None]) -> bool:
        """Whether a leader's step is done with: carried out, or given up for a mistake of ours."""
        try:
            self._runner.run_as_leader(step)
        except NotLeading:
            self.leadership.stop()
        except Exception as error:
            # In case it falls due again at once.
            self._record_at = time.monotonic() + RETRY_AFTER
            # What the database refuses for good reason it would refuse for ever.
            if isinstance(error, DBAPIError) and is_away(error):
                self._availability.failed(error)
                return False
            log.exception("a step failed")
        else:
            self._availability.works()
        return True

    def _answer(self, exchange: Exchange[Request], operation: str, operations: Operations) -> None:
        """Answer a request, whatever becomes of it."""
        try:
            self._carry_out(exchange, operation, operations)
        finally:
            prefix = "admin/" if operations is ADMINISTRATORS else ""
            took = time.monotonic() - exchange.began
            self._observer.answered(f"{prefix}{operation}", exchange.outcome, took)

    def _carry_out(
        self, exchange: Exchange[Request], operation: str, operations: Operations
    ) -> None:
        if self.leading:
            self._record()

        try:
            known = find(operations, operation)
            reply = answer(self._runner.run, exchange.user, known, exchange.request)
        except DBAPIError as error:
            if not is_away(error):
                log.exception("request %s failed in the database", exchange.request.id)
                exchange.fail(error)
                return
            self._availability.failed(error)
            if self.leadership.another_serves:
                # With a database that it reaches; whoever asks does so again, and gets to it.
                exchange.leave()
                return
            exchange.fail(self._availability.refusal(error))
        except Exception as error:  # noqa: BLE001  (no request may end the thread)
            exchange.fail(error)
        else:
            exchange.answer(Reply(id=exchange.request.id, ok=reply))
