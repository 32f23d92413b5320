"""The whole path: a client, a farm, the worker as it is, the firmware's image in an emulator."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.farm.conftest import wait_until
from tests.firmware.emulated_board import skip_unless_built
from tests.firmware.test_in_rack import descendants

from icebus.client import EvaluationsFailed, PulseCountClient

if TYPE_CHECKING:
    from tests.farm.conftest import Machine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SHORT = {"window": 0.05}


@contextmanager
def emulated_farm(machine: Machine) -> Iterator[tuple[PulseCountClient, int]]:
    """A client of a farm with one emulated board, and the process of its rack."""
    skip_unless_built()
    with machine.up("--emulated", "1") as up, PulseCountClient(up.url, timeout=60) as client:
        yield client, up.child("icebus.rack.cli")


def test_given_an_emulated_board_when_circuits_are_evaluated_then_it_counts_what_they_give(
    machine: Machine, circuits: Sequence[Path]
) -> None:
    with emulated_farm(machine) as (client, _):
        (device,) = machine.json("devices")
        assert (device["state"], device["firmware"], device["virtual"]) == ("ready", "icebus", True)
        assert device["labels"]["emulated"] == "true"
        with client.reserve(1) as boards:
            short = list(boards.evaluate(circuits, args=SHORT))
            assert [(each.pulses, each.exact, each.cdone) for each in short] == [
                (100, True, True),
                (400, True, True),
                (1600, True, True),
            ]
            # A second of the board's own time, which is several of ours.
            assert [each.pulses for each in boards.evaluate(circuits)] == [2000, 8000, 32000]


def test_given_an_emulator_that_is_killed_when_it_measures_then_each_has_its_outcome_and_it_is_back(
    machine: Machine, circuits: Sequence[Path]
) -> None:
    with emulated_farm(machine) as (client, rack):
        with client.reserve(1) as boards:
            outcomes = boards.evaluate([*circuits, *circuits], args=SHORT)
            next(outcomes)
            os.kill(descendants(rack, "emulator.mjs")[0], signal.SIGKILL)
            with pytest.raises(EvaluationsFailed, match=r"of 6 evaluations failed.*unplugged"):
                list(outcomes)
        wait_until(lambda: bool(client.available(timeout=60)))
        with client.reserve(1) as boards:
            (result,) = boards.evaluate(circuits[:1], args=SHORT)
            assert result.pulses == 100
