"""How much of a worker's time each user has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icebus.worker.work import ALONE, AT_ONCE, LEAST, MOST, TELL_EVERY, Work


class Accounts:
    """Accounts with a clock and holders."""

    def __init__(self, **held: int) -> None:
        self.now = 100.0
        self.held = held
        self.work = Work(
            lambda user: self.held.get(user, 0),
            lambda: sum(self.held.values()),
            lambda: self.now,
        )

    def spent(self, user: str, step: float, seconds: float = 60.0) -> float:
        """Seconds a second that a user has who asks for more whenever he may."""
        begun, spent = self.now, 0.0
        while self.now < begun + seconds:
            if self.work.pause(user):
                self.now += self.work.pause(user) + 1e-9
            else:
                self.work.charge(user, step)
                spent += step
        return spent / (self.now - begun)


def test_given_a_user_who_shares_the_worker_then_he_has_a_small_part_of_its_time() -> None:
    assert Accounts(mallory=4, ann=4).spent("mallory", 0.001) < 0.15


def test_given_a_user_who_shares_nothing_then_he_has_nearly_all_of_it() -> None:
    assert Accounts(ann=4).spent("ann", 0.001) == pytest.approx(ALONE, rel=0.05)


def test_given_somebody_who_holds_nothing_then_he_has_little() -> None:
    assert Accounts(ann=4).spent("mallory", 0.001) == pytest.approx(LEAST, rel=0.2)


def test_given_a_flood_then_others_may_go_on_at_once() -> None:
    accounts = Accounts(mallory=4, ann=4)
    accounts.work.charge("mallory", 10.0)
    assert accounts.work.pause("mallory") > 60
    assert not accounts.work.pause("ann")


def test_given_time_that_was_expected_and_not_taken_then_it_is_given_back() -> None:
    accounts = Accounts(mallory=4, ann=4)
    accounts.work.charge("mallory", 10.0)
    accounts.work.charge("mallory", 0.001 - 10.0)
    assert not accounts.work.pause("mallory")


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 50), min_size=1),
    st.floats(1e-4, 0.1),
)
def test_given_any_holders_then_each_gets_on_and_none_of_several_has_most_of_it(
    held: dict[str, int], step: float
) -> None:
    accounts = Accounts(**held)
    for user, devices in held.items():
        rate = accounts.spent(user, step)
        assert rate > 0
        if 0 < devices < sum(held.values()):
            assert rate <= MOST + LEAST + (AT_ONCE + step) / 60


def test_given_a_flood_then_it_is_told_a_few_times_a_second() -> None:
    accounts = Accounts(mallory=1)
    assert sum(accounts.work.may_tell("mallory") for _ in range(1000)) == 1
    accounts.now += TELL_EVERY * 1.01
    assert accounts.work.may_tell("mallory")
