"""A client's connection: what it shares with its reservations, and who owns its threads."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from icebus.bus import (
    Answer,
    BrokerAddress,
    Bus,
    Requester,
    StatePublisher,
    Will,
    check_role,
    wait_for,
)
from icebus.client._connection.blob_sender import BlobSender
from icebus.client._connection.farm_watch import AWAY, BACK, FarmWatch
from icebus.client._connection.hook_runner import HookRunner
from icebus.client._connection.offer_events import OfferEvents
from icebus.client._connection.own_account import OwnAccount
from icebus.client._connection.worker_loss import Workers
from icebus.client._version import version
from icebus.schemas.calls import Call, CallResults, Request
from icebus.schemas.components import ClientState, Presence
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import ClientClosed, IcebusError, InvalidRequest
from icebus.schemas.ids import is_id, new_id, to_id
from icebus.schemas.message import invalid
from icebus.schemas.programs.logs import printable
from icebus.schemas.topics import CALL, CLIENT_STATE, Role, TopicName
from icebus.schemas.wording import wrong_value

log = logging.getLogger(__name__)

STATE_INTERVAL = 20.0
"""Seconds between repetitions of our state: a client that died together with the broker, so that no
will was published, is missed within a minute."""

LONGEST_SHOWN = 80
"""Characters of a value that are repeated to whoever gave it."""

A = TypeVar("A", bound=BaseModel)


class Connection:
    """The connection of one client, its state for others to see, and its requests.

    Whatever is asked of anybody goes through :meth:`send`: tried again until its deadline, answered
    once, refused at once when we are closed.

    Args:
        address: the broker, and who we are there.
        deadline: to be connected by.

    Raises:
        BrokerUnavailable: nothing answered in time.
        NotAuthorized: the broker refused the credentials.
        WrongRole: they are a program's: control's or a worker's.
    """

    def __init__(self, address: BrokerAddress, deadline: Deadline) -> None:
        self.user = address.user
        self.client = new_id(f"{to_id(platform.node())[:24]}-")
        self._session = new_id()
        self._closed = False
        self._process = os.getpid()
        topic = CLIENT_STATE(user=self.user, client=self.client)
        will = Will(topic, self._state(Presence.LOST), STATE_INTERVAL)
        self.bus = Bus(address, name=self.user, will=will)
        self._requester = Requester(self.bus, self.user, self.client)
        self.workers = Workers(self.bus)
        self.blobs = BlobSender(self.bus, self.user, self.workers)
        self._state_publisher = StatePublisher(
            self.bus, CLIENT_STATE, interval=STATE_INTERVAL, user=self.user, client=self.client
        )
        self._reconnect_listeners: list[Callable[[], None]] = []
        self._refusal_listeners: list[Callable[[], None]] = []
        self.bus.connect(deadline)
        self.hooks = HookRunner(self.client)
        self.offer_events = OfferEvents(self.bus, self.hooks)
        self.own_account = OwnAccount(self.bus, self.hooks)
        self.farm_watch = FarmWatch(self.bus, self._on_farm)
        self._watches = False
        try:
            check_role(self.bus, Role.OBSERVER, "a client", deadline)
            # An answer that comes before the subscription stands would be lost.
            wait_for(self._requester.subscription.acknowledged, deadline, "the broker")
            self._state_publisher.publish(self._state(Presence.ONLINE))
            self.bus.on_connected(self._on_connected)
            self.bus.on_problem(self._on_problem)
        except BaseException:
            self.close(Deadline.after(1))
            raise

    # --- life ---------------------------------------------------------------------------------

    @property
    def inherited(self) -> bool:
        """Whether we are in a child of the process that connected.

        A fork copies the connection, but none of the threads that serve it, and perhaps locks that
        they held. Nothing may be said over it here: it would end the parent's.
        """
        return os.getpid() != self._process

    @property
    def closed(self) -> bool:
        """Whether we are closed, or another process's."""
        return self._closed or self.inherited

    def close(self, deadline: Deadline) -> None:
        """Publish that we go, and end all threads."""
        if self.inherited:
            return
        self.hooks.close(deadline)  # first: hooks may ask something still
        self._closed = True
        self._requester.close()
        self._state_publisher.close(self._state(Presence.OFFLINE))
        self.bus.close(deadline)

    def check_open(self) -> None:
        """Refuse what needs an open connection.

        Raises:
            ClientClosed: it is closed, or another process's.
        """
        if self.inherited:
            raise ClientClosed(
                "this client is of the process that this one was forked from; make a new one here"
            )
        if self._closed:
            raise ClientClosed("this client is closed; make a new one")

    @property
    def refusal(self) -> IcebusError | None:
        """Why the broker will not have us back, so that nobody need wait; None unless it said so.

        :class:`NotAuthorized` when it knows this user no longer.
        """
        return self.bus.refusal

    def check_not_refused(self) -> None:
        """Refuse to wait for what can't come.

        Raises:
            NotAuthorized: the broker knows this user no longer.
        """
        if (refusal := self.refusal) is not None:
            raise refusal

    def add_refusal_listener(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` on the dispatcher when the broker will not have us back."""
        self._refusal_listeners = [*self._refusal_listeners, listener]

    def remove_refusal_listener(self, listener: Callable[[], None]) -> None:
        """Do not call it any more."""
        self._refusal_listeners = [each for each in self._refusal_listeners if each != listener]

    def add_reconnect_listener(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` on the dispatcher whenever a lost connection is back."""
        self._reconnect_listeners = [*self._reconnect_listeners, listener]

    def remove_reconnect_listener(self, listener: Callable[[], None]) -> None:
        """Do not call it any more."""
        self._reconnect_listeners = [each for each in self._reconnect_listeners if each != listener]

    def _on_problem(self, problem: IcebusError) -> None:
        if self.refusal is None:
            self.hooks.run("away", problem, ("away", object()))
            return
        self.hooks.run("refused", problem, ("refused", object()))
        for listener in self._refusal_listeners:
            listener()

    def listen(self) -> None:
        """Listen to what there are hooks for by now, of all that is not of a reservation."""
        self.offer_events.listen()
        self.own_account.listen()
        if not self._watches and any(map(self.hooks.has, (AWAY, BACK))):
            self._watches = True
            self.farm_watch.keep()

    def _on_farm(self, event: str, told: object) -> None:
        if event == AWAY:
            log.warning("%s", told)
        self.hooks.run(event, told, (event, object()))

    def _on_connected(self) -> None:
        address = self.bus.address
        log.info(
            "connected to %s:%s as %s, client %s",
            *(address.host, address.port, self.user, self.client),
        )
        for listener in self._reconnect_listeners:
            listener()

    def _state(self, presence: Presence) -> ClientState:
        return ClientState(
            state=presence, session=self._session, version=version(), interval=STATE_INTERVAL
        )

    # --- requests -----------------------------------------------------------------------------

    def send(
        self, topic: TopicName, request: Request, sender: str, model: type[A], deadline: Deadline
    ) -> Answer[A]:
        """Ask; whoever wants to waits for the answer.

        Args:
            topic: where to.
            request: keeps its id however often it is sent, so that it is done once.
            sender: who answers: a worker's id or ``control``.
            model: of the answer.
            deadline: when to give up.

        Raises:
            ClientClosed: it is another process's.
        """
        self.check_open()
        return self._requester.send(topic, request, sender, model, deadline)

    def call(self, worker: str, method: str, call: Call, deadline: Deadline) -> Answer[CallResults]:
        """Call a method on devices of a worker.

        Raises:
            InvalidRequest: nothing can be called so.
        """
        check_id(method, "method")
        topic = CALL(worker=worker, user=self.user, method=method)
        return self.send(topic, call, worker, CallResults, deadline)


def validated(model: type[A], what: str, **values: object) -> A:
    """A model from what a user gave; errors name the arguments, and what was given for them.

    Raises:
        InvalidRequest: the values are not what the model says.
    """
    try:
        return model.model_validate({k: v for k, v in values.items() if v is not None})
    except ValidationError as error:
        raise _refused(error, what) from None


def _refused(error: ValidationError, what: str) -> InvalidRequest:
    refusal = invalid(error, what)
    problems = [
        {**problem, "given": _shown(found["input"]) if _was_given(found) else ""}
        for problem, found in zip(
            refusal.details["problems"], error.errors(include_url=False), strict=False
        )
    ]
    return InvalidRequest(f"{what}: {told_problems(problems)}", problems=problems)


def told_problems(problems: Sequence[Mapping[str, str]], called: Callable[[str], str] = str) -> str:
    """What is wrong with arguments, for people.

    Args:
        problems: of ``details`` of an error that :func:`validated` raised.
        called: what an argument is called where it was given.
    """
    parts = []
    for each in problems[:5]:
        name, _, place = each["field"].partition(".")
        where = called(name) + (f"[{place}]" if place and called is str else "")
        given = f", not {each['given']}" if each["given"] else ""
        parts.append(wrong_value(where, each["problem"]) + given)
    return "; ".join(parts)


def _was_given(found: ErrorDetails) -> bool:
    """Whether a problem is about a value of one argument, rather than several, or none."""
    return bool(found["loc"]) and found["type"] != "missing"


def serials_of(named: str | Iterable[str] | None) -> list[str] | None:
    """The serials that a user means: one, several, or none in particular.

    Raises:
        InvalidRequest: it is nothing of the kind.
    """
    if named is None:
        return None
    if isinstance(named, str):
        return [named]
    if isinstance(named, (bytes, Mapping)) or not isinstance(named, Iterable):
        raise InvalidRequest(f"serials must be a list of serials, not {_shown(named)}")
    return list(named)


def _shown(value: object) -> str:
    text = printable(repr(value))
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def check_id(text: str, what: str) -> str:
    """``text`` if it can be an id.

    Raises:
        InvalidRequest: it can't.
    """
    if not isinstance(text, str) or not is_id(text):
        raise InvalidRequest(f"{_shown(text)} can't be a {what}: 1 to 64 letters, digits, _ or -")
    return text
