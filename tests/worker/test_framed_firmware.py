"""A device whose board runs our own firmware: recognised, checked, measured with, left clean."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.worker.conftest import MakeDeviceHarness
from tests.worker.device_harness import HOLD, DeviceHarness
from tests.worker.framed_board import BANNER, FramedBoard, pulses_of
from tests.worker.framed_device import FramedBoardOnPort
from tests.worker.scripted_board import blank
from tests.worker.waiting import eventually

from icebus.schemas.boards.framed import FrameType
from icebus.schemas.boards.framed_replies import Banner, Outcome
from icebus.schemas.boards.framed_requests import CountPulses, Measure
from icebus.schemas.devices import DeviceState
from icebus.worker.loop import Timer
from icebus.worker.states import Hold
from icebus.worker.states.core import testing
from icebus.worker.states.kinds.pulsecount import PulseCount

Make = Callable[..., tuple[DeviceHarness, FramedBoard]]


@pytest.fixture
def make(
    make_harness: MakeDeviceHarness, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[DeviceHarness, FramedBoard]]]:
    """Devices with boards that run our firmware, which count for 50 ms."""
    running: list[FramedBoardOnPort] = []
    monkeypatch.setattr(PulseCount, "to_send", lambda _self, data, _args: packed(data))

    def make_one(
        board: FramedBoard | None = None, **options: float
    ) -> tuple[DeviceHarness, FramedBoard]:
        harness = make_harness(**options)
        running.append(FramedBoardOnPort(harness.board, board))
        return harness, running[-1].board

    yield make_one
    for each in running:
        each.close()


def packed(data: bytes) -> bytes:
    return Measure.of(data, CountPulses((27,), 50_000)).pack()


def expected(value: int) -> int:
    return pulses_of(Measure.of(blank(value), CountPulses()).encoded)


def test_given_our_firmware_then_the_board_is_recognised_and_measured_with_several_at_once(
    make: Make,
) -> None:
    harness, _ = make()
    harness.desire(HOLD)
    harness.plug()
    report = harness.recorder.wait_state(DeviceState.SERVING)
    assert report.firmware == "icebus"
    ids = harness.evaluate(*range(10))
    results = harness.recorder.wait_events("results", 10)
    assert [result.evaluation for result in results] == ids
    assert [result.pulses for result in results] == [expected(value) for value in range(10)]
    assert all(result.exact and result.cdone for result in results)
    assert not harness.recorder.named("failures")


def test_given_a_fpga_that_refuses_then_it_is_a_result_without_pulses(make: Make) -> None:
    harness, board = make()
    board.outcomes.append((Outcome.NOT_CONFIGURED, ""))
    harness.desire(HOLD)
    harness.plug()
    harness.recorder.wait_state(DeviceState.SERVING)
    harness.evaluate(1)
    (result,) = harness.recorder.wait_events("results")
    assert (result.pulses, result.cdone) == (0, False)
    assert "CDONE" in result.note


@pytest.mark.parametrize(
    ("banner", "reason"),
    [
        (BANNER.model_copy(update={"protocol": 2}), "version 2 of the protocol"),
        (BANNER.model_copy(update={"firmware": "other"}), "runs firmware 'other'"),
        (BANNER.model_copy(update={"chip": "rp2350"}), "the board's chip is rp2040"),
    ],
)
def test_given_a_banner_that_does_not_fit_then_the_reason_says_so(
    make: Make, banner: Banner, reason: str
) -> None:
    harness, _ = make(FramedBoard(banner=banner))
    harness.plug()
    harness.recorder.wait(lambda: any(reason in r.reason for r in harness.recorder.reports), reason)


def test_given_a_release_in_the_middle_then_the_board_forgets_and_serves_the_next_at_once(
    make: Make,
) -> None:
    harness, board = make()
    harness.desire(HOLD)
    harness.plug()
    harness.recorder.wait_state(DeviceState.SERVING)
    ids = harness.evaluate(1, 2, 3, 4)
    mark = len(harness.recorder.reports)
    other = Hold(reservation="r2", user="bob")
    harness.desire(other)
    failures = harness.recorder.wait_events("failures", 4)
    assert sorted(failure.evaluation for failure in failures) == sorted(ids)
    assert {failure.error.code for failure in failures} == {"reservation_ended"}
    harness.recorder.wait_state(DeviceState.SERVING, mark)
    assert not board.owed
    (evaluation,) = harness.evaluate(9)
    results = harness.recorder.wait_events("results")
    assert [(each.evaluation, each.pulses) for each in results] == [(evaluation, expected(9))]


def test_given_an_idle_board_then_it_is_asked_for_its_status_now_and_then(make: Make) -> None:
    harness, board = make(check_every=0.05)
    harness.plug()
    harness.recorder.wait_state(DeviceState.READY)
    eventually(lambda: sum(each.type == FrameType.STATUS for each in board.requests) > 2)
    mark = len(harness.recorder.reports)
    harness.desire(HOLD)
    harness.recorder.wait_state(DeviceState.SERVING, mark)
    harness.evaluate(1)
    assert harness.recorder.wait_events("results")[0].pulses == expected(1)


def test_given_a_board_that_hangs_while_idle_then_it_is_found_out(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("icebus.worker.firmware.framed._exchange.REPLY_DEADLINE", 0.1)
    harness, board = make(check_every=0.05)
    harness.plug()
    harness.recorder.wait_state(DeviceState.READY)
    board.hung = True
    harness.recorder.wait(
        lambda: any("did not reply to STATUS" in r.reason for r in harness.recorder.reports)
    )


def test_given_an_unplugged_board_then_each_evaluation_fails_once_and_it_serves_again_later(
    make: Make,
) -> None:
    harness, _ = make()
    harness.desire(HOLD)
    harness.plug()
    harness.recorder.wait_state(DeviceState.SERVING)
    ids = harness.evaluate(1, 2, 3, 4, 5, 6)
    mark = len(harness.recorder.reports)
    harness.device.unplug()
    harness.recorder.wait(
        lambda: len(harness.recorder.named("failures") + harness.recorder.named("results")) >= 6
    )
    ended = harness.recorder.named("failures") + harness.recorder.named("results")
    assert sorted(each.evaluation for each in ended) == sorted(ids)
    harness.plug()
    harness.recorder.wait_state(DeviceState.SERVING, mark)


def test_given_a_slow_board_then_its_deadlines_are_stretched_and_those_of_others_are_not(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness, _ = make()
    waits: list[float] = []
    call_later = harness.loop.call_later

    def record(seconds: float, callback: Callable[[], None]) -> Timer:
        waits.append(seconds)
        return call_later(seconds, callback)

    monkeypatch.setattr(harness.loop, "call_later", record)
    monkeypatch.setattr(testing, "LISTEN", 0.01)
    harness.slowness = 4.0
    harness.plug()
    harness.recorder.wait_state(DeviceState.READY)
    assert 0.04 in waits
    assert 0.01 not in waits
