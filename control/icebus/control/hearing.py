"""What control hears on the bus: decoded on its dispatcher, and handed to the database's thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from icebus.bus import (
    Allowance,
    Bus,
    FromUsers,
    FromWorkers,
    Incoming,
    Responder,
    Subscription,
    Turns,
)
from icebus.control import allowances
from icebus.control.engine import Engine
from icebus.control.metrics.observer import Observer
from icebus.control.operations.requests.table import ADMINISTRATORS
from icebus.control.watch.kinds import read_kinds
from icebus.control.watch.roster import Roster
from icebus.schemas.calls import Request
from icebus.schemas.components import (
    ClientState,
    ControlState,
    Heartbeat,
    Principals,
    WorkerHeartbeat,
    WorkerKinds,
    WorkerState,
)
from icebus.schemas.devices import DeviceReport
from icebus.schemas.errors import IcebusError, InvalidRequest
from icebus.schemas.message import decode
from icebus.schemas.throughput import Throughput
from icebus.schemas.topics import (
    ADMIN,
    CLAIM,
    CLIENT_STATE,
    CONTROL_HEARTBEAT,
    CONTROL_OUTBOX,
    CONTROL_STATE,
    CONTROL_THROUGHPUT,
    DESIRED,
    DEVICE,
    OPERATION,
    PRINCIPALS,
    RESERVATION,
    WORKER_HEARTBEAT,
    WORKER_KINDS,
    WORKER_STATE,
    shared_requests,
)

MAX_GENERATION = 2**53
"""What a worker may count to: all programs that read JSON can hold it, and so can the database."""

AUTHOR = "session"
"""User property with which a control signs what the broker is to retain."""

Step = Callable[[], None]
"""What is to be done on the database's thread."""


class FarmHearing:
    """What workers, the broker's service and other controls say.

    Args:
        bus: of what they say.
        engine: that is told.
        session: of this control.
        put: has the database's thread take a step.
    """

    def __init__(self, bus: Bus, engine: Engine, session: str, put: Callable[[Step], None]) -> None:
        self._bus = bus
        self._engine = engine
        self._session = session
        self._put = put

    def subscribe(self) -> None:
        """Begin."""
        for topic, handler in (
            (CONTROL_STATE, self._on_control),
            (CONTROL_HEARTBEAT, self._on_heartbeat),
            (CONTROL_OUTBOX, self._on_outbox),
            (CONTROL_THROUGHPUT, self._on_throughput),
            (PRINCIPALS, self._on_principals),
            (RESERVATION, self._on_document),
            (CLAIM, self._on_claim),
        ):
            self._bus.subscribe(topic, handler)
        # A worker whose key was stolen floods nobody but itself.
        for topic, handler, allowance in (
            (WORKER_STATE, self._on_worker, allowances.WORKER_STATES),
            (WORKER_KINDS, self._on_kinds, allowances.KINDS),
            (DEVICE, self._on_report, allowances.REPORTS),
            (WORKER_HEARTBEAT, self._on_echo, allowances.ECHOES),
        ):
            workers = FromWorkers(partial(_the_same, allowance))
            self._bus.subscribe(topic, handler, workers)
        # Of these we say one for each device of a reservation, and note them as we do.
        self._bus.subscribe_to_others(DESIRED, self._on_desired)

    # --- on the bus's dispatcher: decode and enqueue only ---------------------------------------

    def _on_control(self, incoming: Incoming) -> None:
        if not incoming.payload:
            return
        state = decode(ControlState, incoming.payload)
        if state.session != self._session:
            self._put(lambda: self._engine.on_control(state))
        elif not incoming.retained:
            # It was published after the subscriptions: all that the broker retains came before.
            self._put(self._engine.on_all_heard)

    def _on_heartbeat(self, incoming: Incoming) -> None:
        # When one was sent that the broker retained, nobody knows.
        if incoming.payload and not incoming.retained and not self._is_ours(incoming):
            beat = decode(Heartbeat, incoming.payload)
            self._put(lambda: self._engine.on_heartbeat(beat))

    def _on_outbox(self, _incoming: Incoming) -> None:
        self._put(self._engine.on_outbox)

    def _on_throughput(self, incoming: Incoming) -> None:
        if incoming.payload and not self._is_ours(incoming):
            told = decode(Throughput, incoming.payload)
            self._put(lambda: self._engine.on_throughput(told))

    def _on_worker(self, incoming: Incoming) -> None:
        state = decode(WorkerState, incoming.payload) if incoming.payload else None
        worker = incoming.ids["worker"]
        self._put(lambda: self._engine.on_worker(worker, state))

    def _on_kinds(self, incoming: Incoming) -> None:
        worker = incoming.ids["worker"]
        said = decode(WorkerKinds, incoming.payload) if incoming.payload else None
        offered = {} if said is None else read_kinds(worker, said)
        self._put(lambda: self._engine.on_kinds(worker, offered))

    def _on_echo(self, incoming: Incoming) -> None:
        if not incoming.payload:
            return
        echo = decode(WorkerHeartbeat, incoming.payload)
        worker = incoming.ids["worker"]
        self._put(lambda: self._engine.on_echo(worker, echo))

    def _on_report(self, incoming: Incoming) -> None:
        worker, serial = incoming.ids["worker"], incoming.ids["serial"]
        report = decode(DeviceReport, incoming.payload) if incoming.payload else None
        if report is not None and report.serial != serial:
            raise InvalidRequest(f"a report on {report.serial} on the topic of {serial}")
        if report is not None and report.generation > MAX_GENERATION:
            raise InvalidRequest(f"generation {report.generation} is out of range")
        self._put(lambda: self._engine.on_report(worker, serial, report))

    def _on_principals(self, incoming: Incoming) -> None:
        told = decode(Principals, incoming.payload) if incoming.payload else None
        self._put(lambda: self._engine.on_principals(told))

    def _on_document(self, incoming: Incoming) -> None:
        self._engine.retained.on_document(**incoming.ids, empty=not incoming.payload)
        self._on_others_word(incoming, self._engine.on_document)

    def _on_desired(self, incoming: Incoming) -> None:
        self._engine.retained.on_desired(**incoming.ids, empty=not incoming.payload)
        self._on_others_word(incoming, self._engine.on_desired)

    def _on_claim(self, incoming: Incoming) -> None:
        self._engine.retained.on_claim(**incoming.ids, empty=not incoming.payload)
        self._on_others_word(incoming, self._engine.on_claim)

    def _on_others_word(self, incoming: Incoming, heard: Callable[..., None]) -> None:
        if incoming.retained or not self._is_ours(incoming):
            step = partial(heard, live=not incoming.retained)
            self._put(partial(step, **incoming.ids))

    def _is_ours(self, incoming: Incoming) -> bool:
        return incoming.properties.get(AUTHOR) == self._session


