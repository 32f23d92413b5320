"""What calls of single boards need of the client: a reservation as it is, not as it should be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from icebus.client import PulseCountClient, Survey
from icebus.schemas.errors import DeviceFailed
from icebus.schemas.operations.reservations import HoldState

if TYPE_CHECKING:
    from tests.client.scripted_control import ScriptedControl
    from tests.client.scripted_worker import ScriptedWorker


def test_given_a_board_that_failed_when_attaching_without_waiting_then_the_others_can_be_used(
    alice: PulseCountClient, control: ScriptedControl, w1: ScriptedWorker, w2: ScriptedWorker
) -> None:
    made = control.make("alice", {"kind": "pulsecount", "count": 2, "duration": 60})
    well, failed = made.devices
    failed = failed.model_copy(update={"state": HoldState.FAILED, "reason": "no answer"})
    control.publish(made.model_copy(update={"devices": [well, failed]}))
    with pytest.raises(DeviceFailed, match="no answer"):
        alice.attach(made.id)
    held = alice.attach(made.id, ready=False)
    assert held.problem(well.serial) is None
    assert "no answer" in str(held.problem(failed.serial))


def test_given_a_client_when_it_surveys_then_it_reads_what_is_retained(
    alice: PulseCountClient, control: ScriptedControl, w1: ScriptedWorker
) -> None:
    made = control.make("bob", {"kind": "pulsecount", "count": 1, "duration": 60})
    control.publish(made).result(10)
    found = alice.survey()
    assert isinstance(found, Survey)
    assert found.workers["w1"].session == w1.session
    assert found.reservations == {made.id: made}
