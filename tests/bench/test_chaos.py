"""What chaos is made of: a schedule that the seed decides, checks that find broken promises, and a
network that fails as told."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.chaos.client_record import check_record, measured_holds
from bench.chaos.faults import LASTING, ON_SOME_BOARDS, TYPES, schedule
from bench.chaos.holds import contradictions
from bench.chaos.timers import Timers
from bench.farm import boards_with
from bench.network import Network
from bench.population import individual
from bench.postgresql import PostgresServer, find
from icebus.schemas.message import now
from icebus.schemas.operations.history import HistoryEntry, HistoryEvent

TARGETS = [
    "broker",
    "database",
    "control",
    "control1",
    "worker0",
    "worker1",
    "client0",
    "rack0",
    "rack1",
]
WINDOW = 0.05


@given(seed=st.integers(0, 10_000), seconds=st.floats(30, 1200))
def test_given_a_seed_then_the_schedule_is_always_the_same_and_each_part_fails_one_way_at_a_time(
    seed: int, seconds: float
) -> None:
    faults = schedule(seed, seconds, TARGETS, 8)
    assert faults == schedule(seed, seconds, TARGETS, 8)
    for target in TARGETS:
        mine = [fault for fault in faults if fault.target == target]
        assert all(one.end < other.at for one, other in pairwise(mine))
        assert {fault.type for fault in mine} <= set(TYPES[target.rstrip("01")])
    for fault in faults:
        assert fault.end <= seconds + 0.1
        assert bool(fault.seconds) == (fault.type in LASTING)
        assert bool(fault.boards) == (fault.type in ON_SOME_BOARDS)


def run(*names: str) -> list[dict[str, Any]]:
    return [{"what": "start"}, {"what": "run", "run": "0-0", "names": list(names), "on": [""]}]


def outcome(what: str = "outcome", pulses: int | None = None, **more: Any) -> dict[str, Any]:
    right = individual(7).counts(WINDOW)[0]
    told = {} if "code" in more else {"pulses": right if pulses is None else pulses, "exact": True}
    common = {"name": "nco_7.bin", "serial": "b1", "evaluation": "e1", "everywhere": False}
    return {"what": what, **common, **told, **more}


FAILED: dict[str, Any] = {"code": "worker_lost", "message": "it died"}
MISMEASURED: dict[str, Any] = {"code": "measurement_failed", "message": "it said nonsense"}
END = {"what": "end"}


@pytest.mark.parametrize(
    ("lines", "broken"),
    [
        ([*run("nco_7.bin"), outcome(), END], 0),
        ([*run("nco_7.bin"), outcome(**FAILED), END], 0),
        ([*run("nco_7.bin"), END], 1),
        ([*run("nco_7.bin"), outcome(), outcome(), END], 1),
        ([*run("nco_7.bin"), outcome(pulses=123_456), END], 1),
        ([*run("nco_7.bin"), outcome(exact=False), END], 1),
        ([*run("nco_7.bin"), outcome(code="internal_error", message="oh"), END], 1),
        ([*run("nco_7.bin"), {"what": "start"}], 0),
        ([*run("nco_7.bin"), {"what": "start"}, outcome("collected")], 0),
        ([*run("nco_7.bin"), outcome(), {"what": "start"}, outcome("collected")], 0),
        ([*run("nco_7.bin"), outcome(), {"what": "start"}, outcome("collected", **FAILED)], 1),
        ([*run("nco_7.bin"), outcome(**FAILED), {"what": "start"}, outcome("collected")], 0),
        ([*run("nco_7.bin"), outcome(**MISMEASURED), {"what": "start"}, outcome("collected")], 1),
        ([*run("nco_7.bin"), {"what": "refused", "code": "reservation_ended", "outcomes": 0}], 0),
        ([*run("nco_7.bin"), {"what": "refused", "code": "reservation_ended", "outcomes": 1}], 1),
    ],
)
def test_given_a_record_then_the_check_finds_each_promise_that_was_broken(
    lines: list[dict[str, Any]], broken: int
) -> None:
    assert len(check_record(lines, WINDOW).broken) == broken


def test_given_a_client_killed_then_what_was_under_way_counts_as_interrupted() -> None:
    summary = check_record([*run("nco_7.bin", "nco_14.bin"), outcome(), {"what": "start"}], WINDOW)
    assert (summary.results, summary.interrupted, summary.starts) == (1, 1, 2)


HELD = (
    ("reserved", "r1", "b1"),
    ("reserved", "r1", "b2"),
    ("released", "r1", "b1"),
    ("reserved", "r2", "b1"),
    ("released", "r2", "b1"),
    ("released", "r1", "b2"),
)
"""Two devices, each held by one at a time, and given back."""


def history(*entries: tuple[str, str, str]) -> list[HistoryEntry]:
    return [
        HistoryEntry(
            number=number, at=now(), event=HistoryEvent(event), actor="ann", reservation=r, serial=s
        )
        for number, (event, r, s) in enumerate(entries, 1)
    ]


@pytest.mark.parametrize(
    ("entries", "published", "wrong"),
    [
        (HELD, [("r1", "b1"), ("r2", "b1")], 0),
        (HELD[:-1], [], 1),  # never given back
        ((*HELD, HELD[-1]), [], 1),  # given back twice
        (HELD[3:5] + HELD[3:5], [], 0),  # had twice, one time after the other
        ((HELD[0], HELD[3], HELD[4]), [], 1),  # held by two
        (HELD, [("r3", "b1")], 1),  # told, and never written down
    ],
)
def test_given_a_history_then_it_tells_of_devices_that_were_not_held_by_one_at_a_time(
    entries: list[tuple[str, str, str]], published: list[tuple[str, str]], wrong: int
) -> None:
    assert len(list(contradictions(history(*entries), published))) == wrong


def test_given_timers_then_what_is_due_is_run_in_order_and_what_is_left_at_the_end() -> None:
    done: list[str] = []
    timers = Timers(lambda: None)
    begun = time.monotonic()
    timers.at(begun + 0.02, lambda: timers.after(0.01, lambda: done.append("repaired")))
    timers.at(begun + 0.01, lambda: done.append("first"))
    timers.run_all(begun)
    assert done == ["first", "repaired"]


def test_given_a_record_then_it_tells_which_device_measured_in_which_reservation() -> None:
    first, second = {"what": "held", "id": "r1"}, {"what": "held", "id": "r2"}
    lines = [first, *run("nco_7.bin"), outcome(), END, second, outcome("collected", serial="b2")]
    assert set(measured_holds([*lines, outcome(**FAILED, serial="b3")])) == {
        ("r1", "b1"),
        ("r2", "b2"),
    }


@pytest.fixture(scope="module")
def server_of_databases(postgresql: PostgresServer) -> Iterator[PostgresServer]:
    """One that may be killed, unlike the tests' own."""
    mine = find()
    mine.start()
    yield mine
    mine.remove()


