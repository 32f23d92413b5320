"""Who the broker knows, as its service tells it. In memory."""

from __future__ import annotations

from icebus.schemas.components import KnownPrincipal, Principals
from icebus.schemas.errors import InvalidRequest, UnknownPrincipal
from icebus.schemas.topics import Role

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
        self._known = known
        return True

    @property
    def known(self) -> bool:
        """Whether anybody has told us who there is."""
        return self._known is not None

    def may_hold(self, user: str) -> bool:
        """Whether that user may have reservations; everybody may where nobody is known."""
        return self._known is None or self._role(user) in HOLDERS

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
