"""The topic contract: every topic, who writes and reads it, and how it is carried.

This table is the only place that knows how a topic is spelt and how its messages are carried:
retained or not, with which quality of service, until when. The bus takes all of that from here.
The access list of the broker, the AsyncAPI document and the reference in the docs are generated.

Topics here are relative to the root (``icebus/v1`` unless configured), which the bus adds.
"""

from __future__ import annotations

from collections.abc import Mapping

from icebus.schemas import calls, components, devices, experiment, log_records, throughput
from icebus.schemas.expiry import AT_DEADLINE, Expiry
from icebus.schemas.files import MAX_FILE_SIZE
from icebus.schemas.ids import BROKER, CONTROL
from icebus.schemas.liveness import SILENT_AFTER, STALE_AFTER
from icebus.schemas.operations import accounts, history, reservations
from icebus.schemas.topic import LARGEST as LARGEST
from icebus.schemas.topic import SELF as SELF
from icebus.schemas.topic import Grant as Grant
from icebus.schemas.topic import Role as Role
from icebus.schemas.topic import Topic as Topic
from icebus.schemas.topic import TopicName as TopicName

DEFAULT_ROOT = "icebus/v1"

LARGEST_REQUEST = 128 << 10
"""Bytes of a request: a thousand serials of the greatest length, with room for all else."""

LARGEST_STATE = 4 << 10
"""Bytes of what a client says of itself."""

LARGEST_EXPERIMENT = 64 << 10
"""Bytes of how an experiment stands, whose lists are bounded so that it is less."""

LARGEST_THROUGHPUT = 32 << 10
"""Bytes of what ended in each minute of a day, whose counts are bounded so that it is less."""

LARGEST_FILE = MAX_FILE_SIZE + 1024
"""Bytes of a file as it is sent, which is never larger than as it is."""

ALL: Mapping[Role, Grant] = {Role.CONTROL: {}, Role.WORKER: {}, Role.OBSERVER: {}}

