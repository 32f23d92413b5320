"""Control's operations without a bus: a real database, and workers that the test makes up."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from icebus.control.operations import queue
from icebus.control.operations.due import expiry
from icebus.control.operations.reports import device_reports
from icebus.control.operations.requests.remembered_requests import carry_out, find
from icebus.control.operations.requests.table import ADMINISTRATORS, USERS
from icebus.control.settings import Settings
from icebus.control.store.database import Database
from icebus.control.store.outbox import CLEAR, Outgoing
from icebus.control.transaction import Transaction
from icebus.control.watch.clients import Clients
from icebus.control.watch.kinds import Kind
from icebus.control.watch.roster import Roster
from icebus.control.watch.workers import Workers
from icebus.schemas.calls import Event, Request
from icebus.schemas.components import (
    KindInfo,
    KnownPrincipal,
    Principals,
    WorkerHeartbeat,
    WorkerPhase,
    WorkerState,
)
from icebus.schemas.devices import Desired, DeviceReport, DeviceState
from icebus.schemas.message import now
from icebus.schemas.operations.reservations import EndReason, Reservation, ReservationState

T = TypeVar("T")

ARGS = {
    "type": "object",
    "properties": {"window": {"type": "number"}},
    "additionalProperties": False,
}


class Harness:
    """Control's database and what it knows, at a moment that the test chooses.

    Attributes:
        sent: what the last transaction published.
        retained: what a broker would have retained of all that was published.
        generations: what was desired last of each device.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.workers = Workers(1.0)
        self.clients = Clients()
        self.roster = Roster("main")
        self.settings = Settings(max_duration=7200)
        self.now = now()
        self.at = 1000.0
        self.sent: list[Outgoing] = []
        self.retained: dict[str, Outgoing] = {}
        self.generations: dict[str, int] = {}
        self.sequence = 0
        self.workers.connected(0.0)
        self.beat()

    def run(self, step: Callable[[Transaction], T]) -> T:
        with self.database.transaction() as session:
            transaction = Transaction(
                session,
                self.workers,
                self.clients,
                self.roster,
                self.settings,
                self.now,
                self.at,
            )
            result = step(transaction)
            if transaction.scheduling_requested:
                queue.schedule(transaction)
            self.sent = transaction.conclude()
        for each in self.sent:
            if each.message == CLEAR:
                self.retained.pop(each.topic, None)
            elif each.topic.family.retained:
                self.retained[each.topic] = each
            if isinstance(each.message, Desired):
                self.generations[each.message.serial] = each.message.generation
        return result

    def ask(self, user: str, operation: str, name: str | None = None, /, **args: Any) -> Any:
        request = Request(args=args) if name is None else Request(id=name, args=args)
        return self.run(
            lambda transaction: carry_out(transaction, user, find(USERS, operation), request)
        )

    def administer(self, operation: str, name: str | None = None, /, **args: Any) -> Any:
        """Ask as the administrator root."""
        request = Request(args=args) if name is None else Request(id=name, args=args)
        found = find(ADMINISTRATORS, operation)
        return self.run(lambda transaction: carry_out(transaction, "root", found, request))

    def reserve(self, user: str = "alice", *, name: str | None = None, **args: Any) -> Reservation:
        # No two come at the same moment.
        self.now += timedelta(microseconds=1)
        reply = self.ask(user, "reserve", name, **{"kind": "pulsecount", **args})
        return Reservation.model_validate(reply["reservation"])

    def tell_roster(self, **roles: str) -> bool:
        """Who the broker knows, with this control; whether control believes it."""
        known = [KnownPrincipal(id=name, role=role) for name, role in roles.items()]
        known.append(KnownPrincipal(id="main", role="control"))
        return self.roster.on_principals(Principals(principals=known))

    def give(self, made: Reservation, giver: str, taker: str) -> Reservation:
        """Have a reservation offered and accepted."""
        self.ask(giver, "transfer", reservation=made.id, user=taker)
        reply = self.ask(taker, "accept", reservation=made.id)
        return Reservation.model_validate(reply["reservation"])

    def worker(self, name: str, *serials: str, firmware: str = "pulse_count") -> None:
        """A worker that is ready with these devices."""
        self.introduce(name, *serials)
        for serial in serials:
            self.report(name, serial, DeviceState.READY, firmware=firmware)

    def introduce(self, name: str, *serials: str) -> None:
        """What is heard of a worker itself."""
        self.workers.on_kinds(
            name,
            {"pulsecount": Kind("pulsecount", KindInfo(firmware="pulse_count", args=ARGS), name)},
        )
        state = WorkerState(state=WorkerPhase.READY, session=name, serials=list(serials))
        self.workers.on_state(name, state, self.at)
        self.echo(name)

    def beat(self, *workers: str) -> None:
        """A heartbeat that these workers answer."""
        self.sequence += 1
        self.workers.on_heartbeat("epoch", self.sequence, self.at)
        for name in workers:
            self.echo(name)

    def echo(self, worker: str) -> None:
        echo = WorkerHeartbeat(epoch="epoch", sequence=self.sequence, session=worker)
        self.workers.on_echo(worker, echo, self.at)

    def lose(self, name: str) -> None:
        """The broker says that a worker died or lost its connection."""
        lost = WorkerState(state=WorkerPhase.LOST, session=name, serials=[])
        self.workers.on_state(name, lost, self.at)
        self.run(
            lambda transaction: device_reports.record_devices(
                transaction, self.workers.devices_of(name), set()
            )
        )

    def report(self, worker: str, serial: str, state: DeviceState, **fields: Any) -> None:
        values: dict[str, Any] = {
            "generation": self.generations.get(serial, 0),
            "firmware": "pulse_count",
            **fields,
        }
        report = DeviceReport(serial=serial, state=state, since=self.now, session=worker, **values)
        self.workers.on_report(worker, serial, report, self.at)
        self.run(lambda transaction: device_reports.record_devices(transaction, {serial}, set()))

    def current(self, reservation: Reservation) -> Reservation:
        """The reservation as it is now."""
        [found] = [each for each in self.live() if each.id == reservation.id]
        return found

    def live(self) -> list[Reservation]:
        found = self.ask("anybody", "list")["reservations"]
        return [Reservation.model_validate(each) for each in found]

    def history(self, **args: Any) -> list[tuple[str, str, str | None]]:
        """Events with actors and serials, oldest first."""
        entries = self.ask("anybody", "history", limit=1000, **args)["entries"]
        return [(each["event"], each["actor"], each["serial"]) for each in reversed(entries)]

    def wait(self, **delta: float) -> None:
        """Let time go by, and do what falls due."""
        self.now += timedelta(**delta)
        self.run(lambda transaction: expiry.do_due(transaction, connected=True))

    def documents(self) -> list[Reservation]:
        """The documents that the last transaction published."""
        return [each.message for each in self.sent if isinstance(each.message, Reservation)]

    def end_reasons(self) -> list[EndReason | None]:
        """Why reservations ended in the last transaction."""
        ended = ReservationState.ENDED
        return [each.reason for each in self.documents() if each.state is ended]

    def report_ready(self, worker: str, *serials: str) -> None:
        """The worker reports that these devices are free."""
        for serial in serials:
            self.report(worker, serial, DeviceState.READY)

    def report_serving(self, worker: str, reservation: Reservation) -> None:
        for device in reservation.devices:
            fields = {"reservation": reservation.id}
            self.report(worker, device.serial, DeviceState.SERVING, **fields)

    def events(self) -> list[str]:
        return [
            each.topic.rsplit("/", 1)[1] for each in self.sent if isinstance(each.message, Event)
        ]

    def published_desired(self) -> dict[str, str | None]:
        return {
            each.message.serial: each.message.reservation
            for each in self.sent
            if isinstance(each.message, Desired)
        }
