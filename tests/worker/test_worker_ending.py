"""A whole worker that is killed or stopped."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from icebus.schemas.boards.rack import RackBoard
from icebus.schemas.components import WorkerPhase
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import DeviceState

if TYPE_CHECKING:
    from tests.worker.conftest import MakeRack, StartProcess, StartWorker
    from tests.worker.peers import Peers

pytestmark = pytest.mark.timeout(60)

Circuits = dict[str, bytes]


@pytest.mark.parametrize("when", ["uploading", "measuring"])
def test_given_a_worker_that_is_killed_at_work_then_its_next_run_has_one_outcome_for_each(
    peers: Peers,
    make_rack: MakeRack,
    make_board: Callable[..., RackBoard],
    start_process: StartProcess,
    circuits: Circuits,
    when: str,
) -> None:
    options = {"bandwidth": 250_000} if when == "uploading" else {"window": 0.5}
    rack = make_rack(make_board(1), **options)
    first = start_process(rack)
    peers.wait_state("BOARD1", DeviceState.READY)
    peers.reserve("BOARD1")
    evaluations = peers.evaluate("BOARD1", *[circuits["pulse_2khz"]] * 3)
    done = evaluations[0]
    peers.wait_outcome(done)
    session = peers.worker_states[-1].session
    first.kill()
    lost = peers.wait_worker(lambda state: state.state is WorkerPhase.LOST)
    assert lost.session == session
    start_process(rack)
    peers.wait_worker(lambda state: state.session != session)
    peers.wait(
        lambda: (
            (report := peers.last("BOARD1"))
            and report.session != session
            and report.state is DeviceState.SERVING
        ),
        "the device to be back",
    )
    told = peers.wait_outcome(done, 2)
    assert told == peers.outcomes(done)[0], "what was not acknowledged is told again, unchanged"
    for evaluation in evaluations[1:]:
        event, outcome = peers.wait_outcome(evaluation)
        assert (event, outcome["error"]["code"]) == ("failures", "worker_restarted")
    peers.call("acknowledge", "BOARD1", evaluations=evaluations)
    (again,) = peers.evaluate("BOARD1", circuits["pulse_8khz"], batch="again")
    assert peers.wait_outcome(again)[0] == "results"
    for evaluation in evaluations:
        assert len({json.dumps(o, sort_keys=True) for o in peers.outcomes(evaluation)}) == 1


def test_given_a_worker_that_is_stopped_then_what_waits_fails_and_it_says_goodbye(
    peers: Peers,
    make_rack: MakeRack,
    make_board: Callable[..., RackBoard],
    start_process: StartProcess,
    circuits: Circuits,
) -> None:
    process = start_process(make_rack(make_board(1)))
    peers.wait_state("BOARD1", DeviceState.READY)
    peers.reserve("BOARD1")
    evaluations = peers.evaluate("BOARD1", *[circuits["pulse_2khz"]] * 60)
    begun = Deadline.after(5)
    assert process.terminate() == 0
    assert not begun.expired, "it took too long to stop"
    for evaluation in evaluations:
        event, outcome = peers.wait_outcome(evaluation)
        assert event == "results" or outcome["error"]["code"] == "worker_lost"
    assert peers.outcomes(evaluations[-1])[0][0] == "failures"
    peers.wait_worker(lambda state: state.state is WorkerPhase.OFFLINE)
    ended = peers.wait_event("finished")
    assert ended["results"] + ended["failures"] == 60


def test_given_a_worker_that_is_stopped_twice_then_it_ends_at_once_and_its_next_run_ends_the_rest(
    peers: Peers,
    make_rack: MakeRack,
    make_board: Callable[..., RackBoard],
    start_process: StartProcess,
    circuits: Circuits,
) -> None:
    rack = make_rack(make_board(1))
    process = start_process(rack)
    peers.wait_state("BOARD1", DeviceState.READY)
    peers.reserve("BOARD1")
    with rack.frozen():  # what is on the board would be waited for
        measured, waiting = peers.evaluate("BOARD1", *[circuits["pulse_2khz"]] * 2)
        process.process.terminate()
        peers.wait_worker(lambda state: state.state is WorkerPhase.DRAINING)
        assert peers.wait_outcome(waiting)[1]["error"]["code"] == "worker_lost"
        process.process.terminate()
        assert process.process.wait(10) == -signal.SIGTERM
    assert peers.outcomes(measured) == []
    start_process(rack)
    event, outcome = peers.wait_outcome(measured)
    assert (event, outcome["error"]["code"]) == ("failures", "worker_restarted")


def test_given_a_worker_in_this_process_when_stopped_then_no_thread_or_descriptor_is_left(
    peers: Peers,
    make_rack: MakeRack,
    make_board: Callable[..., RackBoard],
    start_worker: StartWorker,
) -> None:
    import threading

    def descriptors() -> set[str]:
        return {str(f.readlink()) for f in Path("/proc/self/fd").iterdir() if f.is_symlink()}

    threads, before = set(threading.enumerate()), descriptors()
    worker = start_worker(make_rack(make_board(1)))
    peers.wait_state("BOARD1", DeviceState.READY)
    worker.stop(Deadline.after(10))
    peers.wait_worker(lambda state: state.state is WorkerPhase.OFFLINE)
    left = {thread for thread in threading.enumerate() if thread not in threads}
    for thread in left:
        thread.join(5)
    assert not [thread.name for thread in left if thread.is_alive()]
    # paho keeps a pair of sockets of its own until its client is collected.
    assert {name for name in descriptors() - before if not name.startswith("socket:")} == set()
