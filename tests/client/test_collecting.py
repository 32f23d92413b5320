"""Taking what a client that crashed had measured: all of it, and nothing before it is taken."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from icebus.client import PulseCountClient
from icebus.schemas.components import WorkerPhase
from icebus.schemas.errors import WorkerLost

if TYPE_CHECKING:
    from tests.client.scripted_worker import ScriptedWorker

KEPT = [f"e{number}" for number in range(150)]


def test_given_outcomes_that_nobody_took_when_collected_then_each_comes_once_and_is_forgotten(
    alice: PulseCountClient, w1: ScriptedWorker
) -> None:
    w1.kept, w1.twice = KEPT, True
    with alice.reserve(1) as boards:
        assert [outcome.evaluation for outcome in boards.collect()] == KEPT
        assert sorted(w1.acknowledged.seen) == sorted(KEPT)
        assert list(boards.collect()) == []


def test_given_a_collector_that_breaks_off_when_another_begins_then_it_gets_what_was_not_finished(
    alice: PulseCountClient, w1: ScriptedWorker
) -> None:
    w1.kept = KEPT[:5]
    with alice.reserve(1) as boards:
        with closing(boards.collect()) as outcomes:
            for outcome in outcomes:
                if outcome.evaluation == "e2":
                    break
        assert [outcome.evaluation for outcome in boards.collect()] == ["e2", "e3", "e4"]


def test_given_a_user_who_acknowledges_when_collecting_then_what_they_have_not_comes_again(
    alice: PulseCountClient, w1: ScriptedWorker
) -> None:
    w1.kept = KEPT[:5]
    with alice.reserve(1) as boards:
        for outcome in boards.collect(acknowledge=False):
            if outcome.evaluation in ("e0", "e3"):
                boards.acknowledge(outcome)
        boards._acknowledger.flush()
        w1.acknowledged.wait(lambda seen: len(seen) == 2)
        assert [outcome.evaluation for outcome in boards.collect()] == ["e1", "e2", "e4"]


def test_given_a_board_that_can_not_be_asked_when_collecting_then_that_is_told_after_the_rest(
    alice: PulseCountClient, w1: ScriptedWorker, w2: ScriptedWorker
) -> None:
    w1.kept = KEPT[:3]
    taken: list[str] = []
    with alice.reserve(2) as boards:
        gone = threading.Event()
        alice._connection.workers.listen(lambda _worker, _error: gone.set())
        w2.say(WorkerPhase.OFFLINE)
        assert gone.wait(10)
        with pytest.raises(WorkerLost, match="w2"):
            taken.extend(outcome.evaluation for outcome in boards.collect())
    assert taken == KEPT[:3]
