"""Bitstreams that are measured more than once, and what comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from icebus.client import PulseCountClient, PulseCountResult, Summary, summarise
from icebus.schemas.errors import InvalidRequest, MeasurementFailed
from icebus.schemas.measuring import Failure
from icebus.schemas.message import now

if TYPE_CHECKING:
    from tests.client.scripted_worker import ScriptedWorker


def measured(bitstream: str, pulses: int, serial: str = "d1") -> PulseCountResult:
    return PulseCountResult(
        serial=serial, evaluation="e", batch="b", bitstream=bitstream, sha256="0" * 64,
        at=now(), pulses=pulses, upload=0.1, window=1.0, exact=True,
    )  # fmt: skip


def failed(bitstream: str, serial: str = "d1") -> Failure:
    return Failure(
        serial=serial, evaluation="e", batch="b", bitstream=bitstream, sha256="0" * 64,
        at=now(), error=MeasurementFailed("silence"),
    )  # fmt: skip


@pytest.mark.parametrize(("run", "expected"), [("evaluate", 12), ("map", 6)])
def test_given_repeats_when_run_then_each_is_measured_so_often_and_summed_up(
    run: str,
    expected: int,
    alice: PulseCountClient,
    w1: ScriptedWorker,
    w2: ScriptedWorker,
    circuits: list[Path],
) -> None:
    with alice.reserve(serials=["d1", "d2"]) as boards:
        results = list(getattr(boards, run)(circuits[:2], repeats=3))
    assert len(results) == expected
    assert len({result.evaluation for result in results}) == expected
    assert {(each.bitstream, each.n) for each in summarise(results, "pulses")} == {
        (circuit.name, expected // 2) for circuit in circuits[:2]
    }


@pytest.mark.parametrize("repeats", [0, -1, 2.5, "3"])
def test_given_no_number_of_repeats_then_it_is_refused(
    repeats: int, alice: PulseCountClient, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    with alice.reserve(1) as boards, pytest.raises(InvalidRequest, match="repeats"):
        list(boards.map(circuits, repeats=repeats))


def test_given_results_and_failures_when_summed_up_then_boards_are_told_apart_if_wanted() -> None:
    outcomes: list[PulseCountResult | Failure] = [
        measured("a", 5), measured("a", 1, "d2"), measured("b", 7), failed("a"), measured("a", 9),
        failed("c"),
    ]  # fmt: skip
    a, b, c = summarise(outcomes, "pulses")
    assert a == Summary("a", "0" * 64, "", (5, 1, 9), 1)
    assert (a.n, a.median, a.spread) == (3, 5, 8)
    assert (b.n, b.median, b.spread) == (1, 7, 0)
    assert (c.n, c.median, c.spread, c.failures) == (0, None, None, 1)
    by_board = summarise(outcomes, "pulses", each_board=True)
    assert [(each.bitstream, each.serial, each.values) for each in by_board] == [
        ("a", "d1", (5, 9)), ("a", "d2", (1,)), ("b", "d1", (7,)), ("c", "d1", ()),
    ]  # fmt: skip


@pytest.mark.parametrize("of", ["volume", "exact", "bitstream"])
def test_given_no_such_number_when_summed_up_then_those_there_are_are_named(of: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"no number '{of}'; they have .*pulses"):
        summarise([measured("a", 5)], of)
