"""Several controls without a broker: engines that hear each other and one worker, and that die.

What stands between them is the least that a broker does: it keeps retained messages and hands
everything to everybody, in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from sqlalchemy import delete
from sqlmodel import Session, SQLModel, col, select

from icebus.control.decide.lifecycle import LIVE_HOLDS, LIVE_RESERVATIONS
from icebus.control.engine import Engine
from icebus.control.settings import Settings
from icebus.control.store.availability import Availability
from icebus.control.store.database import Database
from icebus.control.store.lease import LeaseRow
from icebus.control.store.outbox import OutboxRow, Outgoing
from icebus.control.store.tables import DeviceRow, HoldRow, ReservationRow
from icebus.control.watch.kinds import Kind
from icebus.control.watch.roster import Roster
from icebus.schemas.calls import RawEvent, Reply, Request
from icebus.schemas.components import (
    ClientState,
    ControlState,
    Heartbeat,
    KindInfo,
    Left,
    Presence,
    WorkerHeartbeat,
    WorkerPhase,
    WorkerState,
)
from icebus.schemas.devices import Desired, DeviceReport, DeviceState
from icebus.schemas.ids import new_id
from icebus.schemas.message import now
from icebus.schemas.topics import CONTROL_HEARTBEAT, CONTROL_OUTBOX, DESIRED, EVENT, RESERVATION

KIND = Kind("pulsecount", KindInfo(firmware="pulse_count", args={}), "w1")

SETTINGS = Settings(interval=60.0, grace=0.0)
"""Nothing happens here by the passing of time."""


class Died(BaseException):
    """Here the process was killed."""


class Life:
    """Counts the moments at which a control may die, and has it die at one of them."""

    def __init__(self, moments: int | None) -> None:
        self.left = moments

    def moment(self) -> None:
        if self.left is None:
            return
        if self.left == 0:
            raise Died
        self.left -= 1


class MortalDatabase(Database):
    """A process's view of a database: it may die before a transaction is committed, and after."""

    def __init__(self, shared: Database, life: Life) -> None:
        self.engine = shared.engine
        self.availability = Availability()
        self._life = life

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        with super().transaction() as session:
            yield session
            self._life.moment()
        self._life.moment()


class Ask:
    """A request that keeps its answer."""

    began = 0.0
    outcome = ""

    def __init__(self, name: str, life: Life, args: dict[str, Any]) -> None:
        self.user = "alice"
        self.request = Request(id=name, args=args)
        self.ok: Any = None
        self.error: BaseException | None = None
        self._life = life

    def answer(self, reply: Reply) -> None:
        self._life.moment()
        self.ok = reply.ok

    def fail(self, error: BaseException) -> None:
        self.error = error


class Member:
    """One control: its engine, what it has yet to hear, and how long it lives."""

    def __init__(self, database: Database, cluster: Cluster, moments: int | None) -> None:
        self.session = new_id()
        self.life = Life(moments)
        self.inbox: deque[Callable[[], object]] = deque()
        self.cluster = cluster
        self.alive = True
        mortal = MortalDatabase(database, self.life)
        self.engine = Engine(
            mortal, SETTINGS, self.session, self._publish, lambda: self.alive, Roster("main")
        )

    def _publish(self, message: Outgoing) -> None:
        self.life.moment()
        self.cluster.publish(self, message)

    def advance(self) -> bool:
        """Hear all there is, and do what follows; whether there may be more."""
        try:
            while self.inbox:
                self.inbox.popleft()()
            pause = self.engine.step()
        except Died:
            self.cluster.kill(self)
            return True
        return pause == 0.0

    def ask(self, operation: str, name: str, **args: Any) -> Ask:
        asked = Ask(name, self.life, args)
        self.inbox.append(partial(self.engine.on_request, asked, operation))  # type: ignore[arg-type]
        self.cluster.run_until_quiet()
        return asked


