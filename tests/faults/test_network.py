"""Connections end without a word, or with one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.faults.conftest import check, some, start_map

from bench.farm import CONTROL

if TYPE_CHECKING:
    from tests.faults.conftest import Lab

    from icebus.client import PulseCountClient


def test_given_every_connection_cut_again_and_again_then_each_is_counted_once(
    lab: Lab, ann: PulseCountClient
) -> None:
    with ann.reserve(4) as boards:
        population = some(200)
        running = start_map(boards, population)
        for name in ("worker0", CONTROL, "worker1", "ann", "worker0"):
            running.wait(10)
            lab.network.cut(name)
        assert not check(running.done(), population, [])


def test_given_connections_half_open_everywhere_then_all_find_out_and_go_on(
    lab: Lab, ann: PulseCountClient, ben: PulseCountClient
) -> None:
    with ann.reserve(3) as hers, ben.reserve(3) as his:
        mine, yours = some(100), some(100)
        first, second = start_map(hers, mine), start_map(his, yours)
        first.wait(10)
        second.wait(10)
        for name in ("worker0", CONTROL, "ann"):
            lab.network.half_open(name)
        assert not check(first.done(), mine, [])
        assert not check(second.done(), yours, [])