def test_given_a_database_server_killed_when_started_again_then_what_was_committed_is_there(
    server_of_databases: PostgresServer,
) -> None:
    url = server_of_databases.url(server_of_databases.create(name="farm"))
    with psycopg.connect(url, autocommit=True) as busy:
        busy.execute("CREATE TABLE kept AS SELECT 7 AS number")
        server_of_databases.process.kill()
        server_of_databases.process.wait(30)
        server_of_databases.start()
        with pytest.raises(psycopg.OperationalError):
            busy.execute("SELECT 1")
    with psycopg.connect(url) as again:
        assert again.execute("SELECT number FROM kept").fetchall() == [(7,)]


def test_given_a_database_server_frozen_then_it_answers_once_it_is_thawed(
    server_of_databases: PostgresServer,
) -> None:
    answer: Future[object] = Future()
    with psycopg.connect(server_of_databases.url("postgres"), autocommit=True) as connection:
        server_of_databases.freeze()
        asking = threading.Thread(
            target=lambda: answer.set_result(connection.execute("SELECT 1").fetchone())
        )
        asking.start()
        with pytest.raises(TimeoutError):
            answer.result(0.2)
        server_of_databases.thaw()
        assert answer.result(30) == (1,)
        asking.join(30)


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)
        yield listening


@pytest.fixture
def network(server: socket.socket) -> Iterator[Network]:
    made = Network(server.getsockname()[1])
    yield made
    made.close()


def ends(server: socket.socket, network: Network) -> tuple[socket.socket, socket.socket]:
    near = socket.create_connection(("127.0.0.1", network.link("a")), timeout=10)
    far = server.accept()[0]
    far.settimeout(10)
    near.sendall(b"hello")
    assert far.recv(5) == b"hello"
    return near, far


def test_given_a_link_when_cut_then_both_ends_learn_of_it(
    server: socket.socket, network: Network
) -> None:
    near, far = ends(server, network)
    with near, far:
        network.cut("a")
        for end in (near, far):
            with pytest.raises(ConnectionResetError):
                end.recv(1)


def test_given_a_link_when_delayed_then_what_was_sent_arrives_once_it_is_resumed(
    server: socket.socket, network: Network
) -> None:
    near, far = ends(server, network)
    with near, far:
        network.delay("a")
        near.sendall(b"later")
        far.settimeout(0.2)
        with pytest.raises(TimeoutError):
            far.recv(1)
        far.settimeout(10)
        network.resume("a")
        assert far.recv(5) == b"later"


def test_given_a_link_half_open_then_nothing_passes_and_nobody_is_told_but_new_ones_work(
    server: socket.socket, network: Network
) -> None:
    near, far = ends(server, network)
    with near, far:
        network.half_open("a")
        near.sendall(b"lost")
        near.close()
        far.settimeout(0.2)
        with pytest.raises(TimeoutError):
            far.recv(1)
        other, beyond = ends(server, network)
        with other, beyond:
            beyond.sendall(b"!")
            assert other.recv(1) == b"!"


def test_given_two_firmwares_then_half_the_boards_of_each_rack_run_one() -> None:
    boards = boards_with(5, ("icebus", "pulse_count"), seed=1).boards
    assert [board.firmware for board in boards] == ["icebus", "pulse_count"] * 2 + ["icebus"]
    assert len({board.serial for board in boards} | {board.port for board in boards}) == 10
