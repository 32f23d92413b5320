"""What ``-v`` logs: connections, requests, reservations, evaluations; ``-vv`` each outcome too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.command_line import in_this_process

if TYPE_CHECKING:
    from tests.client.scripted_control import ScriptedControl
    from tests.client.scripted_worker import ScriptedWorker

    from icebus.broker.embedded import EmbeddedBroker


@pytest.mark.parametrize(("option", "outcomes"), [("-v", False), ("-vv", True)])
def test_given_a_reservation_when_made_verbosely_then_what_is_done_for_it_is_logged(
    broker: EmbeddedBroker,
    control: ScriptedControl,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    option: str,
    outcomes: bool,
) -> None:
    url = broker.address("alice").url()
    monkeypatch.setenv("ICEBUS_URL", url)
    with in_this_process(monkeypatch, capsys) as icebus:
        done = icebus(option, "reserve", "1")
    assert done.code == 0
    [reservation] = control.reservations
    for said in ("connected to", "to control: control/call/alice/reserve", "answered after"):
        assert said in done.stderr
    assert f"reservation {reservation} is" in done.stderr
    assert ("DEBUG" in done.stderr) <= outcomes
    assert url.partition("@")[0].rpartition(":")[2] not in done.stderr, "no passwords"


def test_given_a_run_when_logged_in_full_then_batches_calls_and_outcomes_are(
    broker: EmbeddedBroker,
    control: ScriptedControl,
    w1: ScriptedWorker,
    circuits: list[Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    from icebus.client import PulseCountClient

    caplog.set_level("DEBUG", logger="icebus")
    with PulseCountClient(broker.address("alice").url()) as client, client.reserve(1) as boards:
        list(boards.evaluate(circuits[:1]))
    for said in ("batch", "1 evaluation to d1", "on d1: measured", "is over"):
        assert said in caplog.text
