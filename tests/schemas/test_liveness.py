"""Who is there, who is gone, and whose word on it counts: as truth tables."""

from __future__ import annotations

from itertools import product

import pytest

from icebus.schemas.components import (
    ClientState,
    ControlState,
    Heartbeat,
    Presence,
    WorkerHeartbeat,
    WorkerPhase,
    WorkerState,
)
from icebus.schemas.liveness import (
    GONE,
    STALE_AFTER,
    Health,
    echo_age,
    health,
    is_gone,
    is_late,
    lists_all,
    retained_health,
)

INIT, READY, DRAINING = WorkerPhase.INIT, WorkerPhase.READY, WorkerPhase.DRAINING
LOST, OFFLINE = WorkerPhase.LOST, WorkerPhase.OFFLINE


def worker(phase: WorkerPhase, session: str = "one") -> WorkerState:
    return WorkerState(state=phase, session=session)


@pytest.mark.parametrize(
    ("phase", "gone", "complete"),
    [
        (INIT, False, False),
        (READY, False, True),
        (DRAINING, False, True),
        (OFFLINE, True, False),
        (LOST, True, False),
    ],
)
def test_given_a_phase_then_it_is_known_whether_its_worker_is_gone(
    phase: WorkerPhase, gone: bool, complete: bool
) -> None:
    assert is_gone(worker(phase)) is gone
    assert lists_all(worker(phase)) is complete
    assert (phase in GONE) is gone


@pytest.mark.parametrize("model", [ControlState, ClientState])
@pytest.mark.parametrize(
    ("presence", "gone"),
    [(Presence.ONLINE, False), (Presence.OFFLINE, True), (Presence.LOST, True)],
)
def test_given_a_presence_then_the_same_words_mean_gone(
    model: type[ControlState | ClientState], presence: Presence, gone: bool
) -> None:
    assert is_gone(model(state=presence, session="one")) is gone


@pytest.mark.parametrize(
    ("before", "after", "late"),
    [
        # The end of a run that another has replaced, by the broker's word or its own.
        ((READY, "new"), (LOST, "old"), True),
        ((READY, "new"), (OFFLINE, "old"), True),
        ((INIT, "new"), (LOST, "old"), True),
        ((DRAINING, "new"), (OFFLINE, "old"), True),
        # The end of the very run that is known.
        ((READY, "one"), (LOST, "one"), False),
        ((READY, "one"), (OFFLINE, "one"), False),
        # Whoever says that he is there is there.
        ((READY, "new"), (READY, "old"), False),
        ((READY, "old"), (INIT, "new"), False),
        ((LOST, "one"), (READY, "one"), False),
        # There is no successor whose end it could be taken for.
        ((LOST, "old"), (OFFLINE, "new"), False),
        ((OFFLINE, "old"), (LOST, "new"), False),
    ],
)
def test_given_two_states_of_a_component_then_only_the_end_of_a_replaced_run_is_late(
    before: tuple[WorkerPhase, str], after: tuple[WorkerPhase, str], late: bool
) -> None:
    assert is_late(worker(*before), worker(*after)) is late


@pytest.mark.parametrize("phase", WorkerPhase)
def test_given_a_first_state_then_it_is_never_late(phase: WorkerPhase) -> None:
    assert is_late(None, worker(phase)) is False


def test_given_a_client_then_the_same_states_are_late() -> None:
    new = ClientState(state=Presence.ONLINE, session="new")
    for presence in Presence:
        old = ClientState(state=presence, session="old")
        assert is_late(new, old) is (presence is not Presence.ONLINE)


@pytest.mark.parametrize(
    ("answers", "expected", "phases"),
    [
        (True, True, {INIT: "unschedulable", READY: "ready", DRAINING: "unschedulable"}),
        (True, False, {INIT: "unschedulable", READY: "ready", DRAINING: "unschedulable"}),
        (False, True, {INIT: "gone", READY: "gone", DRAINING: "gone"}),
        (False, False, {INIT: "unknown", READY: "unknown", DRAINING: "unknown"}),
    ],
)
def test_given_a_worker_that_is_there_then_its_answers_decide(
    answers: bool, expected: bool, phases: dict[WorkerPhase, str]
) -> None:
    found = {
        phase: health(worker(phase), answers=answers, expected=expected).value for phase in phases
    }
    assert found == phases


@pytest.mark.parametrize(("answers", "expected"), [*product((True, False), repeat=2)])
def test_given_a_worker_that_is_gone_then_no_answer_brings_it_back(
    answers: bool, expected: bool
) -> None:
    for phase in (LOST, OFFLINE):
        assert health(worker(phase), answers=answers, expected=expected) is Health.GONE


def test_given_a_worker_of_which_nothing_is_known_then_it_is_gone_once_it_had_its_time() -> None:
    assert health(None, answers=False, expected=False) is Health.UNKNOWN
    assert health(None, answers=False, expected=True) is Health.GONE
    assert health(None, answers=True, expected=True) is Health.GONE


def test_given_a_health_then_it_says_whether_the_worker_answers() -> None:
    assert {each: each.answers for each in Health} == {
        Health.READY: True,
        Health.UNSCHEDULABLE: True,
        Health.UNKNOWN: None,
        Health.GONE: False,
    }


BEAT = Heartbeat(epoch="e", sequence=10, interval=2.0)


def echo(sequence: int, *, epoch: str = "e", session: str = "one") -> WorkerHeartbeat:
    return WorkerHeartbeat(epoch=epoch, sequence=sequence, session=session)


@pytest.mark.parametrize(
    ("heartbeat", "answer", "age"),
    [
        (BEAT, echo(10), 0.0),
        (BEAT, echo(8), 4.0),
        (BEAT, echo(11), 0.0),
        (BEAT, echo(10, epoch="another"), None),
        (BEAT, None, None),
        (None, echo(10), None),
    ],
)
def test_given_an_echo_then_its_age_is_counted_in_heartbeats(
    heartbeat: Heartbeat | None, answer: WorkerHeartbeat | None, age: float | None
) -> None:
    assert echo_age(heartbeat, answer) == age


@pytest.mark.parametrize(
    ("state", "heartbeat", "answer", "found"),
    [
        (worker(READY), BEAT, echo(10), Health.READY),
        (worker(READY), BEAT, echo(10 - STALE_AFTER), Health.READY),
        (worker(READY), BEAT, echo(9 - STALE_AFTER), Health.GONE),
        (worker(DRAINING), BEAT, echo(10), Health.UNSCHEDULABLE),
        (worker(READY), BEAT, None, Health.GONE),
        # A run of the worker does not live by the answers of another one.
        (worker(READY), BEAT, echo(10, session="another"), Health.GONE),
        # Nobody can answer where nothing is asked.
        (worker(READY), None, None, Health.UNKNOWN),
        (worker(READY), None, echo(10), Health.UNKNOWN),
        (worker(LOST), None, None, Health.GONE),
        (worker(OFFLINE), BEAT, echo(10), Health.GONE),
        (None, BEAT, echo(10), Health.GONE),
        (None, None, None, Health.GONE),
    ],
)
def test_given_what_is_retained_of_a_worker_then_its_health_follows(
    state: WorkerState | None,
    heartbeat: Heartbeat | None,
    answer: WorkerHeartbeat | None,
    found: Health,
) -> None:
    assert retained_health(state, heartbeat, answer) is found