CONTROL_STATE = Topic(
    "control/{control}/state",
    "Whether a control is there.",
    writers={Role.CONTROL: {"control": SELF}},
    readers=ALL,
    model=components.ControlState,
    retained=True,
)
CONTROL_HEARTBEAT = Topic(
    "control/heartbeat",
    "The leading control's pulse, which every worker echoes.",
    writers={Role.CONTROL: {}},
    readers=ALL,
    model=components.Heartbeat,
    retained=True,
    expiry=Expiry(intervals=STALE_AFTER),
)
CONTROL_OUTBOX = Topic(
    "control/outbox",
    "Has the leading control send what another one has decided.",
    writers={Role.CONTROL: {}},
    readers={Role.CONTROL: {}},
    model=components.Left,
)
CONTROL_HISTORY = Topic(
    "control/history",
    "The last events of the history, newest first, for those who may not ask for all of it.",
    writers={Role.CONTROL: {}},
    readers=ALL,
    model=history.HistoryReply,
    retained=True,
)
CONTROL_THROUGHPUT = Topic(
    "control/throughput",
    "How many evaluations ended in each minute of the last day.",
    writers={Role.CONTROL: {}},
    readers=ALL,
    model=throughput.Throughput,
    retained=True,
    limit=LARGEST_THROUGHPUT,
)
WORKER_STATE = Topic(
    "worker/{worker}/state",
    "Whether a worker is there, and which devices it reports on; empty once it is retired.",
    writers={Role.WORKER: {"worker": SELF}, Role.CONTROL: {}},
    readers=ALL,
    model=components.WorkerState,
    retained=True,
)
WORKER_HEARTBEAT = Topic(
    "worker/{worker}/heartbeat",
    "A worker's echo of the heartbeat, with its load.",
    writers={Role.WORKER: {"worker": SELF}, Role.CONTROL: {}},
    readers=ALL,
    model=components.WorkerHeartbeat,
    retained=True,
    qos=0,
    expiry=Expiry(intervals=STALE_AFTER),
)
WORKER_KINDS = Topic(
    "worker/{worker}/kinds",
    "The kinds a worker offers: methods and events with their JSON Schemas.",
    writers={Role.WORKER: {"worker": SELF}, Role.CONTROL: {}},
    readers=ALL,
    model=components.WorkerKinds,
    retained=True,
)
DEVICE = Topic(
    "worker/{worker}/device/{serial}",
    "A device as its worker reports it; empty when it is forgotten, by its worker or, where that "
    "is gone, by control.",
    writers={Role.WORKER: {"worker": SELF}, Role.CONTROL: {}},
    readers=ALL,
    model=devices.DeviceReport,
    retained=True,
)
WORKER_EVENT = Topic(
    "worker/{worker}/event",
    "Devices added, removed, or in another state.",
    writers={Role.WORKER: {"worker": SELF}},
    readers=ALL,
    model=devices.DeviceEvent,
    expiry=Expiry.after(hours=1),
)
DESIRED = Topic(
    "worker/{worker}/desired/{serial}",
    "What control wants of a device.",
    writers={Role.CONTROL: {}},
    readers={Role.WORKER: {"worker": SELF}, Role.CONTROL: {}, Role.ADMIN: {}},
    model=devices.Desired,
    retained=True,
)
WORKER_DESIRED = Topic(
    "worker/{worker}/desired",
    "What control wants of a worker.",
    writers={Role.CONTROL: {}},
    readers={Role.WORKER: {"worker": SELF}, Role.CONTROL: {}, Role.ADMIN: {}},
    model=devices.WorkerDesired,
    retained=True,
)
BLOB = Topic(
    "worker/{worker}/blob/{user}/{sha256}",
    "A file's bytes, named by the sha256 of the uncompressed ones; the user property `encoding` "
    "says `zlib` or `identity`.",
    writers={Role.USER: {"user": SELF}},
    readers={Role.WORKER: {"worker": SELF}},
    model=None,
    expiry=Expiry.after(minutes=5),
    limit=LARGEST_FILE,
)
CALL = Topic(
    "worker/{worker}/call/{user}/{method}",
    "A call of a method on devices that the user's reservation holds.",
    writers={Role.USER: {"user": SELF}},
    readers={Role.WORKER: {"worker": SELF}},
    model=calls.Call,
    expiry=AT_DEADLINE,
)
OPERATION = Topic(
    "control/call/{user}/{operation}",
    "A request to control.",
    writers={Role.USER: {"user": SELF}},
    readers={Role.CONTROL: {}},
    model=calls.Request,
    expiry=AT_DEADLINE,
    limit=LARGEST_REQUEST,
)
CLAIM = Topic(
    "control/claim/{serial}",
    "An alarm: more than one worker says that it has this device; empty once that is over.",
    writers={Role.CONTROL: {}},
    readers=ALL,
    model=devices.DeviceClaim,
    retained=True,
)
RESERVATION = Topic(
    "control/reservation/{reservation}",
    "A reservation; empty once it has ended.",
    writers={Role.CONTROL: {}},
    readers=ALL,
    model=reservations.Reservation,
    retained=True,
)
CLIENT_STATE = Topic(
    "user/{user}/client/{client}/state",
    "Whether a client is there; it repeats that for as long as it is.",
    writers={Role.USER: {"user": SELF}},
    readers={Role.CONTROL: {}, Role.USER: {"user": SELF}},
    model=components.ClientState,
    retained=True,
    expiry=Expiry(intervals=SILENT_AFTER),
    limit=LARGEST_STATE,
)
EXPERIMENT = Topic(
    "user/{user}/client/{client}/experiment/{reservation}",
    "How an experiment stands: progress and sums of all that a client has evaluated with a "
    "reservation, so that a page which is opened later knows it, too.",
    writers={Role.USER: {"user": SELF}},
    readers={Role.USER: {"user": SELF}},
    model=experiment.Experiment,
    retained=True,
    expiry=Expiry.after(hours=12),
    limit=LARGEST_EXPERIMENT,
)
REPLY = Topic(
    "user/{user}/client/{client}/reply/{sender}",
    "Answers to a client's requests, from a worker, `control` or `broker`; they wait for a client "
    "whose connection is interrupted, and one that asks again is answered again.",
    writers={
        Role.CONTROL: {"sender": CONTROL},
        Role.WORKER: {"sender": SELF},
        Role.BROKER: {"sender": BROKER},
    },
    readers={Role.USER: {"user": SELF}},
    model=calls.Reply,
    expiry=Expiry.after(minutes=1),
)
EVENT = Topic(
    "user/{user}/reservation/{reservation}/event/{sender}/{serial}/{event}",
    "Events to the holder of a reservation, from a worker or from `control`; serial `all` "
    "concerns the whole reservation.",
    writers={Role.CONTROL: {"sender": CONTROL}, Role.WORKER: {"sender": SELF}},
    readers={Role.USER: {"user": SELF}},
    model=calls.RawEvent,
    expiry=Expiry.after(hours=1),
)
ADMIN = Topic(
    "admin/{user}/{operation}",
    "A request of an administrator to control.",
    writers={Role.ADMIN: {"user": SELF}},
    readers={Role.CONTROL: {}},
    model=calls.Request,
    expiry=AT_DEADLINE,
    limit=LARGEST_REQUEST,
)
PRINCIPALS = Topic(
    "broker/principals",
    "Who the broker knows, in which role and groups.",
    writers={Role.BROKER: {}},
    readers={Role.CONTROL: {}, Role.ADMIN: {}},
    model=components.Principals,
    retained=True,
)
ACCOUNT = Topic(
    "broker/account/{user}",
    "Somebody's own account: when it ends, and when passwords do that were replaced.",
    writers={Role.BROKER: {}},
    readers={Role.OBSERVER: {"user": SELF}},
    model=accounts.Account,
    retained=True,
)
AUTHORITY = Topic(
    "broker/authority",
    "Whom to trust to be this broker, before its certificate is by somebody else. Bridges carry it "
    "nowhere: each broker has its own.",
    writers={Role.BROKER: {}},
    readers={Role.CONTROL: {}, Role.WORKER: {}, Role.OBSERVER: {}},
    model=components.TrustedAuthorities,
    retained=True,
)
FAILED_LOGINS = Topic(
    "broker/logins",
    "From where logins at the broker fail, and which addresses are shut out for it.",
    writers={Role.BROKER: {}},
    readers={Role.ADMIN: {}},
    model=components.FailedLogins,
    retained=True,
)
BROKER_OPERATION = Topic(
    "broker/call/{user}/{operation}",
    "A request to the broker's own service.",
    writers={Role.USER: {"user": SELF}},
    readers={Role.BROKER: {}},
    model=calls.Request,
    expiry=AT_DEADLINE,
    limit=LARGEST_REQUEST,
)
_LOGGING: Mapping[Role, Grant] = {
    Role.CONTROL: {"role": Role.CONTROL, "id": SELF},
    Role.WORKER: {"role": Role.WORKER, "id": SELF},
    Role.BROKER: {"role": Role.BROKER, "id": BROKER},
}
"""Components, each on the topics of its own log."""

