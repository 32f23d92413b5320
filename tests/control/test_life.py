"""The life of reservations under any sequence of what users, boards, workers and time may do."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from tests.control.desk import Desk

from icebus.control import observation, waiting
from icebus.control.database import Database
from icebus.control.farm import Farm
from icebus.control.lifecycle import LIVE_HOLDS, LIVE_RESERVATIONS
from icebus.control.limits import Limit, Limits
from icebus.control.reconciler import desired
from icebus.control.settings import Settings
from icebus.control.tables import DeviceRow, HistoryRow, HoldRow, ReservationRow
from icebus.control.work import Work
from icebus.schemas.components import ClientState, Presence, WorkerPhase, WorkerState
from icebus.schemas.devices import Desired, DeviceReport, DeviceState
from icebus.schemas.errors import IcebusError
from icebus.schemas.history import HistoryEvent
from icebus.schemas.ids import new_id
from icebus.schemas.reservations import Reservation, ReservationState
from icebus.schemas.topics import DESIRED, RESERVATION

WORKERS = {"w1": ("a", "b", "c"), "w2": ("d", "e")}
OWNER = {serial: worker for worker, serials in WORKERS.items() for serial in serials}
LIMIT = 4

users = st.sampled_from(["alice", "bob"])
serials = st.sampled_from(sorted(OWNER))
several = st.lists(serials, min_size=1, max_size=3, unique=True)
workers = st.sampled_from(sorted(WORKERS))


class Life(RuleBasedStateMachine):
    """Control at its desk, workers that do what is desired of them when it is their turn."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @initialize()
    def begin(self) -> None:
        self.desk = Desk(Database(f"sqlite:///{self.path}"))
        self.desk.settings = Settings(
            max_duration=7200, grace=30, limits=Limits(Limit(devices=LIMIT))
        )
        self.names: list[str] = []
        self.asked: tuple[str, str, str, dict[str, Any], Any] | None = None
        for worker, names in WORKERS.items():
            self.desk.worker(worker, *names)

    def teardown(self) -> None:
        if hasattr(self, "desk"):
            self.desk.database.close()

    def attempt(self, do: Callable[[], Any]) -> Any:
        """What is refused with a typed error is refused; anything else is a mistake."""
        try:
            return do()
        except IcebusError:
            return None

    # --- users ------------------------------------------------------------------------------------

    @rule(
        user=users,
        wanted=st.one_of(
            st.fixed_dictionaries(
                {"count": st.integers(1, 4), "selector": st.sampled_from([None, "worker=w1"])}
            ),
            st.fixed_dictionaries({"serials": several}),
        ),
        wait=st.sampled_from([0, 60, 3600]),
        priority=st.integers(-2, 2),
        replace=st.booleans(),
        client=st.sampled_from([None, "c"]),
        duration=st.sampled_from([30, 600]),
    )
    def reserve(self, user: str, wanted: dict[str, Any], **more: Any) -> None:
        self.desk.now += self.desk.now.resolution
        args = {"kind": "pulsecount", **wanted, **more}
        name = new_id()
        reply = self.attempt(lambda: self.desk.ask(user, "reserve", name, **args))
        if reply is not None:
            self.names.append(reply["reservation"]["id"])
            self.asked = (user, "reserve", name, args, reply)

    @rule()
    def ask_the_same_again(self) -> None:
        if self.asked is not None:
            user, operation, name, args, reply = self.asked
            assert self.desk.ask(user, operation, name, **args) == reply
            assert self.desk.sent == []

    @rule(data=st.data(), user=users, seconds=st.sampled_from([1, 600]))
    def extend(self, data: st.DataObject, user: str, seconds: int) -> None:
        name = self.one_of_them(data)
        reply = self.attempt(
            lambda: self.desk.ask(user, "extend", reservation=name, duration=seconds)
        )
        assert reply is None or reply["after"] >= reply["before"]

    @rule(data=st.data(), user=users, some=st.none() | several)
    def end(self, data: st.DataObject, user: str, some: list[str] | None) -> None:
        name = self.one_of_them(data)
        self.attempt(lambda: self.desk.ask(user, "end", reservation=name, serials=some))

    @rule(data=st.data(), user=users, to=users)
    def transfer(self, data: st.DataObject, user: str, to: str) -> None:
        name = self.one_of_them(data)
        self.attempt(lambda: self.desk.ask(user, "transfer", reservation=name, user=to))

    @rule(data=st.data(), user=users, client=st.sampled_from([None, "c"]))
    def attach(self, data: st.DataObject, user: str, client: str | None) -> None:
        name = self.one_of_them(data)
        self.attempt(lambda: self.desk.ask(user, "attach", reservation=name, client=client))

    @rule(user=users, presence=st.sampled_from(Presence))
    def client_comes_or_goes(self, user: str, presence: Presence) -> None:
        state = ClientState(state=presence, session="s")
        if self.desk.clients.on_state(user, "c", state) is not None:
            self.desk.run(lambda work: observation.attend(work, user, "c", presence))

    # --- boards and workers -----------------------------------------------------------------------

    @rule(some=st.none() | several)
    def workers_obey(self, some: list[str] | None) -> None:
        for serial in some or sorted(OWNER):
            kept = self.desk.kept.get(DESIRED(worker=OWNER[serial], serial=serial))
            wanted = kept.message if kept else Desired(serial=serial, generation=0)
            assert isinstance(wanted, Desired)
            state = DeviceState.READY
            if wanted.quarantined is not None:
                state = DeviceState.QUARANTINED
            elif wanted.reservation is not None:
                state = DeviceState.SERVING
            fields = {"generation": wanted.generation, "reservation": wanted.reservation}
            self.desk.report(OWNER[serial], serial, state, **fields)

    @rule(serial=serials, state=st.sampled_from([DeviceState.BROKEN, DeviceState.ABSENT]))
    def board_fails(self, serial: str, state: DeviceState) -> None:
        self.desk.report(OWNER[serial], serial, state, reason="as boards do")

    @rule(worker=workers, phase=st.sampled_from([WorkerPhase.LOST, WorkerPhase.READY]))
    def worker_comes_or_goes(self, worker: str, phase: WorkerPhase) -> None:
        state = WorkerState(state=phase, session=worker, serials=list(WORKERS[worker]))
        self.desk.farm.on_state(worker, state, self.desk.at)
        self.desk.run(lambda work: observation.observe(work, WORKERS[worker], set()))

    # --- administrators, time, control itself -----------------------------------------------------

    @rule(
        operation=st.sampled_from(["quarantine", "unquarantine", "reboot", "reflash", "forget"]),
        some=several,
    )
    def order(self, operation: str, some: list[str]) -> None:
        self.attempt(lambda: self.desk.order(operation, serials=some, reason="because"))

    @rule(operation=st.sampled_from(["drain", "undrain"]), worker=workers)
    def order_worker(self, operation: str, worker: str) -> None:
        self.attempt(lambda: self.desk.order(operation, worker=worker))

    @rule(data=st.data())
    def end_by_order(self, data: st.DataObject) -> None:
        name = self.one_of_them(data)
        self.attempt(lambda: self.desk.order("end", reservation=name))

    @rule(seconds=st.sampled_from([1, 31, 61, 700]))
    def time_goes_by(self, seconds: int) -> None:
        self.desk.wait(seconds=seconds)

    @rule(forgetful=st.booleans())
    def control_restarts(self, forgetful: bool) -> None:
        """All it knew is in the database, and what the broker kept, if it did."""
        desk, heard = self.desk, self.desk.farm
        if forgetful:
            desk.kept.clear()
        desk.farm = Farm(1.0, "epoch")
        desk.farm.connected(0.0)
        desk.farm.beaten(0, desk.at)
        rows = desk.run(lambda work: work.session.exec(select(DeviceRow)).all())
        for row in rows:
            report = DeviceReport.model_validate(row.report)
            desk.farm.remember(row.serial, row.worker, report)

        def reconnect(work: Work) -> None:
            observation.restart_grace(work)
            known = {row.serial for row in rows}
            observation.observe(work, known, known)
            observation.announce_all(work)

        desk.run(reconnect)
        for worker, names in WORKERS.items():
            desk.introduce(worker, *names)
            state = heard.worker(worker).state
            desk.farm.on_state(worker, state, desk.at)
            for serial in names:
                report_before = heard.worker(worker).reports.get(serial)
                if report_before is not None:
                    desk.farm.on_report(worker, serial, report_before)
        desk.run(lambda work: observation.observe(work, set(OWNER), set()))

    # --- what is always true ----------------------------------------------------------------------

    @invariant()
    def each_device_is_held_once_and_desired_as_held(self) -> None:
        def look(work: Work) -> None:
            rows = {row.id: row for row in work.session.exec(select(ReservationRow))}
            live = work.session.exec(
                select(HoldRow).where(col(HoldRow.state).in_(LIVE_HOLDS))
            ).all()
            holders = {hold.serial: rows[hold.reservation] for hold in live}
            assert len(holders) == len(live)
            allowed = set(LIVE_RESERVATIONS) - {ReservationState.QUEUED}
            assert all(row.state in allowed for row in holders.values())
            held = Counter(row.user for row in holders.values())
            assert all(count <= LIMIT for count in held.values())
            for row in rows.values():
                busy = row.state in allowed
                assert busy == any(holder is row for holder in holders.values())
            devices = {row.serial: row for row in work.session.exec(select(DeviceRow))}
            said = {
                each.message.serial: each.message
                for each in self.desk.kept.values()
                if isinstance(each.message, Desired)
            }
            assert said == {
                serial: desired(device, holders.get(serial)) for serial, device in devices.items()
            }

        self.desk.run(look)

    @invariant()
    def documents_tell_what_the_tables_say(self) -> None:
        said = {
            topic: each.message
            for topic, each in self.desk.kept.items()
            if isinstance(each.message, Reservation)
        }
        listed = {RESERVATION(reservation=each.id): each for each in self.desk.live()}
        # How long it may take is not worth a message.
        assert {topic: blur(each) for topic, each in said.items()} == {
            topic: blur(each) for topic, each in listed.items()
        }

    @invariant()
    def nobody_waits_for_what_is_free_and_all_know_what_they_wait_for(self) -> None:
        def look(work: Work) -> None:
            plan = waiting.look(work)
            assert plan.grants == ()
            query = select(ReservationRow).where(ReservationRow.state == ReservationState.QUEUED)
            rows = work.session.exec(query).all()
            assert {row.id: (row.position, row.waits_for) for row in rows} == {
                name: (place.position, place.reason) for name, place in plan.places.items()
            }
            assert all(row.until > work.now for row in rows)

        self.desk.run(look)

    @invariant()
    def the_history_agrees_with_the_tables(self) -> None:
        def look(work: Work) -> None:
            holder: dict[str | None, str | None] = {}
            over: set[str | None] = set()
            for each in work.session.exec(select(HistoryRow).order_by(col(HistoryRow.number))):
                assert each.reservation is None or each.reservation not in over
                if each.event is HistoryEvent.RESERVED:
                    assert each.serial not in holder
                    holder[each.serial] = each.reservation
                elif each.event is HistoryEvent.RELEASED:
                    assert holder.pop(each.serial) == each.reservation
                elif each.event is HistoryEvent.ENDED:
                    over.add(each.reservation)
            live = select(HoldRow).where(col(HoldRow.state).in_(LIVE_HOLDS))
            assert holder == {hold.serial: hold.reservation for hold in work.session.exec(live)}
            ended = select(ReservationRow.id).where(ReservationRow.state == ReservationState.ENDED)
            assert over == set(work.session.exec(ended))

        self.desk.run(look)

    def one_of_them(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(self.names)) if self.names else "none"


def blur(document: Reservation) -> Reservation:
    queue = document.queue
    if queue is None:
        return document
    return document.model_copy(update={"queue": queue.model_copy(update={"estimate": None})})


def test_given_anything_that_may_happen_then_reservations_devices_and_history_agree(
    migrated: Path, tmp_path: Path
) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        lambda: Life(Path(shutil.copy(migrated, tmp_path / f"{new_id()}.db"))),
        settings=settings(
            deadline=None,
            max_examples=20,
            stateful_step_count=25,
            suppress_health_check=list(HealthCheck),
        ),
    )
