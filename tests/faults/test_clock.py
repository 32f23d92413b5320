"""Somebody sets the clock of the machine that broker, control and workers run on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.faults.conftest import WINDOW, check, mapping, some

from bench.farm import Farm, Shape
from icebus.client import PulseCountClient

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
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    return put


@pytest.fixture
def farm(clock: SetClock, tmp_path: Path, broker_class: object) -> Iterator[Farm]:
    """A farm of two boards that goes by that clock."""
    made = Farm(Shape(2, WINDOW), tmp_path)
    yield made
    made.stop()


def test_given_clocks_set_forth_and_back_by_hours_then_nobody_loses_anything(
    clock: SetClock, farm: Farm
) -> None:
    with PulseCountClient(farm.url) as client:
        farm.wait_ready(client)
        with client.reserve(1) as boards, client.reserve(1, detached=True) as detached:
            for offset in ("+3h", "-3h"):
                population = some(30)
                work = mapping(boards, population)
                work.wait(5)
                clock(offset)
                assert not check(work.done(), population, [])
                # All see it within a second; control looks at what has ended every second.
                threading.Event().wait(2.5)
                held = {each.id: each for each in client.reservations()}
                assert held.keys() == {boards.id, detached.id}
                for each in held.values():
                    assert 3000 < (each.until - each.created).total_seconds() < 4000
            before = detached.document.until
            detached.extend(60)
            assert (detached.document.until - before).total_seconds() == 60
            detached.release()
        farm.wait_ready(client)
