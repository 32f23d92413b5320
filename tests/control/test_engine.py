"""The engine without a broker: a database that fails, a connection that comes and goes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from sqlmodel import Session

from icebus.control.engine import Engine
from icebus.control.settings import Settings
from icebus.control.store.database import Database
from icebus.control.store.outbox import Outgoing
from icebus.control.store.tables import DeviceRow
from icebus.control.watch.kinds import Kind
from icebus.control.watch.roster import Roster
from icebus.schemas.calls import Reply, Request
from icebus.schemas.components import (
    ClientState,
    Heartbeat,
    KindInfo,
    Presence,
    WorkerHeartbeat,
    WorkerPhase,
    WorkerState,
)
from icebus.schemas.devices import Desired, DeviceReport, DeviceState
from icebus.schemas.errors import DatabaseUnavailable, IcebusError
from icebus.schemas.message import now
from icebus.schemas.operations.reservations import DevicesReply, Reservation


class FragileDatabase(Database):
    """A database that fails as often as it is told to."""

    failures = 0
    breaks = 0
    """How often the connection breaks before it could say that it has committed."""

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        if self.failures:
            self.failures -= 1
            raise OperationalError("BEGIN", {}, Exception("disk I/O error"))
        with super().transaction() as session:
            yield session
        if self.breaks:
            self.breaks -= 1
            gone = Exception("server closed the connection unexpectedly")
            raise OperationalError("COMMIT", {}, gone, connection_invalidated=True)


class Ask:
    """A request that keeps its answer."""

    began = 0.0
    outcome = ""

    def __init__(self, **args: Any) -> None:
        self.user = "alice"
        self.request = Request(args=args)
        self.ok: Any = None
        self.error: BaseException | None = None

    def answer(self, reply: Reply) -> None:
        self.ok = reply.ok

    def fail(self, error: BaseException) -> None:
        self.error = error


class EngineHarness:
    """An engine whose connection and database the test controls."""

    def __init__(self, url: str) -> None:
        self.database = FragileDatabase(url)
        self.connected = True
        self.sent: list[Outgoing] = []
        self.engine = self.restart()

    def restart(self) -> Engine:
        settings = Settings(interval=60, grace=0.0)
        self.sent.clear()
        self.engine = Engine(
            self.database,
            settings,
            "epoch",
            self.sent.append,
            lambda: self.connected,
            Roster("main"),
        )
        self.engine.load()
        return self.engine

    def connect(self) -> None:
        self.connected = True
        self.engine.on_connected()
        self.engine.step()

    def worker(self, serial: str, generation: int = 0, **report_fields: Any) -> None:
        kind = Kind("pulsecount", KindInfo(firmware="pulse_count", args={}), "w1")
        self.engine.on_kinds("w1", {"pulsecount": kind})
        state = WorkerState(state=WorkerPhase.READY, session="s", serials=[serial])
        self.engine.on_worker("w1", state)
        self.engine.on_echo("w1", WorkerHeartbeat(epoch="epoch", sequence=0, session="s"))
        fields = {"state": DeviceState.READY, "since": now(), "session": "s", **report_fields}
        report = DeviceReport(serial=serial, generation=generation, **fields)
        self.engine.on_report("w1", serial, report)

    def ask(self, operation: str, **args: Any) -> Ask:
        ask = Ask(**args)
        self.engine.on_request(ask, operation)  # type: ignore[arg-type]
        return ask

    def messages(self, model: type[Any]) -> list[Any]:
        return [each.message for each in self.sent if isinstance(each.message, model)]


@pytest.fixture
def harness(database_url: str) -> Iterator[EngineHarness]:
    made = EngineHarness(database_url)
    made.connect()
    yield made
    made.database.close()


def test_given_a_database_that_fails_once_when_asked_then_answered_all_the_same(
    harness: EngineHarness,
) -> None:
    harness.worker("a")
    harness.engine.step()

    harness.database.failures = 1
    asked = harness.ask("reserve", kind="pulsecount", count=1)

    assert asked.error is None
    assert asked.ok["reservation"]["devices"][0]["serial"] == "a"


def test_given_a_database_that_fails_for_longer_when_asked_then_the_answer_is_typed(
    harness: EngineHarness,
) -> None:
    harness.database.failures = 100

    asked = harness.ask("reserve", kind="pulsecount", count=1)

    assert isinstance(asked.error, DatabaseUnavailable)
    assert "nothing was done" in asked.error.message


def test_given_a_database_that_failed_when_it_is_back_then_nothing_heard_is_lost(
    harness: EngineHarness,
) -> None:
    harness.database.failures = 3
    harness.worker("a")
    pause = harness.engine.step()
    unsaid = harness.messages(Desired)

    harness.engine._record_at = 0.0
    harness.engine.step()

    assert unsaid == []
    assert 0 < pause < 1
    assert [desired.serial for desired in harness.messages(Desired)] == ["a"]


def test_given_a_connection_that_breaks_while_it_commits_then_what_was_decided_is_told(
    harness: EngineHarness,
) -> None:
    harness.worker("a")
    harness.engine.step()
    harness.sent.clear()

    harness.database.breaks = 1
    asked = harness.ask("reserve", kind="pulsecount", count=1)
    harness.engine.step()

    name = asked.ok["reservation"]["id"]
    assert [desired.reservation for desired in harness.messages(Desired)] == [name]
    assert [document.id for document in harness.messages(Reservation)] == [name]


@pytest.mark.parametrize("words", ["a\0b", "\0", "snow ☃, 🧊", "x" * 100_000])
def test_given_any_text_of_a_worker_then_the_database_takes_it(
    harness: EngineHarness, words: str
) -> None:
    harness.worker("a")
    harness.engine.step()
    harness.ask("reserve", kind="pulsecount", count=1)

    harness.worker("a", generation=1, state=DeviceState.BROKEN, reason=words, port=words)
    harness.engine.step()
    [held] = harness.ask("list").ok["reservations"][0]["devices"]
    harness.restart()
    harness.connect()
    [known] = harness.ask("devices").ok["devices"]

    assert held["state"] == "failed"
    assert held["reason"].endswith(words[:10].replace("\0", ""))
    assert known["report"]["reason"] == words


def test_given_a_mistake_of_ours_when_asked_then_it_is_answered_and_the_next_works(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr("icebus.control.operations.requests.remembered_requests.carry_out", fail)
        broken = harness.ask("devices")
    working = harness.ask("devices")

    assert isinstance(broken.error, ZeroDivisionError)
    assert working.ok == {"devices": []}


def test_given_no_broker_then_no_heartbeat_goes_out_and_nobody_is_missed(
    harness: EngineHarness,
) -> None:
    harness.engine.on_client("alice", "c", ClientState(state=Presence.ONLINE, session="s"))
    harness.worker("a")
    harness.engine.step()
    harness.ask("reserve", kind="pulsecount", count=1, client="c")
    harness.sent.clear()

    harness.connected = False
    harness.engine.step()
    harness.engine.on_client("alice", "c", ClientState(state=Presence.LOST, session="s"))
    harness.engine.step()
    while_away = list(harness.sent)
    harness.connect()
    harness.engine.step()

    assert while_away == []
    assert harness.messages(Heartbeat) != []
    ends = [each.reason for each in harness.messages(Reservation) if each.reason is not None]
    assert ends == ["client_lost"]


def test_given_a_restart_when_asked_before_workers_could_answer_then_the_answer_waits(
    harness: EngineHarness,
) -> None:
    harness.worker("a")
    harness.engine.step()
    harness.restart()
    harness.connect()
    state = WorkerState(state=WorkerPhase.READY, session="s", serials=["a"])
    harness.engine.on_worker("w1", state)

    asked = harness.ask("available", kind="pulsecount")
    harness.engine.step()
    too_early = asked.ok
    harness.worker("a")
    harness.engine.step()

    assert too_early is None
    assert asked.ok["serials"] == ["a"]


def test_given_a_restart_then_devices_are_known_before_their_workers_are(
    harness: EngineHarness,
) -> None:
    harness.worker("a")
    harness.engine.step()

    harness.restart()
    harness.connect()
    asked = harness.ask("devices")

    known = DevicesReply.model_validate(asked.ok).devices
    assert [(each.report.serial, each.worker, each.fresh) for each in known] == [("a", "w1", False)]


def test_given_a_report_of_another_version_in_the_database_then_it_starts_without(
    harness: EngineHarness,
) -> None:
    with harness.database.transaction() as session:
        session.add(DeviceRow(serial="odd", worker="w1", report={"state": "levitating"}))

    harness.restart()
    harness.connect()

    assert harness.ask("devices").ok == {"devices": []}


def test_then_our_own_errors_are_what_a_request_fails_with(harness: EngineHarness) -> None:
    asked = harness.ask("reserve", kind="teapot", count=1)

    assert isinstance(asked.error, IcebusError)
    assert asked.error.code == "unknown_kind"


def test_given_a_reservation_when_its_end_is_moved_then_control_wakes_up_for_its_warning(
    harness: EngineHarness,
) -> None:
    harness.worker("a")
    harness.engine.step()
    made = harness.ask("reserve", kind="pulsecount", count=1, duration=30).ok["reservation"]["id"]
    soon = harness.engine.step()
    harness.ask("extend", reservation=made, duration=10)
    later = harness.engine.step()
    harness.ask("end", reservation=made)

    assert 20 < soon <= 27
    assert 20 < later <= soon  # it may look in vain, and never late
    assert harness.engine.step() > 0
