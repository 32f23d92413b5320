"""A mistake in the code of a kind: whoever uses the kind learns of it, and nobody else."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from icebus.schemas.devices import DeviceState
from icebus.schemas.errors import KindFailed, MeasurementFailed
from icebus.schemas.kinds.pulsecount import PulseCountResult
from icebus.schemas.message import Message
from icebus.worker.installed import Installed
from icebus.worker.states import Event, Hold, reservable
from icebus.worker.states.kinds.pulsecount import PulseCount
from icebus.worker.states.measuring._outcomes import LONGEST_OUTCOME

if TYPE_CHECKING:
    from tests.worker.conftest import MakeDeviceHarness
    from tests.worker.device_harness import DeviceHarness

pytestmark = pytest.mark.timeout(60)

HOLD = Hold(reservation="r1", user="alice")


class AnyResult(PulseCountResult):
    anything: Any = None


def kind_with(**members: Any) -> type[PulseCount]:
    """``pulsecount``, but for what a newcomer has written."""
    members = {"results": Event(AnyResult), **members}
    return reservable("mistaken", firmware="pulse_count")(type("Mistaken", (PulseCount,), members))


def giving(**result: Any) -> Callable[..., Any]:
    return lambda _self, report: {"pulses": report.pulses, **result}


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_args: Any) -> Any:
        raise error

    return fail


class Unspeakable(Exception):
    def __repr__(self) -> str:
        raise ZeroDivisionError


ODD_RESULTS = {
    "raises": raising(ZeroDivisionError("by nought")),
    "raises what has no words": raising(Unspeakable()),
    "ends the program": raising(SystemExit("bye")),
    "raises what can't be sent": raising(MeasurementFailed("odd", port=object())),
    "gives no dict": lambda _self, _report: 5,
    "gives what its model refuses": giving(pulses="many"),
    "gives no number": giving(pulses=float("nan")),
    "gives a reserved field": giving(serial="S9"),
    "gives what is no JSON": giving(anything=object()),
    "gives what is no UTF-8": giving(anything="\ud800"),
    "gives too much": giving(anything="x" * LONGEST_OUTCOME),
}


ODD_SENDING = {
    "raises": raising(ZeroDivisionError("by nought")),
    "ends the program": raising(SystemExit("bye")),
    "gives nothing": lambda _self, _data, _args: None,
    "gives text": lambda _self, data, _args: "x" * len(data),
}


@pytest.fixture
def serving(make_harness: MakeDeviceHarness) -> Callable[..., DeviceHarness]:
    """Makes a device that serves a kind with these members."""

    def make(**members: Any) -> DeviceHarness:
        harness = desiring(make_harness, kind_with(**members))
        harness.recorder.wait_state(DeviceState.SERVING)
        return harness

    return make


def desiring(make_harness: MakeDeviceHarness, kind: type[PulseCount]) -> DeviceHarness:
    """A device that has passed its test and is to serve a kind."""
    given = Installed.load()
    harness = make_harness(installed=Installed({**given.kinds, kind.kind: kind}, given.firmware))
    harness.desire(HOLD, kind=kind.kind)
    harness.plug()
    harness.pass_test()
    return harness


Serving = Callable[..., "DeviceHarness"]


@pytest.mark.parametrize("result", ODD_RESULTS.values(), ids=ODD_RESULTS)
def test_given_results_that_fail_then_each_evaluation_says_so_and_the_board_goes_on(
    serving: Serving, result: Any
) -> None:
    harness = serving(result=result)
    ids = harness.evaluate(1, 2, 3, 4)
    for value in range(4):
        harness.board.measure(value)
    failures = harness.recorder.wait_events("failures", 4)
    assert [failure.evaluation for failure in failures] == ids
    for failure in failures:
        assert isinstance(failure.error, KindFailed)
        assert "mistaken" in failure.error.message
        assert failure.error.details == {"kind": "mistaken"}
    assert harness.recorder.wait_events("finished")[0].failures == 4
    assert harness.recorder.states[-1] is DeviceState.SERVING
    assert harness.recorder.reports[-1].reason == ""


def test_given_a_mistake_then_its_words_are_passed_on(serving: Serving) -> None:
    harness = serving(result=raising(ZeroDivisionError("by nought")))
    harness.evaluate(1)
    harness.board.measure(1)
    assert "by nought" in harness.recorder.wait_events("failures")[0].error.message


def sends_the_second_only(how: Any) -> Callable[..., Any]:
    """A ``to_send`` that is right for one bitstream."""
    return lambda self, data, args: data if data[0] == 2 else how(self, data, args)


@pytest.mark.parametrize("to_send", ODD_SENDING.values(), ids=ODD_SENDING)
def test_given_a_file_that_is_next_when_it_can_not_be_sent_then_it_fails_and_says_why(
    serving: Serving, to_send: Any
) -> None:
    harness = serving(to_send=sends_the_second_only(to_send))
    (odd,) = harness.evaluate(1)
    (failure,) = harness.recorder.wait_events("failures")
    assert failure.evaluation == odd
    assert isinstance(failure.error, KindFailed)
    assert "to_send" in failure.error.message
    (other,) = harness.evaluate(2)
    harness.board.measure(12)
    assert harness.recorder.wait_events("results")[0].evaluation == other


@pytest.mark.parametrize("to_send", ODD_SENDING.values(), ids=ODD_SENDING)
def test_given_a_file_that_waits_when_it_can_not_be_sent_then_it_fails_and_the_next_is_measured(
    serving: Serving, to_send: Any
) -> None:
    harness = serving(to_send=sends_the_second_only(to_send))
    first, odd, last = harness.evaluate(2, 1, 2)
    harness.board.measure(1)
    harness.board.measure(2)
    assert [each.evaluation for each in harness.recorder.wait_events("results", 2)] == [first, last]
    (failure,) = harness.recorder.wait_events("failures")
    assert (failure.evaluation, type(failure.error)) == (odd, KindFailed)
    assert DeviceState.TESTING not in harness.recorder.states[-1:]


def test_given_a_size_that_the_meter_refuses_then_that_evaluation_fails_and_the_next_is_measured(
    serving: Serving,
) -> None:
    short = sends_the_second_only(lambda _self, data, _args: data[:-1])
    harness = serving(to_send=short)
    odd, other = harness.evaluate(1, 2)
    harness.board.measure(12)
    (failure,) = harness.recorder.wait_events("failures")
    assert (failure.evaluation, type(failure.error)) == (odd, KindFailed)
    assert harness.recorder.wait_events("results")[0].evaluation == other
    assert harness.recorder.states[-1] is DeviceState.SERVING


def refuses_args(_cls: Any, _args: Any) -> Any:
    raise ZeroDivisionError("by nought")


class OddArgs:
    model_validate = classmethod(refuses_args)
    model_json_schema = PulseCount.Args.model_json_schema


ODD_BEGINNINGS = {
    "make_meter raises": {"make_meter": raising(ZeroDivisionError("by nought"))},
    "make_meter ends the program": {"make_meter": raising(SystemExit("by nought"))},
    "make_meter gives nothing": {"make_meter": lambda _self, _callbacks: None},
    "on_enter raises": {"on_enter": raising(ZeroDivisionError("by nought"))},
    "on_add raises": {"on_add": raising(ZeroDivisionError("by nought"))},
    "Args raises": {"Args": OddArgs},
}


@pytest.mark.parametrize("members", ODD_BEGINNINGS.values(), ids=ODD_BEGINNINGS)
def test_given_a_kind_that_can_not_begin_then_its_device_says_why_and_is_free_after_release(
    make_harness: MakeDeviceHarness, members: dict[str, Any]
) -> None:
    harness = desiring(make_harness, kind_with(**members))
    report = harness.recorder.wait_state(DeviceState.BROKEN)
    assert "kind mistaken failed" in report.reason
    assert not {DeviceState.FLASHING, DeviceState.TESTING} & set(harness.recorder.states)
    harness.desire(None)
    harness.answer_test()
    harness.recorder.wait_state(DeviceState.READY)


@pytest.mark.parametrize("error", [ZeroDivisionError("by nought"), SystemExit("by nought")])
def test_given_a_hook_that_fails_then_what_is_outstanding_says_so_once_and_the_board_serves_on(
    serving: Serving, error: BaseException
) -> None:
    fails_once = [raising(error)]
    harness = serving(
        on_data=lambda self, data: (
            fails_once.pop()() if fails_once else PulseCount.on_data(self, data)
        )
    )
    ids = harness.evaluate(1, 2)
    harness.board.take()
    mark = len(harness.recorder.reports)
    harness.board.say("anything")
    failures = harness.recorder.wait_events("failures", 2)
    assert [failure.evaluation for failure in failures] == ids
    assert {type(failure.error) for failure in failures} == {KindFailed}
    assert "by nought" in harness.recorder.wait_state(DeviceState.PREPARING, mark).reason
    harness.answer_test()
    harness.recorder.wait_state(DeviceState.SERVING, mark)
    harness.evaluate(3)
    harness.board.measure(3)
    harness.recorder.wait_events("results")
    again = harness.recorder.named("failures")[2:]  # nobody has acknowledged them
    assert [failure.evaluation for failure in again] == ids
    assert {type(failure.error) for failure in again} == {KindFailed}


@pytest.mark.parametrize("error", [ZeroDivisionError("by nought"), SystemExit("by nought")])
def test_given_an_end_that_fails_then_outstanding_evaluations_end_there_and_not_later(
    serving: Serving, error: BaseException
) -> None:
    harness = serving(on_exit=raising(error))
    (evaluation,) = harness.evaluate(1)
    harness.board.take()
    harness.device.unplug()
    (failure,) = harness.recorder.wait_events("failures")
    assert (failure.evaluation, failure.error.code) == (evaluation, "device_unplugged")


def test_given_a_kind_that_does_not_know_whether_it_is_idle_then_its_board_can_be_released(
    serving: Serving,
) -> None:
    harness = serving(idle=property(raising(ZeroDivisionError("by nought"))))
    harness.desire(None)
    harness.board.go_idle()
    harness.recorder.wait_state(DeviceState.RELEASING)
    harness.answer_test()
    harness.recorder.wait_state(DeviceState.READY)


def test_given_a_kind_without_a_result_of_its_own_then_it_is_a_type_error() -> None:
    class Loose(Message):
        pulses: int

    with pytest.raises(TypeError, match="results"):
        kind_with(results=Event(Loose))
