"""Futures of published messages, until the broker has acknowledged them."""

from __future__ import annotations

import threading
from concurrent.futures import Future

from paho.mqtt.reasoncodes import ReasonCode

from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import BrokerUnavailable, NotAuthorized

NOT_AUTHORIZED = 0x87
"""MQTT 5's reason code for a topic that the access list refuses."""


class Acknowledgements:
    """Matches acknowledgements with publishes; either may come first.

    paho calls back with its own lock held, so ours is never held while calling paho.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[None]] = {}
        self._early: dict[int, ReasonCode] = {}

    def expect(self, mid: int, future: Future[None]) -> None:
        """The message of that number was handed to paho."""
        with self._lock:
            code = self._early.pop(mid, None)
            if code is None:
                self._waiting[mid] = future
        if code is not None:
            complete(future, code)

    def acknowledge(self, mid: int, reason: ReasonCode) -> Future[None] | None:
        """The broker has acknowledged; returns the future to complete, if it is known yet."""
        with self._lock:
            future = self._waiting.pop(mid, None)
            if future is None:
                self._early[mid] = reason
        return future

    def wait(self, deadline: Deadline) -> bool:
        """Wait until all that is expected by now has come; False when too late."""
        with self._lock:
            waiting = list(self._waiting.values())
        for future in waiting:
            try:
                future.exception(timeout=deadline.remaining)
            except TimeoutError:
                return False
        return True

    def fail_all(self, error: BrokerUnavailable) -> None:
        """Nothing more will come."""
        with self._lock:
            waiting, self._waiting = list(self._waiting.values()), {}
        for future in waiting:
            if not future.done():
                future.set_exception(error)


def complete(future: Future[None], reason: ReasonCode) -> None:
    """Complete the future of a published message."""
    if future.done():
        return
    if reason.value == NOT_AUTHORIZED:
        future.set_exception(NotAuthorized("the broker's access list refused the topic"))
    elif reason.is_failure:
        future.set_exception(BrokerUnavailable(f"the broker refused the message: {reason}"))
    else:
        future.set_result(None)
