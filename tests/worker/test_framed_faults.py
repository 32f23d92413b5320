"""Virtual boards with our own firmware that fail in the middle of what was queued on them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.worker.conftest import MakeFaultyFarm
from tests.worker.workers import FaultyFarm

from icebus.schemas.boards.framed_requests import CountPulses, Measure
from icebus.schemas.boards.rack import Fault
from icebus.schemas.devices import DeviceState
from icebus.worker.device import recovery
from icebus.worker.firmware.framed import _exchange
from icebus.worker.firmware.pulse_count import _firmware as text_firmware
from icebus.worker.states.core import testing, via_bootloader
from icebus.worker.states.kinds.pulsecount import PulseCount

UNPLUGGED, KICKED = "unplugged", "kicked"
FAULTS = [each for each in Fault if each is not Fault.BOOTLOADER]
SHORT = {
    (testing, "LISTEN"): 0.02,
    (text_firmware, "ANSWER"): 1.0,
    (_exchange, "REPLY_DEADLINE"): 1.0,
    (_exchange, "RESULT_DEADLINE"): 2.0,
    (via_bootloader, "BOOTLOADER_DEADLINE"): 2.0,
    (recovery, "REST_FIRST"): 0.2,
}
WINDOW = CountPulses((27,), 50_000)


@pytest.fixture(scope="module")
def farm(
    tmp_path_factory: pytest.TempPathFactory, make_faulty_farm: MakeFaultyFarm
) -> Iterator[FaultyFarm[str]]:
    directory = tmp_path_factory.mktemp("framed-faults")
    with pytest.MonkeyPatch.context() as patch:
        for (module, name), value in SHORT.items():
            patch.setattr(module, name, value)
        patch.setattr(
            PulseCount, "to_send", lambda _self, data, _args: Measure.of(data, WINDOW).pack()
        )
        with make_faulty_farm(directory, [*FAULTS, UNPLUGGED, KICKED], "icebus") as faulty:
            faulty.peers.reserve(*faulty.serials.values())
            yield faulty


@pytest.mark.parametrize("fault", FAULTS)
def test_given_a_fault_then_each_evaluation_ends_once_and_the_board_serves_again_afterwards(
    farm: FaultyFarm[str], fault: Fault
) -> None:
    serial, peers = farm.serials[fault], farm.peers
    peers.wait_state(serial, DeviceState.SERVING)
    evaluations = peers.evaluate(serial, *[farm.bitstream] * 40)
    peers.wait_outcome(evaluations[2])
    farm.inject(fault)
    outcomes = {each: (peers.wait_outcome(each), peers.outcomes(each)) for each in evaluations}
    farm.repair_all()
    codes = set()
    for last, told in outcomes.values():
        assert all(each == last for each in told), "told again, but never changed"
        if last[0] == "failures":
            codes.add(last[1]["error"]["code"])
        else:
            assert last[1]["pulses"] == 100
    assert codes
    assert codes <= {"measurement_failed", "device_failed"}
    assert farm.measure_until_result(serial) == "results"


def test_given_an_unplugged_board_then_what_waited_on_it_fails_once_and_it_serves_when_it_is_back(
    farm: FaultyFarm[str],
) -> None:
    serial, peers = farm.serials[UNPLUGGED], farm.peers
    peers.wait_state(serial, DeviceState.SERVING)
    evaluations = peers.evaluate(serial, *[farm.bitstream] * 40)
    peers.wait_outcome(evaluations[2])
    farm.move(serial, "1-1.77")
    ended = [peers.wait_outcome(each) for each in evaluations]
    failed = [outcome["error"]["code"] for event, outcome in ended if event == "failures"]
    assert failed
    assert set(failed) == {"device_unplugged"}
    assert farm.measure_until_result(serial) == "results"


def test_given_another_holder_in_the_middle_then_nothing_of_the_first_is_measured_for_it(
    farm: FaultyFarm[str],
) -> None:
    serial, peers = farm.serials[KICKED], farm.peers
    peers.wait_state(serial, DeviceState.SERVING)
    evaluations = peers.evaluate(serial, *[farm.bitstream] * 20)
    peers.wait_outcome(evaluations[2])
    peers.release(serial)
    ended = [peers.wait_outcome(each) for each in evaluations]
    codes = {outcome["error"]["code"] for event, outcome in ended if event == "failures"}
    assert codes == {"reservation_ended"}
    peers.reserve(serial)
    (evaluation,) = peers.evaluate(serial, farm.bitstream)
    assert peers.wait_outcome(evaluation)[1]["pulses"] == 100
