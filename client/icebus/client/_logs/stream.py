"""Reading what the farm's components log: the latest lines, and those that follow."""

from __future__ import annotations

import time
from collections import deque
from contextlib import ExitStack
from functools import partial

from icebus.bus import (
    Allowance,
    Bus,
    FromComponents,
    FromSenders,
    FromUsers,
    Incoming,
    Subscription,
    check_role,
)
from icebus.client._connection.connection import Connection
from icebus.client._connection.stream import Stream
from icebus.client._farm.all_retained import AllRetained
from icebus.client._logs.lines import (
    MOST_IN_WINDOW,
    WINDOW,
    LogFeed,
    LogLine,
    SenderLimit,
    Wanted,
    line_of_ours,
)
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import WrongRole
from icebus.schemas.message import now
from icebus.schemas.topics import (
    DEVICE_LOG,
    LOG,
    LOG_RECENT,
    RESERVATION,
    Role,
    Topic,
)

MOST_WAITING = 10_000
"""Lines that wait to be read; the oldest make way for others, and that is told."""

LINES = Allowance(per_second=100, at_once=500, bytes_per_second=256 << 10, bytes_at_once=2 << 20)
"""Of one component that are looked at. Each sends 20 a second; one that sends more was stolen."""

RECENT = Allowance(per_second=2, at_once=20, bytes_per_second=128 << 10, bytes_at_once=1 << 20)
"""Likewise: one in five seconds."""

OF_DEVICES = Allowance(
    per_second=100, at_once=2000, bytes_per_second=1 << 20, bytes_at_once=16 << 20
)
"""Of one worker, for all of its devices; it sends some hundred a second when it loses a rack."""


class LogStream(Stream):
    """Log lines, oldest first: of all components for administrators, of held boards for users.

    An iterator; close it, or use it as a context, if it is to follow.

    Args:
        connection: of the client.
        wanted: which lines.
        follow: whether to go on with those that are logged from now on.
        deadline: for what is retained to have come.

    Raises:
        WrongRole: observers read no log.
        DeadlineExceeded: the broker did not answer.
    """

    def __init__(
        self, connection: Connection, wanted: Wanted, deadline: Deadline, *, follow: bool
    ) -> None:
        super().__init__(connection)
        self._feed = LogFeed(connection.user, wanted)
        self._limit = SenderLimit()
        self._lines: deque[LogLine] = deque()
        self._left_out = 0
        self._subscriptions: list[Subscription] = []
        self._following = ExitStack()
        self.everything = _is_admin(connection.bus, deadline)
        try:
            self._read(deadline)
        except BaseException:
            self.close()
            raise
        self._follows = follow
        if follow:
            self._following.enter_context(connection.farm_watch.waiting())
        else:
            self._unsubscribe()

    def __next__(self) -> LogLine:
        """The next line; one that follows is waited for."""
        with self._changed:
            while not self._lines and not self._left_out:
                if not self._follows:
                    raise StopIteration
                self._wait_for_more()
            if self._left_out:
                left_out, self._left_out = self._left_out, 0
                said = f"{left_out:,} lines came quicker than they were read, and are left out"
                return line_of_ours(said, now(), self._connection.client)
            return self._lines.popleft()

    def close(self) -> None:
        """Read no more: what waits is told still."""
        self._follows = False
        self._unsubscribe()
        self._following.close()

    def _unsubscribe(self) -> None:
        for subscription in self._subscriptions:
            subscription.cancel()

    # --- the dispatcher -------------------------------------------------------------------------

    def _read(self, deadline: Deadline) -> None:
        """Subscribe, and return once what is retained has come."""
        user = self._connection.user
        if self.everything:
            self._subscribe(LOG_RECENT, FromComponents(lambda _: RECENT))
            self._subscribe(LOG, FromComponents(lambda _: LINES))
        else:
            self._subscribe(RESERVATION)
            self._subscribe(DEVICE_LOG, FromSenders(lambda _: OF_DEVICES), user=user)
        retained = AllRetained(self._connection.bus, "the broker did not tell the logs in time")
        retained.wait(self._subscriptions, deadline)
        with self._changed:
            # Components' latest lines come one component after the other.
            self._lines = deque(sorted(self._lines, key=lambda line: line.at))

    def _subscribe(self, topic: Topic, senders: FromUsers | None = None, **ids: str) -> None:
        bus = self._connection.bus
        handler = partial(self._take, topic)
        self._subscriptions.append(bus.subscribe(topic, handler, senders, **ids))

    def _take(self, topic: Topic, incoming: Incoming) -> None:
        lines = self._read_of(topic, incoming)
        if not lines:
            return
        with self._changed:
            self._lines.extend(lines)
            while len(self._lines) > MOST_WAITING:
                self._lines.popleft()
                self._left_out += 1
            self._changed.notify_all()

    def _read_of(self, topic: Topic, incoming: Incoming) -> list[LogLine]:
        if topic is LOG and (said := self._refuse(incoming, 1)) is not None:
            return said
        lines = self._feed.take(topic, incoming.ids, incoming.payload)
        if topic is LOG_RECENT and (said := self._refuse(incoming, len(lines))) is not None:
            return said
        return lines

    def _refuse(self, incoming: Incoming, lines: int) -> list[LogLine] | None:
        """What is read in place of so many lines of one that floods; None while it doesn't."""
        role, component = incoming.ids["role"], incoming.ids["id"]
        count = self._limit.count(role, component, time.monotonic(), lines)
        if count <= MOST_IN_WINDOW:
            return None
        if count - lines > MOST_IN_WINDOW:
            return []
        said = (
            f"{role} {component} logs more than {MOST_IN_WINDOW} lines in {WINDOW:g} s, "
            "more than a component sends: the others are left out"
        )
        return [line_of_ours(said, now(), self._connection.client)]


def _is_admin(bus: Bus, deadline: Deadline) -> bool:
    try:
        check_role(bus, Role.ADMIN, "reading all logs", deadline)
    except WrongRole:
        check_role(bus, Role.USER, "reading logs", deadline)
        return False
    return True
