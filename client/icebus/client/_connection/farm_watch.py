"""Telling, while something waits for the farm, that nothing is heard of it, and when it is back.

A request that is not answered fails at its deadline, and a place in the queue may be waited for as
long as one likes: without this, nobody would hear for as long that control, or the broker, is away.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from icebus.bus import Bus, Incoming, Subscription
from icebus.schemas.components import Heartbeat
from icebus.schemas.errors import BrokerUnavailable, IcebusError
from icebus.schemas.liveness import stale_after
from icebus.schemas.message import decode, now
from icebus.schemas.topics import CONTROL_HEARTBEAT

log = logging.getLogger(__name__)

UNHEARD = 2.0
"""Seconds to wait before listening to the farm's heartbeat: most waits are over by then."""

SILENCE = 3.5
"""Seconds without a heartbeat until that is told, before one has said how often they come."""

REPEATED = 60.0
"""Seconds until it is told again that the farm is away still."""

TICK = 0.5

AWAY = "away"
BACK = "back"

Tell = Callable[[str, IcebusError | datetime], object]


class FarmWatch:
    """Listens to control's heartbeat while anybody waits.

    All of it happens on the bus's dispatcher.

    Args:
        bus: of the client; connected or about to be.
        tell: called there with ``away`` and why, again each minute, and with ``back`` and since
            when it was away.
    """

    def __init__(self, bus: Bus, tell: Tell) -> None:
        self._bus = bus
        self._tell = tell
        self._waits = 0
        self._begun = 0
        self._subscription: Subscription | None = None
        self._heard = 0.0
        self._patience = SILENCE
        self._since: datetime | None = None
        self._tell_again = 0.0
        bus.on_problem(self._on_problem)

    @property
    def away_since(self) -> datetime | None:
        """Since when nothing is heard of the farm; None while it is, or nobody waits."""
        return self._since

    def keep(self) -> None:
        """Watch for as long as the bus is open."""
        self._bus.call_soon(self._begin)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Watch while the block runs, in which somebody waits for the farm."""
        self._bus.call_soon(self._begin)
        process = os.getpid()
        try:
            yield
        finally:
            if os.getpid() == process:  # in a forked one nobody serves the bus
                self._bus.call_soon(self._end)

    def _begin(self) -> None:
        self._waits += 1
        if self._waits == 1:
            self._begun += 1
            begun = self._begun
            self._bus.call_later(UNHEARD, lambda: self._listen(begun))

    def _end(self) -> None:
        self._waits -= 1
        if not self._waits:
            self._begun += 1
            self._since = None
            if self._subscription is not None:
                self._subscription.cancel()
                self._subscription = None

    def _listen(self, begun: int) -> None:
        if begun == self._begun:
            self._heard = time.monotonic()
            self._subscription = self._bus.subscribe(CONTROL_HEARTBEAT, self._on_heartbeat)
            self._look(begun)

    def _look(self, begun: int) -> None:
        if begun != self._begun:
            return
        at = time.monotonic()
        silent = at - self._heard
        if self._since is None and silent >= self._patience:
            self._note_away(silent)
            self._tell(AWAY, self._silence())
        elif self._since is not None and at >= self._tell_again:
            self._tell_again = at + REPEATED
            self._tell(AWAY, self._silence())
        self._bus.call_later(TICK, lambda: self._look(begun))

    def _note_away(self, silent: float) -> None:
        self._since = datetime.fromtimestamp(now().timestamp() - silent).astimezone()
        self._tell_again = time.monotonic() + REPEATED

    def _silence(self) -> IcebusError:
        since = f"since {self._since:%H:%M:%S}" if self._since is not None else "yet"
        problem = self._bus.problem
        if problem is not None:
            return type(problem)(
                f"the broker is away {since}, and waited for: {problem.message}", **problem.details
            )
        where = f"{self._bus.address.host}:{self._bus.address.port}"
        return BrokerUnavailable(
            f"nothing has been heard of control {since}, and it is waited for: it is away, or the "
            f"broker at {where} hangs; `icebus doctor` looks for what is wrong"
        )

    def _on_problem(self, _problem: IcebusError) -> None:
        """The connection is lost, which whoever has the bus tells; we tell when it is over."""
        if self._waits and self._since is None:
            self._note_away(0.0)

    def _on_heartbeat(self, incoming: Incoming) -> None:
        interval = decode(Heartbeat, incoming.payload).interval
        self._patience = max(SILENCE, stale_after(interval) + interval / 2)
        if incoming.retained:
            return  # it may be of before
        self._heard = time.monotonic()
        since, self._since = self._since, None
        if since is not None:
            log.info("the farm is back, which was away since %s", f"{since:%H:%M:%S}")
            self._tell(BACK, since)
