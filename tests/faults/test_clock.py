"""Somebody sets the clock of the machine that broker and control run on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.faults.conftest import HEARTBEAT, SOON, WINDOW, check, mapping, some

from bench.farm import Farm, Shape
from icebus.client import PulseCountClient, run
from icebus.schemas.deadline import Deadline

LIBRARIES = [
    Path(folder) / "faketime" / "libfaketimeMT.so.1"
    for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64")
]
"""libfaketime where Debian and others put it: it gives a process another time of day."""

SetClock = Callable[[str], None]


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SetClock:
    """Sets the clock of all programs started from now on, by so many hours."""
    library = next((each for each in LIBRARIES if each.exists()), None)
    if library is None:
        pytest.skip("needs libfaketime: apt-get install libfaketime")
    file = tmp_path / "clock"

    def put(offset: str) -> None:
        # By rename: a reader must see the whole of it.
        new = file.with_suffix(".new")
        new.write_text(f"{offset}\n")
        new.replace(file)

    put("+0")
    monkeypatch.setenv("LD_PRELOAD", str(library))
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


def test_given_clocks_set_forth_and_back_by_hours_then_nobody_loses_anything(
    farm: Farm, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The broker drops what is under way when its clock is set forth, so clients have to ask again.
    monkeypatch.setattr(run, "DOUBT", 3.0)
    with PulseCountClient(farm.url) as client:
        farm.wait_ready(client)
        with client.reserve(1) as boards, client.reserve(1, detached=True) as detached:
            for offset in ("+3h", "-3h"):
                population = some(30)
                work = mapping(boards, population)
                work.wait(5)
                clock(offset)
                assert not check(work.done(), population, [])
                # All see it within a second; control looks at what has ended with each heartbeat.
                threading.Event().wait(1.5 + HEARTBEAT)
                held = {each.id: each for each in client.reservations()}
                assert held.keys() == {boards.id, detached.id}
                for each in held.values():
                    assert 3000 < (each.until - each.created).total_seconds() < 4000
            before = detached.document.until
            detached.extend(60)
            assert (detached.document.until - before).total_seconds() == 60
            detached.release()
        farm.wait_ready(client)
