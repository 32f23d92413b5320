"""Client ids: whoever connects under another's ends that other's connection."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from icebus.broker.access import Principal
from icebus.broker.bridge import Upstream
from icebus.broker.directory import BrokerDirectory, Settings
from icebus.broker.embedded import EmbeddedBroker
from icebus.bus import BrokerAddress, Bus, Incoming, wait_for
from icebus.client import Client
from icebus.schemas.deadline import Deadline
from icebus.schemas.topics import TOPICS, Role

FARM = "mqtt://oslo:secret@farm:1883/icebus/v1"


def connect_as(address: BrokerAddress, client_id: str) -> None:
    """Connect under that id, and leave once the broker has taken it or not."""
    thief = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv5)
    thief.username_pw_set(address.user, address.password)
    thief.connect(address.host, address.port)
    while not thief.is_connected():
        assert thief.loop(1.0) == paho.MQTT_ERR_SUCCESS
    thief.disconnect()


def random_bits(client_id: str) -> int:
    return 4 * len(re.findall(r"[0-9a-f]*$", client_id)[0])


def test_when_somebody_connects_under_our_id_then_we_lose_the_connection(
    broker: EmbeddedBroker, connect: Any, eventually: Any
) -> None:
    """Which is why it must not be known."""
    ours = connect("alice")
    connect_as(broker.address("eve"), ours.client_id)
    eventually(lambda: not ours.connected)


def test_when_somebody_knows_our_id_and_ends_our_connections_then_we_take_another(
    broker: EmbeddedBroker, connect: Any, eventually: Any
) -> None:
    ours = connect("alice")
    known = ours.client_id
    for _ in range(2):
        connect_as(broker.address("eve"), known)
        eventually(lambda: not ours.connected)
        eventually(lambda: ours.connected)
    assert ours.client_id != known
    before = ours.connected_at
    connect_as(broker.address("eve"), known)
    assert ours.connected
    assert ours.connected_at == before


def test_given_a_client_then_its_id_at_the_broker_is_not_what_it_publishes(
    broker: EmbeddedBroker,
) -> None:
    with Client(broker.address("alice").url()) as client:
        bus = client._connection.bus
        assert random_bits(bus.client_id) >= 64
        secret = bus.client_id.rpartition("-")[2]
        published = f"{client.id} {client._connection._session}"
        assert all(secret[at : at + 8] not in published for at in range(len(secret) - 7))


def test_given_all_that_is_published_when_an_observer_tries_it_as_an_id_then_nobody_is_cut_off(
    broker: EmbeddedBroker, inbox: Any
) -> None:
    heard, lost = inbox(), []
    with Client(broker.address("alice").url()) as client:
        bus = client._connection.bus
        bus._client.on_disconnect = lambda *_: lost.append("alice")
        spy = Bus(broker.address("eve"), "eve")
        spy.connect(Deadline.after(10))
        collect_everything(spy, heard)
        words = {word for each in heard.messages for word in re.findall(rb"[\w-]+", said(each))}
        names = {*(word.decode() for word in words), "alice", "bridge-alice", "control-main"}
        for name in names:
            connect_as(broker.address("eve"), name)
        assert bus.connected
        assert spy.connected
        assert lost == []
        spy.close(Deadline.after(1))


def collect_everything(spy: Bus, heard: Any) -> None:
    for topic in TOPICS.values():
        wait_for(spy.subscribe(topic, heard).acknowledged, Deadline.after(10), "the broker")


def said(message: Incoming) -> bytes:
    return f"{message.topic} ".encode() + message.payload


def site(folder: Path) -> BrokerDirectory:
    files = BrokerDirectory(folder)
    files.configure(Settings(port=1883))
    files.add_principals([Principal(id="w1", role=Role.WORKER)])
    return files


def ids_in(files: BrokerDirectory) -> tuple[str, str]:
    text = files.configuration.read_text()
    found = [
        re.findall(rf"^{key} (.*)$", text, re.M) for key in ("remote_clientid", "local_clientid")
    ]
    return found[0][0], found[1][0]


def test_given_a_bridge_then_its_ids_can_not_be_guessed_and_stay_over_restarts(
    tmp_path: Path,
) -> None:
    files = site(tmp_path)
    files.bridge(Upstream(url=FARM, workers=("w1",)))
    remote, local = ids_in(files)
    assert random_bits(remote) >= 64
    assert random_bits(local) >= 64
    assert remote.rpartition("-")[2] not in local
    for _ in range(2):
        BrokerDirectory(tmp_path).add_principals([Principal(id="w9", role=Role.WORKER)])
        assert ids_in(files) == (remote, local)
    # With a new password it is the same bridge: what the farm has queued for it is not lost.
    files.bridge(Upstream(url=FARM.replace("secret", "other"), workers=("w1", "w9")))
    assert ids_in(files) == (remote, local)
    files.bridge(Upstream(url=FARM.replace("oslo", "rome"), workers=("w1",)))
    assert ids_in(files) != (remote, local)


def test_given_a_bridge_of_an_earlier_version_when_anything_changes_then_it_gets_ids_that_stay(
    tmp_path: Path,
) -> None:
    files = site(tmp_path)
    files.bridge(Upstream(url=FARM, workers=("w1",)))
    principals = tmp_path / "principals.json"
    earlier = re.sub(r'"(local_)?client_id": "[^"]*"', r'"\1unknown": ""', principals.read_text())
    principals.write_text(earlier)
    files.add_principals([])
    first = ids_in(files)
    files.add_principals([])
    assert ids_in(files) == first


def test_given_a_bridge_then_its_ids_are_its_owners_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        files = site(tmp_path / "site")
        files.bridge(Upstream(url=FARM, workers=("w1",)))
    finally:
        os.umask(before)
    remote, _local = ids_in(files)
    for path in files.path.iterdir():
        if remote in path.read_text():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
