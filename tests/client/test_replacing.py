"""Boards that fail and are replaced under a run, and devices that are let go or given away."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.client.background import in_background

from icebus.client import Failure, PulseCountClient, PulseCountResult, Reservation
from icebus.client._evaluating.distribution.each_board import DEPTH
from icebus.client.kinds.pulsecount import PulseCountOutcome
from icebus.schemas.errors import DeviceFailed, DeviceNotHeld
from icebus.schemas.operations.reservations import HoldState

if TYPE_CHECKING:
    from tests.client.scripted_control import ScriptedControl
    from tests.client.scripted_worker import ScriptedWorker

    from icebus.broker.embedded import EmbeddedBroker


def is_fed(seen: list[object]) -> bool:
    """Whether a board has all that it gets before its first outcome: at least more than half of
    what it may owe, for a call carries what a busy machine's source gave in time."""
    return len(seen) > DEPTH // 2


@contextmanager
def taking(outcomes: Iterable[PulseCountOutcome]) -> Iterator[list[PulseCountOutcome]]:
    """Takes outcomes on a thread of its own; all have come when the block has ended."""
    taken: list[PulseCountOutcome] = []
    with in_background(lambda: taken.extend(outcomes)):
        yield taken


def lose(control: ScriptedControl, reservation: str, serial: str, by: str) -> None:
    """A board fails and another takes its place, which is ready at once."""
    control.set(reservation, HoldState.FAILED, "smoke", only=[serial])
    control.replace(reservation, serial, by)
    control.set(reservation, HoldState.SERVING, only=[by])


def test_given_a_board_that_is_replaced_when_mapping_then_the_new_one_does_what_it_owed(
    alice: PulseCountClient,
    control: ScriptedControl,
    w1: ScriptedWorker,
    circuits: list[Path],
) -> None:
    w1.measure = False
    with alice.reserve(1, replace=True) as boards:
        with taking(boards.map_outcomes(circuits)) as taken:
            w1.evaluations.wait(lambda seen: len(seen) >= 2)
            w1.measure = True
            lose(control, boards.id, "d1", "d3")
        assert boards.serials == ["d3"]
    assert {type(outcome) for outcome in taken} == {PulseCountResult}
    assert {outcome.serial for outcome in taken} == {"d3"}
    assert len(taken) == len(circuits)


def test_given_a_board_that_is_replaced_when_evaluating_then_each_place_has_one_outcome_for_each(
    alice: PulseCountClient,
    control: ScriptedControl,
    w1: ScriptedWorker,
    w2: ScriptedWorker,
    circuits: list[Path],
) -> None:
    """What it owed fails, typed; what was not begun there is evaluated on the new one."""
    w1.measure = w2.measure = False
    source = [circuits[0]] * 100
    with (
        alice.reserve(2, replace=True) as boards,
        taking(boards.evaluate_outcomes(source)) as taken,
    ):
        w1.evaluations.wait(is_fed)
        w2.evaluations.wait(is_fed)
        w1.measure = w2.measure = True
        lose(control, boards.id, "d1", "d3")
        for call, serial, file in list(w2.evaluations.seen):
            w2.result(call, serial, file)
    by_board = Counter((outcome.serial, type(outcome)) for outcome in taken)
    assert by_board["d2", PulseCountResult] == len(source)
    assert by_board["d1", PulseCountResult] == by_board["d3", Failure] == 0
    assert by_board["d1", Failure] + by_board["d3", PulseCountResult] == len(source)
    assert by_board["d3", PulseCountResult] >= len(source) - 40
    failures = [outcome.error for outcome in taken if isinstance(outcome, Failure)]
    assert all(isinstance(error, DeviceFailed) for error in failures)


