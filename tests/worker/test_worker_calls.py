"""Calls to a whole worker: what may be called by whom, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from icebus.schemas.boards.rack import RackBoard
from icebus.schemas.devices import DeviceState
from icebus.schemas.files import sha256_of
from icebus.schemas.ids import new_id
from icebus.worker.states import Hold

if TYPE_CHECKING:
    from tests.worker.conftest import MakeRack, StartWorker
    from tests.worker.peers import Peers

pytestmark = pytest.mark.timeout(60)

Circuits = dict[str, bytes]


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
    assert unknown.details == {
        "methods": ["acknowledge", "collect", "evaluate", "status", "withdraw"]
    }
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
        "100 too long": good + b"\x5a" * 100,
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
    # Looked at when it is asked for, and then kept no longer.
    for code in ("blob_invalid", "blob_missing"):
        assert farm.refused("evaluate", "BOARD1", bitstreams=files).code == code
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
