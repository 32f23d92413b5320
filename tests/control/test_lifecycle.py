"""The tables of transitions, and that judging a device never leaves them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icebus.control.decide.lifecycle import (
    HOLD,
    LIVE_HOLDS,
    LIVE_RESERVATIONS,
    RESERVATION,
    IllegalTransition,
    advance,
    advance_hold,
)
from icebus.control.decide.reconciler import Held, Observed, Verdict, judge
from icebus.control.store.tables import DeviceRow, ReservationRow
from icebus.schemas.devices import DeviceReport, DeviceState
from icebus.schemas.liveness import Health
from icebus.schemas.message import now
from icebus.schemas.operations.reservations import HoldState, ReservationState

GENERATION = 7

reports = st.builds(
    DeviceReport,
    serial=st.just("a"),
    state=st.sampled_from(DeviceState),
    since=st.just(now()),
    reason=st.sampled_from(["", "no answer"]),
    session=st.just("s"),
    generation=st.integers(GENERATION - 1, GENERATION + 1),
    reservation=st.sampled_from([None, "r", "other"]),
)
sightings = st.builds(
    Observed,
    report=st.none() | reports,
    current=st.booleans(),
    health=st.sampled_from(Health),
    why_gone=st.just("worker w1 died"),
)


def hold(state: HoldState) -> Held:
    return Held(reservation="r", worker="w1", generation=GENERATION, state=state)


def report(state: DeviceState, **fields: object) -> DeviceReport:
    values = {"generation": GENERATION, "reservation": "r", **fields}
    return DeviceReport.model_validate(
        {"serial": "a", "state": state, "since": now(), "session": "s", **values}
    )


@settings(max_examples=100)
@given(before=st.sampled_from(ReservationState), after=st.sampled_from(ReservationState))
def test_when_a_reservation_steps_then_only_as_the_table_says(
    before: ReservationState, after: ReservationState
) -> None:
    if after in RESERVATION[before]:
        assert advance(before, after) is after
    else:
        with pytest.raises(IllegalTransition):
            advance(before, after)


@settings(max_examples=100)
@given(path=st.lists(st.sampled_from(ReservationState), max_size=30))
def test_given_any_wishes_then_a_reservation_ends_at_most_once_and_never_revives(
    path: list[ReservationState],
) -> None:
    state = ReservationState.QUEUED
    seen = [state]
    for wish in path:
        if wish in RESERVATION[state]:
            state = advance(state, wish)
            seen.append(state)

    assert len(seen) == len(set(seen))
    assert ReservationState.ENDED not in seen[:-1]


def test_then_every_state_but_the_last_leads_to_the_end() -> None:
    for state in LIVE_RESERVATIONS:
        reached, frontier = set(), {state}
        while frontier:
            reached |= frontier
            frontier = {after for each in frontier for after in RESERVATION[each]} - reached
        assert ReservationState.ENDED in reached
    assert set(ReservationState) - set(LIVE_RESERVATIONS) == {ReservationState.ENDED}
    assert all(HoldState.RELEASED in HOLD[state] for state in LIVE_HOLDS)


@settings(max_examples=100)
@given(state=st.sampled_from(LIVE_HOLDS), seen=sightings)
def test_given_anything_seen_when_judged_then_the_step_is_allowed(
    state: HoldState, seen: Observed
) -> None:
    verdict = judge(hold(state), seen)

    if verdict.state is not state:
        assert advance_hold(state, verdict.state) is verdict.state
    assert verdict.state is not HoldState.RELEASED
    failed = verdict.state is HoldState.FAILED and state is not HoldState.FAILED
    assert verdict.code or not failed


@settings(max_examples=100)
@given(state=st.sampled_from(LIVE_HOLDS), seen=sightings)
def test_given_anything_seen_when_judged_serving_then_its_worker_says_so_of_this_reservation(
    state: HoldState, seen: Observed
) -> None:
    verdict = judge(hold(state), seen)

    if verdict.state is HoldState.SERVING and state is not HoldState.SERVING:
        assert seen.current
        assert seen.health is not Health.GONE
        assert seen.report is not None
        assert seen.report.state is DeviceState.SERVING
        assert seen.report.reservation == "r"
        assert seen.report.generation >= GENERATION


@pytest.mark.parametrize(
    ("before", "seen", "after"),
    [
        (
            HoldState.PREPARING,
            Observed(report(DeviceState.BROKEN, reason="no answer"), True, Health.READY),
            Verdict(HoldState.FAILED, "no answer", "device_failed"),
        ),
        (
            HoldState.SERVING,
            Observed(report(DeviceState.ABSENT), True, Health.READY),
            Verdict(HoldState.FAILED, "unplugged", "device_unplugged"),
        ),
        (
            HoldState.SERVING,
            Observed(report(DeviceState.SERVING), True, Health.GONE, "worker w1 died"),
            Verdict(HoldState.FAILED, "worker w1 died", "worker_lost"),
        ),
        (
            HoldState.SERVING,
            Observed(report(DeviceState.SERVING), False, Health.READY),
            Verdict(HoldState.FAILED, "worker w1 was restarted", "worker_lost"),
        ),
        (
            HoldState.SERVING,
            Observed(report(DeviceState.SERVING), False, Health.UNKNOWN),
            Verdict(HoldState.SERVING),
        ),
        (
            HoldState.SERVING,
            Observed(report(DeviceState.FLASHING, reason="repair"), True, Health.READY),
            Verdict(HoldState.PREPARING, "repair"),
        ),
        (
            HoldState.FAILED,
            Observed(report(DeviceState.PREPARING), True, Health.READY),
            Verdict(HoldState.FAILED),
        ),
        (
            HoldState.FAILED,
            Observed(report(DeviceState.SERVING), True, Health.READY),
            Verdict(HoldState.SERVING),
        ),
        (
            HoldState.PREPARING,
            Observed(report(DeviceState.SERVING, generation=GENERATION - 1), True, Health.READY),
            Verdict(HoldState.PREPARING),
        ),
        (
            HoldState.PREPARING,
            Observed(report(DeviceState.READY), True, Health.READY),
            Verdict(HoldState.PREPARING),
        ),
    ],
)
def test_when_judged_then_the_hold_stands_as_the_device_does(
    before: HoldState, seen: Observed, after: Verdict
) -> None:
    assert judge(hold(before), seen) == after


def test_given_no_reservation_then_nothing_but_rest_is_desired() -> None:
    device = DeviceRow(serial="a", worker="w1", generation=3, report={})

    wanted = device.desired(None)

    assert (wanted.generation, wanted.reservation, wanted.user) == (3, None, None)


def test_given_a_reservation_then_its_kind_args_and_end_are_desired() -> None:
    device = DeviceRow(serial="a", worker="w1", generation=4, report={})
    row = ReservationRow(
        id="r",
        user="alice",
        kind="pulsecount",
        args={"window": 1},
        state=ReservationState.ACTIVE,
        created=now(),
        until=now(),
    )

    wanted = device.desired(row)

    assert (wanted.reservation, wanted.user, wanted.kind) == ("r", "alice", "pulsecount")
    assert (wanted.args, wanted.until) == ({"window": 1}, row.until)