def test_given_its_only_board_lost_when_evaluating_then_a_run_waits_for_the_one_in_its_place(
    alice: PulseCountClient,
    control: ScriptedControl,
    w1: ScriptedWorker,
    circuits: list[Path],
) -> None:
    w1.measure = False
    source = [circuits[0]] * 50
    with (
        alice.reserve(1, replace=True) as boards,
        taking(boards.evaluate_outcomes(source)) as taken,
    ):
        w1.evaluations.wait(is_fed)
        w1.measure = True
        lose(control, boards.id, "d1", "d3")
    assert {outcome.serial for outcome in taken if isinstance(outcome, PulseCountResult)} == {"d3"}
    assert len(taken) == len(source)


def test_given_named_boards_when_one_is_replaced_then_the_run_keeps_to_those(
    alice: PulseCountClient,
    control: ScriptedControl,
    w1: ScriptedWorker,
    circuits: list[Path],
) -> None:
    w1.measure = False
    with (
        alice.reserve(1, replace=True) as boards,
        taking(boards.evaluate_outcomes(circuits, serials=["d1"])) as taken,
    ):
        w1.evaluations.wait(lambda seen: len(seen) >= 3)
        lose(control, boards.id, "d1", "d3")
    assert [type(outcome) for outcome in taken] == [Failure] * 3


def test_given_a_device_that_can_not_be_prepared_when_it_is_replaced_then_reserving_goes_on(
    alice: PulseCountClient, control: ScriptedControl, w1: ScriptedWorker
) -> None:
    control.state = HoldState.FAILED

    def replace() -> None:
        control.requests.wait(lambda seen: len(seen) == 1)
        lose(control, next(iter(control.reservations)), "d1", "d3")

    replacing = threading.Thread(target=replace)
    replacing.start()
    with alice.reserve(1, replace=True) as boards:
        assert boards.serials == ["d3"]
    replacing.join(10)


# --- some devices, or all of them to somebody else ------------------------------------------------


def test_given_some_devices_let_go_when_evaluating_then_those_fail_typed_and_the_rest_goes_on(
    alice: PulseCountClient,
    control: ScriptedControl,
    w1: ScriptedWorker,
    w2: ScriptedWorker,
    circuits: list[Path],
) -> None:
    w1.measure = False
    with alice.reserve(2) as boards:
        with taking(boards.evaluate_outcomes(circuits)) as taken:
            w1.evaluations.wait(lambda seen: len(seen) == 3)
            boards.release(["d1"])
        assert boards.serials == ["d2"]
        assert boards.ended is None
        with pytest.raises(DeviceNotHeld):
            alice.call(boards, ["d1"], "status")
        assert len(list(boards.evaluate(circuits))) == 3
    assert Counter((o.serial, type(o)) for o in taken) == {
        ("d1", Failure): 3,
        ("d2", PulseCountResult): 3,
    }
    errors = {type(outcome.error) for outcome in taken if isinstance(outcome, Failure)}
    assert errors == {DeviceNotHeld}


# --- after a crash --------------------------------------------------------------------------------


@pytest.fixture
def crashed(
    alice: PulseCountClient, control: ScriptedControl, broker: EmbeddedBroker
) -> Iterator[Callable[[], Reservation]]:
    """A reservation whose client is not there any more."""
    clients: list[PulseCountClient] = []

    def make() -> Reservation:
        client = PulseCountClient(broker.address("alice").url())
        clients.append(client)
        return client.reserve(1)

    yield make
    for client in clients:
        client._held.clear()
        client.close()


def test_given_a_client_that_crashed_when_another_attaches_then_it_depends_on_that_one(
    alice: PulseCountClient, control: ScriptedControl, crashed: Callable[[], Reservation]
) -> None:
    lost = crashed()
    looked_at = alice.attach(lost.id, take_over=False)
    assert not looked_at.attached
    looked_at.close()
    assert control.reservations[lost.id].client != alice.id
    with alice.attach(lost.id) as boards:
        assert boards.attached
        assert control.reservations[lost.id].client == alice.id
    assert control.reservations == {}
