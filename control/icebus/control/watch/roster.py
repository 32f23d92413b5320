"""Who the broker knows, as its service tells it. In memory."""

from __future__ import annotations

from datetime import datetime

from icebus.schemas.components import KnownPrincipal, Principals
from icebus.schemas.errors import InvalidRequest, UnknownPrincipal
from icebus.schemas.topics import Role

MOST_DISMISSED = 1000
"""Former holders that are remembered: whoever was dismissed longer ago than so many others has
nothing left that is young."""

HOLDERS = frozenset({Role.USER, Role.ADMIN})
"""Roles of those who may have reservations: all others can ask for none."""


class Roster:
    """The principals of the broker; not known where its service says nothing of them.

    Args:
        control: this control's own name at the broker.
    """

    def __init__(self, control: str) -> None:
        self._control = control
        self._known: dict[str, KnownPrincipal] | None = None
        self._replaced: dict[str, datetime | None] = {}
        self._dismissed: dict[tuple[str, str], None] = {}

    def on_principals(self, principals: Principals | None) -> bool:
        """Who there is was told anew; returns whether that is to be believed.

        We are connected, so a broker that has no control of our name speaks of others: its list is
        damaged, or another broker's. Nobody loses anything by such a word, nor by its absence.
        """
        if principals is None:
            return False
        known = {each.id: each for each in principals.principals}
        ours = known.get(self._control)
        if ours is None or ours.role != Role.CONTROL:
            return False
        for name, before in (self._known or {}).items():
            after = known.get(name)
            if after is not None and after.incarnation != before.incarnation:
                self._replaced[name] = None
        self._note_dismissed(known)
        self._known = known
        return True

    def _note_dismissed(self, known: dict[str, KnownPrincipal]) -> None:
        """Remember who could hold something by the list before, and no more by this one."""
        before = {(each.id, each.incarnation): None for each in self._holders(self._known or {})}
        after = {(each.id, each.incarnation): None for each in self._holders(known)}
        left = self._dismissed | {
            (name, which): None for name, which in before.keys() - after.keys() if which is not None
        }
        for back in left.keys() & after.keys():
            del left[back]
        self._dismissed = dict(list(left.items())[-MOST_DISMISSED:])

    @staticmethod
    def _holders(known: dict[str, KnownPrincipal]) -> list[KnownPrincipal]:
        return [each for each in known.values() if each.role in HOLDERS]

    def replaced(self, now: datetime) -> dict[str, datetime]:
        """Names that somebody else has by now than before, and when that was first seen.

        What was asked under such a name until then was not asked by whoever has it now.
        """
        self._replaced = {name: at or now for name, at in self._replaced.items()}
        return {name: at for name, at in self._replaced.items() if at is not None}

    @property
    def known(self) -> bool:
        """Whether anybody has told us who there is."""
        return self._known is not None

    def may_hold(self, user: str) -> bool:
        """Whether that user may have reservations; everybody may where nobody is known."""
        return self._known is None or self._role(user) in HOLDERS

    def may_ask(self, user: str) -> bool:
        """Whether that user may be there to ask for anything."""
        return self._known is None or user in self._known

    def why_not(self, user: str, incarnation: str | None) -> str | None:
        """Why a user has no right any more to what he was given; None if he has.

        Args:
            user: his name.
            incarnation: which of those who were called so it was given to; None if not known.
        """
        if self._known is None:
            return None
        known = self._known.get(user)
        if known is None:
            return f"{user} was removed from the broker"
        if known.role not in HOLDERS:
            return f"{user} is of role {known.role} now"
        if incarnation and known.incarnation and incarnation != known.incarnation:
            return f"the former {user} was removed from the broker"
        return None

    def saw_dismissed(self, user: str, incarnation: str | None) -> bool:
        """Whether one list said that a user may hold something, and a later one that not.

        Then that is no list that is merely older than what was given to them.
        """
        return incarnation is not None and (user, incarnation) in self._dismissed

    def incarnation(self, user: str) -> str | None:
        """Which of those who were ever called so the broker knows now; None if not known."""
        found = None if self._known is None else self._known.get(user)
        return None if found is None else found.incarnation

    @property
    def all_told(self) -> Principals | None:
        """All that the broker knows; None unless for all bridges it is told whom they speak for."""
        if self._known is None:
            return None
        known = list(self._known.values())
        if any(each.role == Role.WORKER and each.speaks_for is None for each in known):
            return None
        return Principals(principals=known)

    def check_may_hold(self, user: str) -> None:
        """Refuse to give anything to somebody who can have nothing.

        Raises:
            UnknownPrincipal: there is nobody of that name.
            InvalidRequest: there is, in a role that can have no reservations.
        """
        if self.may_hold(user):
            return
        role = self._role(user)
        if role is None:
            raise UnknownPrincipal(
                f"the broker knows no user {user}; whoever runs it can add them with "
                f"`icebus-broker add {user}`",
                user=user,
            )
        raise InvalidRequest(
            f"{user} is of role {role} and can have no reservations; users and admins can",
            user=user,
            role=role,
        )

    def groups(self, user: str) -> tuple[str, ...]:
        """The groups of a user; none where that is not known."""
        found = None if self._known is None else self._known.get(user)
        return () if found is None else tuple(found.groups)

    def _role(self, user: str) -> str | None:
        found = None if self._known is None else self._known.get(user)
        return None if found is None else found.role
