"""Reading logs on a real broker: as an administrator, as who holds a board, as an observer."""

from __future__ import annotations

from typing import Any

import pytest
from tests.client.test_log_lines import held
from tests.connections import published

from icebus.broker.embedded import EmbeddedBroker
from icebus.client import Client
from icebus.client._logs import stream as log_stream
from icebus.schemas.components import WorkerPhase, WorkerState
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import ClientClosed, InvalidRequest, WrongRole
from icebus.schemas.log_records import LogRecord, RecentLog, RecordLevel
from icebus.schemas.message import now
from icebus.schemas.topics import DEVICE_LOG, LOG, LOG_RECENT, RESERVATION, WORKER_STATE

RECENT = LOG_RECENT(role="worker", id="w1")
LIVE = LOG(role="worker", id="w1", level="info")
OF_ALICE = DEVICE_LOG(user="alice", reservation="r1", sender="w1", serial="B1")


def record(number: int) -> LogRecord:
    return LogRecord(
        id=f"a-{number}",
        at=now(),
        level=RecordLevel.INFO,
        logger="icebus.worker",
        message=f"line {number}",
    )


def client(broker: EmbeddedBroker, who: str) -> Client:
    return Client(broker.address(who).url(), timeout=10)


def recent(*numbers: int) -> bytes:
    return RecentLog(lines=[record(each) for each in numbers]).to_json()


def test_given_what_was_logged_when_an_admin_follows_then_that_comes_first_and_then_the_rest(
    broker: EmbeddedBroker, connect: Any
) -> None:
    worker = connect("w1")
    published(worker, RECENT, recent(1, 2))
    with client(broker, "root") as admin, admin.logs(follow=True) as lines:
        assert [next(lines).message, next(lines).message] == ["line 1", "line 2"]
        published(worker, LIVE, record(3).to_json())
        published(worker, LIVE, b"not a line")
        published(worker, RECENT, recent(2, 3, 4))
        assert [next(lines).message, next(lines).message] == ["line 3", "line 4"]
        assert [line.message for line in admin.logs()] == ["line 2", "line 3", "line 4"]
        with pytest.raises(InvalidRequest, match="warning"):
            admin.logs(level="loud")
    with pytest.raises(ClientClosed):
        admin.logs()


def test_given_users_when_they_read_then_each_is_told_of_the_boards_they_hold(
    broker: EmbeddedBroker, connect: Any
) -> None:
    worker = connect("w1")
    published(connect("main"), RESERVATION(reservation="r1"), held("alice"))
    published(worker, RECENT, recent(1))
    published(worker, OF_ALICE, recent(7))
    with client(broker, "alice") as alice, alice.logs(follow=True) as lines:
        assert next(lines).message == "line 7"
        published(worker, OF_ALICE, recent(7, 8))
        line = next(lines)
        assert (line.message, line.serial, line.component) == ("line 8", "B1", "w1")
        assert not lines.everything
    with client(broker, "bob") as bob:
        assert list(bob.logs()) == []
    there = WorkerState(state=WorkerPhase.READY, session="s")
    published(worker, WORKER_STATE(worker="w1"), there.to_json())
    with client(broker, "eve") as eve, pytest.raises(WrongRole, match="observer"):
        eve.logs()


def test_given_a_stolen_worker_that_floods_then_what_a_reader_keeps_is_bounded_and_told(
    broker: EmbeddedBroker, connect: Any, monkeypatch: pytest.MonkeyPatch, eventually: Any
) -> None:
    monkeypatch.setattr(log_stream, "MOST_WAITING", 100)
    worker = connect("w1")
    with client(broker, "root") as admin, admin.logs(follow=True) as lines:
        for number in range(3000):
            worker.publish(LIVE, record(number))
        worker.flush(Deadline.after(10))
        eventually(lambda: lines._left_out > 0)
        assert "quicker than they were read" in next(lines).message
        taken = int(next(lines).message.split()[1])
        # More than a component sends are not even read, and that is told.
        assert taken < 400
        assert len(lines._lines) <= 100
        eventually(lambda: "more than a component sends" in lines._lines[-1].message)
