"""The control component: the engine on its thread, connected to the bus."""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from importlib.metadata import version

from icebus.broker.tls.authority import ends_of
from icebus.bus import (
    BrokerAddress,
    Bus,
    LogPublisher,
    Responder,
    SingleRun,
    StatePublisher,
    Turns,
    Will,
    wait_for,
)
from icebus.control.engine import Engine
from icebus.control.hearing import AUTHOR, FarmHearing, Step, UserHearing
from icebus.control.metrics.facts import FarmFacts
from icebus.control.metrics.observer import UNOBSERVED, Observer
from icebus.control.settings import Settings
from icebus.control.store.database import Database
from icebus.control.store.database_watch import DatabaseWatch
from icebus.control.store.outbox import CLEAR, Outgoing
from icebus.control.store.shared_group import shared_group
from icebus.control.waiting import is_ready, wait_until_ready
from icebus.control.watch.roster import Roster
from icebus.schemas.components import (
    ControlState,
    Presence,
)
from icebus.schemas.database import DatabaseCause
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import AlreadyRunning
from icebus.schemas.ids import CONTROL, new_id
from icebus.schemas.topics import (
    CONTROL_STATE,
    DESIRED,
    Role,
)

log = logging.getLogger(__name__)

QUIET = 0.003
"""Seconds without a message after which those that came are recorded. When a reservation of many
devices begins or ends, their reports follow one another; a transaction each would take longer."""

GATHER = 0.02
"""Seconds at most from the first message to that, however many follow: heartbeats must go out."""

CLOSE_TIMEOUT = 2.0
"""Seconds to say goodbye in when there is no deadline for it."""

FACTS_TIMEOUT = 2.0
"""Seconds to wait for what metrics tell: control may wait for its database just then."""


