"""Whether our credentials are of the role that a program needs: the access list says so."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future

from icebus.bus._bus import Bus
from icebus.bus._waiting import wait_for
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import NotAuthorized, WrongRole
from icebus.schemas.topics import (
    BLOB,
    CONTROL_STATE,
    DEFAULT_ROOT,
    LOG,
    RUN,
    WORKER_STATE,
    Role,
    TopicName,
)

log = logging.getLogger(__name__)

WRITERS = (Role.ADMIN, Role.USER, Role.CONTROL, Role.WORKER)
"""Of roles that include others, the one that includes first. Observers write nothing, and are known
by what they hear."""

HEARD_WITHIN = 0.5
"""Seconds for what the broker retains to come once it has acknowledged a subscription."""

_ARTICLE = {Role.ADMIN: "an", Role.OBSERVER: "an"}


def check_role(bus: Bus, wanted: Role, program: str, deadline: Deadline) -> None:
    """Refuse credentials of another role. Not for use on the dispatcher.

    Args:
        bus: connected.
        wanted: what the program has to be; whoever is more passes.
        program: its name, for people.
        deadline: for the broker to say so.

    Raises:
        WrongRole: they are of another role.
        NotAuthorized: they are good for nothing under this root.
    """
    written = Role.USER if wanted is Role.OBSERVER else wanted
    if not _is_granted(bus.is_granted(_question(written, bus.address.user)), deadline):
        refuse_role(bus, wanted, program, deadline)


def refuse_role(bus: Bus, wanted: Role, program: str, deadline: Deadline) -> None:
    """Say of what role the credentials are that are not granted what the role wanted is.

    Returns if they are of that role after all, under an access list of an earlier version.

    Raises:
        WrongRole: as above.
        NotAuthorized: as above.
    """
    address = bus.address
    roles = _writing_roles(bus, None, deadline)
    if not roles and _hears_anything(bus, deadline):
        roles = [Role.OBSERVER]
    if wanted in roles or (wanted is Role.OBSERVER and Role.USER in roles):
        return
    if roles:
        role, needed = roles[0], Role.USER if wanted is Role.OBSERVER else wanted
        raise WrongRole(
            f"{address.user} is {_ARTICLE.get(role, 'a')} {role} here; {program} needs credentials "
            f"of role {needed}: icebus-broker add NAME --role {needed}",
            user=address.user,
            role=role.value,
            wanted=wanted.value,
        )
    remedy = "check the path at the end of the URL, the root of all topics, or start control"
    if address.root != DEFAULT_ROOT and _writing_roles(bus, DEFAULT_ROOT, deadline):
        remedy = f"end the URL with /{DEFAULT_ROOT}, where it may do what it needs"
    raise NotAuthorized(
        f"the broker at {address.host}:{address.port} knows {address.user!r}, but has nothing for "
        f"it under the root {address.root!r}; {remedy}",
        user=address.user,
        root=address.root,
        remedy=remedy,
    )


def _writing_roles(bus: Bus, root: str | None, deadline: Deadline) -> list[Role]:
    """What we are, as far as the broker grants what only such a role may write."""
    asked = {
        role: [bus.is_granted(topic, root) for topic in _written_by(role, bus.address.user)]
        for role in WRITERS
    }
    return [
        role
        for role, futures in asked.items()
        if any(_is_granted(each, deadline) for each in futures)
    ]


def _written_by(role: Role, user: str) -> list[TopicName]:
    """Topics that only a role may write, where an empty message does nothing.

    The second of each is for access lists that were written before there was the first.
    """
    match role:
        case Role.CONTROL | Role.WORKER:
            return [_question(role, user), LOG(role=role, id=user, level="debug")]
        case Role.USER:
            return [_question(role, user), BLOB(worker="none", user=user, sha256="0" * 64)]
    return [_question(role, user)]


def _question(role: Role, user: str) -> TopicName:
    return RUN(role=role, principal=user)


def _is_granted(future: Future[None], deadline: Deadline) -> bool:
    try:
        wait_for(future, deadline, "the broker")
    except NotAuthorized:
        return False
    return True


def _hears_anything(bus: Bus, deadline: Deadline) -> bool:
    """Whether the broker has anything for us of what everybody may read."""
    heard = threading.Event()
    subscriptions = [
        bus.subscribe(topic, lambda _: heard.set()) for topic in (CONTROL_STATE, WORKER_STATE)
    ]
    try:
        for subscription in subscriptions:
            wait_for(subscription.acknowledged, deadline, "the broker")
        return heard.wait(min(HEARD_WITHIN, deadline.remaining))
    finally:
        for subscription in subscriptions:
            subscription.cancel()
