"""Reservations that are offered: who may offer what to whom, and what becomes of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.control.harness import Harness

from icebus.control.decide.limits import Limit, Limits
from icebus.control.operations.requests.offers import OFFERS_FOR_ONE, OFFERS_TO_ONE
from icebus.control.settings import Settings
from icebus.schemas.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    LimitExceeded,
    ReservationEnded,
    UnknownPrincipal,
)
from icebus.schemas.operations.reservations import HoldState, Reservation


@pytest.fixture
def two(harness: Harness) -> Harness:
    """Two boards; alice, bob and carol are users, ada is an admin, wall looks on."""
    harness.worker("w1", "a", "b")
    harness.tell_roster(
        alice="user", bob="user", carol="user", ada="admin", wall="observer", w1="worker"
    )
    return harness


def offer(harness: Harness, made: Reservation, to: str = "bob", **args: Any) -> Reservation:
    reply = harness.ask("alice", "transfer", reservation=made.id, user=to, **args)
    return Reservation.model_validate(reply["reservation"])


def event_topics(harness: Harness) -> list[str]:
    return [each.topic for each in harness.sent if "/event/" in each.topic]


def events_of(made: Reservation, event: str, *users: str) -> list[str]:
    return [f"user/{user}/reservation/{made.id}/event/control/all/{event}" for user in users]


def test_given_a_reservation_when_offered_then_it_serves_its_holder_and_the_other_hears_of_it(
    two: Harness,
) -> None:
    made = two.reserve(count=1, client="c")
    two.report_serving("w1", made)

    offered = offer(two, made, wait=60)

    assert (offered.user, offered.client) == ("alice", None)
    assert offered.offer is not None
    assert (offered.offer.to, offered.offer.until) == ("bob", two.now + timedelta(seconds=60))
    assert event_topics(two) == events_of(made, "offered", "bob")
    assert [device.state for device in offered.devices] == [HoldState.SERVING]
    assert two.published_desired() == {}, "its worker goes on"
    two.ask("alice", "extend", reservation=made.id, duration=10)
    with pytest.raises(Forbidden):
        two.ask("bob", "extend", reservation=made.id, duration=10)


@pytest.mark.parametrize("taker", ["bob", "ada"])
def test_given_an_offer_when_accepted_then_it_is_the_others_alone(two: Harness, taker: str) -> None:
    made = two.reserve(count=1)
    offer(two, made, taker)

    reply = two.ask(taker, "accept", reservation=made.id)

    moved = Reservation.model_validate(reply["reservation"])
    assert (moved.user, moved.offer, moved.client) == (taker, None, None)
    assert event_topics(two) == events_of(made, "transferred", "alice")
    assert ("offered", "alice", None) in two.history(reservation=made.id)
    assert ("transferred", taker, None) in two.history(reservation=made.id)
    with pytest.raises(Forbidden):
        two.ask(taker, "accept", reservation=made.id)


@pytest.mark.parametrize(
    ("who", "operation", "reason"),
    [("bob", "decline", "declined"), ("alice", "transfer", "withdrawn")],
)
def test_given_an_offer_when_declined_or_withdrawn_then_both_hear_and_nobody_can_accept(
    two: Harness, who: str, operation: str, reason: str
) -> None:
    made = two.reserve(count=1)
    offer(two, made)

    two.ask(who, operation, reservation=made.id)

    assert event_topics(two) == events_of(made, "offer_ended", "alice", "bob")
    [data] = {each.message.data.reason for each in two.sent if "/event/" in each.topic}  # type: ignore[union-attr]
    assert data == reason
    assert two.current(made).offer is None
    assert two.current(made).user == "alice"
    with pytest.raises(Forbidden, match="not offered to bob"):
        two.ask("bob", "accept", reservation=made.id)


def test_given_an_offer_when_its_time_is_over_then_it_ends_and_the_reservation_goes_on(
    two: Harness,
) -> None:
    made = two.reserve(count=1, duration=600)
    offer(two, made, wait=60)

    two.now += timedelta(seconds=60)
    with pytest.raises(Forbidden, match="has expired; ask alice"):
        two.ask("bob", "accept", reservation=made.id)
    two.wait(seconds=0)

    assert event_topics(two) == events_of(made, "offer_ended", "alice", "bob")
    assert two.current(made).user == "alice"
    assert two.current(made).offer is None


def test_given_an_offer_when_the_reservation_ends_then_both_hear_that(two: Harness) -> None:
    made = two.reserve(count=1)
    offer(two, made)

    two.ask("alice", "end", reservation=made.id)

    assert event_topics(two) == [
        *events_of(made, "offer_ended", "alice", "bob"),
        *events_of(made, "reservation_ended", "alice"),
    ]
    with pytest.raises(ReservationEnded):
        two.ask("bob", "accept", reservation=made.id)


@pytest.mark.parametrize(
    ("to", "error", "said"),
    [
        ("bobb", UnknownPrincipal, "no user bobb; .*icebus-broker add bobb"),
        ("wall", InvalidRequest, "wall is of role observer"),
        ("w1", InvalidRequest, "w1 is of role worker"),
        ("main", InvalidRequest, "main is of role control"),
        ("alice", InvalidRequest, "alice's already"),
    ],
)
def test_given_somebody_who_can_have_none_when_offered_to_then_refused(
    two: Harness, to: str, error: type[Exception], said: str
) -> None:
    made = two.reserve(count=1)

    with pytest.raises(error, match=said):
        offer(two, made, to)

    assert two.current(made).offer is None


def test_given_a_broker_that_tells_nobody_who_there_is_then_offered_to_any_name(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    made = harness.reserve(count=1)

    assert offer(harness, made, "anybody").user == "alice"


def test_given_an_offer_when_made_again_then_it_is_the_same_and_to_another_it_is_refused(
    two: Harness,
) -> None:
    made = two.reserve(count=1)
    first = offer(two, made, wait=60)

    again = offer(two, made, wait=600)

    assert again == first
    assert event_topics(two) == []
    with pytest.raises(Conflict, match=r"offered to bob; `icebus transfer .* --withdraw`"):
        offer(two, made, "carol")


def test_given_no_offer_when_withdrawn_or_answered_then_refused(two: Harness) -> None:
    made = two.reserve(count=1)

    with pytest.raises(InvalidRequest, match="offered to nobody"):
        two.ask("alice", "transfer", reservation=made.id)
    for operation in ("accept", "decline"):
        for user in ("alice", "bob", "carol"):
            with pytest.raises(Forbidden):
                two.ask(user, operation, reservation=made.id)


def test_given_an_offer_to_another_when_answered_then_it_stands(two: Harness) -> None:
    made = two.reserve(count=1)
    offer(two, made)

    for operation in ("accept", "decline"):
        with pytest.raises(Forbidden):
            two.ask("carol", operation, reservation=made.id)

    assert two.current(made).offer is not None


def test_given_many_queued_reservations_when_pushed_on_one_user_then_few_offers_stand(
    two: Harness,
) -> None:
    two.reserve("carol", count=2)
    queued = [two.reserve(count=1, wait=600) for _ in range(OFFERS_TO_ONE + 1)]
    for each in queued[:OFFERS_TO_ONE]:
        offer(two, each)

    with pytest.raises(LimitExceeded, match=f"bob has not yet answered {OFFERS_TO_ONE} offers"):
        offer(two, queued[-1])
    offer(two, queued[-1], "ada")
    assert not [each for each in two.live() if each.user == "bob"], "none counts for bob"
    two.ask("bob", "decline", reservation=queued[0].id)
    offer(two, queued[0])


def test_given_many_givers_when_they_offer_to_one_then_that_is_bounded_too(two: Harness) -> None:
    harness = two
    harness.reserve("carol", count=2)
    givers = [f"giver{number}" for number in range(OFFERS_FOR_ONE // OFFERS_TO_ONE + 1)]
    harness.tell_roster(bob="user", **dict.fromkeys(givers, "user"))

    for giver in givers[:-1]:
        for _ in range(OFFERS_TO_ONE):
            made = harness.reserve(giver, count=1, wait=600)
            harness.ask(giver, "transfer", reservation=made.id, user="bob")
    made = harness.reserve(givers[-1], count=1, wait=600)
    with pytest.raises(LimitExceeded, match=f"{OFFERS_FOR_ONE} may stand; try again later"):
        harness.ask(givers[-1], "transfer", reservation=made.id, user="bob")


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        (Limit(devices=1), "bob wants 2 devices, but may hold 1"),
        (Limit(priority=0), "priority 0 at most, not 5"),
        (Limit(reservations=0), "0 reservations of 0 allowed"),
    ],
)
@pytest.mark.parametrize("queued", [False, True])
def test_given_a_receiver_who_could_not_have_made_it_when_accepted_then_refused_and_it_stands(
    two: Harness, limit: Limit, said: str, queued: bool
) -> None:
    if queued:
        two.reserve("carol", count=2)
    made = two.reserve(count=2, wait=600 if queued else 0, priority=5)
    two.settings = Settings(limits=Limits(users={"bob": limit}))
    offer(two, made)

    with pytest.raises(LimitExceeded, match=said):
        two.ask("bob", "accept", reservation=made.id)

    assert two.current(made).user == "alice"
    assert two.current(made).offer is not None


def test_given_what_is_offered_then_it_counts_for_its_holder(two: Harness) -> None:
    two.settings = Settings(limits=Limits(Limit(reservations=1)))
    offer(two, two.reserve(count=1))

    with pytest.raises(LimitExceeded, match="1 reservation of 1 allowed"):
        two.reserve(count=1)
    assert two.reserve("bob", count=1).user == "bob"


@pytest.mark.parametrize("words", [{"wait": 0}, {"wait": 8 * 86_400}, {"user": "a b"}])
def test_given_a_request_that_makes_no_sense_then_refused(
    two: Harness, words: dict[str, Any]
) -> None:
    made = two.reserve(count=1)

    with pytest.raises(InvalidRequest):
        two.ask("alice", "transfer", **{"reservation": made.id, "user": "bob", **words})


def test_given_a_clock_that_is_set_then_an_offer_lasts_as_long_as_it_would_have(
    two: Harness,
) -> None:
    from icebus.control.operations.due import expiry

    made = two.reserve(count=1, duration=3600)
    offer(two, made, wait=60)

    two.now += timedelta(hours=5)
    two.run(lambda transaction: expiry.shift(transaction, 5 * 3600.0))

    two.wait(seconds=59)
    assert two.current(made).offer is not None
    two.wait(seconds=2)
    assert two.current(made).offer is None
