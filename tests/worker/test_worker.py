"""A whole worker on a real broker with a real rack; the test plays control and users."""

from __future__ import annotations

import base64
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.by_hand import publish_by_hand

from icebus.bus import Bus, Incoming
from icebus.schemas.boards.rack import RackBoard
from icebus.schemas.components import Heartbeat, WorkerHeartbeat, WorkerKinds, WorkerPhase
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import Desired, DeviceReport, DeviceState, WorkerDesired
from icebus.schemas.files import sha256_of
from icebus.schemas.ids import new_id
from icebus.schemas.message import decode, now
from icebus.schemas.topics import (
    CALL,
    CONTROL_HEARTBEAT,
    DEVICE,
    REPLY,
    WORKER_DESIRED,
    WORKER_HEARTBEAT,
    WORKER_KINDS,
)
from icebus.worker.labels import Labels
from icebus.worker.states import Hold
from icebus.worker.states.core import via_bootloader

if TYPE_CHECKING:
    from tests.worker.conftest import MakeRack, Peers, StartProcess, StartWorker

pytestmark = pytest.mark.timeout(60)

Circuits = dict[str, bytes]


# --- the way of a reservation ---------------------------------------------------------------------


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
    assert peers.wait_state("BOARD11", DeviceState.SERVING).firmware == "pulse_count"
    states = {report.state for report in peers.reports["BOARD11"][mark:] if report}
    assert states - {DeviceState.READY} == {DeviceState.PREPARING, DeviceState.SERVING}
    peers.release("BOARD11")
    released = peers.last("BOARD11")
    assert released is not None
    assert released.firmware == "pulse_count", "flash wears: it stays until another is needed"


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


# --- who may call what ----------------------------------------------------------------------------


def test_given_a_call_that_may_not_be_then_a_typed_error_says_why_and_nothing_happens(
    farm: Peers, circuits: Circuits
) -> None:
    farm.reserve("BOARD1")
    file = {"id": "e1", "sha256": farm.send_blob(circuits["pulse_2khz"])}
    work = {"bitstreams": [file]}
    refused = farm.refused
    assert refused("evaluate", "BOARD1", user="bob", **work).code == "device_not_held"
    assert refused("evaluate", "BOARD1", reservation="r2", **work).code == "device_not_held"
    assert refused("evaluate", "BOARD2", **work).code == "device_not_held"
    assert refused("evaluate", "BOARD1", "BOARD2", **work).code == "device_not_held"
    assert refused("evaluate", "NOSUCH", **work).code == "unknown_device"
    unknown = refused("explode", "BOARD1")
    assert unknown.code == "unknown_method"
    assert unknown.details == {"methods": ["acknowledge", "collect", "evaluate", "status"]}
    wrongs: list[dict[str, Any]] = [{}, {"bitstreams": 5}, {"bitstreams": [{}]}]
    for wrong in [*wrongs, {**work, "misspelt": 1}]:
        assert refused("evaluate", "BOARD1", **wrong).code == "invalid_request"
    missing = sha256_of(b"never sent")
    error = refused("evaluate", "BOARD1", bitstreams=[{"sha256": missing}])
    assert (error.code, error.details["sha256"]) == ("blob_missing", [missing])
    status = farm.call("status", "BOARD1").results["BOARD1"]
    assert isinstance(status, dict)
    assert (status["queued"], status["measuring"], status["unacknowledged"]) == (0, None, 0)
    assert not [e for levels, e in farm.events if levels["event"] in ("results", "failures")]


def test_given_a_device_on_its_way_then_its_holder_is_told_to_wait(
    peers: Peers,
    make_rack: MakeRack,
    make_board: Callable[..., RackBoard],
    start_worker: StartWorker,
) -> None:
    peers.desire("BOARD12", peers.hold)
    start_worker(make_rack(make_board(12, "default")))
    peers.wait_state("BOARD12", DeviceState.PREPARING, generation=1)
    assert peers.refused("status", "BOARD12").code == "device_not_serving"
    assert peers.refused("status", "BOARD12", user="bob").code == "device_not_held"
    peers.wait_state("BOARD12", DeviceState.SERVING)


