"""The broker dies while people evaluate, and comes back with what it had saved or without."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from tests.faults.conftest import SOON, check, some, start_client, start_evaluate, start_map

from icebus.schemas.deadline import Deadline

if TYPE_CHECKING:
    from tests.faults.conftest import Lab

    from icebus.client import PulseCountClient

ABSENCE = 8.0
"""Seconds; longer than the grace of attached reservations."""


@pytest.mark.parametrize("forget", [False, True], ids=["with its file", "without its file"])
def test_given_the_broker_killed_when_it_is_back_at_once_then_nobody_loses_anything(
    lab: Lab, ann: PulseCountClient, ben: PulseCountClient, *, forget: bool
) -> None:
    with ann.reserve(3) as hers, ben.reserve(3) as his:
        mapped, evaluated = some(120), some(40)
        on_any, on_each = start_map(hers, mapped), start_evaluate(his, evaluated)
        on_any.wait(10)
        on_each.wait(10)
        lab.kill_broker(forget=forget)
        lab.start_broker()
        assert not check(on_any.done(), mapped, [])
        assert not check(on_each.done(), evaluated, his.serials)


def test_given_the_broker_stopped_in_order_when_it_is_back_later_then_nobody_is_missed(
    lab: Lab, ann: PulseCountClient
) -> None:
    population = some(40)
    with ann.reserve(3) as held:
        running = start_evaluate(held, population)
        running.wait(10)
        # As it goes it tells those who are still there of the loss of those who are not.
        lab.farm.broker.stop(Deadline.after(SOON))
        threading.Event().wait(ABSENCE)  # the absence itself is what is tested
        lab.start_broker()
        assert not check(running.done(), population, held.serials)


def test_given_the_broker_away_for_longer_than_the_grace_then_all_goes_on_but_what_the_dead_held(
    lab: Lab, ann: PulseCountClient, ben: PulseCountClient
) -> None:
    with ann.reserve(3) as hers, ben.reserve(1, detached=True) as his:
        process, theirs = start_client(lab, "eve", "attached")
        population = some(120)
        running = start_map(hers, population)
        running.wait(10)
        lab.save_broker()
        lab.kill_broker(forget=False)
        # With the broker dies who it would have told of. Its file says that they are there.
        process.kill()
        process.communicate()
        threading.Event().wait(ABSENCE)  # the absence itself is what is tested
        lab.start_broker()
        assert not check(running.done(), population, [])
        lab.wait(lambda: theirs not in lab.holders(), "what a dead client held is not freed")
        assert lab.holders() == {hers.id: "ann", his.id: "ben"}
        his.release()