class Cluster:
    """The broker, one worker, and any number of controls.

    Args:
        database: of all controls; it is emptied.
        serials: the worker's devices.
    """

    def __init__(self, database: Database, *serials: str) -> None:
        self.members: list[Member] = []
        self.lost: list[str] = []
        self.retained: dict[str, bytes] = {}
        self.events: list[str] = []
        self.desired: dict[str, Desired] = {}
        self.unreachable = False
        """Whether nothing reaches the worker."""
        self.clients: dict[str, Presence] = {}
        self.reports = {serial: self._report(serial, DeviceState.READY, 0) for serial in serials}
        self._database = database
        with self._database.transaction() as session:
            for table in reversed(SQLModel.metadata.sorted_tables):
                session.execute(delete(table))

    # --- controls ---------------------------------------------------------------------------

    def start(self, moments: int | None = None) -> Member:
        """A control that starts, and dies after so many moments."""
        member = Member(self._database, self, moments)
        self.members.append(member)
        hear = member.engine
        member.inbox += [hear.load, hear.on_connected]
        for session in self.lost:
            state = ControlState(state=Presence.LOST, session=session)
            member.inbox.append(partial(hear.on_control, state))
        for topic in self.retained:
            self._note_retained(member, topic, empty=False)
            self._hand_retained(member, topic, live=False)
        self._introduce(member)
        for client, presence in self.clients.items():
            there = ClientState(state=presence, session=client)
            member.inbox.append(partial(hear.on_client, "alice", client, there))
        self.run_until_quiet()
        self.beat()
        return member

    def beat(self) -> None:
        """An interval passes."""
        for member in self.leaders:
            member.engine.leadership.heartbeat_at = 0.0
        self.run_until_quiet()

    def kill(self, member: Member) -> None:
        """A control dies: the broker says so."""
        member.alive = False
        member.inbox.clear()
        self.lost.append(member.session)
        state = ControlState(state=Presence.LOST, session=member.session)
        for other in self.living():
            other.inbox.append(partial(other.engine.on_control, state))

    def living(self) -> list[Member]:
        return [member for member in self.members if member.alive]

    @property
    def leaders(self) -> list[Member]:
        return [member for member in self.living() if member.engine.leading]

    def run_until_quiet(self) -> None:
        """Let all of them do what there is to do."""
        for _ in range(200):
            advanced = [member.advance() for member in self.living()]
            if not any(advanced) and not any(member.inbox for member in self.living()):
                return
        raise AssertionError("they never come to rest")

    # --- the broker ---------------------------------------------------------------------------

    def publish(self, author: Member | None, message: Outgoing) -> None:
        topic, payload = message.topic, message.payload
        if topic.family.retained and payload:
            self.retained[topic] = payload
        elif topic.family.retained:
            self.retained.pop(topic, None)
        for member in self.living():
            self._note_retained(member, topic, empty=not payload)
            if member is not author:
                self._hand_retained(member, topic, live=True)
            if topic == CONTROL_OUTBOX():
                Left.model_validate_json(payload)
                member.inbox.append(member.engine.on_outbox)
            if topic == CONTROL_HEARTBEAT():
                beat = Heartbeat.model_validate_json(payload)
                if member is not author:
                    member.inbox.append(partial(member.engine.on_heartbeat, beat))
        if topic == CONTROL_HEARTBEAT():
            self._echo(Heartbeat.model_validate_json(payload))
        if (ids := EVENT.parse(topic)) is not None:
            RawEvent.model_validate_json(payload)
            self.events.append(ids["event"])
        if DESIRED.parse(topic) is not None and payload and not self.unreachable:
            self.obey(Desired.model_validate_json(payload))

    def _note_retained(self, member: Member, topic: str, *, empty: bool) -> None:
        retained = member.engine.retained
        for family, note in ((RESERVATION, retained.on_document), (DESIRED, retained.on_desired)):
            ids = family.parse(topic)
            if ids is not None:
                noted: Callable[..., None] = partial(note, empty=empty)
                noted(**ids)

    def _hand_retained(self, member: Member, topic: str, *, live: bool) -> None:
        for family, heard in (
            (RESERVATION, member.engine.on_document),
            (DESIRED, member.engine.on_desired),
        ):
            ids = family.parse(topic)
            if ids is not None:
                handed: Callable[..., None] = partial(heard, live=live)
                member.inbox.append(partial(handed, **ids))

    # --- the worker and the clients -----------------------------------------------------------

    def obey(self, desired: Desired) -> None:
        known = self.desired.get(desired.serial)
        if known is not None and known.generation > desired.generation:
            return
        self.desired[desired.serial] = desired
        state = DeviceState.READY if desired.reservation is None else DeviceState.SERVING
        report = self._report(
            desired.serial, state, desired.generation, reservation=desired.reservation
        )
        self.reports[desired.serial] = report
        for member in self.living():
            member.inbox.append(partial(member.engine.on_report, "w1", desired.serial, report))

    def say(self, client: str, presence: Presence) -> None:
        """A client of alice's comes or goes."""
        self.clients[client] = presence
        state = ClientState(state=presence, session=client)
        for member in self.living():
            member.inbox.append(partial(member.engine.on_client, "alice", client, state))
        self.run_until_quiet()

    def restart_worker(self) -> None:
        """The worker starts anew, and finds what the broker kept."""
        self.unreachable = False
        self.desired.clear()
        for topic, payload in list(self.retained.items()):
            if DESIRED.parse(topic) is not None:
                self.obey(Desired.model_validate_json(payload))
        self.run_until_quiet()

    def _report(
        self, serial: str, state: DeviceState, generation: int, **fields: Any
    ) -> DeviceReport:
        return DeviceReport(
            serial=serial, state=state, generation=generation, since=now(), session="s", **fields
        )

    def _introduce(self, member: Member) -> None:
        state = WorkerState(state=WorkerPhase.READY, session="s", serials=list(self.reports))
        member.inbox.append(partial(member.engine.on_worker, "w1", state))
        member.inbox.append(partial(member.engine.on_kinds, "w1", {"pulsecount": KIND}))
        for serial, report in self.reports.items():
            member.inbox.append(partial(member.engine.on_report, "w1", serial, report))

    def _echo(self, beat: Heartbeat) -> None:
        echo = WorkerHeartbeat(epoch=beat.epoch, sequence=beat.sequence, session="s")
        for member in self.living():
            member.inbox.append(partial(member.engine.on_echo, "w1", echo))

    # --- what must be true --------------------------------------------------------------------

    def reservations(self) -> list[ReservationRow]:
        """All that live."""
        with self._database.transaction() as session:
            query = select(ReservationRow).where(col(ReservationRow.state).in_(LIVE_RESERVATIONS))
            return list(session.exec(query))

    def check(self) -> None:
        """The database, what the broker keeps and what the worker does are one."""
        with self._database.transaction() as session:
            query = select(HoldRow).where(col(HoldRow.state).in_(LIVE_HOLDS))
            holders = {hold.serial: hold.reservation for hold in session.exec(query)}
            generations = {d.serial: d.generation for d in session.exec(select(DeviceRow))}
            assert session.exec(select(OutboxRow)).all() == []
            assert session.exec(select(LeaseRow)).one().session == self.leaders[0].session
        assert len(self.leaders) == 1
        wanted = {s: (d.generation, d.reservation) for s, d in self.desired.items()}
        assert wanted == {s: (generations[s], holders.get(s)) for s in generations}
        kept = [
            Desired.model_validate_json(payload)
            for topic, payload in self.retained.items()
            if DESIRED.parse(topic) is not None
        ]
        assert {d.serial: (d.generation, d.reservation) for d in kept} == wanted
        documents = {
            ids["reservation"]
            for topic in self.retained
            if (ids := RESERVATION.parse(topic)) is not None
        }
        assert documents == {row.id for row in self.reservations()}
