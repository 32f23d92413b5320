"""What a farm at work publishes is carried as the table of topics says, whoever publishes it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from tests.capture import Capture, Captured

from icebus.bus import BrokerAddress
from icebus.client import Admin, PulseCountClient
from icebus.client._profiles.farm_directory import profile_path
from icebus.client._profiles.profile import Profile
from icebus.client.local_farm.farm import CONTROL, WORKER
from icebus.schemas.topics import (
    ACCOUNT,
    AUTHORITY,
    BROKER_OPERATION,
    CLAIM,
    CONTROL_HEARTBEAT,
    CONTROL_OUTBOX,
    CONTROL_STATE,
    CONTROL_THROUGHPUT,
    DEVICE_LOG,
    EXPERIMENT,
    FAILED_LOGINS,
    LOG,
    PRINCIPALS,
    RUN,
    TOPICS,
    WORKER_KINDS,
    Role,
    Topic,
)

if TYPE_CHECKING:
    from tests.farm.conftest import Up

READERS = {Role.CONTROL: CONTROL, Role.WORKER: WORKER, Role.USER: "ann", Role.ADMIN: "admin"}

SELDOM = {  # published
    ACCOUNT.template,  # to each of those who are told
    AUTHORITY.template,  # by brokers with TLS
    DEVICE_LOG.template,  # when a board's worker has something to say
    EXPERIMENT.template,  # of runs that take ten seconds
    FAILED_LOGINS.template,  # when logins fail
    BROKER_OPERATION.template,  # by those who change their password
    CLAIM.template,  # when two workers say they have one device
    CONTROL_OUTBOX.template,  # by one of several controls
    CONTROL_STATE.template,  # when a control comes, leads or goes
    CONTROL_THROUGHPUT.template,  # once a minute
    LOG.template,  # by nobody yet
    PRINCIPALS.template,  # when somebody is added or removed
    RUN.template,  # when a program of that name comes or asks
    WORKER_KINDS.template,  # when a worker connects
}


def address(farm: Up, principal: str) -> BrokerAddress:
    return BrokerAddress.parse(Profile.read(profile_path(farm.directory, principal)).url)


def lifetime(captured: Captured, heartbeat: float) -> float | None:
    """Seconds that the table gives a message, as far as it can be told from outside."""
    expiry = captured.topic.family.expiry
    if expiry.intervals is None:
        return None if expiry.at_deadline else expiry.fixed
    said = json.loads(captured.payload) if captured.payload else {}
    return expiry.seconds(said.get("interval", heartbeat))


def wrong(captured: Captured, heartbeat: float) -> str | None:
    """What is wrong with how a message was carried."""
    family, expiry = captured.topic.family, captured.expiry
    if (captured.retained, captured.qos) != (family.retained, family.qos):
        return f"{captured.topic}: retained {captured.retained}, QoS {captured.qos}"
    if family.retained and not captured.payload:
        return None  # what clears keeps nothing that could expire
    if family.expiry.at_deadline:
        return None if expiry else f"{captured.topic}: no expiry"
    expected = lifetime(captured, heartbeat)
    right = expected == expiry or (expected and expiry and expected - 10 <= expiry <= expected)
    return None if right else f"{captured.topic}: {expiry} s, not {expected}"


def test_given_a_farm_at_work_then_every_message_is_carried_as_the_table_says(farm: Up) -> None:
    circuit = Path(__file__).parents[2] / "examples" / "circuits" / "pulse_2khz.bin"
    with contextlib.ExitStack() as stack:
        captures: dict[str, tuple[Capture, list[Topic]]] = {}
        for role, principal in READERS.items():
            taken = {topic.template for _, topics in captures.values() for topic in topics}
            theirs = [
                topic
                for topic in TOPICS.values()
                if role in topic.readers and topic.template not in taken | SELDOM
            ]
            if theirs:
                capture = stack.enter_context(Capture(address(farm, principal), theirs))
                captures[principal] = capture, theirs

        with PulseCountClient(farm=profile_path(farm.directory, "ann")) as ann:
            with ann.reserve(2) as boards:
                assert len(list(boards.evaluate([circuit]))) == 2
            with Admin(farm=profile_path(farm.directory, "admin")) as admin:
                [serial] = ann.available("pulsecount")[:1]
                admin.quarantine([serial], "a test")
                admin.unquarantine([serial])
                admin.drain(WORKER)
                admin.undrain(WORKER)

        messages = [
            each
            for capture, topics in captures.values()
            for topic in topics
            for each in capture.of(topic)
        ]
    heartbeat = next(
        json.loads(each.payload)["interval"]
        for each in messages
        if each.topic.family is CONTROL_HEARTBEAT
    )
    assert {each.topic.family.template for each in messages} == {
        topic.template for topic in TOPICS.values()
    } - SELDOM
    assert [found for each in messages if (found := wrong(each, heartbeat))] == []
