"""The life of reservations under any sequence of what users, boards, workers and time may do."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlmodel import col, select
from tests.control.harness import Harness

from icebus.control.decide.lifecycle import LIVE_HOLDS, LIVE_RESERVATIONS
from icebus.control.decide.limits import Limit, Limits
from icebus.control.operations import queue
from icebus.control.operations.due import absent_clients
from icebus.control.operations.reports import device_reports, republishing
from icebus.control.settings import Settings
from icebus.control.store.database import Database
from icebus.control.store.tables import NOBODY, DeviceRow, HistoryRow, HoldRow, ReservationRow
from icebus.control.transaction import Transaction
from icebus.control.watch.workers import Workers
from icebus.schemas.components import ClientState, Presence, WorkerPhase, WorkerState
from icebus.schemas.devices import Desired, DeviceReport, DeviceState
from icebus.schemas.errors import IcebusError
from icebus.schemas.ids import new_id
from icebus.schemas.operations.history import HistoryEvent
from icebus.schemas.operations.reservations import Reservation, ReservationState
from icebus.schemas.topics import DESIRED

pytestmark = pytest.mark.slow

WORKERS = {"w1": ("a", "b", "c"), "w2": ("d", "e")}
OWNER = {serial: worker for worker, serials in WORKERS.items() for serial in serials}
LIAR = "zzz"
"""A worker that says it has everything."""

LIMIT = 4
GRACE = 30
LIVE = col(ReservationRow.state).in_(LIVE_RESERVATIONS)

users = st.sampled_from(["alice", "bob"])
serials = st.sampled_from(sorted(OWNER))
several = st.lists(serials, min_size=1, max_size=3, unique=True)
workers = st.sampled_from(sorted(WORKERS))
wishes = st.builds(
    lambda wanted, more: wanted | more,
    st.one_of(
        st.fixed_dictionaries(
            {"count": st.integers(1, 4), "selector": st.sampled_from([None, "worker=w1"])}
        ),
        st.fixed_dictionaries({"serials": several}),
    ),
    st.fixed_dictionaries(
        {
            "wait": st.sampled_from([0, 60, 3600]),
            "priority": st.integers(-2, 2),
            "replace": st.booleans(),
            "client": st.sampled_from([None, "c"]),
            "duration": st.sampled_from([30, 600]),
        }
    ),
)
Draw = Callable[[st.SearchStrategy[Any]], Any]


class Life(RuleBasedStateMachine):
    """Control at its harness, workers that do what is desired of them when it is their turn."""

    migrated: ClassVar[Path]
    folder: ClassVar[Path]

    @initialize()
    def begin(self) -> None:
        path = shutil.copy(self.migrated, self.folder / f"{new_id()}.db")
        self.harness = Harness(Database(f"sqlite:///{path}"))
        self.harness.settings = Settings(
            max_duration=7200, grace=GRACE, limits=Limits(Limit(devices=LIMIT))
        )
        self.asked: tuple[str, str, str, dict[str, Any], Any] | None = None
        self.said: dict[str, Desired] = {}
        for worker, names in WORKERS.items():
            self.harness.worker(worker, *names)
        self.harness.introduce(LIAR, *OWNER)
        self.moved: set[str] = set()

    def teardown(self) -> None:
        if hasattr(self, "harness"):
            self.harness.database.close()

    def attempt(self, do: Callable[[], Any]) -> Any:
        """What is refused with a typed error is refused; anything else is a mistake."""
        try:
            return do()
        except IcebusError:
            return None

    # Few rules with much in each: hypothesis leaves rules out at random, and what is interesting
    # takes several things.

    @rule(
        what=st.sampled_from(
            [
                "reserve",
                "reserve",
                "reserve",
                "again",
                "extend",
                "end",
                "transfer",
                "answer",
                "attach",
                "see",
            ]
        ),
        data=st.data(),
    )
    def users_act(self, what: str, data: st.DataObject) -> None:
        getattr(self, what)(data.draw)

    @rule(
        what=st.sampled_from(["obey", "obey", "obey", "break_down", "break_down", "vanish", "lie"]),
        data=st.data(),
    )
    def workers_act(self, what: str, data: st.DataObject) -> None:
        getattr(self, what)(data.draw)

    @rule(
        what=st.sampled_from(
            ["order", "order", "drain", "end_by_order", "sweep", "sweep", "restart", "move"]
        ),
        data=st.data(),
    )
    def others_act(self, what: str, data: st.DataObject) -> None:
        getattr(self, what)(data.draw)

    # --- users ------------------------------------------------------------------------------------

    def reserve(self, draw: Draw) -> None:
        self.harness.now += self.harness.now.resolution
        user, name = draw(users), new_id()
        args = {"kind": "pulsecount", **draw(wishes)}
        reply = self.attempt(lambda: self.harness.ask(user, "reserve", name, **args))
        if reply is not None:
            self.asked = (user, "reserve", name, args, reply)

    def again(self, draw: Draw) -> None:
        if self.asked is not None:
            user, operation, name, args, reply = self.asked
            assert self.harness.ask(user, operation, name, **args) == reply
            assert self.harness.sent == []

    def extend(self, draw: Draw) -> None:
        name, user = self.one_of_them(draw)
        seconds = draw(st.sampled_from([1, 600]))
        reply = self.attempt(
            lambda: self.harness.ask(user, "extend", reservation=name, duration=seconds)
        )
        assert reply is None or reply["after"] >= reply["before"]

    def end(self, draw: Draw) -> None:
        name, user = self.one_of_them(draw)
        some = draw(st.none() | several)
        self.attempt(lambda: self.harness.ask(user, "end", reservation=name, serials=some))

    def transfer(self, draw: Draw) -> None:
        name, user = self.one_of_them(draw)
        to = {"user": "bob" if user == "alice" else "alice"}
        self.attempt(lambda: self.harness.ask(user, "transfer", reservation=name, **to))

    def answer(self, draw: Draw) -> None:
        """An offer is accepted, declined or withdrawn, by whoever may or may not."""
        name, _ = self.one_of_them(draw)
        user = draw(users)
        how = draw(st.sampled_from(["accept", "accept", "decline", "transfer"]))
        self.attempt(lambda: self.harness.ask(user, how, reservation=name))

    def attach(self, draw: Draw) -> None:
        name, user = self.one_of_them(draw)
        client = draw(st.sampled_from([None, "c"]))
        self.attempt(lambda: self.harness.ask(user, "attach", reservation=name, client=client))

    def see(self, draw: Draw) -> None:
        """A client comes or goes."""
        user, presence = draw(users), draw(st.sampled_from(Presence))
        state = ClientState(state=presence, session="s")
        if self.harness.clients.on_state(user, "c", state, self.harness.at) is not None:
            self.harness.run(
                lambda transaction: absent_clients.on_presence(transaction, user, "c", presence)
            )

    # --- boards and workers -----------------------------------------------------------------------

    def obey(self, draw: Draw) -> None:
        """Workers do what is desired of some devices, or of all."""
        for serial in draw(st.none() | several) or sorted(OWNER):
            owner = self.owner(serial)
            kept = self.harness.retained.get(DESIRED(worker=owner, serial=serial))
            wanted = kept.message if kept else Desired(serial=serial, generation=0)
            assert isinstance(wanted, Desired)
            state = DeviceState.READY
            if wanted.quarantined is not None:
                state = DeviceState.QUARANTINED
            elif wanted.reservation is not None:
                state = DeviceState.SERVING
            fields = {"generation": wanted.generation, "reservation": wanted.reservation}
            self.harness.report(owner, serial, state, **fields)

    def owner(self, serial: str) -> str:
        return LIAR if serial in self.moved else OWNER[serial]

    def lie(self, draw: Draw) -> None:
        """Somebody says that all boards are broken, unplugged or ready, and theirs."""
        said = st.sampled_from([DeviceState.READY, DeviceState.BROKEN, DeviceState.ABSENT])
        for serial in draw(several):
            report = self.harness.workers.get(OWNER[serial]).reports.get(serial)
            has_it = report is not None and report.state is not DeviceState.ABSENT
            # What nobody has any more goes to whoever has it.
            if serial not in self.moved and has_it:
                self.harness.report(LIAR, serial, draw(said), generation=draw(st.integers(0, 99)))

    def move(self, draw: Draw) -> None:
        """An administrator takes a liar's word, or gives back what it got, or retires it."""
        if draw(st.booleans()):
            some = draw(several)
            if self.attempt(lambda: self.harness.administer("move", serials=some, to=LIAR)):
                self.moved.update(some)
            return
        harness = self.harness
        gone = WorkerState(state=WorkerPhase.LOST, session=LIAR, serials=sorted(OWNER))
        harness.workers.on_state(LIAR, gone, harness.at)
        self.attempt(lambda: harness.administer("retire", worker=LIAR))
        harness.workers.retire(LIAR, harness.at)
        self.moved.clear()
        changed = harness.workers.settle_contested(harness.at)
        harness.run(lambda transaction: device_reports.record_devices(transaction, changed))
        harness.introduce(LIAR, *OWNER)

    def break_down(self, draw: Draw) -> None:
        serial = draw(serials)
        owner = self.owner(serial)
        # Boards of a liar that owns them break, and are not unplugged: it would own them no more.
        states = [DeviceState.BROKEN, DeviceState.ABSENT][: 1 if owner == LIAR else 2]
        self.harness.report(owner, serial, draw(st.sampled_from(states)), reason="as boards do")

    def vanish(self, draw: Draw) -> None:
        """A worker goes, or is back."""
        worker = draw(workers)
        phase = draw(st.sampled_from([WorkerPhase.LOST, WorkerPhase.READY]))
        state = WorkerState(state=phase, session=worker, serials=list(WORKERS[worker]))
        self.harness.workers.on_state(worker, state, self.harness.at)
        self.harness.run(
            lambda transaction: device_reports.record_devices(transaction, WORKERS[worker], set())
        )

    # --- administrators, time, control itself -----------------------------------------------------

    def order(self, draw: Draw) -> None:
        operation = draw(
            st.sampled_from(["quarantine", "unquarantine", "reboot", "reflash", "forget"])
        )
        some = draw(several)
        self.attempt(lambda: self.harness.administer(operation, serials=some, reason="because"))

    def drain(self, draw: Draw) -> None:
        operation, worker = draw(st.sampled_from(["drain", "undrain"])), draw(workers)
        self.attempt(lambda: self.harness.administer(operation, worker=worker))

    def end_by_order(self, draw: Draw) -> None:
        name, _ = self.one_of_them(draw)
        self.attempt(lambda: self.harness.administer("end", reservation=name))

    def sweep(self, draw: Draw) -> None:
        """Time goes by."""
        self.harness.wait(seconds=draw(st.sampled_from([1, 31, 61, 700])))
        self.harness.run(self.check_due)

    def restart(self, draw: Draw) -> None:
        """All that control knew is in the database, and what the broker kept, if it did."""
        harness, heard = self.harness, self.harness.workers
        if draw(st.booleans()):
            harness.retained.clear()
        harness.workers = Workers(1.0)
        harness.workers.connected(0.0)
        harness.workers.on_heartbeat("epoch", 0, harness.at)
        rows = harness.run(lambda transaction: transaction.session.exec(select(DeviceRow)).all())
        for row in rows:
            report = DeviceReport.model_validate(row.report)
            if row.worker != NOBODY:
                claimed = row.claimed_by or ()
                harness.workers.restore(row.serial, row.worker, report, claimed, harness.at)

        def reconnect(transaction: Transaction) -> None:
            absent_clients.restart_grace(transaction)
            for row in transaction.session.exec(select(ReservationRow).where(LIVE)):
                assert row.absent_since in (None, transaction.now)
            known = {row.serial for row in rows}
            device_reports.record_devices(transaction, known, known)
            republishing.publish_everything(transaction)

        harness.run(reconnect)
        for worker, names in {**WORKERS, LIAR: tuple(OWNER)}.items():
            harness.introduce(worker, *names)
            state = heard.get(worker).state
            harness.workers.on_state(worker, state, harness.at)
            for serial in names:
                report_before = heard.get(worker).reports.get(serial)
                if report_before is not None:
                    harness.workers.on_report(worker, serial, report_before, harness.at)
        harness.run(
            lambda transaction: device_reports.record_devices(transaction, set(OWNER), set())
        )

    # --- what is always true ----------------------------------------------------------------------

    @invariant()
    def tables_topics_queue_and_history_agree(self) -> None:
        self.harness.run(self.check)

    def check(self, transaction: Transaction) -> None:
        rows = {row.id: row for row in transaction.session.exec(select(ReservationRow))}
        live = transaction.session.exec(
            select(HoldRow).where(col(HoldRow.state).in_(LIVE_HOLDS))
        ).all()
        holders = {hold.serial: rows[hold.reservation] for hold in live}
        assert len(holders) == len(live)
        self.check_holders(list(rows.values()), list(holders.values()))
        self.check_topics(transaction, list(rows.values()), holders)
        self.check_generations()
        self.check_owners(transaction)
        self.check_clients(transaction, list(rows.values()))
        self.check_queue(transaction, list(rows.values()))
        self.check_history(transaction, rows, {hold.serial: hold.reservation for hold in live})

    def check_holders(self, rows: list[ReservationRow], holders: list[ReservationRow]) -> None:
        """Whoever is neither queued nor over has devices, and nobody more than the limit."""
        for row in rows:
            holds = row.state in LIVE_RESERVATIONS and row.state is not ReservationState.QUEUED
            assert holds == any(holder is row for holder in holders)
        held = Counter(row.user for row in holders)
        assert all(count <= LIMIT for count in held.values())

    def check_owners(self, transaction: Transaction) -> None:
        """Nobody gets a device by claiming it."""
        for row in transaction.session.exec(select(DeviceRow)):
            assert row.worker in (self.owner(row.serial), NOBODY), row.serial

    def check_topics(
        self,
        transaction: Transaction,
        rows: list[ReservationRow],
        holders: dict[str, ReservationRow],
    ) -> None:
        """What is kept by the broker is what the tables say."""
        messages = [each.message for each in self.harness.retained.values()]
        said = {each.serial: each for each in messages if isinstance(each, Desired)}
        assert said == {
            row.serial: row.desired(holders.get(row.serial))
            for row in transaction.session.exec(select(DeviceRow))
            if row.worker != NOBODY  # as its worker was retired, there is nobody to tell
        }
        told = {each.id: blur(each) for each in messages if isinstance(each, Reservation)}
        alive = [row for row in rows if row.state in LIVE_RESERVATIONS]
        assert told == {each.id: blur(each) for each in transaction.documents(alive)}

    def check_generations(self) -> None:
        """Whatever else is wanted of a device than before is newer, for workers go by that."""
        messages = [each.message for each in self.harness.retained.values()]
        said = {each.serial: each for each in messages if isinstance(each, Desired)}
        for serial in said.keys() & self.said.keys():
            before, after = self.said[serial], said[serial]
            assert after.generation >= before.generation
            same = (after.reservation, after.user) == (before.reservation, before.user)
            assert same or after.generation > before.generation
        self.said = said

    def check_clients(self, transaction: Transaction, rows: list[ReservationRow]) -> None:
        """The grace of those whose client is away has begun, and of nobody else."""
        for row in rows:
            if row.state in LIVE_RESERVATIONS:
                there = row.client is None or transaction.clients.online(row.user, row.client)
                assert there == (row.absent_since is None)

    def check_due(self, transaction: Transaction) -> None:
        """What is over has ended."""
        for row in transaction.session.exec(select(ReservationRow).where(LIVE)):
            assert row.until > transaction.now
            grace_began = transaction.now - timedelta(seconds=GRACE)
            assert row.absent_since is None or row.absent_since > grace_began

    def check_queue(self, transaction: Transaction, rows: list[ReservationRow]) -> None:
        """Nobody waits for what is free, and all know what they wait for."""
        plan = queue.preview(transaction)
        assert plan.grants == ()
        queued = {row.id: row for row in rows if row.state is ReservationState.QUEUED}
        assert {name: (row.position, row.waits_for) for name, row in queued.items()} == {
            name: (place.position, place.reason) for name, place in plan.places.items()
        }

    def check_history(
        self, transaction: Transaction, rows: dict[str, ReservationRow], holders: dict[str, str]
    ) -> None:
        """It leads to what is now."""
        holder: dict[str | None, str | None] = {}
        over: set[str | None] = set()
        for each in transaction.session.exec(select(HistoryRow).order_by(col(HistoryRow.number))):
            assert each.reservation is None or each.reservation not in over
            if each.event is HistoryEvent.RESERVED:
                assert each.serial not in holder
                holder[each.serial] = each.reservation
            elif each.event is HistoryEvent.RELEASED:
                assert holder.pop(each.serial) == each.reservation
            elif each.event is HistoryEvent.ENDED:
                over.add(each.reservation)
        assert holder == holders
        assert over == {name for name, row in rows.items() if row.state is ReservationState.ENDED}

    def one_of_them(self, draw: Draw) -> tuple[str, str]:
        """A reservation that lives, and whose it is."""
        alive = self.harness.live()
        if not alive:
            return "none", "alice"
        chosen = alive[draw(st.integers(0, 7)) % len(alive)]
        return chosen.id, chosen.user


def blur(document: Reservation) -> Reservation:
    queue = document.queue
    if queue is None:
        return document
    return document.model_copy(update={"queue": queue.model_copy(update={"estimate": None})})


@pytest.mark.timeout(600)  # seconds: a failure takes minutes to be made small
def test_given_anything_that_may_happen_then_reservations_devices_and_history_agree(
    migrated: Path, tmp_path: Path
) -> None:
    Life.migrated, Life.folder = migrated, tmp_path
    run_state_machine_as_test(
        Life,
        settings=settings(
            deadline=None,
            max_examples=16,
            stateful_step_count=25,
            suppress_health_check=list(HealthCheck),
        ),
    )
