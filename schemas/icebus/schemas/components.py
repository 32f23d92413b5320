"""Messages by which components say that they live: states, heartbeats, kinds, presence."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field

from icebus.schemas.database import DatabaseTrouble
from icebus.schemas.ids import Id, Serial
from icebus.schemas.message import Message, Natural, Timestamp

JsonSchema = dict[str, Any]


class Presence(StrEnum):
    """Whether a component is there; ``lost`` is said by the broker on its behalf."""

    ONLINE = "online"
    OFFLINE = "offline"
    LOST = "lost"


class WorkerPhase(StrEnum):
    """What a worker does; ``lost`` is said by the broker on its behalf."""

    INIT = "init"
    READY = "ready"
    DRAINING = "draining"
    OFFLINE = "offline"
    LOST = "lost"


class ControlState(Message):
    """Retained on ``control/{control}/state``."""

    state: Presence
    session: Id
    version: str = ""
    leading: bool = Field(
        default=False, description="Whether it is the one that tells workers what is desired."
    )
    database: DatabaseTrouble | None = Field(
        default=None,
        description="Why it refuses what is asked of it; null while its database can be used.",
    )


class Left(Message):
    """On ``control/outbox``: what a control that does not lead has to say is in the database."""

    messages: Natural = Field(description="How many it left there; the one that leads sends them.")


class Heartbeat(Message):
    """Retained on ``control/heartbeat``; every worker answers with a :class:`WorkerHeartbeat`."""

    epoch: Id = Field(description="The control session that counts the sequence.")
    sequence: Natural
    interval: float = Field(gt=0, description="Seconds until the next one.")
    database: DatabaseTrouble | None = Field(
        default=None,
        description="Why whoever beats can decide nothing; null while its database can be used.",
    )


class WorkerState(Message):
    """Retained on ``worker/{worker}/state``."""

    state: WorkerPhase
    session: Id = Field(description="New at every start of the worker.")
    version: str = ""
    serials: list[Serial] = Field(default_factory=list, description="Devices it reports on.")
    draining: str | None = Field(
        default=None,
        description="Why control has it get no new reservations; null when it does.",
    )


class WorkerLoad(Message):
    """How busy a worker is."""

    devices: Natural = 0
    serving: Natural = 0
    queued: Natural = Field(default=0, description="Evaluations that wait or are measured.")
    results: Natural | None = Field(
        default=None,
        description="Results sent in this session, repeated ones again; null where not counted.",
    )
    failures: Natural | None = Field(default=None, description="Likewise, failures.")


class WorkerHeartbeat(Message):
    """Retained on ``worker/{worker}/heartbeat``: the echo of control's."""

    epoch: Id
    sequence: Natural
    session: Id
    load: WorkerLoad = WorkerLoad()


class MethodInfo(Message):
    """A method that clients may call on a state."""

    description: str = ""
    args: JsonSchema
    returns: JsonSchema


class EventInfo(Message):
    """An event that a state sends to the reservation holding its device."""

    description: str = ""
    data: JsonSchema


class KindInfo(Message):
    """A reservable state as a worker offers it, with JSON Schemas of all that crosses."""

    description: str = ""
    firmware: str = Field(description="Name of the firmware that it prefers.")
    other_firmware: list[str] = Field(
        default_factory=list, description="Firmware that boards may run as well, preferred first."
    )
    measures: bool = Field(
        default=False, description="Whether it measures files: it then has `evaluate`."
    )
    args: JsonSchema
    methods: dict[str, MethodInfo] = Field(default_factory=dict)
    events: dict[str, EventInfo] = Field(default_factory=dict)

    @property
    def all_firmware(self) -> tuple[str, ...]:
        """What a board may run for it, preferred first."""
        return (self.firmware, *self.other_firmware)


class WorkerKinds(Message):
    """Retained on ``worker/{worker}/kinds``."""

    kinds: dict[str, KindInfo]


class ClientState(Message):
    """Retained on ``user/{user}/client/{client}/state``."""

    state: Presence
    session: Id
    version: str = ""
    interval: float | None = Field(
        default=None, gt=0, description="Seconds until it says so again; null when it never does."
    )


class KnownPrincipal(Message):
    """Somebody the broker knows."""

    id: Id
    role: str = Field(description="A role of the broker's, such as `user`.")
    groups: list[Id] = Field(default_factory=list)
    incarnation: Id | None = Field(
        default=None,
        description="Tells one from others who were called so before and were removed.",
    )
    speaks_for: list[Id] | None = Field(
        default=None,
        description="Workers behind a bridge, whose words it carries; null if that is not told.",
    )


class Principals(Message):
    """Retained on ``broker/principals``: who the broker knows; nobody else can connect."""

    principals: list[KnownPrincipal]


class TrustedAuthorities(Message):
    """Retained on ``broker/authority``: who may vouch for the broker from now on.

    It counts over a connection that is encrypted to a broker which is trusted already, and where
    one of them is.
    """

    certificates: str = Field(
        max_length=1 << 16,
        description="Of the present authority and of former ones that count still, as PEM.",
    )


class FailingAddress(Message):
    """An address from which logins fail."""

    address: str = Field(max_length=64, description="With its length of prefix: IPv6 as /64.")
    failures: Natural = Field(
        description="How many since the broker's program has known the address."
    )
    last: Timestamp = Field(description="When the last one was.")


class FailedLogins(Message):
    """Retained on ``broker/logins``: who has failed to log in within the last hour."""

    addresses: list[FailingAddress] = Field(description="Those with most failures first.")
    shut_out: list[str] = Field(
        default_factory=list, description="Addresses from which nothing is taken at present."
    )


class Run(Message):
    """On ``run/{role}/{principal}``: a run of a program that is there, or asks whether one is."""

    session: Id = Field(description="Of the run that says this.")
    host: str = Field(description="Name of its machine.")
    pid: Natural = Field(description="There.")
    since: Timestamp = Field(description="When it began.")
    answers: Id | None = Field(
        default=None, description="Session of the run that has asked; null in a question."
    )
