"""A client's link to the farm: what it shares with its reservations, and who owns its threads."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from pydantic import BaseModel, JsonValue, ValidationError

from icebus.bus import BrokerAddress, Bus, Requester, Will, wait
from icebus.bus import Presence as PresenceKeeper
from icebus.client._connection.blob_sender import BlobSender
from icebus.client._connection.hooks import Hooks
from icebus.client._connection.worker_loss import Workers
from icebus.client._version import version
from icebus.schemas.calls import Call, Request
from icebus.schemas.components import ClientState, Presence
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import InvalidRequest, RemoteError
from icebus.schemas.ids import CONTROL, is_id, new_id, to_id
from icebus.schemas.message import invalid
from icebus.schemas.topics import CALL, CLIENT_STATE, OPERATION
from icebus.schemas.wording import counted

log = logging.getLogger(__name__)

FAREWELL_EXPIRY = 60.0
"""Seconds that the broker keeps the word that a client has gone: nobody needs it for longer."""

REPEAT = 20.0
"""Seconds between repetitions of our presence: a client that died together with the broker, so that
no will was sent, is missed within a minute."""

A = TypeVar("A", bound=BaseModel)


class Link:
    """The connection of one client, its presence, and what its reservations share.

    Args:
        address: the broker, and who we are there.
        deadline: to be connected by.

    Raises:
        BrokerUnavailable: nothing answered in time.
        NotAuthorized: the broker refused the credentials.
    """

    def __init__(self, address: BrokerAddress, deadline: Deadline) -> None:
        self.user = address.user
        self.client = new_id(f"{to_id(platform.node())[:24]}-")
        self._session = new_id()
        topic = CLIENT_STATE(user=self.user, client=self.client)
        will = Will(topic, self._state(Presence.LOST), FAREWELL_EXPIRY)
        self.bus = Bus(address, name=self.user, will=will)
        self.requester = Requester(self.bus, self.user, self.client)
        self.workers = Workers(self.bus)
        self.blobs = BlobSender(self.bus, self.user, self.workers)
        self._presence = PresenceKeeper(
            self.bus, CLIENT_STATE, every=REPEAT, user=self.user, client=self.client
        )
        self._reconnected: list[Callable[[], None]] = []
        self.bus.connect(deadline)
        self.hooks = Hooks(self.client)
        try:
            # An answer that comes before the subscription stands would be lost.
            wait(self.requester.subscription.acknowledged, deadline, "the broker")
            self._presence.say(self._state(Presence.ONLINE))
            self.bus.on_connected(self._on_connected)
        except BaseException:
            self.close(Deadline.after(1))
            raise

    def close(self, deadline: Deadline) -> None:
        """Say farewell, and end all threads."""
        self.hooks.close(deadline)
        self.requester.close()
        self._presence.stop()
        topic = CLIENT_STATE(user=self.user, client=self.client)
        if self.bus.connected:
            self.bus.publish(
                topic, self._state(Presence.OFFLINE), retain=True, expiry=FAREWELL_EXPIRY
            )
        self.bus.close(deadline)

    def on_reconnected(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` on the dispatcher whenever a lost connection is back."""
        self._reconnected = [*self._reconnected, listener]

    def off_reconnected(self, listener: Callable[[], None]) -> None:
        """Do not call it any more."""
        self._reconnected = [each for each in self._reconnected if each != listener]

    def _on_connected(self) -> None:
        for listener in self._reconnected:
            listener()

    def _state(self, state: Presence) -> ClientState:
        return ClientState(state=state, session=self._session, version=version(), interval=REPEAT)

    def ask(
        self,
        operation: str,
        args: BaseModel,
        answer: type[A],
        deadline: Deadline,
        request: str = "",
    ) -> A:
        """Ask control, and wait for its answer. Not for use on the dispatcher.

        Raises:
            IcebusError: whatever control answered.
            DeadlineExceeded: it did not answer.
        """
        return read_answer(
            wait(self.send(operation, args, deadline, request), deadline, CONTROL), answer
        )

    def send(
        self, operation: str, args: BaseModel, deadline: Deadline, request: str = ""
    ) -> Future[JsonValue]:
        """Ask control; the future has its answer."""
        deadline.check(f"`{operation}`")
        return self.requester.send(
            OPERATION(user=self.user, operation=operation),
            Request(id=request or new_id(), args=args.model_dump(mode="json", exclude_none=True)),
            CONTROL,
            deadline,
        )

    def call(self, worker: str, method: str, call: Call, deadline: Deadline) -> Future[JsonValue]:
        """Call a method on a worker; the future has a :class:`CallResults` as JSON."""
        topic = CALL(worker=worker, user=self.user, method=method)
        return self.requester.send(topic, call, worker, deadline)


def read_answer(ok: JsonValue, answer: type[A]) -> A:
    """An answer as a model.

    Raises:
        RemoteError: it is something else.
    """
    try:
        return answer.model_validate(ok)
    except ValidationError as error:
        problems = counted(error.error_count(), "problem")
        raise RemoteError(
            f"the answer is not what this version expects ({problems}); "
            "is the farm of another version?"
        ) from None


def make(model: type[A], what: str, **values: object) -> A:
    """A model from what a user gave.

    Raises:
        InvalidRequest: the values are not what the model says.
    """
    try:
        return model.model_validate({k: v for k, v in values.items() if v is not None})
    except ValidationError as error:
        raise invalid(error, what) from None


def check_id(text: str, what: str) -> str:
    """``text`` if it can be an id.

    Raises:
        InvalidRequest: it can't.
    """
    if not is_id(text):
        raise InvalidRequest(f"{text!r} can't be a {what}: letters, digits, _ and - only")
    return text
