"""What the farm's retained topics come to: workers that answer, kinds that agree."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from icebus.broker.embedded import EmbeddedBroker
from icebus.bus import Bus, Will
from icebus.client._farm.offers import Offer, find, find_method, merge
from icebus.client._farm.survey import Survey, survey
from icebus.client.cli.commands.farm import kinds as cli
from icebus.client.cli.commands.farm.workers import as_row
from icebus.schemas.components import (
    EventInfo,
    Heartbeat,
    KindInfo,
    MethodInfo,
    WorkerHeartbeat,
    WorkerKinds,
    WorkerLoad,
    WorkerPhase,
    WorkerState,
)
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import DeviceReport, DeviceState
from icebus.schemas.errors import DeadlineExceeded, UnknownKind, UnknownMethod
from icebus.schemas.message import now
from icebus.schemas.topics import DEVICE, WORKER_STATE


def farm_with(phase: WorkerPhase, echo: int | None = None, beat: int | None = 10) -> Survey:
    farm = Survey(workers={"w": WorkerState(state=phase, session="s", version="1")})
    if beat is not None:
        farm.heartbeat = Heartbeat(epoch="e", sequence=beat, interval=2.0)
    if echo is not None:
        load = WorkerLoad(devices=2, serving=1, queued=5)
        farm.heartbeats["w"] = WorkerHeartbeat(epoch="e", sequence=echo, session="s", load=load)
    return farm


@pytest.mark.parametrize(
    ("farm", "state", "age"),
    [
        (farm_with(WorkerPhase.READY, echo=10), "ready", 0),
        (farm_with(WorkerPhase.READY, echo=11), "ready", 0),
        (farm_with(WorkerPhase.DRAINING, echo=7), "draining", 6),
        (farm_with(WorkerPhase.READY, echo=6), "unreachable", 8),
        (farm_with(WorkerPhase.READY), "unreachable", None),
        (farm_with(WorkerPhase.LOST), "lost", None),
        (farm_with(WorkerPhase.OFFLINE, echo=10), "offline", 0),
        (farm_with(WorkerPhase.READY, echo=10, beat=None), "ready", None),
    ],
)
def test_given_a_worker_when_listed_then_it_has_to_answer_heartbeats_to_be_there(
    farm: Survey, state: str, age: float | None
) -> None:
    row = as_row(farm, "w")
    assert (row["state"], row["heartbeat"]) == (state, age)


def test_given_a_worker_when_listed_then_its_devices_are_counted_by_state() -> None:
    farm = farm_with(WorkerPhase.READY, echo=10)
    states = [DeviceState.READY, DeviceState.BROKEN, DeviceState.READY]
    for serial, state in zip("ABC", states, strict=True):
        report = DeviceReport(serial=serial, state=state, since=now(), session="s")
        farm.devices["w", serial] = report
        farm.devices["other", serial] = report
    row = as_row(farm, "w")
    assert row["devices"] == {"ready": 2, "broken": 1}
    assert (row["serving"], row["queued"]) == (1, 5)


def test_given_an_echo_of_another_control_when_its_age_is_asked_then_there_is_none() -> None:
    farm = farm_with(WorkerPhase.READY, echo=10)
    farm.heartbeat = Heartbeat(epoch="new", sequence=1, interval=1.0)
    assert farm.age("w") is None
    assert farm.answers("w") is False
    assert farm.answers("nobody") is False


# --- kinds ----------------------------------------------------------------------------------------


def info(**change: Any) -> KindInfo:
    facts: dict[str, Any] = {
        "description": "Counts.\n\nMore of it.",
        "firmware": "f",
        "args": {"properties": {"speed": {"type": "integer", "default": 3, "exclusiveMinimum": 0}}},
        "methods": {
            "go": MethodInfo(
                description="Go ``on``.",
                args={"properties": {"way": {"type": "string"}}, "required": ["way"]},
                returns={"type": "integer"},
            )
        },
        "events": {"gone": EventInfo(data={"properties": {"far": {"type": "number"}}})},
    }
    return KindInfo(**(facts | change))


def test_given_workers_that_agree_when_merged_then_they_share_an_offer() -> None:
    odd = info(firmware="g")
    offers = merge(
        {
            "w3": WorkerKinds(kinds={"count": odd}),
            "w2": WorkerKinds(kinds={"count": info(), "another": info()}),
            "w1": WorkerKinds(kinds={"count": info()}),
        }
    )
    assert offers == [
        Offer("another", ("w2",), info()),
        Offer("count", ("w1", "w2"), info()),
        Offer("count", ("w3",), odd),
    ]
    assert find(offers, "count") == offers[1:]


@given(st.dictionaries(st.sampled_from("abcdef"), st.sets(st.sampled_from(["x", "y", "z"]))))
def test_given_any_workers_when_merged_then_each_kind_of_each_is_in_one_offer(
    offered: dict[str, set[str]],
) -> None:
    kinds = {
        worker: WorkerKinds(
            kinds={kind: info(firmware="1" if worker in "abc" else "2") for kind in k}
        )
        for worker, k in offered.items()
    }
    found = [(worker, offer.kind) for offer in merge(kinds) for worker in offer.workers]
    assert sorted(found) == sorted((worker, kind) for worker, k in offered.items() for kind in k)


def test_given_an_unknown_kind_or_method_when_looked_for_then_the_error_lists_what_there_is() -> (
    None
):
    offers = merge({"w": WorkerKinds(kinds={"count": info()})})
    with pytest.raises(UnknownKind, match="there is count"):
        find(offers, "nonsense")
    with pytest.raises(UnknownKind, match="no worker offers any"):
        find([], "count")
    assert find_method(info(), "count", "go").description == "Go ``on``."
    with pytest.raises(UnknownMethod, match=r"it has go; `icebus kinds count`"):
        find_method(info(), "count", "og")


def test_given_a_kind_when_described_then_all_that_crosses_is_there() -> None:
    assert cli.describe(Offer("count", ("w1", "w2"), info())).split("\n") == [
        "count: on w1 w2, firmware f",
        "  Counts.",
        "",
        "  More of it.",
        "",
        "RESERVE with --arg NAME=VALUE",
        "  speed  integer  = 3  above 0",
        "",
        "METHOD go(way: string)",
        "  Go `on`.",
        "",
        "  way  string  required",
        "  answer:",
        "    integer",
        "",
        "EVENT gone",
        "",
        "  far  number",
    ]


def test_given_a_kind_when_taken_apart_then_each_field_is_a_row_of_one_shape() -> None:
    rows = cli.parts_of(Offer("count", ("w",), info()))
    assert [(row["part"], row["name"], row["field"], row["default"]) for row in rows] == [
        ("reserve", "", "speed", 3),
        ("method", "go", "way", None),
        ("event", "gone", "far", None),
    ]
    assert all(tuple(row) == cli.PARTS for row in rows)


# --- reading it -----------------------------------------------------------------------------------

DEVICES = 300
"""More than the broker sends at once, so that a reader who is not patient misses some."""


@pytest.fixture
def populated(broker: EmbeddedBroker) -> EmbeddedBroker:
    """A broker that retains a worker's word on many devices."""
    topic = WORKER_STATE(worker="w1")
    state = WorkerState(state=WorkerPhase.READY, session="s")
    bus = Bus(broker.address("w1"), "w1", Will(topic, state))
    bus.connect(Deadline.after(10))
    bus.publish(topic, state)
    for index in range(DEVICES):
        serial = f"D{index}"
        report = DeviceReport(serial=serial, state=DeviceState.READY, since=now(), session="s")
        bus.publish(DEVICE(worker="w1", serial=serial), report)
    bus.close(Deadline.after(10))
    return broker


@pytest.mark.parametrize("principal", ["alice", "eve"])
def test_given_much_that_is_retained_when_read_then_all_of_it_is_there(
    populated: EmbeddedBroker, principal: str
) -> None:
    bus = Bus(populated.address(principal), principal)
    bus.connect(Deadline.after(10))
    found = survey(bus, Deadline.after(10))
    bus.close(Deadline.after(2))
    assert len(found.devices) == DEVICES
    assert found.workers["w1"].state is WorkerPhase.READY
    assert found.heartbeat is None


def test_given_a_broker_that_is_gone_when_read_then_that_is_told_in_time(
    broker: EmbeddedBroker,
) -> None:
    bus = Bus(broker.address("alice"), "alice")
    bus.connect(Deadline.after(10))
    broker.stop(Deadline.after(5))
    with pytest.raises(DeadlineExceeded):
        survey(bus, Deadline.after(0.3))
    bus.close(Deadline.after(0.1))
