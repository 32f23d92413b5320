"""What is taken of users' messages, decided before they are read."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from icebus.bus import Allowance
from icebus.bus._admission import admission
from icebus.bus._admission.admission import Admission, Judgement
from icebus.bus._admission.turns import Turns
from icebus.schemas.errors import MessageTooLarge, TooManyRequests
from icebus.schemas.topics import (
    ADMIN,
    BLOB,
    BROKER_OPERATION,
    CALL,
    CLIENT_STATE,
    DEVICE,
    EXPERIMENT,
    OPERATION,
    REPLY,
    TOPICS,
    WORKER_HEARTBEAT,
    Topic,
    users_write,
)

ROOT = "icebus/v1/"
ALLOWED = Allowance(
    per_second=10,
    at_once=20,
    bytes_per_second=1000,
    bytes_at_once=5000,
    waiting=5,
    waiting_bytes=2000,
)


class Gate:
    """An admission with a clock, and nobody who takes what waits."""

    def __init__(self, *families: Topic, allowance: Allowance = ALLOWED) -> None:
        self.at = 100.0
        self.later: list[Callable[[], None]] = []
        self.turns = Turns(lambda _step: None)
        self.admission = Admission(
            ROOT, self.turns, lambda _seconds, report: self.later.append(report)
        )
        for family in families:
            self.admission.watch(family, lambda _user: allowance)

    def judge(self, topic: str, size: int = 50, properties: int = 10) -> Judgement | None:
        return self.admission.judge(f"{ROOT}{topic}".encode(), size, properties, self.at)

    def taken(self, topic: str, times: int, size: int = 50) -> int:
        """How many of so many are taken."""
        judgements = [self.judge(topic, size) for _ in range(times)]
        return sum(each is not None and each.refusal is None for each in judgements)


def test_given_the_table_of_topics_then_users_write_these_and_no_others() -> None:
    expected = (ADMIN, BLOB, BROKER_OPERATION, CALL, CLIENT_STATE, EXPERIMENT, OPERATION)
    assert [each for each in TOPICS.values() if users_write(each)] == list(expected)


@pytest.mark.parametrize(
    "topic",
    [
        WORKER_HEARTBEAT(worker="w1"),
        DEVICE(worker="w1", serial="a"),
        REPLY(user="alice", client="c", sender="control"),
        "control/call/alice",
        "control/call/alice/list/more",
    ],
)
def test_given_what_no_user_may_write_then_it_is_never_refused(topic: str) -> None:
    gate = Gate(OPERATION, CLIENT_STATE, CALL)
    assert [gate.judge(topic, size=10**9) for _ in range(100)] == [None] * 100


def test_given_more_messages_than_a_user_may_send_then_the_rest_is_refused_until_later() -> None:
    gate = Gate(OPERATION)
    assert gate.taken("control/call/alice/list", 100) == 20
    gate.at += 1.0
    assert gate.taken("control/call/alice/list", 100) == 10
    gate.at += 1000.0
    assert gate.taken("control/call/alice/list", 100) == 20


def test_given_a_user_who_floods_then_others_do_not_notice() -> None:
    gate = Gate(OPERATION)
    gate.taken("control/call/alice/list", 1000)
    assert gate.taken("control/call/bob/list", 20) == 20


def test_given_a_flood_of_one_family_then_the_same_user_is_heard_on_others() -> None:
    gate = Gate(OPERATION, CLIENT_STATE)
    gate.taken("control/call/alice/list", 1000)
    assert gate.taken("user/alice/client/c1/state", 20) == 20


def test_given_thousands_of_clients_of_one_user_then_they_share_what_that_user_may_send() -> None:
    gate = Gate(CLIENT_STATE)
    assert sum(gate.taken(f"user/alice/client/c{n}/state", 1) for n in range(1000)) == 20


def test_given_more_bytes_than_a_user_may_send_then_the_rest_is_refused() -> None:
    gate = Gate(OPERATION)
    assert gate.taken("control/call/alice/list", 10, size=2000) == 2
    gate.at += 1.0
    assert gate.taken("control/call/alice/list", 10, size=2000) == 1


def test_given_a_backlog_of_one_user_then_more_of_theirs_is_refused_and_nobody_elses() -> None:
    gate = Gate(OPERATION)
    for _ in range(5):
        gate.turns.put("alice", lambda: None, 10)
    assert gate.taken("control/call/alice/list", 1) == 0
    assert gate.taken("control/call/bob/list", 1) == 1


def test_given_a_backlog_of_bytes_then_more_is_refused() -> None:
    gate = Gate(OPERATION)
    gate.turns.put("alice", lambda: None, 1990)
    assert gate.taken("control/call/alice/list", 1) == 0


def test_given_much_that_waits_in_all_then_who_has_most_of_it_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admission, "WAITING_BYTES", 1500)
    gate = Gate(OPERATION)
    gate.turns.put("alice", lambda: None, 1400)
    gate.turns.put("bob", lambda: None, 90)
    assert gate.taken("control/call/alice/list", 1) == 0
    assert gate.taken("control/call/bob/list", 1) == 1
    assert gate.taken("control/call/carol/list", 1) == 1


@pytest.mark.parametrize("family", [OPERATION, ADMIN, BROKER_OPERATION, CLIENT_STATE])
def test_given_a_message_too_large_for_its_topic_then_the_refusal_names_the_limit(
    family: Topic,
) -> None:
    gate = Gate(family)
    topic = family.template.format(user="alice", operation="x", client="c", worker="w")
    judgement = gate.judge(topic, size=1_900_000)
    assert judgement is not None
    assert isinstance(judgement.refusal, MessageTooLarge)
    assert judgement.refusal.details["limit"] == family.limit < 200_000
    assert judgement.told


def test_given_properties_of_many_kilobytes_then_the_refusal_names_their_limit() -> None:
    judgement = Gate(CALL).judge("worker/w1/call/alice/status", size=70_000, properties=65_000)
    assert judgement is not None
    assert isinstance(judgement.refusal, MessageTooLarge)
    assert judgement.refusal.details == {"size": 65_000, "limit": admission.LONGEST_PROPERTIES}
    assert judgement.told


def test_given_a_flood_then_a_few_refusals_are_told_and_say_when_to_try_again() -> None:
    gate = Gate(OPERATION)
    gate.taken("control/call/alice/list", 20)
    judgements = [gate.judge("control/call/alice/list") for _ in range(1000)]
    told = [each.refusal for each in judgements if each is not None and each.told]
    assert 1 <= len(told) <= admission.TOLD_PER_SECOND
    assert isinstance(told[0], TooManyRequests)
    assert told[0].details["retry_after"] == pytest.approx(0.1)


def test_given_a_flood_then_its_beginning_and_its_end_are_logged_with_who_and_how_many(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(OPERATION)
    monkeypatch.setattr("time.monotonic", lambda: gate.at)
    with caplog.at_level(logging.WARNING):
        gate.taken("control/call/alice/list", 10_020)
        [begin] = caplog.messages
        assert "alice" in begin
        assert "control/call" in begin
        gate.at += admission.ENDED_AFTER + 1
        [report] = gate.later
        report()
    assert len(caplog.messages) == 2
    assert "10000 messages of alice" in caplog.messages[1]
    assert len(gate.later) == 1


def test_given_a_flood_that_lasts_then_it_is_looked_at_again_and_rarely_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(OPERATION)
    monkeypatch.setattr("time.monotonic", lambda: gate.at)
    with caplog.at_level(logging.WARNING):
        for _ in range(100):  # a thousand seconds
            gate.taken("control/call/alice/list", 500)
            gate.at += admission.ENDED_AFTER - 1
            gate.later.pop(0)()
    assert len(gate.later) == 1
    assert len(caplog.messages) <= 1 + 100 * admission.ENDED_AFTER / admission.REPEAT_AFTER
    assert "it goes on" in caplog.messages[-1]


def test_given_users_without_end_then_the_memory_of_them_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admission, "SENDERS", 10)
    gate = Gate(OPERATION)
    for number in range(1000):
        gate.judge(f"control/call/user{number}/list")
    assert len(gate.admission._senders) <= 10


def test_given_a_worker_that_floods_then_the_rest_is_dropped_and_other_workers_are_heard(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = Gate()
    gate.admission.watch(DEVICE, lambda _worker: ALLOWED, "worker")
    with caplog.at_level(logging.WARNING):
        judgements = [gate.judge("worker/w1/device/a") for _ in range(1000)]
    refused = [each for each in judgements if each is not None]
    assert judgements[:20] == [None] * 20
    assert len(refused) == 980
    assert all(each.refusal is not None and not each.told for each in refused)
    assert [gate.judge("worker/w2/device/a") for _ in range(20)] == [None] * 20
    [said] = caplog.messages
    assert "w1" in said
    gate.at += 1.0
    assert [gate.judge("worker/w1/device/a") for _ in range(10)] == [None] * 10


def test_given_a_worker_whose_topics_nobody_bounds_then_all_is_taken() -> None:
    gate = Gate(OPERATION)
    assert [gate.judge("worker/w1/device/a", size=10**6) for _ in range(100)] == [None] * 100