@pytest.mark.parametrize("damage", ["10 bytes", "flipped bit", "100 too long", "none at all"])
def test_given_what_is_no_bitstream_then_it_is_refused_and_nothing_is_disturbed(
    farm: Peers, circuits: Circuits, damage: str
) -> None:
    good = circuits["pulse_2khz"]
    flipped = bytearray(good)
    flipped[50_000] ^= 4
    bad = {
        "10 bytes": good[:10],
        "flipped bit": bytes(flipped),
        "100 too long": good + bytes(100),
        "none at all": b"",
    }[damage]
    farm.reserve("BOARD1")
    hashes = [farm.send_blob(content) for content in (good, bad)]
    files = [{"id": f"e{n}", "name": f"{n}.bin", "sha256": sha} for n, sha in enumerate(hashes)]
    answer = farm.call("evaluate", "BOARD1", bitstreams=files)
    error = answer.errors["BOARD1"]
    assert (error.code, error.details["bitstream"]) == ("bitstream_invalid", "1.bin")
    (evaluation,) = farm.evaluate("BOARD1", good)
    assert farm.wait_outcome(evaluation)[1]["pulses"] in range(98, 101)
    assert farm.outcomes("e0") == [], "all are accepted or none"


def test_given_a_damaged_bitstream_when_asked_not_to_validate_then_the_board_refuses_it(
    farm: Peers, circuits: Circuits
) -> None:
    flipped = bytearray(circuits["pulse_2khz"])
    flipped[50_000] ^= 4
    farm.reserve("BOARD1")
    bad, good = farm.evaluate("BOARD1", bytes(flipped), circuits["pulse_2khz"], validate=False)
    event, outcome = farm.wait_outcome(bad)
    assert (event, outcome["pulses"], outcome["cdone"]) == ("results", 0, False)
    assert farm.wait_outcome(good)[1]["pulses"] in range(98, 101)


def test_given_blobs_that_may_not_be_then_they_are_dropped(farm: Peers, circuits: Circuits) -> None:
    farm.reserve("BOARD1")
    good = circuits["pulse_2khz"] + new_id().encode()  # not sent by any other test
    name = sha256_of(good)
    farm.send_blob(good, user="bob")
    farm.send_blob(b"something else", sha256=name)
    farm.send_blob(good, encoding="brotli")
    farm.send_blob(good, encoding="identity")  # the bytes are those of zlib
    files = [{"id": "e1", "sha256": name}]
    assert farm.refused("evaluate", "BOARD1", bitstreams=files).code == "blob_missing"
    bobs = Hold(new_id("r-"), "bob")
    generation = farm.desire("BOARD2", bobs)
    farm.wait_state("BOARD2", DeviceState.SERVING, generation=generation)
    error = farm.refused(
        "evaluate", "BOARD2", user="bob", reservation=bobs.reservation, bitstreams=files
    )
    assert error.code == "blob_missing", "what was dropped does not turn up later"
    farm.send_blob(good, user="bob")
    error = farm.refused("evaluate", "BOARD1", bitstreams=files)
    assert error.code == "blob_missing", "another's file can't be had by its hash"


def test_given_a_full_queue_then_a_call_is_refused_whole(farm: Peers, circuits: Circuits) -> None:
    farm.reserve("BOARD1")
    farm.evaluate("BOARD1", *[circuits["pulse_2khz"]] * 60)
    sha256 = farm.send_blob(circuits["pulse_8khz"])
    files = [{"id": f"x{n}", "sha256": sha256} for n in range(64)]
    answer = farm.call("evaluate", "BOARD1", bitstreams=files)
    assert answer.errors["BOARD1"].code == "queue_full"
    farm.release("BOARD1")
    assert farm.outcomes("x0") == []


def test_given_the_same_evaluation_in_two_calls_then_it_is_measured_once(
    farm: Peers, circuits: Circuits
) -> None:
    farm.reserve("BOARD1")
    files = [{"id": "e1", "sha256": farm.send_blob(circuits["pulse_2khz"])}]
    farm.call("evaluate", "BOARD1", bitstreams=files)
    farm.wait_outcome("e1")
    farm.call("evaluate", "BOARD1", bitstreams=files)
    farm.wait_outcome("e1", 2)
    first, second = farm.outcomes("e1")
    assert first == second, "one measurement, told twice"


# --- nothing crashes it ---------------------------------------------------------------------------

