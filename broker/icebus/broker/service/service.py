"""The broker's own service: what Mosquitto can't do itself, done by a client of it.

It is connected as the principal ``broker``, tells who is known, and answers what users ask of the
broker. What it does is done by parts, on its one thread; a part that fails is logged, and neither
the others nor the broker end with it.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from icebus.broker.access import Principal
from icebus.broker.directory import BrokerDirectory
from icebus.broker.logins.watch import LoginWatch
from icebus.broker.service.authority import AuthorityTold
from icebus.broker.service.bars import Bars
from icebus.broker.service.departures import Departures
from icebus.broker.service.endings import Endings
from icebus.broker.service.logs import Logs
from icebus.broker.service.own_accounts import OwnAccounts
from icebus.broker.service.requests import Requests
from icebus.broker.service.retained import RetainedGuard
from icebus.broker.service.roster import Roster
from icebus.bus import BrokerAddress, Bus
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import Conflict, IcebusError
from icebus.schemas.ids import BROKER
from icebus.schemas.topics import REPLY

log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 2.0
"""Seconds for one attempt to reach the broker."""

CHECK_INTERVAL = 1.0
"""Seconds between looks at whether ``principals.json`` has changed, and pauses between attempts to
connect."""

WAITING = 1024
"""Steps that may wait for the thread; what a part wants to do beyond is refused."""

Step = Callable[[], None]


class Part(Protocol):
    """Something that the service does. All methods are called on the service's thread."""

    def start(self, bus: Bus, soon: Callable[[Step], bool]) -> None:
        """Begin, on a bus that is about to connect: subscribe, and don't wait for anything.

        Args:
            bus: its handlers run on the dispatcher, where nothing may block.
            soon: has a step run on the service's thread, where files may be read; False when too
                many wait already.
        """

    def on_principals(self, principals: Mapping[str, Principal]) -> None:
        """Learn who is known: at every connect, and when that has changed."""

    def tick(self) -> None:
        """Do what has fallen due; called about every second."""

    def stop(self) -> None:
        """End; the bus is still connected if it can be."""


class BrokerService:
    """Runs the parts for as long as the broker runs, and connects again whenever that ends.

    Args:
        files: the directory of the broker.
        address: of the broker, as the principal ``broker``.
        parts: beside those that every broker has.
        logins: whose connections there are, for who floods to have theirs ended.
    """

    def __init__(
        self,
        files: BrokerDirectory,
        address: BrokerAddress,
        parts: Sequence[Part] = (),
        logins: LoginWatch | None = None,
    ) -> None:
        self._files = files
        self._address = address
        self._parts: Sequence[Part] = (
            Roster(),
            Requests(files),
            Departures(),
            OwnAccounts(),
            AuthorityTold(files),
            Endings(files),
            Logs(),
            *parts,
        )
        self._retained = RetainedGuard(address, files, Bars(files, logins))
        self._steps: queue.Queue[Step | None] = queue.Queue(WAITING)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="broker-service", daemon=True)
        self._deadline = Deadline.after(0)
        self._version: tuple[int, int, int] | None = None
        self._complaint = ""
        self._bus: Bus | None = None

    def start(self) -> None:
        """Start; the service connects on its own thread, and goes on trying."""
        self._thread.start()
        self._retained.start()

    def stop(self, deadline: Deadline) -> None:
        """End it by the deadline."""
        self._deadline = deadline
        self._stopping.set()
        self._soon(lambda: None)
        self._retained.stop(deadline)
        self._thread.join(timeout=deadline.remaining)
        if self._thread.is_alive():
            log.error("the broker's service did not end in time")

    @property
    def running(self) -> bool:
        """Whether its thread lives."""
        return self._thread.is_alive()

    @property
    def ready(self) -> bool:
        """Whether the broker has taken it in."""
        return self._bus is not None

    def ask(self, turn: Step) -> None:
        """Have ``turn`` called when this service turns and Mosquitto acknowledges a message of it.

        Raises:
            Conflict: too much waits already.
        """
        if not self._soon(lambda: self._ask_broker(turn)):
            raise Conflict("the broker's service has too much to do")

    def _ask_broker(self, turn: Step) -> None:
        if self._bus is not None:
            # To nobody: an answer to the broker's own service, which asks for none.
            nowhere = REPLY(user=BROKER, client="watchdog", sender=BROKER)
            self._bus.is_granted(nowhere).add_done_callback(lambda _answered: turn())

    # --- its thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        bus = self._bus = self._connect()
        if bus is None:
            return
        while not self._stopping.is_set():
            self._take()
            self._guard(self._look)
            for part in self._parts:
                self._guard(part.tick)
        for part in self._parts:
            self._guard(part.stop)
        bus.close(self._deadline)

    def _connect(self) -> Bus | None:
        """A bus that is connected, with the parts on it; None when told to stop before."""
        while not self._stopping.is_set():
            # Nothing is kept for us while we are away: what users ask meanwhile, they ask again.
            bus = Bus(self._address, "broker-service", session_expiry=0)
            bus.on_connected(self._forget_version)
            for part in self._parts:
                self._guard(lambda part=part, bus=bus: part.start(bus, self._soon))  # type: ignore[misc]
            try:
                bus.connect(Deadline.after(CONNECT_TIMEOUT))
            except IcebusError as error:
                self._complain(str(error))
                self._stopping.wait(CHECK_INTERVAL)
            except Exception:
                log.exception("the broker's service could not connect")
                self._stopping.wait(CHECK_INTERVAL)
            else:
                return bus
        return None

    def _take(self) -> None:
        """Run the steps that wait, or wait for one."""
        try:
            step = self._steps.get(timeout=CHECK_INTERVAL)
            while step is not None:
                self._guard(step)
                step = self._steps.get_nowait()
        except queue.Empty:
            pass

    def _look(self) -> None:
        """Tell the parts when somebody else has changed who is known."""
        version = self._files.version
        if version == self._version:
            return
        principals = self._files.principals
        self._version = version
        for part in self._parts:
            self._guard(lambda part=part: part.on_principals(principals))  # type: ignore[misc]

    def _forget_version(self) -> None:
        self._version = None
        self._soon(lambda: None)

    def _soon(self, step: Step) -> bool:
        try:
            self._steps.put_nowait(step)
        except queue.Full:
            return False
        return True

    def _guard(self, step: Step) -> None:
        try:
            step()
        except IcebusError as error:
            self._complain(str(error))
        except Exception:
            log.exception("a step of the broker's service failed")

    def _complain(self, complaint: str) -> None:
        """Log what is wrong, once for as long as it stays the same."""
        if complaint != self._complaint:
            log.warning("the broker's service: %s", complaint)
        self._complaint = complaint
