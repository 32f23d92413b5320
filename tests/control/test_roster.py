"""Who the broker knows, and which words about that are believed."""

from __future__ import annotations

import pytest

from icebus.control.watch.roster import Roster
from icebus.schemas.components import KnownPrincipal, Principals
from icebus.schemas.errors import InvalidRequest, UnknownPrincipal


def principals(**roles: str) -> Principals:
    return Principals(
        principals=[KnownPrincipal(id=name, role=role) for name, role in roles.items()]
    )


@pytest.mark.parametrize(
    "told",
    [
        None,
        principals(),
        principals(alice="user"),
        principals(other="control", alice="user"),
        principals(main="user", alice="user"),
    ],
)
def test_given_a_list_without_this_control_then_not_believed_and_the_last_one_counts(
    told: Principals | None,
) -> None:
    roster = Roster("main")
    assert not roster.on_principals(told)
    assert not roster.known
    assert roster.may_hold("anybody")

    assert roster.on_principals(principals(main="control", bob="user"))
    assert not roster.on_principals(told)
    assert roster.may_hold("bob")
    assert not roster.may_hold("alice")


def test_given_a_list_then_users_and_admins_alone_may_hold_anything() -> None:
    roster = Roster("main")
    roster.on_principals(
        principals(main="control", alice="user", ada="admin", wall="observer", w1="worker", x="new")
    )

    roster.check_may_hold("alice")
    roster.check_may_hold("ada")
    for name in ("wall", "w1", "main", "x"):
        with pytest.raises(InvalidRequest, match=f"{name} is of role"):
            roster.check_may_hold(name)
    with pytest.raises(UnknownPrincipal, match="no user eve"):
        roster.check_may_hold("eve")


def test_given_groups_then_they_are_those_of_the_last_list() -> None:
    roster = Roster("main")
    assert roster.groups("alice") == ()
    known = [
        KnownPrincipal(id="main", role="control"),
        KnownPrincipal(id="alice", role="user", groups=["students", "night"]),
    ]
    roster.on_principals(Principals(principals=known))

    assert roster.groups("alice") == ("students", "night")
    assert roster.groups("bob") == ()
