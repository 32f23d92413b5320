"""What chaos is made of: a schedule that the seed decides, an audit that finds what is wrong, and a
network that fails as told."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.faults import LASTING, WAYS, Kind, schedule
from bench.network import Network
from bench.outcomes import audit
from bench.population import individual

TARGETS = ["broker", "control", "worker0", "worker1", "client0", "rack0", "rack1"]
WINDOW = 0.05


@given(seed=st.integers(0, 10_000), seconds=st.floats(30, 1200))
def test_given_a_seed_then_the_schedule_is_always_the_same_and_each_part_fails_one_way_at_a_time(
    seed: int, seconds: float
) -> None:
    faults = schedule(seed, seconds, TARGETS, 8)
    assert faults == schedule(seed, seconds, TARGETS, 8)
    for target in TARGETS:
        mine = [fault for fault in faults if fault.target == target]
        assert all(one.over < other.at for one, other in pairwise(mine))
        assert {fault.kind for fault in mine} <= set(WAYS[target.rstrip("01")])
    for fault in faults:
        assert fault.over <= seconds + 0.1
        assert bool(fault.seconds) == (fault.kind in LASTING)
        assert bool(fault.boards) == (fault.kind is Kind.UNPLUG)


def run(*names: str) -> list[dict[str, Any]]:
    return [{"what": "life"}, {"what": "run", "run": "0-0", "names": list(names), "on": [""]}]


def outcome(what: str = "outcome", pulses: int | None = None, **more: Any) -> dict[str, Any]:
    right = individual(7).counts(WINDOW)[0]
    told = {} if "code" in more else {"pulses": right if pulses is None else pulses, "exact": True}
    common = {"name": "nco_7.bin", "serial": "b1", "evaluation": "e1", "everywhere": False}
    return {"what": what, **common, **told, **more}


FAILED: dict[str, Any] = {"code": "worker_lost", "message": "it died"}
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
        ([*run("nco_7.bin"), {"what": "life"}], 0),
        ([*run("nco_7.bin"), {"what": "life"}, outcome("collected")], 0),
        ([*run("nco_7.bin"), outcome(), {"what": "life"}, outcome("collected")], 0),
        ([*run("nco_7.bin"), outcome(), {"what": "life"}, outcome("collected", **FAILED)], 1),
        ([*run("nco_7.bin"), {"what": "refused", "code": "reservation_ended", "outcomes": 0}], 0),
        ([*run("nco_7.bin"), {"what": "refused", "code": "reservation_ended", "outcomes": 1}], 1),
    ],
)
def test_given_a_ledger_then_the_audit_finds_each_promise_that_was_broken(
    lines: list[dict[str, Any]], broken: int
) -> None:
    assert len(audit(lines, WINDOW).broken) == broken


def test_given_a_client_killed_at_work_then_what_was_under_way_is_counted_as_that() -> None:
    account = audit([*run("nco_7.bin", "nco_14.bin"), outcome(), {"what": "life"}], WINDOW)
    assert (account.results, account.unknown, account.lives) == (1, 1, 2)


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
    near = socket.create_connection(("127.0.0.1", network.line("a")), timeout=10)
    far = server.accept()[0]
    far.settimeout(10)
    near.sendall(b"hello")
    assert far.recv(5) == b"hello"
    return near, far


def test_given_a_line_when_cut_then_both_ends_learn_of_it(
    server: socket.socket, network: Network
) -> None:
    near, far = ends(server, network)
    with near, far:
        network.cut("a")
        for end in (near, far):
            with pytest.raises(ConnectionResetError):
                end.recv(1)


def test_given_a_line_when_held_then_what_was_sent_arrives_once_it_is_resumed(
    server: socket.socket, network: Network
) -> None:
    near, far = ends(server, network)
    with near, far:
        network.hold("a")
        near.sendall(b"later")
        far.settimeout(0.2)
        with pytest.raises(TimeoutError):
            far.recv(1)
        far.settimeout(10)
        network.resume("a")
        assert far.recv(5) == b"later"


def test_given_a_line_half_open_then_nothing_passes_and_nobody_is_told_but_new_ones_work(
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
