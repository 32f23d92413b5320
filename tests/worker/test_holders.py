"""How many devices each user holds, by what is desired of them."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from icebus.schemas.devices import Desired
from icebus.worker.holders import Holders

holders = st.one_of(st.none(), st.sampled_from(["alice", "bob", "carol"]))


def desired(serial: str, user: str | None) -> Desired:
    reservation = None if user is None else f"r-{user}"
    return Desired(serial=serial, generation=1, reservation=reservation, user=user)


@given(st.lists(st.tuples(st.sampled_from("abcd"), holders, st.booleans())))
def test_given_any_desired_states_then_the_count_is_that_of_counting_anew(
    changes: list[tuple[str, str | None, bool]],
) -> None:
    held, wanted = Holders(), dict[str, Desired]()
    for serial, user, forgotten in changes:
        before = wanted.pop(serial, None)
        if not forgotten:
            wanted[serial] = desired(serial, user)
        held.change(before, wanted.get(serial))
    counted = Counter(each.user for each in wanted.values() if each.user)
    assert {user: held.of(user) for user in counted} == counted
    assert (held.all, held.users) == (counted.total(), len(counted))
