"""One's own account at a broker: who we are there, and choosing another password."""

from __future__ import annotations

import queue
import secrets
import threading
from dataclasses import replace
from pathlib import Path

from icebus.bus import BrokerAddress, Bus, Incoming, Requester, wait_for
from icebus.client._profiles.profile import Profile
from icebus.schemas.calls import Request
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import BrokerUnavailable, DeadlineExceeded, NotAuthorized
from icebus.schemas.ids import BROKER, new_id, new_login
from icebus.schemas.message import decode
from icebus.schemas.operations.accounts import Account, PasswdArgs
from icebus.schemas.topics import ACCOUNT, BROKER_OPERATION

CONNECT_TIMEOUT = 4.0
ANSWER_TIMEOUT = 4.0
CLOSE_TIMEOUT = 1.0

RELOAD_TIMEOUT = 15.0
"""Seconds for the broker to read the new password; it takes milliseconds, or a second where
Mosquitto is started anew for that."""

HEARD_WITHIN = 0.5
"""Seconds for what the broker retains to come once it has acknowledged a subscription."""

PAUSE = 0.1
"""Seconds between attempts to connect with it meanwhile."""


def new_password() -> str:
    """A password with 192 random bits."""
    return secrets.token_urlsafe(24)


def check(address: BrokerAddress) -> Account | None:
    """Connect, and ask who we are; None from a broker that has no service to ask.

    Raises:
        BrokerUnavailable: nothing answers there.
        NotAuthorized: the broker refuses us.
    """
    return _ask(address, "whoami", Request(), ANSWER_TIMEOUT / 2)


def own_account(address: BrokerAddress, deadline: Deadline) -> Account | None:
    """What the broker retains for us of our own account, which observers may read too.

    Returns:
        None from a broker that has no service to tell.

    Raises:
        BrokerUnavailable: nothing answers there.
        NotAuthorized: the broker refuses us.
    """
    told: queue.SimpleQueue[Account] = queue.SimpleQueue()

    def note(incoming: Incoming) -> None:
        if incoming.payload:
            told.put(decode(Account, incoming.payload))

    bus = Bus(address, f"{address.user}-account", session_expiry=0)
    bus.connect(deadline)
    try:
        subscription = bus.subscribe(ACCOUNT, note, user=address.user)
        wait_for(subscription.acknowledged, deadline, "the broker")
        return told.get(timeout=min(HEARD_WITHIN, deadline.remaining))
    except queue.Empty:
        return None
    finally:
        bus.close(Deadline.after(CLOSE_TIMEOUT))


def choose_password(path: Path, now: bool = False) -> Profile:
    """Have another password from now on, in the broker and in the profile of that path.

    The former stays good for a day, for programs that run; those that read the profile use the new
    one when they connect again. It stands in the profile before it is asked for, so that whatever
    happens between, one of the two that are there is good: :func:`settle` finds out which.

    Args:
        path: of the profile.
        now: have all former passwords end at once, with the connections made by them.

    Raises:
        BrokerUnavailable: nothing answers there, or the broker has no service to ask.
        NotAuthorized: the broker refuses us.
    """
    profile = settle(path)
    chosen = new_password()
    login = new_login(profile.user)
    profile = profile.model_copy(update={"next_password": chosen, "next_login": login})
    profile.write(path)
    args = PasswdArgs(password=chosen, login=login).model_dump()
    try:
        asked = _ask(profile.address, "passwd", Request(args=args), ANSWER_TIMEOUT)
    except NotAuthorized:
        # It may have come about all the same: the broker ends connections with the old one.
        asked = None
    settled = settle(path, Deadline.after(RELOAD_TIMEOUT if asked is not None else 0.0))
    if settled.password != chosen:
        raise BrokerUnavailable(
            "the broker took no new password; is it one of icebus-broker's? The old one stands"
        )
    if asked is not None:
        settled = settled.model_copy(update={"expires": asked.expires})
        settled.write(path)
    # The profile has what is good then, whatever becomes of this.
    if now and _ask(settled.address, "end_former", Request(), ANSWER_TIMEOUT) is None:
        raise BrokerUnavailable(
            "the new password is good and stored, but the broker did not say that it has ended the "
            "former one; repeat `icebus passwd --now`"
        )
    return settled


def settle(path: Path, deadline: Deadline | None = None) -> Profile:
    """The profile with the one of its two passwords that the broker takes; read if it has one.

    Args:
        path: of the profile.
        deadline: until when the newer one is tried again and again.
    """
    profile = Profile.read(path)
    if profile.next_password is None:
        return profile
    newer = profile.with_next
    pause = threading.Event()
    while True:
        try:
            _connect(newer.address).close(Deadline.after(CLOSE_TIMEOUT))
        except NotAuthorized:
            if deadline is None or deadline.expired:
                break
            pause.wait(PAUSE)
        except BrokerUnavailable:
            if deadline is None or deadline.expired:
                raise
            pause.wait(PAUSE)
        else:
            newer.write(path)
            return newer
    older = profile.model_copy(update={"next_password": None, "next_login": None})
    _connect(older.address).close(Deadline.after(CLOSE_TIMEOUT))
    older.write(path)
    return older


def without_password(address: BrokerAddress) -> BrokerAddress:
    """The address as it may stand where others can read it."""
    return replace(address, password="")


def _connect(address: BrokerAddress) -> Bus:
    # Which of a profile's two passwords is good is asked here; its file would answer with one.
    bus = Bus(replace(address, reread=None), f"{address.user}-account", session_expiry=0)
    bus.connect(Deadline.after(CONNECT_TIMEOUT))
    return bus


def _ask(
    address: BrokerAddress, operation: str, request: Request, timeout: float
) -> Account | None:
    bus = _connect(address)
    try:
        requester = Requester(bus, address.user, new_id())
        topic = BROKER_OPERATION(user=address.user, operation=operation)
        try:
            answer = requester.send(topic, request, BROKER, Account, Deadline.after(timeout))
            return answer.wait()
        except (DeadlineExceeded, NotAuthorized):
            # Brokers of others have no service; observers may ask nothing of anybody.
            return None
        finally:
            requester.close()
    finally:
        bus.close(Deadline.after(CLOSE_TIMEOUT))
