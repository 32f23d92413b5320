"""What one user sends without end leaves neither memory nor disk full, and others untouched."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlmodel import func, select
from tests.control.harness import Harness

from icebus.control import allowances
from icebus.control.decide.limits import Limit
from icebus.control.operations.due import retention
from icebus.control.settings import read_limits
from icebus.control.store.tables import RequestRow
from icebus.control.transaction import Transaction
from icebus.control.watch import clients as watch
from icebus.control.watch.clients import Clients
from icebus.schemas.components import ClientState, Presence


def remember(transaction: Transaction, user: str, count: int) -> None:
    for number in range(count):
        transaction.session.add(
            RequestRow(
                user=user,
                id=f"r{number}",
                operation="reserve",
                digest="d",
                reply={},
                at=transaction.now + timedelta(milliseconds=number),
            )
        )


def remembered(harness: Harness, user: str) -> int:
    query = select(func.count()).where(RequestRow.user == user)
    return harness.run(lambda transaction: transaction.session.exec(query).one())


def test_given_answers_without_end_to_one_user_then_so_many_of_theirs_are_kept(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "REQUESTS_OF_USER", 10)
    harness.run(lambda transaction: remember(transaction, "mallory", 50))
    harness.run(lambda transaction: remember(transaction, "alice", 10))
    harness.run(retention.drop_some)
    assert remembered(harness, "mallory") == 10
    assert remembered(harness, "alice") == 10
    query = select(func.min(RequestRow.id)).where(RequestRow.user == "mallory")
    assert harness.run(lambda transaction: transaction.session.exec(query).one()) == "r40"


def test_given_thousands_of_clients_of_one_user_then_so_many_are_minded() -> None:
    clients = Clients()
    for number in range(2 * watch.MOST):
        state = ClientState(state=Presence.ONLINE, session="s", interval=2.0)
        clients.on_state("mallory", f"c{number}", state, 0.0)
    mine = ClientState(state=Presence.ONLINE, session="s", interval=2.0)
    assert clients.on_state("alice", "c", mine, 0.0) is Presence.ONLINE
    assert len(clients.drop_silent(1e9)) == watch.MOST + 1
    assert clients.on_state("mallory", "new", mine, 1e9) is Presence.ONLINE


def test_given_a_file_of_limits_then_it_says_how_many_requests_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "limits.toml"
    path.write_text("[default]\nrequests_per_second = 5\n[users.robot]\nrequests_per_second = 200")
    limits = read_limits(path)
    assert allowances.requests(limits.of("alice")).per_second == 5
    assert allowances.requests(limits.of("robot")).at_once == 2000
    assert allowances.requests(Limit(requests_per_second=0.01)).at_once == 1