class Control:
    """One control: takes requests, records reservations, tells workers what is desired.

    There may be several on one database. They share the subscription to requests, so that any of
    them answers; one leads.

    Args:
        address: the broker, and who we are there; the user is our id.
        database: where everything is kept; control migrates it, and closes it at the end.
        settings: how to behave.
        on_other: called, on any thread, when another run of this name is there after all: this one
            is to be stopped.
        observer: is told, on any thread, of requests.
    """

    def __init__(
        self,
        address: BrokerAddress,
        database: Database,
        settings: Settings | None = None,
        on_other: Callable[[AlreadyRunning], None] = lambda other: log.critical("%s", other),
        observer: Observer = UNOBSERVED,
    ) -> None:
        self._own_certificate = address.certificate
        self.id = address.user
        self.session = new_id()
        self._database = database
        self._bus = Bus(
            address,
            f"control-{self.id}",
            will=Will(CONTROL_STATE(control=self.id), self._state(Presence.LOST)),
            # A killed control's queue would swallow its share of the requests until it expires.
            session_expiry=0,
        )
        # What users write comes on a connection of its own: however much that is, at the broker or
        # on its way, what workers and controls say never waits behind it. Answers go out on the
        # other, where the broker's acknowledgements do not wait behind a flood.
        self._requests = Bus(address, f"control-{self.id}-requests", session_expiry=0)
        self._settings = settings or Settings()
        self._roster = Roster(self.id)
        self._engine = Engine(
            database,
            self._settings,
            self.session,
            self._publish,
            lambda: self._bus.connected,
            self._roster,
            self._bus.together,
            observer,
        )
        self._others: list[AlreadyRunning] = []
        self._given_up = threading.Event()
        self._on_other = on_other
        self._single_run = SingleRun(self._bus, Role.CONTROL, self.session, self._give_up)
        self._watch = DatabaseWatch(database)
        self._leading = False
        self._saying = threading.Lock()
        """Held while our state is gathered and said, so that none overtakes a newer one."""
        self._inbox: queue.SimpleQueue[Step | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="control-database", daemon=True)
        self._state_publisher = StatePublisher(self._bus, CONTROL_STATE, control=self.id)
        self._farm = FarmHearing(self._bus, self._engine, self.session, self._inbox.put)
        self._people = UserHearing(
            self._requests,
            Responder(self._bus, CONTROL),
            self._engine,
            self._roster,
            Turns(self._inbox.put),
            observer,
        )
        self._log: LogPublisher | None = None

    # --- life -----------------------------------------------------------------------------------

    def start(self, deadline: Deadline, on_waiting: Callable[[str], None] | None = None) -> None:
        """Connect, migrate the database and serve.

        A database that is away is waited for however long that takes; our state says so.

        Args:
            deadline: for the broker.
            on_waiting: called, on any thread, with what is waited for, in some words.

        Raises:
            InvalidRequest: the database can't be used, and waiting would not help.
            BrokerUnavailable: no broker answers by the deadline.
            NotAuthorized: the broker refuses us.
            AlreadyRunning: another control has this name.
        """
        self._watch.start()
        try:
            ready = is_ready(self._database, self._engine.load)
            self._bus.connect(deadline)
        except BaseException:
            self._close_database()
            raise
        try:
            self._single_run.begin(deadline)
        except BaseException:
            # Without a word of ours, for the state of that name is another's.
            self._bus.close(deadline)
            self._close_database()
            raise
        self._database.availability.on_change(self._publish_state)
        if not ready:
            if on_waiting is not None:
                on_waiting(self.status())
                self._database.availability.on_change(lambda: on_waiting(self.status()))
            deadline = self._wait_for_database(deadline)
        self._watch.look_for_it()
        self._bus.on_connected(
            lambda: self._inbox.put(partial(self._engine.on_connected, heard_all=False))
        )
        self._farm.subscribe()
        requests = self._people.subscribe(shared_group(self._database))
        self._publish_state()
        self._thread.start()
        try:
            self._requests.connect(deadline)
            wait_for(requests.acknowledged, deadline, "the broker")
        except BaseException:
            self.stop(deadline)
            raise

    def publish_log(self) -> None:
        """Publish what this process logs from now on: for a program that is this control only."""
        self._log = LogPublisher(self._bus, Role.CONTROL, self.id)

    def stop(self, deadline: Deadline) -> None:
        """Finish what was begun, say goodbye and close. Reservations go on."""
        self._inbox.put(None)
        self._thread.join(timeout=deadline.remaining)
        if self._thread.is_alive():
            log.error("the database thread did not end in time")
        self._state_publisher.close(self._state(Presence.OFFLINE))
        if self._log is not None:
            self._log.close()
        self._requests.close(deadline)
        self._bus.close(deadline)
        self._close_database()

    def _wait_for_database(self, deadline: Deadline) -> Deadline:
        """Wait until the database is there; returns the deadline for the broker, moved by that."""
        began = time.monotonic()
        self._publish_state()
        try:
            if not wait_until_ready(self._database, self._engine.load, self._given_up):
                raise self._others[0]
        except BaseException:
            # What is left of the broker's deadline may long be over.
            self._state_publisher.close(self._state(Presence.OFFLINE))
            self._bus.close(Deadline.after(CLOSE_TIMEOUT))
            self._close_database()
            raise
        return Deadline(deadline.at + time.monotonic() - began)

    def _give_up(self, other: AlreadyRunning) -> None:
        self._others.append(other)
        self._given_up.set()
        self._on_other(other)

    def _close_database(self) -> None:
        self._watch.stop()
        self._database.close()

    @property
    def loops(self) -> dict[str, Callable[[Step], None]]:
        """What has to turn for control to be alive: by name, how each is asked to."""
        return {
            "control's database thread": self._inbox.put,
            "what is heard of workers": self._bus.call_soon,
            "what is heard of users": self._requests.call_soon,
        }

    def status(self) -> str:
        """What it does, in some words."""
        if not self._bus.connected:
            return "the broker is away"
        if (trouble := self._database.availability.trouble) is not None:
            return f"the database {trouble.words}"
        return "leads" if self._engine.leading else "stands by"

    # --- for its metrics: any thread ------------------------------------------------------------

    def farm_facts(self) -> FarmFacts | None:
        """The farm as it stands; None when that can't be had soon."""
        found: Future[FarmFacts] = Future()

        def look() -> None:
            if found.set_running_or_notify_cancel():
                found.set_result(self._engine.facts())

        self._inbox.put(look)
        try:
            return found.result(FACTS_TIMEOUT)
        except TimeoutError:
            found.cancel()
            return None

    @property
    def connected(self) -> bool:
        """Whether it has its broker."""
        return self._bus.connected

    @property
    def database_trouble(self) -> DatabaseCause | None:
        """Why its database can't be used; None while it can."""
        trouble = self._database.availability.trouble
        return None if trouble is None else trouble.cause

    @property
    def certificate_ends(self) -> tuple[float | None, float | None]:
        """When the broker's certificate and its own end, as seconds since 1970."""
        return self._bus.certificate_ends, ends_of(self._own_certificate)

    # --- what is said ---------------------------------------------------------------------------

    def _state(self, presence: Presence) -> ControlState:
        return ControlState(state=presence, session=self.session, version=version("icebus"))

    def _publish_state(self) -> None:
        """Say how we are: that we lead, and what is the matter with our database. Any thread."""
        with self._saying:
            now = {"leading": self._leading, "database": self._database.availability.trouble}
            self._state_publisher.publish(self._state(Presence.ONLINE).model_copy(update=now))

    def _publish(self, message: Outgoing) -> None:
        if message.topic.family is DESIRED and (ids := DESIRED.parse(message.topic)) is not None:
            self._engine.retained.on_desired(**ids, empty=message.message == CLEAR)
        # What others write over it, or over what others wrote, has to be told apart.
        author = {AUTHOR: self.session} if message.topic.family.retained else None
        if message.message == CLEAR:
            self._bus.clear(message.topic, properties=author)
        else:
            self._bus.publish(
                message.topic, message.message, interval=message.interval, properties=author
            )

    # --- the database thread --------------------------------------------------------------------

    def _run(self) -> None:
        pause = 0.0
        while self._take(pause):
            pause = self._advance()
            if self._engine.leading != self._leading:
                self._leading = self._engine.leading
                self._publish_state()
        self._guard(self._engine.release_lease)

    def _take(self, pause: float) -> bool:
        """Carry out what was heard, waiting for it if need be; False when told to stop."""
        gathered = math.inf
        while True:
            try:
                step = self._inbox.get(timeout=pause)
            except queue.Empty:
                return True
            if step is None:
                return False
            self._guard(step)
            at = time.monotonic()
            gathered = min(gathered, at + GATHER)
            if at >= gathered:
                return True
            pause = min(QUIET, gathered - at)

    def _guard(self, step: Step) -> None:
        try:
            step()
        except Exception:
            log.exception("a step failed")

    def _advance(self) -> float:
        try:
            return self._engine.step()
        except Exception:
            log.exception("a step failed")
            return 1.0
