"""Clients die, reconnect, and share a name."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.faults.conftest import GRACE, check, some, start_client, start_evaluate, start_map

from icebus.client import PulseCountResult

if TYPE_CHECKING:
    from tests.faults.conftest import Lab

    from icebus.client import PulseCountClient


def test_given_clients_killed_then_after_the_grace_what_was_attached_is_free_and_no_more(
    lab: Lab, ben: PulseCountClient
) -> None:
    attached, hers = start_client(lab, "ann", "attached")
    detached, his = start_client(lab, "ben", "detached")
    assert {hers, his} <= lab.holders().keys()
    attached.kill()
    detached.kill()
    killed = time.monotonic()
    attached.communicate()
    had = [line.split() for line in detached.communicate()[0].splitlines()]
    with ben.attach(his) as found:
        left = list(found.collect())
        assert left
        assert len({each.evaluation for each in left}) == len(left)
        counted = {
            each.evaluation: str(each.pulses) for each in left if isinstance(each, PulseCountResult)
        }
        assert len(counted) == len(left)
        # What is told again was not measured again.
        assert all(counted.get(name, pulses) == pulses for _, name, pulses in had)
        assert not list(found.collect())
        lab.wait(lambda: hers not in lab.holders(), "it is not freed")
        assert time.monotonic() - killed >= GRACE - 1
        assert his in lab.holders()
        found.release()


def test_given_a_client_that_reconnects_again_and_again_then_it_keeps_all_and_misses_nothing(
    lab: Lab, ann: PulseCountClient
) -> None:
    with ann.reserve(3) as boards:
        population = some(60)
        running = start_evaluate(boards, population)
        for _ in range(3):
            running.wait(20)
            lab.network.cut("ann")
        assert not check(running.done(), population, boards.serials)
        assert boards.ended is None


def test_given_two_clients_of_one_name_then_neither_takes_the_others(
    lab: Lab, ann: PulseCountClient
) -> None:
    with ann.reserve(2) as mine:
        with lab.user("ann") as twin:
            hers = twin.reserve(2)
            first, second = some(60), some(60)
            one, two = start_map(mine, first), start_map(hers, second)
            assert not check(one.done(), first, [])
            assert not check(two.done(), second, [])
            assert set(mine.serials).isdisjoint(hers.serials)
        lab.wait(lambda: hers.id not in lab.holders(), "the other's is left")
        assert mine.ended is None
        assert mine.id in lab.holders()
