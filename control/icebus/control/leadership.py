"""Whether this control leads, when it looks at the lease again, and the heartbeats of a leader."""

from __future__ import annotations

import logging
import math
import time

from sqlalchemy.exc import DBAPIError

from icebus.control.store.lease import Lease
from icebus.schemas.components import ControlState, Heartbeat
from icebus.schemas.database import DatabaseTrouble
from icebus.schemas.liveness import is_gone, stale_after

log = logging.getLogger(__name__)

RETRY_AFTER = 0.5
"""Seconds until what failed, for want of a database or by a mistake of ours, is tried again."""


class Leadership:
    """One control's part in finding out which of them leads.

    Args:
        lease: that the leader holds.
        epoch: this run of control, which counts its heartbeats.
        interval: seconds between heartbeats.

    Attributes:
        leading: whether this control leads, as far as it knows.
        check_at: when to look at the lease, on the monotonic clock.
        heartbeat_at: when the leader's next heartbeat goes out.
    """

    def __init__(self, lease: Lease, epoch: str, interval: float) -> None:
        self.lease = lease
        self.leading = False
        self.check_at = self.heartbeat_at = time.monotonic()
        self._challenged = False
        self._epoch = epoch
        self._interval = interval
        self._sequence = 0
        self._served_until = -math.inf

    @property
    def another_serves(self) -> bool:
        """Whether another control has led of late, and could use the database."""
        return time.monotonic() < self._served_until

    def on_control(self, state: ControlState) -> None:
        """The state of another control, which may have held the lease."""
        if is_gone(state):
            self.lease.holder_ended(state.session)
            self.check_at = time.monotonic()
        else:
            self.lease.holder_is_alive(state.session)

    def on_heartbeat(self, heartbeat: Heartbeat) -> None:
        """Another control leads, or has not noticed yet that it does not."""
        if heartbeat.database is None:
            self._served_until = time.monotonic() + stale_after(heartbeat.interval)
        if self.leading:
            self._challenged = True
            self.check_at = time.monotonic()

    def check(self) -> bool:
        """Renew the lease, or acquire it if it is to be had; returns whether we begin to lead.

        Raises:
            DBAPIError: the database does not answer. Nobody can begin to lead then, so whoever
                leads goes on, so that it hurts nobody; unless another one was heard.
        """
        try:
            held, pause = self.lease.acquire()
        except DBAPIError:
            self.check_at = time.monotonic() + RETRY_AFTER
            if self._challenged:
                self.stop()
            raise
        at = time.monotonic()
        self._challenged = False
        self.check_at = at + pause
        if held and not self.leading:
            log.info("this control leads")
            self.leading = True
            self.heartbeat_at = at
            return True
        if self.leading and not held:
            self.stop()
        return False

    def stop(self) -> None:
        """Lead no more: somebody else does, or is to."""
        log.info("this control leads no more")
        self.leading = self._challenged = False
        self.check_at = time.monotonic()

    def next_heartbeat(self, at: float, trouble: DatabaseTrouble | None = None) -> Heartbeat:
        """The heartbeat that is due now, with what is the matter with our database."""
        heartbeat = Heartbeat(
            epoch=self._epoch,
            sequence=self._sequence,
            interval=self._interval,
            database=trouble,
        )
        self._sequence += 1
        # After a pause of ours there is nothing to catch up with.
        self.heartbeat_at = max(self.heartbeat_at + self._interval, at)
        return heartbeat
