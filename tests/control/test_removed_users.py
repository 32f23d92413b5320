"""Users whom the broker knows no more: what they had ends, and nothing else does."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlmodel import select
from tests.control.harness import Harness

from icebus.control.operations import hours
from icebus.control.operations.due import absent_clients, expiry
from icebus.control.operations.due.removed_users import LATE, compare_with_roster
from icebus.control.store.tables import RequestRow
from icebus.schemas.components import KnownPrincipal, Presence, Principals
from icebus.schemas.errors import Forbidden
from icebus.schemas.operations.reservations import EndReason


def compare(harness: Harness) -> None:
    harness.run(compare_with_roster)


@pytest.fixture
def two(harness: Harness) -> Harness:
    harness.worker("w1", "a", "b")
    harness.tell_roster(alice="user", bob="user", w1="worker")
    return harness


def test_given_a_user_who_is_removed_then_all_of_hers_ends_and_nobody_elses(two: Harness) -> None:
    held = two.reserve("alice", count=1)
    others = two.reserve("bob", count=1)
    two.reserve("alice", count=1, wait=600)
    two.now += LATE

    two.tell_roster(bob="user", w1="worker")
    compare(two)

    assert two.end_reasons() == [EndReason.USER_REMOVED] * 2
    assert two.published_desired() == {device.serial: None for device in held.devices}
    assert [each.id for each in two.live()] == [others.id]
    entries = two.ask("anybody", "history", reservation=held.id, events=["ended"])["entries"]
    assert entries[0]["reason"] == "user_removed: alice was removed from the broker"
    compare(two)
    assert two.documents() == []


@pytest.mark.parametrize("role", ["observer", "worker"])
def test_given_a_user_in_another_role_then_hers_ends(two: Harness, role: str) -> None:
    held = two.reserve("alice", count=1)
    two.now += LATE

    two.tell_roster(alice=role, bob="user", w1="worker")
    compare(two)

    assert two.end_reasons() == [EndReason.USER_REMOVED]
    [entry] = two.ask("anybody", "history", reservation=held.id, events=["ended"])["entries"]
    assert entry["reason"] == f"user_removed: alice is of role {role} now"


def test_given_a_user_who_becomes_an_admin_or_has_a_new_password_then_hers_goes_on(
    two: Harness,
) -> None:
    two.reserve("alice", count=1)
    two.now += LATE

    two.tell_roster(alice="admin", bob="user", w1="worker")
    compare(two)

    assert [each.user for each in two.live()] == ["alice"]


@pytest.mark.parametrize(
    "told",
    [
        None,
        Principals(principals=[]),
        Principals(principals=[KnownPrincipal(id="bob", role="user")]),
        Principals(principals=[KnownPrincipal(id="main", role="user")]),
    ],
)
def test_given_a_list_that_can_not_be_true_then_nothing_ends(
    two: Harness, told: Principals | None
) -> None:
    two.reserve("alice", count=1)
    two.now += LATE

    two.roster.on_principals(told)
    compare(two)

    assert [each.user for each in two.live()] == ["alice"]


def test_given_a_broker_that_tells_nobody_who_there_is_then_nothing_ends(harness: Harness) -> None:
    harness.worker("w1", "a")
    harness.reserve("alice", count=1)
    harness.now += LATE

    compare(harness)

    assert [each.user for each in harness.live()] == ["alice"]


def test_given_a_user_of_whom_we_have_not_heard_yet_then_hers_ends_only_when_that_lasts(
    two: Harness,
) -> None:
    two.reserve("carol", count=1)

    compare(two)
    assert [each.user for each in two.live()] == ["carol"]
    two.now += LATE
    compare(two)
    assert two.live() == []


def known(name: str, incarnation: str | None) -> KnownPrincipal:
    return KnownPrincipal(id=name, role="user", incarnation=incarnation)


def tell(harness: Harness, *people: KnownPrincipal) -> None:
    us = KnownPrincipal(id="main", role="control")
    w1 = KnownPrincipal(id="w1", role="worker")
    assert harness.roster.on_principals(Principals(principals=[us, w1, *people]))


def test_given_a_user_who_was_removed_and_added_again_at_once_then_nothing_is_inherited(
    two: Harness,
) -> None:
    tell(two, known("alice", "first"))
    two.reserve("alice", count=1)
    two.now += LATE
    tell(two, known("alice", "first"))
    compare(two)
    assert len(two.live()) == 1

    tell(two, known("alice", "second"))
    compare(two)

    assert two.end_reasons() == [EndReason.USER_REMOVED]
    made = two.reserve("alice", count=1)
    two.now += LATE
    compare(two)
    assert [each.id for each in two.live()] == [made.id]


@pytest.mark.parametrize(
    "after",
    [
        [],
        [known("alice", "second")],
        [KnownPrincipal(id="alice", role="observer", incarnation="1")],
    ],
    ids=["removed", "removed and added again", "an observer now"],
)
def test_given_a_young_reservation_of_somebody_we_knew_then_it_ends_at_once_and_says_why(
    two: Harness, after: list[KnownPrincipal]
) -> None:
    tell(two, known("alice", "1"))
    two.reserve("alice", count=1, client="c")

    tell(two, *after)
    compare(two)

    assert two.end_reasons() == [EndReason.USER_REMOVED]


def test_given_somebody_who_was_dismissed_and_is_back_then_what_she_reserves_stays(
    two: Harness,
) -> None:
    tell(two, known("alice", "1"))
    tell(two, KnownPrincipal(id="alice", role="observer", incarnation="1"))
    tell(two, known("alice", "1"))
    two.reserve("alice", count=1)

    compare(two)

    assert len(two.live()) == 1


def test_given_a_removed_user_whose_client_is_missed_before_that_counts_then_she_was_removed(
    two: Harness,
) -> None:
    two.reserve("alice", count=1, client="c")
    two.run(lambda each: absent_clients.on_presence(each, "alice", "c", Presence.LOST))
    two.tell_roster(bob="user", w1="worker")
    compare(two)
    assert len(two.live()) == 1

    two.now += timedelta(seconds=two.settings.grace)
    two.run(lambda each: expiry.do_due(each, connected=True))

    assert two.end_reasons() == [EndReason.USER_REMOVED]


def test_given_an_offer_to_somebody_who_is_removed_then_it_ends_and_the_giver_keeps_his(
    two: Harness,
) -> None:
    made = two.reserve("alice", count=1)
    two.ask("alice", "transfer", reservation=made.id, user="bob")
    two.now += LATE

    two.tell_roster(alice="user", w1="worker")
    compare(two)

    assert two.events() == ["offer_ended", "offer_ended"]
    assert two.current(made).offer is None
    assert two.current(made).user == "alice"


def test_given_an_offer_to_somebody_who_is_removed_and_added_again_at_once_then_nobody_inherits_it(
    two: Harness,
) -> None:
    tell(two, known("alice", "hers"), known("bob", "first"))
    made = two.reserve("alice", count=1)
    two.ask("alice", "transfer", reservation=made.id, user="bob")
    two.now += LATE
    compare(two)
    assert two.current(made).offer is not None

    tell(two, known("alice", "hers"), known("bob", "second"))
    with pytest.raises(Forbidden, match="not offered to bob"):
        two.ask("bob", "accept", reservation=made.id)
    compare(two)

    assert two.current(made).offer is None
    assert two.current(made).user == "alice"
    two.ask("alice", "transfer", reservation=made.id, user="bob")
    two.ask("bob", "accept", reservation=made.id)
    compare(two)
    assert two.current(made).user == "bob"


def test_given_answers_to_somebody_who_is_removed_then_they_are_forgotten(two: Harness) -> None:
    two.reserve("alice", name="r1", count=1)
    two.now += LATE

    two.tell_roster(bob="user", w1="worker")
    compare(two)

    assert two.run(lambda transaction: transaction.session.get(RequestRow, ("alice", "r1"))) is None


def test_given_a_worker_that_is_removed_when_all_workers_are_told_then_it_is_retired(
    two: Harness,
) -> None:
    two.worker("oslo1", "c")
    us = KnownPrincipal(id="main", role="control")
    site = KnownPrincipal(id="oslo", role="worker", speaks_for=["oslo1"])

    two.roster.on_principals(
        Principals(principals=[us, site, KnownPrincipal(id="x", role="worker")])
    )
    compare(two)
    assert two.roster.all_told is None, "whether x is all of a site's workers was not told"
    assert len(two.ask("anybody", "devices")["devices"]) == 3
    two.roster.on_principals(Principals(principals=[us, site]))
    compare(two)

    devices = two.ask("anybody", "devices")["devices"]
    assert [each["worker"] for each in devices] == ["oslo1"]


def tell_incarnation(harness: Harness, **incarnations: str) -> None:
    known = [
        KnownPrincipal(id=name, role="user", incarnation=each)
        for name, each in incarnations.items()
    ]
    known += [
        KnownPrincipal(id="w1", role="worker"),
        KnownPrincipal(id="main", role="control"),
    ]
    assert harness.roster.on_principals(Principals(principals=known))


@pytest.mark.parametrize("seen_between", [True, False])
def test_given_a_name_that_another_has_at_once_then_hours_and_answers_are_not_the_new_ones(
    harness: Harness, seen_between: bool
) -> None:
    harness.worker("w1", "a", "b")
    tell_incarnation(harness, alice="first", bob="only")
    harness.reserve("alice", count=1, name="request-1")
    harness.reserve("bob", count=1, name="request-2")
    harness.now += timedelta(hours=2)
    if seen_between:
        tell_incarnation(harness, bob="only")
        compare(harness)
        harness.now += LATE

    tell_incarnation(harness, alice="second", bob="only")
    compare(harness)

    had = harness.run(lambda transaction: hours.uses(transaction, "alice"))
    others = harness.run(lambda transaction: hours.uses(transaction, "bob"))
    assert had == []
    assert len(others) == 1
    rows = harness.run(lambda transaction: list(transaction.session.exec(select(RequestRow.user))))
    assert rows == ["bob"]


def test_given_a_name_that_another_has_then_what_the_new_one_asks_is_remembered(
    harness: Harness,
) -> None:
    harness.worker("w1", "a", "b")
    tell_incarnation(harness, alice="first")
    harness.reserve("alice", count=1, name="request-1")
    harness.now += timedelta(minutes=2)
    tell_incarnation(harness, alice="second")
    compare(harness)
    harness.now += timedelta(seconds=1)
    harness.reserve("alice", count=1, name="request-2")

    harness.now += LATE + LATE
    compare(harness)

    rows = harness.run(lambda transaction: list(transaction.session.exec(select(RequestRow.id))))
    assert rows == ["request-2"]
    assert len(harness.run(lambda transaction: hours.uses(transaction, "alice"))) == 1