LOG = Topic(
    "log/{role}/{id}/{level}",
    "A line of a component's log, as it is written; never more than some a second, so some may be "
    "missing. Readers believe no more than who has written it.",
    writers=_LOGGING,
    readers={Role.ADMIN: {}},
    model=log_records.LogRecord,
    qos=0,
    limit=log_records.LARGEST_RECORD,
)
LOG_RECENT = Topic(
    "log/{role}/{id}",
    "The latest lines of a component's log, warnings kept longer than what is none; also those "
    "of the run before.",
    writers=_LOGGING,
    readers={
        Role.CONTROL: {"role": Role.CONTROL, "id": SELF},
        Role.WORKER: {"role": Role.WORKER, "id": SELF},
        Role.ADMIN: {},
    },
    model=log_records.RecentLog,
    retained=True,
    expiry=Expiry.after(hours=720),
    limit=log_records.LARGEST_RECENT,
)
DEVICE_LOG = Topic(
    "user/{user}/reservation/{reservation}/log/{sender}/{serial}",
    "The latest lines of a worker's log about a device, for whoever holds it, since they do; empty "
    "once they don't.",
    writers={Role.WORKER: {"sender": SELF}},
    readers={Role.USER: {"user": SELF}},
    model=log_records.RecentLog,
    retained=True,
    expiry=Expiry.after(hours=24),
    limit=log_records.LARGEST_OF_DEVICE,
)

RUN = Topic(
    "run/{role}/{principal}",
    "A run of a program asks whether there is another under its name, and is answered by that one. "
    "Every program asks, because who is of another role is refused.",
    writers={
        each: {"role": each, "principal": SELF}
        for each in (Role.CONTROL, Role.WORKER, Role.USER, Role.ADMIN)
    },
    readers={each: {"role": each, "principal": SELF} for each in (Role.CONTROL, Role.WORKER)},
    model=components.Run,
    expiry=Expiry.after(minutes=1),
)

TOPICS: dict[str, Topic] = {
    name: value for name, value in sorted(globals().items()) if isinstance(value, Topic)
}
"""Every topic of the contract, by the name of its constant."""


def users_write(family: Topic) -> bool:
    """Whether people may write that family, each in their own name: level ``user`` has it."""
    people = (Role.USER, Role.OBSERVER, Role.ADMIN)
    return any(family.writers.get(role, {}).get("user") == SELF for role in people)


def read_topic(text: str) -> TopicName:
    """The topic that is spelt so, relative to the root.

    Raises:
        ValueError: there is none in the contract.
    """
    for family in TOPICS.values():
        if family.parse(text) is not None:
            return TopicName(text, family)
    raise ValueError(f"{text!r} is no topic of the contract")


def shared_requests(secret: str) -> str:
    """Prefix of control's subscriptions to requests, so that of several controls one answers.

    Args:
        secret: what the controls of one farm share and nobody else knows. A broker grants a shared
            subscription to anybody who names its group, and what it deals to them is lost.
    """
    return f"$share/control-{secret}/"
