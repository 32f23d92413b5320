"""Somebody sets the clock of the machine that broker and control run on."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from tests.faults.conftest import HEARTBEAT, SOON, WINDOW, check, some, start_map

from bench.farm import Farm, Shape
from icebus.client import PulseCountClient
from icebus.client._evaluating.running import timeouts
from icebus.schemas.deadline import Deadline

LIBRARIES = [
    file
    for folder in ("lib/*/faketime", "lib/faketime", "lib64/faketime")
    for file in Path("/usr").glob(f"{folder}/libfaketimeMT.so.1")
]
"""libfaketime where Debian and others put it: it gives a process another time of day."""

A_WHILE = timedelta(minutes=30)
"""Far less than clocks are set by here, far more than clients extend reservations by meanwhile."""

SetClock = Callable[[str], None]


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SetClock:
    """Sets the clock of all programs started from now on, by so many hours."""
    if not LIBRARIES:
        missing = "needs libfaketime: script/bootstrap --faketime"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    file = tmp_path / "clock"

    def put(offset: str) -> None:
        # By rename: a reader must see the whole of it.
        new = file.with_suffix(".new")
        new.write_text(f"{offset}\n")
        new.replace(file)

    put("+0")
    monkeypatch.setenv("LD_PRELOAD", str(LIBRARIES[0]))
    monkeypatch.setenv("FAKETIME_TIMESTAMP_FILE", str(file))
    monkeypatch.setenv("FAKETIME_CACHE_DURATION", "1")
    # All of them would wait for one another at every look at the clock.
    monkeypatch.setenv("FAKETIME_DISABLE_SHM", "1")
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    return put


@pytest.fixture
def farm(tmp_path: Path, broker_class: object, request: pytest.FixtureRequest) -> Iterator[Farm]:
    """A farm of two boards, whose broker and control go by that clock.

    The worker keeps the true time, so that clocks disagree as well; it would be slow otherwise.
    """
    made = Farm(Shape(2, WINDOW), tmp_path, ["--heartbeat", str(HEARTBEAT)])
    try:
        request.getfixturevalue("clock")
        made.broker.stop(Deadline.after(SOON))
        made.broker.start(Deadline.after(SOON))
        made.kill("control")
        made.process("control").wait(SOON)
        made.start("control")
        yield made
    finally:
        made.stop()


def wait(condition: Callable[[], bool]) -> None:
    deadline = Deadline.after(SOON)
    pause = threading.Event()
    while not condition():
        deadline.check("control to see its clock")
        pause.wait(0.1)


def test_given_clocks_set_forth_and_back_by_hours_then_nobody_loses_anything(
    farm: Farm, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held() -> dict[str, datetime]:
        """When reservations end, of which none may have ended."""
        found = {each.id: each for each in client.reservations()}
        assert found.keys() == {boards.id, detached.id}
        for each in found.values():
            assert 3000 < (each.until - each.created).total_seconds() < 4000
        return {name: each.until for name, each in found.items()}

    def moved(by: timedelta) -> bool:
        """Whether control has seen it, and moved the ends of reservations with its clock."""
        now = held()
        return all(abs(now[name] - end - by) < A_WHILE for name, end in first.items())

    # The broker drops what is under way when its clock is set forth, so clients have to ask again.
    monkeypatch.setattr(timeouts, "ASK_AGAIN", 3.0)
    with PulseCountClient(farm.url) as client:
        farm.wait_ready(client)
        with client.reserve(1) as boards, client.reserve(1, detached=True) as detached:
            first = held()
            for hours in (3, -3):
                population = some(30)
                running = start_map(boards, population)
                running.wait(5)
                clock(f"{hours:+}h")
                assert not check(running.done(), population, [])
                wait(partial(moved, timedelta(hours=hours)))
                for each in (boards, detached):
                    population = some(3)
                    assert not check(start_map(each, population).done(), population, [])
            before = held()[detached.id]
            detached.extend(60)
            assert (held()[detached.id] - before).total_seconds() == 60
            detached.release()
        farm.wait_ready(client)
