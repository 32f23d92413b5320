"""Telling administrators who fails to log in, and who is shut out, on ``broker/logins``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import timedelta

from icebus.broker.access import Principal
from icebus.broker.logins.watch import LoginWatch
from icebus.bus import Bus
from icebus.schemas.components import FailedLogins, FailingAddress
from icebus.schemas.message import now
from icebus.schemas.topics import FAILED_LOGINS

INTERVAL = 10.0
"""Seconds between two tellings: nobody is helped by more, and a storm is told of as one."""

WITHIN = 3600.0
"""Seconds since its last failure for which an address is told of."""

MOST = 20
"""Addresses that are told of: those with most failures."""


class FailedLoginsTold:
    """A part of the broker's service.

    Args:
        watch: knows of failed logins.
        interval: seconds between two tellings.
    """

    def __init__(self, watch: LoginWatch, interval: float = INTERVAL) -> None:
        self._watch = watch
        self._interval = interval
        self._bus: Bus | None = None
        self._told: object = None
        self._due = 0.0

    def start(self, bus: Bus, soon: Callable[[Callable[[], None]], bool]) -> None:
        """Begin."""
        self._bus = bus

    def on_principals(self, principals: Mapping[str, Principal]) -> None:
        """The broker may have lost what it retained."""
        self._told = None

    def tick(self) -> None:
        """Tell what has changed."""
        at = time.monotonic()
        if self._bus is None or at < self._due:
            return
        self._due = at + self._interval
        found = self._watch.failures(at, WITHIN)
        shut_out = sorted(map(str, self._watch.shut_out(at)))
        facts = {str(network): count for network, (count, _ago) in found.items()}
        if (facts, shut_out) == self._told:
            return
        self._told = (facts, shut_out)
        moment = now()
        most = sorted(found.items(), key=lambda each: each[1][0], reverse=True)[:MOST]
        self._bus.publish(
            FAILED_LOGINS(),
            FailedLogins(
                addresses=[
                    FailingAddress(
                        address=str(network), failures=count, last=moment - timedelta(seconds=ago)
                    )
                    for network, (count, ago) in most
                ],
                shut_out=shut_out,
            ),
        )

    def stop(self) -> None:
        """End."""
