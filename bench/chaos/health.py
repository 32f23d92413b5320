"""What is left of a farm after a run of chaos: retained topics, threads, descriptors, memory."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from icebus.bus import BrokerAddress, Bus, Incoming, wait_for
from icebus.schemas.components import ClientState
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import Desired, DeviceReport, DeviceState
from icebus.schemas.message import decode
from icebus.schemas.topics import CLIENT_STATE, DESIRED, DEVICE, RESERVATION, TOPICS

QUIET = 1.0
"""Seconds without a retained message after which all have come."""

READ_TIMEOUT = 20.0

THREADS = 4
"""Threads that a part may have more than at the beginning: helpers that linger for a while."""

FILES = 16
"""Likewise, of descriptors."""

MEMORY = 48.0
"""Likewise, of MiB: caches fill, allocators keep what they had."""

Retained = dict[str, list[tuple[dict[str, str], bytes]]]


@dataclass(frozen=True)
class Resources:
    """What a process has of the machine.

    Attributes:
        pid: the process.
        threads: it runs.
        files: descriptors it has open.
        memory: resident MiB.
    """

    pid: int
    threads: int
    files: int
    memory: float

    def leaks(self, before: Resources) -> Iterator[str]:
        """What it has too much of, beside what it or its predecessor had before."""
        for what, now, then, more in (
            ("threads", self.threads, before.threads, THREADS),
            ("descriptors", self.files, before.files, FILES),
            ("MiB", self.memory, before.memory, MEMORY),
        ):
            if now > then + more:
                yield f"{now:.0f} {what}, {then:.0f} before"


def resources(pid: int) -> Resources:
    """What a process has now."""
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return Resources(
        pid,
        int(fields["Threads"]),
        len(list(Path(f"/proc/{pid}/fd").iterdir())),
        int(fields["VmRSS"].split()[0]) / 1024,
    )


def retained(address: BrokerAddress) -> Retained:
    """All that the broker keeps and a control may read, by the name of the topic."""
    found: Retained = {name: [] for name in TOPICS}
    heard = threading.Event()
    bus = Bus(address, name="retained-reader", session_expiry=0)

    def note(name: str, incoming: Incoming) -> None:
        if incoming.retained:
            found[name].append((incoming.ids, incoming.payload))
            heard.set()

    deadline = Deadline.after(READ_TIMEOUT)
    bus.connect(deadline)
    try:
        for name, topic in TOPICS.items():
            subscription = bus.subscribe(topic, partial(note, name))
            wait_for(subscription.acknowledged, deadline, "the broker")
        while heard.wait(QUIET):
            heard.clear()
    finally:
        bus.close(deadline)
    return found


def leftovers(kept: Retained, serials: Iterable[str], gone: Iterable[str]) -> Iterator[str]:
    """What is retained that should not be, or is not as it should be, of an idle farm.

    Args:
        kept: by the broker.
        serials: of all boards.
        gone: users whose clients are no more, nor should be any word of them.
    """
    for ids, _ in kept["RESERVATION"]:
        yield f"{RESERVATION(**ids)} is still there"
    for ids, payload in kept["CLIENT_STATE"]:
        if ids["user"] in gone:
            state = decode(ClientState, payload).state
            yield f"{CLIENT_STATE(**ids)} says {state}, and nobody is there"
    expected = set(serials)
    reported = [ids["serial"] for ids, _ in kept["DEVICE"]]
    if sorted(reported) != sorted(expected):
        yield f"{len(reported)} devices are reported, {len(expected)} are there"
    generations = {}
    for ids, payload in kept["DESIRED"]:
        desired = decode(Desired, payload)
        generations[ids["serial"]] = desired.generation
        if desired.reservation is not None:
            yield f"{DESIRED(**ids)} still wants reservation {desired.reservation}"
    for ids, payload in kept["DEVICE"]:
        report = decode(DeviceReport, payload)
        if report.state is not DeviceState.READY or report.reservation is not None:
            yield f"{DEVICE(**ids)} is {report.state}: {report.reason}"
        if report.generation != generations.get(ids["serial"], report.generation):
            yield f"{DEVICE(**ids)} has not followed its desired state"
    for name, topic in TOPICS.items():
        if not topic.retained and kept[name]:
            yield f"{len(kept[name])} messages of {topic.template} are kept"
