"""The access list against the contract, by publishing and subscribing for real.

For every topic, every combination of its own and others' ids, and everybody in ``PEOPLE``: who may
write is told by the broker's acknowledgement, who may read by what arrives. What is expected is
worked out here anew, so that the generator is not asked about itself.
"""

from __future__ import annotations

import itertools
from concurrent.futures import Future
from typing import Any

import pytest
from tests.by_hand import publish_by_hand

from icebus.broker.access import Principal, access_list, check_principals
from icebus.broker.embedded import EmbeddedBroker
from icebus.bus import Bus, Will, wait_for
from icebus.schemas.components import WorkerPhase, WorkerState
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import InvalidRequest, NotAuthorized
from icebus.schemas.topics import SELF, TOPICS, WORKER_STATE, Grant, Role, Topic

ROLES = {
    "main": {Role.CONTROL},
    "w1": {Role.WORKER},
    "w2": {Role.WORKER},
    "alice": {Role.USER, Role.OBSERVER},
    "bob": {Role.USER, Role.OBSERVER},
    "eve": {Role.OBSERVER},
    "root": {Role.ADMIN, Role.USER, Role.OBSERVER},
}
"""What everybody in ``PEOPLE`` may act as."""

CANDIDATES = {
    "worker": ("w1", "w2"),
    "user": ("alice", "bob", "root"),
    "control": ("main", "other"),
    "sender": ("control", "w1", "w2"),
    "role": ("control", "worker", "user"),
    "id": ("main", "w1", "alice"),
}
"""Ids to try in a level; levels that bind nobody get any id."""


def variants(topic: Topic) -> list[dict[str, str]]:
    choices = [CANDIDATES.get(level, ("anything",)) for level in topic.levels]
    return [dict(zip(topic.levels, ids, strict=True)) for ids in itertools.product(*choices)]


def may(grants: dict[Role, Grant], person: str, ids: dict[str, str]) -> bool:
    return any(
        all(ids[level] == (person if value == SELF else value) for level, value in grant.items())
        for role, grant in grants.items()
        if role in ROLES[person]
    )


def outcome(future: Future[None]) -> bool:
    """Whether the broker took the message; anything but a refusal of the topic fails the test."""
    try:
        wait_for(future, Deadline.after(20), "the broker")
    except NotAuthorized:
        return False
    return True


@pytest.mark.parametrize("name", TOPICS)
def test_given_a_topic_then_exactly_its_writers_may_write_and_its_readers_read(
    connect: Any, inbox: Any, name: str
) -> None:
    topic = TOPICS[name]
    people: dict[str, Bus] = {person: connect(person) for person in ROLES}
    boxes = {person: inbox() for person in people}
    for person, bus in people.items():
        subscription = bus.subscribe(topic, boxes[person])
        wait_for(subscription.acknowledged, Deadline.after(20), "subscription")

    attempts = {
        (person, topic(**ids)): (
            may(dict(topic.writers), person, ids),
            publish_by_hand(bus, path, b"x"),
        )
        for ids in variants(topic)
        for path in [topic(**ids)]
        for person, bus in people.items()
    }
    written = {attempt: outcome(future) for attempt, (_, future) in attempts.items()}
    assert written == {attempt: expected for attempt, (expected, _) in attempts.items()}

    for person, bus in people.items():
        expected = sorted(
            path
            for ids in variants(topic)
            for path in [topic(**ids)]
            for writer in people
            if written[writer, path] and may(dict(topic.readers), person, ids)
        )
        boxes[person].wait(len(expected), 20)
        # What the broker had queued for us before this acknowledgement has arrived after it.
        late = bus.subscribe(topic, lambda _m: None)
        wait_for(late.acknowledged, Deadline.after(20), "subscription")
        assert sorted(message.topic for message in boxes[person].messages) == expected


@pytest.mark.parametrize(
    ("person", "topic"),
    [
        ("w1", "worker/w2/state"),
        ("w1", "worker/w2/device/a"),
        ("w1", "worker/w2/heartbeat"),
        ("w1", "worker/w1/desired/a"),
        ("w1", "control/heartbeat"),
        ("w1", "control/call/w1/reserve"),
        ("w1", "user/alice/client/c/reply/control"),
        ("w1", "user/alice/client/c/reply/w2"),
        ("w1", "user/alice/reservation/r/event/control/all/reservation_ended"),
        ("w1", "user/alice/reservation/r/log/w2/a"),
        ("w1", "log/worker/w2"),
        ("w1", "log/control/w1/info"),
        ("alice", "log/user/alice/info"),
        ("alice", "log/worker/w1"),
        ("root", "log/worker/w1/info"),
        ("alice", "user/alice/reservation/r/log/w1/a"),
        ("alice", "user/bob/client/c/state"),
        ("alice", "user/alice/client/c/reply/control"),
        ("alice", "control/call/bob/end"),
        ("alice", "worker/w1/call/bob/evaluate"),
        ("alice", "worker/w1/blob/bob/00"),
        ("alice", "worker/alice/state"),
        ("alice", "admin/alice/quarantine"),
        ("bob", "worker/w1/desired/a"),
        ("root", "worker/w1/desired/a"),
        ("root", "admin/alice/quarantine"),
        ("main", "worker/w1/event"),
        ("main", "user/alice/client/c/reply/w1"),
        ("main", "control/other/state"),
        ("eve", "user/eve/client/c/state"),
        ("eve", "control/call/eve/list"),
    ],
)
def test_given_what_must_never_be_granted_then_it_is_refused(
    connect: Any, person: str, topic: str
) -> None:
    assert not outcome(publish_by_hand(connect(person), topic, b"x"))


