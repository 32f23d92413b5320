"""A user who is removed in the middle of something: whoever waits is told why, within seconds."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.client.background import in_background
from tests.client.frequency import offer

from icebus.broker.directory import BrokerDirectory
from icebus.bus import wait_for
from icebus.client import Client, PulseCountClient, PulseCountHandler
from icebus.schemas.components import WorkerKinds
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import IcebusError, NotAuthorized
from icebus.schemas.operations.reservations import HoldState, Queue
from icebus.schemas.topics import WORKER_KINDS

if TYPE_CHECKING:
    from tests.client.scripted_control import ScriptedControl
    from tests.client.scripted_worker import ScriptedWorker

    from icebus.broker.embedded import EmbeddedBroker

WITHIN = 15.0
"""Seconds from the removal to the error, on a busy machine."""


@contextmanager
def refused_in_time(broker: EmbeddedBroker, waits: Callable[[], bool]) -> Iterator[None]:
    """Remove alice once she waits; what is done inside must end with the reason, soon."""
    removed_at: list[float] = []

    def remove() -> None:
        deadline = time.monotonic() + 10
        while not waits() and time.monotonic() < deadline:
            time.sleep(0.01)
        removed_at.append(time.monotonic())
        BrokerDirectory(broker.directory).remove_principal("alice")

    with (
        in_background(remove),
        pytest.raises(NotAuthorized, match="refused user 'alice'") as refused,
    ):
        yield
    assert time.monotonic() - removed_at[0] < WITHIN
    assert "icebus-broker add alice" in refused.value.message


@pytest.mark.parametrize("way", ["evaluate", "map", "evaluate_outcomes", "map_outcomes"])
def test_given_a_run_when_its_user_is_removed_then_it_ends_with_the_reason(
    broker: EmbeddedBroker,
    alice: PulseCountClient,
    w1: ScriptedWorker,
    circuits: list[Path],
    way: str,
) -> None:
    w1.measure = False
    with alice.reserve(1) as boards, refused_in_time(broker, lambda: bool(w1.evaluations.seen)):
        list(getattr(boards, way)(circuits))


def test_given_a_reservation_that_waits_when_its_user_is_removed_then_the_wait_ends(
    broker: EmbeddedBroker, control: ScriptedControl, alice: PulseCountClient
) -> None:
    control.queue = Queue(position=2, reason="others hold them")
    told: queue.SimpleQueue[object] = queue.SimpleQueue()
    alice.on("queued")(told.put)
    with refused_in_time(broker, lambda: not told.empty()):
        alice.reserve(1, wait=3600)


def test_given_boards_that_are_prepared_when_the_user_is_removed_then_the_wait_ends(
    broker: EmbeddedBroker, control: ScriptedControl, alice: PulseCountClient
) -> None:
    control.state = HoldState.PREPARING
    with refused_in_time(broker, lambda: bool(control.reservations)):
        alice.reserve(1)


def test_given_a_request_under_way_when_the_user_is_removed_then_it_fails_and_so_do_all_that_follow(
    broker: EmbeddedBroker, control: ScriptedControl, alice: PulseCountClient
) -> None:
    control.refuse_only = "nothing"
    over = threading.Event()
    control.before = lambda operation: over.wait(40) if operation == "devices" else None
    with refused_in_time(broker, lambda: True):
        alice.devices()
    over.set()
    began = time.monotonic()
    with pytest.raises(NotAuthorized):
        alice.reservations()
    assert time.monotonic() - began < 10


def test_given_handlers_only_when_the_user_is_removed_then_they_are_told(
    broker: EmbeddedBroker,
) -> None:
    told: queue.SimpleQueue[IcebusError] = queue.SimpleQueue()

    class Handler(PulseCountHandler):
        def refused(self, refusal: IcebusError) -> None:
            told.put(refusal)

    with PulseCountClient(broker.address("alice").url(), handlers=[Handler()]):
        BrokerDirectory(broker.directory).remove_principal("alice")
        assert isinstance(told.get(timeout=WITHIN), NotAuthorized)


def test_given_a_user_who_is_let_in_again_then_the_client_goes_on(
    broker: EmbeddedBroker, control: ScriptedControl
) -> None:
    address = broker.address("alice")
    told: queue.SimpleQueue[IcebusError] = queue.SimpleQueue()
    files = BrokerDirectory(broker.directory)
    with Client(address.url()) as client:
        client.on("refused")(told.put)
        before = files.principals["alice"]
        files.remove_principal("alice")
        told.get(timeout=WITHIN)
        files.add_principals([before.model_copy(update={"password": before.password})])
        deadline = time.monotonic() + 15
        while client._connection.refusal is not None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert client.reservations() == []


@pytest.mark.parametrize("command", [["watch"], ["evaluate", "-n", "1", "BITSTREAM"]])
def test_given_a_command_when_its_user_is_removed_then_it_says_so_and_exits_with_5(
    broker: EmbeddedBroker,
    control: ScriptedControl,
    w1: ScriptedWorker,
    circuits: list[Path],
    command: list[str],
    tmp_path: Path,
) -> None:
    w1.measure = False
    kinds = WorkerKinds(kinds={"pulsecount": offer()})
    wait_for(w1.bus.publish(WORKER_KINDS(worker="w1"), kinds), Deadline.after(10), "the broker")
    arguments = [str(circuits[0]) if each == "BITSTREAM" else each for each in command]
    process: Any = subprocess.Popen(
        [sys.executable, "-m", "icebus.client.cli", *arguments],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "ICEBUS_URL": alices_url(broker)},
        stderr=subprocess.PIPE,
        text=True,
    )
    started = process.stderr.readline()  # "watching …", "1 evaluation on …"
    assert "alice" in started or "evaluation" in started, started
    BrokerDirectory(broker.directory).remove_principal("alice")
    began = time.monotonic()
    _, said = process.communicate(timeout=30)
    assert time.monotonic() - began < WITHIN + 2  # and to end in good order
    assert process.returncode == 5
    assert "refused user 'alice'" in said
    assert "Traceback" not in said


def alices_url(broker: EmbeddedBroker) -> str:
    return broker.address("alice").url()
