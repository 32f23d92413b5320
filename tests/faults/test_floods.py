"""Somebody floods the farm while others evaluate, who do not notice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.faults.conftest import BOARDS, check, some, start_evaluate, start_map

from bench.flood_topics import Flood
from bench.floods import LARGE, Case, flooding, sent
from bench.held_topics import Held, HeldFlood
from icebus.broker.access import Principal
from icebus.client import PulseCountClient
from icebus.schemas.topics import Role

if TYPE_CHECKING:
    from tests.faults.conftest import Lab

CASES = [
    *(Case(kind, 0) for kind in Flood),
    Case(Flood.OPERATION, 1000),
    Case(Flood.CALL, 0, qos=1),
    Case(Flood.OPERATION, 0, size=LARGE),
    Case(Flood.BLOB, 0, size=LARGE),
]


@pytest.mark.parametrize("kind", HeldFlood)
def test_given_a_flood_of_somebody_who_holds_boards_of_the_worker_then_a_run_ends_with_right_counts(
    lab: Lab, ann: PulseCountClient, kind: HeldFlood
) -> None:
    lab.farm.admit(Principal(id="mallory", role=Role.ADMIN))
    url = lab.farm.broker.address("mallory").url()  # not through the network that can fail
    files = some(8)
    with (
        PulseCountClient(url) as mallory,
        mallory.reserve(2, selector="worker=worker0") as theirs,
        ann.reserve(BOARDS - 2) as boards,
    ):
        held = Held(theirs.id, tuple(theirs.serials))
        with flooding(lab.farm, url, Case(kind, 0, held=held)):
            each = start_evaluate(boards, files)
            assert not check(each.done(), files, boards.serials)
            lab.wait(lambda: sent(lab.farm) > 10, "the flood sends nothing")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_given_a_flood_of_somebody_else_then_a_run_ends_with_right_counts(
    lab: Lab, ann: PulseCountClient, case: Case
) -> None:
    """Neither is a worker or a client taken for lost: then evaluations would fail."""
    lab.farm.admit(Principal(id="mallory", role=Role.ADMIN))
    url = lab.farm.broker.address("mallory").url()  # not through the network that can fail
    files = some(24)
    with ann.reserve(3) as boards, flooding(lab.farm, url, case):
        each = start_evaluate(boards, files[:8])
        any_board = start_map(boards, files[8:])
        assert not check(each.done(), files[:8], boards.serials)
        assert not check(any_board.done(), files[8:], [])
        lab.wait(lambda: sent(lab.farm) > 10, "the flood sends nothing")
