"""Outcomes that a broker dropped while every connection stood."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from icebus.client import PulseCountClient
from icebus.client._evaluating.running import timeouts

if TYPE_CHECKING:
    from tests.client.scripted_control import ScriptedControl
    from tests.client.scripted_worker import ScriptedWorker


@pytest.mark.parametrize("way", ["map", "evaluate"])
def test_given_outcomes_that_never_came_when_a_board_is_silent_then_it_is_asked_for_them_again(
    control: ScriptedControl,
    alice: PulseCountClient,
    w1: ScriptedWorker,
    circuits: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    monkeypatch.setattr(timeouts, "ASK_AGAIN", 0.5)
    w1.measure = False
    w1.calls.seen.clear()
    with alice.reserve(1) as boards:
        found = boards.map(circuits[:1]) if way == "map" else boards.evaluate(circuits[:1])

        def on_second_call(what: object) -> None:
            add(what)
            # The first one's outcomes are lost; a worker repeats them when it is asked again.
            w1.measure = len([m for m, _ in w1.calls.seen if m == "evaluate"]) >= 2

        add, w1.calls.add = w1.calls.add, on_second_call  # type: ignore[method-assign]
        (result,) = found
    assert result.bitstream == circuits[0].name
    asked = [call.args["bitstreams"] for method, call in w1.calls.seen if method == "evaluate"]
    assert [[file["id"] for file in files] for files in asked[:2]] == [[result.evaluation]] * 2
