"""Who is connected to a dashboard when more want to be than may."""

from __future__ import annotations

from icebus.client.dashboard.places import Place, Places


def place(who: str, *, signed_in: bool = True) -> Place:
    return Place(who, lambda: None, signed_in)


def test_given_all_places_taken_then_who_waited_longest_to_sign_in_makes_way() -> None:
    places = Places(3)
    oldest, first, second = place("a"), place("a", signed_in=False), place("b", signed_in=False)
    for each in (oldest, first, second):
        assert places.take(each) is None
    assert places.take(place("a", signed_in=False)) is first
    assert places.take(place("c")) is second


def test_given_one_address_with_all_places_then_its_newest_makes_way_until_shares_are_even() -> (
    None
):
    places = Places(4)
    flood = [place("flood") for _ in range(4)]
    for each in flood:
        assert places.take(each) is None
    assert places.take(place("honest")) is flood[3]
    assert places.take(place("honest")) is flood[2]
    newcomer = place("honest")
    assert places.take(newcomer) is newcomer


def test_given_all_places_taken_by_one_address_then_one_more_of_it_is_refused() -> None:
    places = Places(2)
    first, second, third = place("a"), place("a"), place("a")
    assert places.take(first) is places.take(second) is None
    assert places.take(third) is third
    places.leave(first)
    assert places.take(third) is None