def test_given_an_observer_who_listens_to_everything_then_other_peoples_matters_stay_private(
    broker: EmbeddedBroker, connect: Any, eventually: Any
) -> None:
    seen: list[str] = []
    observer = connect("eve")
    observer._client.receive = lambda message, _judgement: seen.append(message.topic)
    observer._client.subscribe("#", qos=1)
    observer._client.subscribe("$SYS/#", qos=1)
    barrier = "worker/w1/device/last"
    alice, worker, control = connect("alice"), connect("w1"), connect("main")

    def watch_until_barrier() -> bool:
        outcome(publish_by_hand(worker, barrier, b"x"))
        return f"{broker.root}/{barrier}" in seen

    eventually(watch_until_barrier)
    for bus, topic in [
        (alice, "control/call/alice/reserve"),
        (alice, "user/alice/client/c/state"),
        (alice, "worker/w1/call/alice/evaluate"),
        (alice, "worker/w1/blob/alice/00"),
        (worker, "user/alice/reservation/r/event/w1/a/results"),
        (worker, "user/alice/client/c/reply/w1"),
        (worker, "log/worker/w1/info"),
        (control, "worker/w1/desired/a"),
        (control, "user/alice/client/c/reply/control"),
    ]:
        assert outcome(publish_by_hand(bus, topic, b"x"))
    assert outcome(publish_by_hand(control, "control/reservation/public", b"x"))
    eventually(lambda: f"{broker.root}/control/reservation/public" in seen)
    assert set(seen) == {
        f"{broker.root}/{barrier}",
        f"{broker.root}/control/reservation/public",
    }


def test_when_a_worker_dies_then_its_will_passes_only_where_it_may_write(
    broker: EmbeddedBroker, connect: Any, inbox: Any, eventually: Any
) -> None:

    kept = inbox()
    wait_for(
        connect("main").subscribe(WORKER_STATE, kept).acknowledged,
        Deadline.after(10),
        "subscription",
    )
    lost = WorkerState(state=WorkerPhase.LOST, session="s")
    for victim in ("w2", "w1"):
        bus = connect("w1", will=Will(WORKER_STATE(worker=victim), lost), session_expiry=0)
        bus._client._thread_terminate = True
        bus._client.socket().shutdown(2)
    kept.wait(1)
    assert [message.ids["worker"] for message in kept.messages] == ["w1"]


def test_given_a_pattern_in_an_id_then_it_never_reaches_the_access_list() -> None:
    for name in ("+", "#", "a/b", "a b", "", "%u", "x\ntopic write #"):
        with pytest.raises(ValueError, match="id"):
            Principal(id=name, role=Role.USER)


@pytest.mark.parametrize("password", ["", "two\nlines:x", "tab\t", "über", "x" * 300])
def test_given_a_password_that_could_break_the_file_then_it_is_refused(password: str) -> None:
    with pytest.raises(ValueError, match="password"):
        Principal(id="alice", role=Role.USER, password=password)


def test_given_a_password_with_signs_in_it_then_it_works(
    broker: EmbeddedBroker, connect: Any
) -> None:
    broker.add_principals([Principal(id="carol", role=Role.USER, password="a:b%2F@c#'\"\\!$7$101")])
    assert connect("carol").connected


@pytest.mark.parametrize("name", ["control", "all"])
def test_given_a_reserved_name_then_it_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="reserved"):
        check_principals([Principal(id=name, role=Role.WORKER)])


def test_given_one_name_in_two_roles_then_it_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="two principals"):
        check_principals([Principal(id="x", role=Role.WORKER), Principal(id="x", role=Role.USER)])


def test_given_another_root_then_the_list_is_about_that_root() -> None:
    text = access_list([Principal(id="w1", role=Role.WORKER)], "lab/icebus")
    grants = [line for line in text.splitlines() if line.startswith("topic")]
    assert grants
    assert all(line.split()[2].startswith("lab/icebus/") for line in grants)
    assert "pattern" not in text


def test_given_a_principal_then_its_repr_has_no_password() -> None:
    principal = Principal(id="alice", role=Role.USER)
    assert len(principal.password) >= 32
    assert principal.password not in repr(principal)


@pytest.mark.parametrize(("name", "role"), [("broker", Role.USER), ("sam", Role.BROKER)])
def test_given_the_name_or_role_of_the_brokers_own_service_when_another_has_it_then_refused(
    name: str, role: Role
) -> None:
    with pytest.raises(InvalidRequest, match="broker's own service"):
        check_principals([Principal(id=name, role=role)])


def test_given_the_brokers_own_service_then_it_may_read_and_write_everything_of_the_farm() -> None:
    text = access_list([Principal(id="broker", role=Role.BROKER)], "lab/icebus")

    assert "topic write lab/icebus/#\ntopic read lab/icebus/#\ntopic read $SYS/#" in text
