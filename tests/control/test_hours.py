"""Hours of boards in a week: counted exactly, and what happens when they run out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.harness import Harness

from icebus.control.decide.hours import LEAST, WEEK, Use, free_again, has_left, runs_out, used
from icebus.control.decide.limits import Limit, Limits
from icebus.control.settings import Settings
from icebus.schemas.components import KnownPrincipal, Principals
from icebus.schemas.errors import DeviceUnavailable, LimitExceeded, NotEnoughDevices
from icebus.schemas.operations.reservations import EndReason, ReservationState

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)

seconds = st.integers(0, 14 * 86_400)


@st.composite
def held(draw: st.DrawFn) -> Use:
    began = NOW - timedelta(seconds=draw(seconds))
    if draw(st.booleans()):
        return Use(began)
    return Use(began, min(NOW, began + timedelta(seconds=draw(seconds))))


@given(st.lists(held(), max_size=6))
def test_then_each_second_of_the_week_counts_once_for_each_board(uses: list[Use]) -> None:
    apart = sum(used([use], NOW) for use in uses)

    assert used(uses, NOW) == pytest.approx(apart)
    assert 0 <= used(uses, NOW) <= len(uses) * WEEK.total_seconds()


@given(st.lists(held(), max_size=6), st.integers(1, 4), st.floats(0, 400))
def test_then_hours_do_not_run_out_before_the_moment_that_is_told(
    uses: list[Use], boards: int, limit: float
) -> None:
    past = [use if use.ended is not None else Use(use.began, NOW) for use in uses]
    until = runs_out(past, limit, boards, NOW)
    going_on = [*past, *(Use(NOW) for _ in range(boards))]

    if until > NOW:
        assert used(going_on, until) <= limit * 3600 + 1


@given(st.lists(held(), max_size=6), st.integers(1, 4), st.floats(0, 400))
def test_given_hours_that_are_used_up_then_there_are_some_when_it_was_told(
    uses: list[Use], boards: int, limit: float
) -> None:
    past = [use if use.ended is not None else Use(use.began, NOW) for use in uses]
    moment = free_again(uses, limit, boards, NOW)

    if moment is None:
        assert limit * 3600 < LEAST * boards
    else:
        assert has_left(past, limit, boards, moment)


def limited(**values: object) -> Settings:
    return Settings(max_duration=7 * 86_400, limits=Limits(Limit.model_validate(values)))


def test_given_few_hours_then_what_is_held_ends_with_them_and_nothing_more_is_given(
    harness: Harness,
) -> None:
    harness.worker("w1", "a", "b")
    harness.settings = limited(hours_a_week=4)
    begin = harness.now
    first = harness.reserve(serials=["a"], duration=86_400)
    assert first.until - begin == pytest.approx(4 * HOUR, abs=timedelta(seconds=1))

    harness.now = begin + HOUR
    second = harness.reserve(serials=["b"], duration=86_400)
    for each in (first, second):
        left = harness.current(each).until - harness.now
        assert left == pytest.approx(1.5 * HOUR, abs=timedelta(seconds=1))
    asked = harness.ask("alice", "limits")
    assert (asked["devices_held"], asked["hours_a_week"]) == (2, 4)
    assert asked["hours_used"] == pytest.approx(1, abs=0.01)

    harness.now = harness.current(first).until - timedelta(seconds=30)
    harness.wait(seconds=0)
    assert set(harness.events()) == {"reservation_ending_soon"}
    harness.wait(seconds=31)
    assert harness.end_reasons() == [EndReason.HOURS_USED_UP] * 2
    harness.report_ready("w1", "a", "b")
    with pytest.raises(LimitExceeded, match="used up the 4 board-hours") as refused:
        harness.reserve(count=1)
    again = datetime.fromisoformat(refused.value.details["free_again"])
    waiting = harness.reserve(count=1, wait=7 * 86_400)
    assert waiting.queue is not None
    assert "used up the 4 board-hours" in waiting.queue.reason
    assert harness.reserve("bob", count=1).state is ReservationState.PREPARING
    assert again - begin == pytest.approx(WEEK, abs=timedelta(minutes=2))


def test_given_hours_when_extended_then_not_beyond_them(harness: Harness) -> None:
    harness.worker("w1", "a")
    harness.settings = limited(hours_a_week=2)
    made = harness.reserve(count=1, duration=3600)

    harness.ask("alice", "extend", reservation=made.id, duration=86_400)

    left = harness.current(made).until - harness.now
    assert left == pytest.approx(2 * HOUR, abs=timedelta(seconds=1))


def test_given_a_reservation_that_changes_hands_then_each_has_used_his_own_part(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    harness.settings = limited(hours_a_week=10)
    made = harness.reserve(count=1, duration=7200)
    harness.now += HOUR
    harness.give(made, "alice", "bob")
    harness.now += HOUR / 2
    harness.ask("bob", "end", reservation=made.id)
    harness.now += HOUR

    assert harness.ask("alice", "limits")["hours_used"] == pytest.approx(1, abs=0.01)
    assert harness.ask("bob", "limits")["hours_used"] == pytest.approx(0.5, abs=0.01)


def test_given_groups_then_the_most_generous_counts_and_the_users_own_goes_before(
    harness: Harness,
) -> None:
    limits = Limits(
        Limit(devices=1, reservations=7),
        users={"alice": Limit(reservations=3)},
        groups={
            "students": Limit(devices=4, hours_a_week=20, selector="rack=a"),
            "night": Limit(devices=2, hours_a_week=None),
        },
    )

    assert limits.of("bob") == limits.default
    both = limits.of("alice", ("students", "night", "unknown"))
    assert (both.devices, both.reservations, both.hours_a_week) == (4, 3, None)
    assert both.selector == ("rack=a",)


def test_given_a_group_with_labels_then_its_members_have_such_boards_only(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    harness.worker("w2", "b")
    group = Limit(selector="worker=w2")
    harness.settings = Settings(limits=Limits(groups={"students": group}))
    people = [
        KnownPrincipal(id="main", role="control"),
        KnownPrincipal(id="alice", role="user", groups=["students"]),
        KnownPrincipal(id="bob", role="user"),
    ]
    harness.roster.on_principals(Principals(principals=people))

    assert harness.ask("alice", "available", kind="pulsecount")["serials"] == ["b"]
    with pytest.raises(DeviceUnavailable, match=r"beyond your limits.*worker=w2"):
        harness.reserve("alice", serials=["a"])
    with pytest.raises(NotEnoughDevices, match="1 beyond this user's limits"):
        harness.reserve("alice", count=2)
    assert [each.serial for each in harness.reserve("alice", count=1).devices] == ["b"]
    made = harness.reserve("bob", count=1)
    with pytest.raises(LimitExceeded, match="may have boards with worker=w2 only, and a is none"):
        harness.give(made, "bob", "alice")