NASTY = [
    b"",
    b"\x00",
    b"{}",
    b"[]",
    b"null",
    b"nonsense",
    b"\xff\xfe\xfd",
    b'{"id": 5}',
    b'{"serial": "BOARD1"}',
    b'{"serial": "BOARD1", "generation": -1}',
    b'{"serial": "BOARD1", "generation": 1e400}',
    b'{"serial": "OTHER", "generation": 99}',
    b'{"serial": "../../etc", "generation": 99}',
    b'{"id": "a", "reservation": "r1", "serials": ["BOARD1"], "args": []}',
    b'{"id": "a", "reservation": "r1", "serials": []}',
    b'{"epoch": "x", "sequence": 1, "interval": 1e308}',
    b'{"epoch": "x", "sequence": 1, "interval": NaN}',
    b"[" * 5000,
    b'{"a":' * 5000,
    b'{"id": "' + b"9" * 5000 + b'"}',
    b"9" * 5000,
]


def places() -> list[str]:
    sha256 = "0" * 64
    return [
        "worker/w1/desired/BOARD1",
        "worker/w1/desired/NOSUCH",
        "worker/w1/call/alice/evaluate",
        "worker/w1/call/alice/status",
        f"worker/w1/blob/alice/{sha256}",
        "worker/w1/blob/alice/nohash",
        "control/heartbeat",
    ]


def throw(peers: Peers, topic: str, payload: bytes) -> None:
    bus = peers.users["alice"] if "/alice/" in topic else peers.control
    reply_to = "user/alice/client/c/reply/w1"
    publish_by_hand(bus, topic, payload, response_topic=reply_to).result(10)


def is_well(peers: Peers) -> None:
    answer = peers.call("status", "BOARD1")
    assert answer.errors == {}


def test_given_nasty_messages_on_every_topic_then_the_worker_goes_on(farm: Peers) -> None:
    farm.reserve("BOARD1")
    for topic in places():
        for payload in NASTY:
            throw(farm, topic, payload)
        is_well(farm)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    ["id", "serial", "serials", "generation", "reservation", "user", "kind", "args", "bitstreams"]
)
PLAUSIBLE = st.dictionaries(FIELDS, st.sampled_from(["BOARD1", "r1", "alice", 1, {}, []]) | JSON)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(places()[2:]),
    st.binary(max_size=50) | PLAUSIBLE.map(lambda value: json.dumps(value).encode()),
)
def test_given_any_bytes_on_any_topic_then_the_worker_goes_on(
    farm: Peers, topic: str, payload: bytes
) -> None:
    if (report := farm.last("BOARD1")) is None or report.state is not DeviceState.SERVING:
        farm.reserve("BOARD1")
    throw(farm, topic, payload)
    is_well(farm)


@pytest.mark.parametrize(
    "value", ["NaN", "1e999", "9" * 4000, '"\\ud83d\\ude00"', "[" * 90 + "]" * 90]
)
def test_given_odd_annotations_then_the_evaluation_is_refused_or_has_its_outcome(
    farm: Peers, circuits: Circuits, value: str
) -> None:
    farm.reserve("BOARD1")
    sha256 = farm.send_blob(circuits["pulse_2khz"])
    file = f'{{"id": "e1", "sha256": "{sha256}", "annotations": {{"x": {value}}}}}'
    args = f'{{"bitstreams": [{file}]}}'
    reservation = farm.hold.reservation
    call = (
        f'{{"id": "{new_id()}", "reservation": "{reservation}", "serials": ["BOARD1"], '
        f'"args": {args}}}'
    )
    replies: list[dict[str, Any]] = []
    bus = farm.users["alice"]
    heard = bus.subscribe(
        REPLY, lambda incoming: replies.append(json.loads(incoming.payload)), user="alice"
    )
    heard.acknowledged.result(5)
    bus.publish(
        CALL(worker="w1", user="alice", method="evaluate"),
        call.encode(),
        deadline=Deadline.after(10),
        response_topic=REPLY(user="alice", client="c", sender="w1"),
    )
    deadline = Deadline.after(10)
    while not replies:
        deadline.check("a reply")
    heard.cancel()
    reply = replies[0]
    if reply.get("error") is not None:
        assert reply["error"]["code"] == "invalid_request", reply
    elif reply["ok"]["errors"]:
        assert reply["ok"]["errors"]["BOARD1"]["code"] == "invalid_request", reply
    else:
        farm.wait_outcome("e1")
    is_well(farm)


