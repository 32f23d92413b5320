"""Control dies while people evaluate."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from tests.faults.conftest import check, some, start_map

if TYPE_CHECKING:
    from tests.faults.conftest import Lab

    from icebus.client import PulseCountClient


def test_given_control_killed_then_evaluations_go_on_and_requests_wait_for_it(
    lab: Lab, ann: PulseCountClient, ben: PulseCountClient
) -> None:
    with ann.reserve(3) as hers:
        population = some(300)
        running = start_map(hers, population)
        running.wait(10)
        reserved: list[str] = []

        def reserve() -> None:
            with ben.reserve(2) as his:
                reserved.append(his.id)

        asking = threading.Thread(target=reserve)
        with lab.without("control"):
            asking.start()
            running.wait(100)  # as many as take control longer than a heartbeat to be missed
            assert not reserved
        asking.join(60)
        assert len(reserved) == 1
        assert not check(running.done(), population, [])
        assert hers.ended is None
        assert hers.id in lab.holders()