class UserHearing:
    """What users ask, and whether their clients are there.

    Args:
        bus: of what they write.
        responder: that answers them.
        engine: that is told.
        roster: of who is known.
        turns: that have the database's thread take users' steps, one user's after another's.
        observer: is told of requests that are refused.
    """

    def __init__(
        self,
        bus: Bus,
        responder: Responder,
        engine: Engine,
        roster: Roster,
        turns: Turns,
        observer: Observer,
    ) -> None:
        self._bus = bus
        self._responder = responder
        self._engine = engine
        self._roster = roster
        self._users = turns
        self._observer = observer

    def subscribe(self, group: str) -> Subscription:
        """Begin.

        Args:
            group: of the controls that share requests.

        Returns:
            The subscription to the last thing that is heard; once it stands, all do.
        """
        # First, so that a request finds the client there that has sent it.
        self._bus.subscribe(
            CLIENT_STATE, self._on_client, FromUsers(lambda _user: allowances.CLIENT_STATES)
        )
        users = FromUsers(self._allow_requests, self._refuse)
        shared = shared_requests(group)
        self._bus.subscribe(ADMIN, self._on_admin, users, shared=shared)
        return self._bus.subscribe(OPERATION, self._on_request, users, shared=shared)

    # --- on the bus's dispatcher: decode and enqueue only ---------------------------------------

    def _refuse(self, incoming: Incoming, error: IcebusError) -> None:
        prefix = "" if ADMIN.parse(incoming.topic) is None else "admin/"
        self._observer.refused(f"{prefix}{incoming.ids.get('operation', '')}", error.code)
        self._responder.refuse(incoming, error)

    def _allow_requests(self, user: str) -> Allowance:
        return allowances.requests(self._engine.settings.limits.of(user, self._roster.groups(user)))

    def _on_client(self, incoming: Incoming) -> None:
        state = decode(ClientState, incoming.payload) if incoming.payload else None
        user, client = incoming.ids["user"], incoming.ids["client"]
        self._users.put(user, lambda: self._engine.on_client(user, client, state))

    def _on_request(self, incoming: Incoming) -> None:
        operation = incoming.ids["operation"]
        exchange = self._responder.accept(incoming, Request)
        if exchange is not None:
            step = partial(self._engine.on_request, exchange, operation)
            self._users.put(exchange.user, step)

    def _on_admin(self, incoming: Incoming) -> None:
        operation = incoming.ids["operation"]
        exchange = self._responder.accept(incoming, Request)
        if exchange is not None:
            step = partial(self._engine.on_request, exchange, operation, ADMINISTRATORS)
            self._users.put(exchange.user, step)


def _the_same(allowance: Allowance, _sender: str) -> Allowance:
    """What each of a kind may send."""
    return allowance
