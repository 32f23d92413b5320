"""A control that is killed at any moment of a request: the next one ends it, and once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.control.cluster import Ask, Cluster, Member

from icebus.control.store.database import Database

pytestmark = pytest.mark.slow

MOST_MOMENTS = 60
"""More than any request here has."""

STEPS = {"sqlite": 1, "postgresql": 5}
"""Every moment is tried where that is quick. The moments are the same everywhere."""

Prepare = Callable[[Member], dict[str, Any]]


def nothing(_control: Member) -> dict[str, Any]:
    return {"kind": "pulsecount", "count": 2}


def a_reservation(control: Member) -> dict[str, Any]:
    made = control.ask("reserve", "before", kind="pulsecount", count=2)
    return {"reservation": made.ok["reservation"]["id"]}


def one_that_may_last(control: Member) -> dict[str, Any]:
    return {**a_reservation(control), "duration": 60}


def a_queue(control: Member) -> dict[str, Any]:
    """Somebody waits for what is released."""
    held = a_reservation(control)
    control.ask("reserve", "waiting", kind="pulsecount", count=3, wait=3600)
    return held


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = Database(database_url)
    yield made
    made.close()


def outcome(asked: Ask) -> Any:
    assert asked.error is None
    return asked.ok


@pytest.mark.parametrize("dies", ["alone", "leading", "following"])
@pytest.mark.parametrize(
    ("operation", "prepare", "left"),
    [
        ("reserve", nothing, 1),
        ("extend", one_that_may_last, 1),
        ("end", a_queue, 1),
    ],
)
def test_given_a_control_that_dies_at_any_moment_of_a_request_when_sent_again_then_done_once(
    database: Database, backend: str, operation: str, prepare: Prepare, left: int, dies: str
) -> None:
    for moments in range(0, MOST_MOMENTS, STEPS[backend]):
        scene = Cluster(database, "a", "b", "c")
        first = scene.start()
        other = first if dies == "alone" else scene.start()
        mortal = other if dies == "following" else first
        args = prepare(first)

        mortal.life.left = moments
        asked = mortal.ask(operation, "it", **args)
        answered = asked.ok
        survived = mortal.alive
        mortal.life.left = None
        if dies == "alone" and not survived:
            other = scene.start()
        again = (first if dies == "following" else other).ask(operation, "it", **args)

        assert outcome(again) is not None
        assert answered in (None, again.ok)
        assert len(scene.reservations()) == left
        scene.check()
        if survived:
            assert moments > 1
            return
    pytest.fail("it died at every one of them")
