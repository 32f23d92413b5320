"""A whole worker on a real broker with a real rack; the test plays control and users."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from icebus.bus import Bus, Incoming
from icebus.schemas.boards.rack import RackBoard
from icebus.schemas.components import Heartbeat, WorkerHeartbeat, WorkerKinds, WorkerPhase
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import Desired, DeviceReport, DeviceState, WorkerDesired
from icebus.schemas.files import sha256_of
from icebus.schemas.ids import new_id
from icebus.schemas.message import decode, now
from icebus.schemas.topics import (
    CONTROL_HEARTBEAT,
    DESIRED,
    DEVICE,
    WORKER_DESIRED,
    WORKER_HEARTBEAT,
    WORKER_KINDS,
    WORKER_STATE,
)
from icebus.worker.labels import Labels

if TYPE_CHECKING:
    from tests.worker.conftest import MakeRack, StartProcess, StartWorker
    from tests.worker.peers import Peers

pytestmark = pytest.mark.timeout(60)

Circuits = dict[str, bytes]


# --- from reserved to released --------------------------------------------------------------------


def test_given_a_ready_device_when_reserved_used_and_released_then_every_step_is_told(
    farm: Peers, circuits: Circuits
) -> None:
    mark = farm.mark("BOARD1")
    farm.reserve("BOARD1")
    serving = farm.last("BOARD1")
    assert serving is not None
    assert (serving.reservation, serving.user) == (farm.hold.reservation, "alice")
    assert (serving.firmware, serving.chip, serving.port) == ("pulse_count", "rp2040", "1-1.1")
    evaluations = farm.evaluate("BOARD1", circuits["pulse_2khz"], circuits["pulse_32khz"])
    slow, fast = (farm.wait_outcome(evaluation) for evaluation in evaluations)
    # 50 ms windows, truncated by up to 1 ms: 2 kHz gives 98 to 100, 32 kHz 1568 to 1600.
    assert slow[0] == fast[0] == "results"
    assert slow[1]["pulses"] in range(98, 101)
    assert fast[1]["pulses"] in range(1568, 1601)
    assert slow[1]["sha256"] == sha256_of(circuits["pulse_2khz"])
    assert farm.wait_event("finished") == {
        "reservation": farm.hold.reservation,
        "serial": "BOARD1",
        "batch": "batch",
        "results": 2,
        "failures": 0,
    }
    status = farm.call("status", "BOARD1").results["BOARD1"]
    assert isinstance(status, dict)
    assert (status["queued"], status["unacknowledged"]) == (0, 2)
    answer = farm.call("acknowledge", "BOARD1", evaluations=evaluations)
    assert answer.results == {"BOARD1": {"forgotten": 2}}
    farm.release("BOARD1")
    states = {report.state for report in farm.reports["BOARD1"][mark:] if report}
    assert states == {DeviceState.SERVING, DeviceState.READY}, "nothing to flash or to test"
    assert farm.refused("status", "BOARD1").code == "device_not_held"


def test_given_a_board_with_default_firmware_when_reserved_then_it_is_flashed_first(
    peers: Peers,
    make_rack: MakeRack,
    make_board: Callable[..., RackBoard],
    start_worker: StartWorker,
) -> None:
    start_worker(make_rack(make_board(11, "default")))
    assert peers.wait_state("BOARD11", DeviceState.READY).firmware == "default"
    mark = peers.mark("BOARD11")
    peers.reserve("BOARD11")
    assert peers.wait_state("BOARD11", DeviceState.SERVING).firmware == "icebus"
    states = {report.state for report in peers.reports["BOARD11"][mark:] if report}
    assert states - {DeviceState.READY} == {DeviceState.PREPARING, DeviceState.SERVING}
    peers.release("BOARD11")
    released = peers.last("BOARD11")
    assert released is not None
    assert released.firmware == "icebus", "flash wears: it stays until another is needed"


def test_given_one_call_for_two_devices_then_both_answer(farm: Peers, circuits: Circuits) -> None:
    farm.reserve("BOARD1", "BOARD2")
    sha256 = farm.send_blob(circuits["pulse_8khz"])
    file = {"id": "e1", "sha256": sha256, "annotations": {"generation": [1, {"x": None}]}}
    answer = farm.call("evaluate", "BOARD1", "BOARD2", bitstreams=[file], batch="b")
    assert set(answer.results) == {"BOARD1", "BOARD2"}
    farm.wait_outcome("e1", 2)
    for _, outcome in farm.outcomes("e1"):
        assert outcome["annotations"] == {"generation": [1, {"x": None}]}
    serials = {levels["serial"] for levels, e in farm.events if levels["event"] == "results"}
    assert serials == {"BOARD1", "BOARD2"}


def test_given_a_small_file_inline_then_it_is_evaluated_like_any_other(
    farm: Peers, circuits: Circuits
) -> None:
    farm.reserve("BOARD1")
    data = base64.b64encode(circuits["pulse_2khz"]).decode()
    farm.call("evaluate", "BOARD1", bitstreams=[{"id": "e1", "data": data}])
    assert farm.wait_outcome("e1")[0] == "results"


# --- level-triggered ------------------------------------------------------------------------------


def test_given_a_lower_generation_then_it_is_ignored(
    farm: Peers, make_desired: Callable[..., Desired]
) -> None:
    farm.generations["BOARD1"] = farm.generations.get("BOARD1", 0) + 10
    farm.reserve("BOARD1")
    generation = farm.generations["BOARD1"]
    farm.publish_desired(make_desired("BOARD1", generation - 5, None))
    farm.check_answers()
    assert farm.wait_state("BOARD1", DeviceState.SERVING).generation == generation


def test_given_args_or_kinds_that_cant_be_had_then_the_device_says_why_and_comes_back(
    farm: Peers,
) -> None:
    for fields in ({"kind": "nosuch"}, {"args": {"window": 5}}):
        generation = farm.desire("BOARD1", farm.hold, **fields)
        report = farm.wait_state("BOARD1", DeviceState.BROKEN, generation=generation)
        assert report.reason
        farm.release("BOARD1")


def test_given_a_quarantine_then_the_device_leaves_its_holder_and_comes_back_when_lifted(
    farm: Peers,
) -> None:
    farm.reserve("BOARD1")
    generation = farm.desire("BOARD1", farm.hold, quarantined="smoke")
    report = farm.wait_state("BOARD1", DeviceState.QUARANTINED, generation=generation)
    assert report.reason == "smoke"
    assert farm.refused("status", "BOARD1").code == "device_not_serving"
    farm.reserve("BOARD1")


@pytest.mark.parametrize("command", ["reboot", "reflash"])
def test_given_a_command_while_serving_then_evaluations_fail_and_the_device_serves_on_once(
    farm: Peers, circuits: Circuits, command: str
) -> None:
    farm.reserve("BOARD1")
    evaluations = farm.evaluate("BOARD1", *[circuits["pulse_2khz"]] * 60)
    mark = farm.mark("BOARD1")
    nonce = next(farm.nonces)
    generation = farm.desire("BOARD1", farm.hold, **{command: nonce})
    report = farm.wait_since("BOARD1", mark, DeviceState.PREPARING)
    assert report.reason == f"{command}, as an administrator asked"
    event, outcome = farm.wait_outcome(evaluations[-1])
    assert (event, outcome["error"]["code"]) == ("failures", "device_failed")
    farm.wait_state("BOARD1", DeviceState.SERVING, generation=generation)
    generation = farm.desire("BOARD1", farm.hold, **{command: nonce})
    farm.wait_state("BOARD1", DeviceState.SERVING, generation=generation)
    farm.check_answers()
    later = [r.state for r in farm.reports["BOARD1"] if r and r.generation == generation]
    assert set(later) == {DeviceState.SERVING}, "the same number again asks for nothing"
    (again,) = farm.evaluate("BOARD1", circuits["pulse_2khz"], batch="again")
    assert farm.wait_outcome(again)[0] == "results"


def test_given_a_command_that_was_carried_out_then_no_later_run_does_it_again(
    peers: Peers,
    make_rack: MakeRack,
    make_board: Callable[..., RackBoard],
    start_process: StartProcess,
) -> None:
    rack = make_rack(make_board(1))
    first = start_process(rack)
    peers.desire("BOARD1", None)
    peers.wait_state("BOARD1", DeviceState.READY, generation=1)
    mark = peers.mark("BOARD1")
    peers.desire("BOARD1", None, reboot=1)
    peers.wait_since("BOARD1", mark, DeviceState.TESTING)
    peers.wait_state("BOARD1", DeviceState.READY, generation=2)
    first.kill()
    peers.wait_worker(lambda state: state.state is WorkerPhase.LOST)
    mark, session = peers.mark("BOARD1"), peers.worker_states[-1].session
    second = start_process(rack)
    peers.wait_worker(lambda state: state.session != session)
    peers.wait_since("BOARD1", mark, DeviceState.READY)
    told = [report.reason for report in peers.reports["BOARD1"][mark:] if report]
    assert not [reason for reason in told if "administrator" in reason]
    second.kill()
    peers.wait_worker(lambda state: state.state is WorkerPhase.LOST)
    mark = peers.mark("BOARD1")
    peers.desire("BOARD1", None, reboot=2)  # while nobody is there to hear it
    start_process(rack)
    peers.wait(
        lambda: [r for r in peers.reports["BOARD1"][mark:] if r and "administrator" in r.reason],
        "the command to be carried out",
    )
    peers.wait_state("BOARD1", DeviceState.READY, generation=3)


def test_given_a_worker_that_is_drained_then_it_says_so_until_that_is_lifted(farm: Peers) -> None:
    told = [
        ("new cables", WorkerPhase.DRAINING),
        ("new kernel", WorkerPhase.DRAINING),
        (None, WorkerPhase.READY),
    ]
    for draining, phase in told:
        wanted = WorkerDesired(draining=draining)
        farm.control.publish(WORKER_DESIRED(worker="w1"), wanted).result(10)
        farm.wait_worker(
            lambda state, said=(phase, draining): (state.state, state.draining) == said  # type: ignore[misc]
        )
    farm.reserve("BOARD1")


# --- what it says of itself -----------------------------------------------------------------------


def test_given_a_worker_then_its_state_lists_its_devices(farm: Peers) -> None:
    state = farm.wait_worker(lambda s: s.state is WorkerPhase.READY and len(s.serials) == 2)
    assert state.serials == ["BOARD1", "BOARD2"]
    for serial in state.serials:
        report = farm.last(serial)
        assert report is not None
        assert report.session == state.session


def test_given_a_heartbeat_then_it_is_echoed_with_the_load(farm: Peers) -> None:
    farm.reserve("BOARD1")
    echoes: list[WorkerHeartbeat] = []

    def take(incoming: Incoming) -> None:
        echoes.append(decode(WorkerHeartbeat, incoming.payload))

    farm.control.subscribe(WORKER_HEARTBEAT, take).acknowledged.result(5)
    beat = Heartbeat(epoch="epoch", sequence=41, interval=1.0)
    farm.control.publish(CONTROL_HEARTBEAT(), beat, interval=beat.interval)
    deadline = Deadline.after(10)
    while not echoes:
        deadline.check("an echo")
    assert (echoes[0].epoch, echoes[0].sequence) == ("epoch", 41)
    assert (echoes[0].load.devices, echoes[0].load.serving) == (2, 1)
    # Of all that this farm has measured, for whichever test.
    counted = (echoes[0].load.results, echoes[0].load.failures)
    assert all(count is not None and count >= 0 for count in counted)


def test_given_its_kinds_then_their_schemas_hold_for_what_crosses(
    farm: Peers, circuits: Circuits
) -> None:
    found: list[WorkerKinds] = []
    farm.control.subscribe(
        WORKER_KINDS, lambda incoming: found.append(decode(WorkerKinds, incoming.payload))
    )
    deadline = Deadline.after(10)
    while not found:
        deadline.check("the kinds")
    kind = found[0].kinds["pulsecount"]
    assert kind.all_firmware == ("icebus", "pulse_count")
    assert set(kind.methods) == {"evaluate", "acknowledge", "collect", "status", "withdraw"}
    for schema in (
        kind.args,
        *(method.args for method in kind.methods.values()),
        *(method.returns for method in kind.methods.values()),
        *(event.data for event in kind.events.values()),
    ):
        jsonschema.Draft202012Validator.check_schema(schema)
    args = kind.methods["evaluate"].args
    sha256 = "0" * 64
    jsonschema.validate({"bitstreams": [{"sha256": sha256}], "validate": False}, args)
    for wrong in ({}, {"bitstreams": [], "misspelt": 1}, {"bitstreams": [{"sha256": "x"}]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, args)
    farm.reserve("BOARD1")
    (good,) = farm.evaluate("BOARD1", circuits["pulse_2khz"])
    jsonschema.validate(farm.wait_outcome(good)[1], kind.events["results"].data)
    jsonschema.validate(farm.wait_event("finished"), kind.events["finished"].data)
    status = farm.call("status", "BOARD1").results["BOARD1"]
    jsonschema.validate(status, kind.methods["status"].returns)


def test_given_devices_of_an_earlier_run_that_are_gone_then_their_topics_are_cleared(
    peers: Peers,
    make_rack: MakeRack,
    make_board: Callable[..., RackBoard],
    start_worker: StartWorker,
    broker: Any,
) -> None:
    ghost = Bus(broker.address("w1"), "ghost")
    ghost.connect(Deadline.after(10))
    for serial in ("GHOST", "BOARD1"):
        report = DeviceReport(serial=serial, state=DeviceState.READY, since=now(), session=new_id())
        ghost.publish(DEVICE(worker="w1", serial=serial), report).result(10)
    peers.wait(lambda: peers.last("GHOST"), "the ghost")
    ghost.close(Deadline.after(5))
    worker = start_worker(make_rack(make_board(1)))
    peers.wait(lambda: peers.reports["GHOST"][-1] is None, "the ghost to be gone")
    peers.wait_state("BOARD1", DeviceState.READY, session=worker.session)


def test_given_two_racks_then_the_boards_of_both_are_owned(
    peers: Peers,
    make_board: Callable[..., RackBoard],
    make_rack: MakeRack,
    start_worker: StartWorker,
) -> None:
    # Its port has the same name as one of the other rack.
    rack = make_rack(make_board(1))
    other = make_rack(RackBoard(port="1-1.1", serial="OTHER", firmware="pulse_count"), window=0.05)
    start_worker(rack, other, labels=Labels.parse(["rack=b"], ["1-1.1:lamp=on", "1-1.9:x=y"]))
    for serial in ("BOARD1", "OTHER"):
        report = peers.wait_state(serial, DeviceState.READY)
        assert report.labels == {"rack": "b", "lamp": "on"}
    other.unplug("OTHER")
    peers.wait_state("OTHER", DeviceState.ABSENT)
    peers.reserve("BOARD1")


# --- retired, and there after all -----------------------------------------------------------------


def test_given_a_worker_that_was_retired_while_it_is_there_then_it_says_all_anew(
    farm: Peers,
) -> None:
    farm.wait_state("BOARD1", DeviceState.READY)
    kinds: list[bytes] = []
    heard = threading.Event()

    def hear(incoming: Incoming) -> None:
        kinds.append(incoming.payload)
        if incoming.payload and b"" in kinds:
            heard.set()

    farm.control.subscribe(WORKER_KINDS, hear, worker="w1")
    mark = farm.mark("BOARD1")

    states = len(farm.worker_states)
    farm.control.clear(DEVICE(worker="w1", serial="BOARD1")).result(10)
    for topic in (WORKER_KINDS, WORKER_STATE, WORKER_DESIRED):
        farm.control.clear(topic(worker="w1")).result(10)

    assert heard.wait(10)
    farm.wait_since("BOARD1", mark, DeviceState.READY)
    farm.wait(lambda: len(farm.worker_states) > states, "its state")
    assert farm.worker_states[-1].serials == ["BOARD1", "BOARD2"]


def test_given_a_device_that_serves_when_nothing_is_desired_of_it_any_more_then_it_is_released(
    farm: Peers,
) -> None:
    farm.reserve("BOARD1")
    mark = farm.mark("BOARD1")

    farm.control.clear(DESIRED(worker="w1", serial="BOARD1")).result(10)

    farm.wait_since("BOARD1", mark, DeviceState.READY)
    assert farm.refused("status", "BOARD1").code == "device_not_held"
    farm.generations["BOARD1"] += 5
    farm.reserve("BOARD1")
