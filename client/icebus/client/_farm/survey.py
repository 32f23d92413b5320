"""The farm as its retained topics tell it at one moment: no control and no worker has to answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from icebus.bus import Bus, Incoming
from icebus.client._farm.all_retained import AllRetained
from icebus.schemas.components import (
    ControlState,
    Heartbeat,
    WorkerHeartbeat,
    WorkerKinds,
    WorkerState,
)
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import DeviceClaim, DeviceReport
from icebus.schemas.liveness import Health, echo_age, retained_health
from icebus.schemas.message import decode
from icebus.schemas.operations.history import HistoryEntry
from icebus.schemas.operations.reservations import Reservation
from icebus.schemas.shown import html_rows
from icebus.schemas.topics import (
    CLAIM,
    CONTROL_HEARTBEAT,
    CONTROL_HISTORY,
    CONTROL_STATE,
    DEVICE,
    RESERVATION,
    WORKER_HEARTBEAT,
    WORKER_KINDS,
    WORKER_STATE,
    Topic,
)
from icebus.schemas.wording import counted

EVERYTHING: tuple[Topic, ...] = (
    CONTROL_STATE,
    CONTROL_HEARTBEAT,
    WORKER_STATE,
    WORKER_HEARTBEAT,
    WORKER_KINDS,
    DEVICE,
    CONTROL_HISTORY,
    CLAIM,
    RESERVATION,
)
"""All that a survey can look at."""

K = TypeVar("K")


@dataclass
class Survey:
    """What was retained.

    Attributes:
        controls: by id.
        heartbeat: the leading control's; None when none beats.
        workers, heartbeats, kinds: by the worker's id. A heartbeat that has grown old is gone.
        devices: reports, by worker and serial.
        claims: alarms that several workers say they have a device, by its serial.
        history: the last of it, newest first.
        reservations: those that have not ended, by id.
    """

    controls: dict[str, ControlState] = field(default_factory=dict)
    heartbeat: Heartbeat | None = None
    workers: dict[str, WorkerState] = field(default_factory=dict)
    heartbeats: dict[str, WorkerHeartbeat] = field(default_factory=dict)
    kinds: dict[str, WorkerKinds] = field(default_factory=dict)
    devices: dict[tuple[str, str], DeviceReport] = field(default_factory=dict)
    claims: dict[str, DeviceClaim] = field(default_factory=dict)
    history: list[HistoryEntry] = field(default_factory=list)
    reservations: dict[str, Reservation] = field(default_factory=dict)

    def reports(self, worker: str) -> list[DeviceReport]:
        """What a worker reports of its devices."""
        return [report for (owner, _), report in sorted(self.devices.items()) if owner == worker]

    def merely_claims(self, worker: str, serial: str) -> bool:
        """Whether a device of which a worker reports is another worker's."""
        claim = self.claims.get(serial)
        return claim is not None and worker in claim.claimed_by

    def age(self, worker: str) -> float | None:
        """Seconds since the worker's heartbeat, in whole intervals; None when it has none."""
        return echo_age(self.heartbeat, self.heartbeats.get(worker))

    def health(self, worker: str) -> Health:
        """Whether a worker can be relied on; control offers boards of those that are ready only."""
        state, echo = self.workers.get(worker), self.heartbeats.get(worker)
        return retained_health(state, self.heartbeat, echo)

    def answers(self, worker: str) -> bool | None:
        """Whether a worker is there and answers heartbeats; None where there are none to answer."""
        return self.health(worker).answers

    def _repr_html_(self) -> str:
        """Its workers, for notebooks."""
        rows = []
        for worker, state in sorted(self.workers.items()):
            echo = self.heartbeats.get(worker)
            states = [report.state.value for report in self.reports(worker)]
            told = ", ".join(f"{states.count(each)} {each}" for each in sorted(set(states)))
            under_way = "" if echo is None else echo.load.queued
            health = self.health(worker).value
            rows.append([worker, health, told, under_way, state.draining or "", state.version])
        caption = ", ".join(
            (
                counted(len(self.workers), "worker"),
                counted(len(self.devices), "device"),
                counted(len(self.reservations), "reservation"),
            )
        )
        columns = ["worker", "is", "devices", "evaluations", "draining", "version"]
        return html_rows(caption, columns, rows)

    def take(self, topic: Topic, ids: Mapping[str, str], payload: bytes) -> None:
        """Take in what is retained on a topic of :data:`EVERYTHING`; nothing when that is gone.

        Raises:
            InvalidRequest: it is not what its topic is for.
        """
        message: Any = decode(topic.model, payload) if payload and topic.model else None
        if topic == CONTROL_HEARTBEAT:
            self.heartbeat = message
        elif topic == CONTROL_HISTORY:
            self.history = [] if message is None else message.entries
        elif topic == DEVICE:
            _keep(self.devices, (ids["worker"], ids["serial"]), message)
        else:
            [id_] = ids.values()
            _keep(self._by_id[topic.template], id_, message)

    @property
    def _by_id(self) -> dict[str, dict[str, Any]]:
        """What is known of those whose topics name them by one id."""
        return {
            CONTROL_STATE.template: self.controls,
            WORKER_STATE.template: self.workers,
            WORKER_HEARTBEAT.template: self.heartbeats,
            WORKER_KINDS.template: self.kinds,
            CLAIM.template: self.claims,
            RESERVATION.template: self.reservations,
        }


def _keep(known: dict[K, Any], key: K, message: Any) -> None:
    if message is None:
        known.pop(key, None)
    else:
        known[key] = message


def survey(bus: Bus, deadline: Deadline, topics: Iterable[Topic] = EVERYTHING) -> Survey:
    """Read what is retained on the topics. Not for use on the dispatcher.

    Raises:
        DeadlineExceeded: the broker did not answer in time.
        NotAuthorized: it knows this user no longer.
    """
    found = Survey()
    retained = AllRetained(bus, "the broker did not tell in time how the farm is")

    def receive(topic: Topic, incoming: Incoming) -> None:
        found.take(topic, incoming.ids, incoming.payload)
        retained.note()

    subscriptions = [bus.subscribe(topic, partial(receive, topic)) for topic in topics]
    try:
        retained.wait(subscriptions, deadline)
    finally:
        for subscription in subscriptions:
            subscription.cancel()
    return found