# --- level-triggered ------------------------------------------------------------------------------


def test_given_a_lower_generation_then_it_is_ignored(
    farm: Peers, make_desired: Callable[..., Desired]
) -> None:
    farm.generations["BOARD1"] += 10
    farm.reserve("BOARD1")
    generation = farm.generations["BOARD1"]
    farm.publish_desired(make_desired("BOARD1", generation - 5, None))
    is_well(farm)
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
    is_well(farm)
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
    assert kind.firmware == "pulse_count"
    assert set(kind.methods) == {"evaluate", "acknowledge", "collect", "status"}
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


# --- plugs ----------------------------------------------------------------------------------------


def test_given_an_idle_board_when_unplugged_and_replugged_then_it_is_ready_again(
    peers: Peers,
    make_rack: MakeRack,
    make_board: Callable[..., RackBoard],
    start_worker: StartWorker,
) -> None:
    rack = make_rack(make_board(1))
    start_worker(rack)
    peers.wait_state("BOARD1", DeviceState.READY)
    rack.unplug("BOARD1")
    peers.wait_state("BOARD1", DeviceState.ABSENT)
    elsewhere = RackBoard(port="1-1.7", serial="BOARD1", firmware="pulse_count")
    rack.plug(elsewhere)
    assert peers.wait_state("BOARD1", DeviceState.READY).port == "1-1.7"
    twin = RackBoard(port="1-1.8", serial="BOARD1", firmware="pulse_count")
    rack.plug(twin)
    assert "BOARD1" in peers.wait_state("BOARD1", DeviceState.BROKEN).reason
    rack.unplug("BOARD1")
    peers.wait_state("BOARD1", DeviceState.ABSENT)


@pytest.mark.parametrize("when", ["uploading", "measuring"])
def test_given_a_board_at_work_when_unplugged_then_all_fails_and_replugged_it_serves(
    peers: Peers,
    make_rack: MakeRack,
    make_board: Callable[..., RackBoard],
    start_worker: StartWorker,
    circuits: Circuits,
    when: str,
) -> None:
    # Slow enough that it is surely still at it.
    options = {"bandwidth": 250_000} if when == "uploading" else {"window": 0.5}
    rack = make_rack(make_board(1), **options)
    start_worker(rack)
    peers.wait_state("BOARD1", DeviceState.READY)
    peers.reserve("BOARD1")
    evaluations = peers.evaluate("BOARD1", *[circuits["pulse_2khz"]] * 3)
    rack.unplug("BOARD1")
    for evaluation in evaluations:
        event, outcome = peers.wait_outcome(evaluation)
        assert (event, outcome["error"]["code"]) == ("failures", "device_unplugged")
    peers.wait_event("finished")
    peers.wait_state("BOARD1", DeviceState.ABSENT)
    rack.plug(make_board(1))
    peers.wait_state("BOARD1", DeviceState.SERVING)
    (again,) = peers.evaluate("BOARD1", circuits["pulse_2khz"], batch="again")
    assert peers.wait_outcome(again)[0] == "results"
    assert all(len(peers.outcomes(each)) >= 1 for each in evaluations)


def test_given_a_board_when_unplugged_while_flashed_then_it_is_absent_and_comes_back(
    peers: Peers,
    make_rack: MakeRack,
    make_board: Callable[..., RackBoard],
    start_worker: StartWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(via_bootloader, "BOOTLOADER_DEADLINE", 0.5)
    monkeypatch.setattr(via_bootloader, "ACT_DEADLINE", 0.5)
    monkeypatch.setattr(via_bootloader, "RESTART_DEADLINE", 0.5)
    rack = make_rack(make_board(1, "default"), absence=0.2)
    start_worker(rack)
    peers.wait_state("BOARD1", DeviceState.READY)
    peers.desire("BOARD1", peers.hold)
    peers.wait_state("BOARD1", DeviceState.PREPARING)
    rack.unplug("BOARD1")
    peers.wait_state("BOARD1", DeviceState.ABSENT)
    rack.plug(make_board(1))
    peers.wait_state("BOARD1", DeviceState.SERVING)


# --- life and death -------------------------------------------------------------------------------


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
