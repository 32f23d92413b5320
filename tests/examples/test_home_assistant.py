"""The recipes for Home Assistant and Node-RED: what they are told is what they document."""

from __future__ import annotations

import contextlib
import getpass
import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import jinja2
import pytest
from pydantic import BaseModel, ConfigDict, StringConstraints
from tests.docs.reading import blocks

from examples import home_assistant
from icebus.broker.embedded import EmbeddedBroker, free_port
from icebus.broker.mosquitto import find_program
from icebus.broker.process import Child
from icebus.bus import Bus, wait_for
from icebus.schemas.components import WorkerPhase, WorkerState
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import DeviceReport, DeviceState
from icebus.schemas.message import now
from icebus.schemas.topics import DEFAULT_ROOT, DEVICE, TOPICS, WORKER_STATE

ROOT = Path(__file__).parents[2]
SERIAL = "E6616407E308B9E2"
REPORT = DeviceReport(
    serial=SERIAL,
    state=DeviceState.READY,
    since=now(),
    session="s1",
    chip="rp2040",
    firmware="icebus",
    firmware_version="1",
)
WORKER = WorkerState(state=WorkerPhase.READY, session="s1", serials=[SERIAL])

Text = Annotated[str, StringConstraints(min_length=1)]


class Documented(BaseModel):
    """Of home-assistant.io/integrations/mqtt, as of 2026, what our messages may be made of."""

    model_config = ConfigDict(extra="forbid")


class Origin(Documented):
    name: Text
    sw_version: Text | None = None
    support_url: Text | None = None


class Device(Documented):
    identifiers: list[Text]
    name: Text
    manufacturer: Text | None = None
    model: Text | None = None
    serial_number: Text | None = None
    sw_version: Text | None = None
    hw_version: Text | None = None
    configuration_url: Text | None = None


class Component(Documented):
    platform: Literal["sensor", "binary_sensor"]
    unique_id: Text
    name: Text
    value_template: Text
    icon: Annotated[str, StringConstraints(pattern="^mdi:")] | None = None
    device_class: Literal["problem", "occupancy"] | None = None


class Discovery(Documented):
    """A message of device discovery: device and origin have to be there, others are shared."""

    device: Device
    origin: Origin
    components: dict[str, Component]
    state_topic: Text
    availability_topic: Text
    availability_template: Text
    qos: Literal[0, 1, 2]


def rendered(template: str, message: str) -> str:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=True)
    return environment.from_string(template).render(value_json=json.loads(message))


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, ["ready", "nobody", "-", "OFF", "OFF"]),
        (
            {"state": "serving", "user": "ann", "reservation": "r1"},
            ["serving", "ann", "-", "OFF", "ON"],
        ),
        ({"state": "broken", "reason": "silent"}, ["broken", "nobody", "silent", "ON", "OFF"]),
    ],
)
def test_given_a_board_when_told_to_home_assistant_then_it_is_as_documented_and_shows_its_state(
    changes: dict[str, Any], shown: list[str]
) -> None:
    report = DeviceReport.model_validate({**REPORT.model_dump(), **changes})
    topic, message = home_assistant.discovery("w1", report)
    assert re.fullmatch(r"homeassistant/device/[A-Za-z0-9_-]+/config", topic)
    read = Discovery.model_validate(message)
    components = read.components.values()
    assert len({each.unique_id for each in components}) == len(components)
    told = report.model_dump_json()
    assert [rendered(each.value_template, told) for each in components] == shown


@pytest.mark.parametrize(
    ("phase", "shown"), [("ready", "online"), ("draining", "online"), ("lost", "offline")]
)
def test_given_a_worker_then_its_boards_are_available_while_it_is_there(
    phase: str, shown: str
) -> None:
    _, message = home_assistant.discovery("w1", REPORT)
    state = WorkerState(state=WorkerPhase(phase), session="s1")
    assert rendered(message["availability_template"], state.model_dump_json()) == shown


# --- through a bridge -----------------------------------------------------------------------------


@pytest.fixture
def fetching(broker: EmbeddedBroker, tmp_path: Path, mosquitto: None) -> Iterator[int]:
    """The port of a broker such as Home Assistant's, which fetches as the recipe says."""
    [recipe] = [
        each.text
        for each in blocks("docs/recipes.md", (ROOT / "docs/recipes.md").read_text())
        if each.text.startswith("connection icebus")
    ]
    farm, port = broker.address("eve"), free_port()
    for before, after in {
        "farm.example.org:8883": f"{farm.host}:{farm.port}",
        "bridge_capath /etc/ssl/certs\n": "",  # this farm has no TLS
        "remote_username wall": f"remote_username {farm.logs_in_as}",
        "PASSWORD": str(farm.password),
    }.items():
        assert before in recipe
        recipe = recipe.replace(before, after)
    file = tmp_path / "home_assistant.conf"
    file.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nuser {getpass.getuser()}\n{recipe}"
    )
    child = Child([find_program("mosquitto"), "-c", str(file)], tmp_path / "log")
    deadline = Deadline.after(10)
    while not accepts(port):
        assert child.process.poll() is None, (tmp_path / "log").read_text()
        assert not deadline.expired
        time.sleep(0.01)
    yield port
    child.stop(Deadline.after(10))


def accepts(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port)).close()
        return True
    return False


def test_given_a_farm_when_told_to_home_assistants_broker_then_that_has_all_it_names(
    broker: EmbeddedBroker, fetching: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadline = Deadline.after(20)
    bus = Bus(broker.address("w1"), "w1")
    bus.connect(deadline)
    wait_for(bus.publish(DEVICE(worker="w1", serial=SERIAL), REPORT), deadline, "the broker")
    wait_for(bus.publish(WORKER_STATE(worker="w1"), WORKER), deadline, "the broker")
    monkeypatch.setenv("ICEBUS_URL", broker.address("eve").url())

    listening = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(fetching), "-v", "-C", "3"]
    topics = ["-t", f"{DEFAULT_ROOT}/#", "-t", "homeassistant/#", "-W", "20"]
    with subprocess.Popen([*listening, *topics], stdout=subprocess.PIPE, text=True) as listener:
        home_assistant.main([f"mqtt://127.0.0.1:{fetching}"])
        out, _ = listener.communicate(timeout=30)
    bus.close(Deadline.after(1))
    received = dict(line.split(" ", 1) for line in out.splitlines())
    message = json.loads(received[f"homeassistant/device/icebus_{SERIAL}/config"])
    assert DeviceReport.model_validate_json(received[message["state_topic"]]) == REPORT
    assert WorkerState.model_validate_json(received[message["availability_topic"]]) == WORKER


# --- Node-RED -------------------------------------------------------------------------------------


def test_given_the_flow_of_node_red_then_it_is_whole_and_listens_to_topics_that_there_are() -> None:
    nodes = json.loads((ROOT / "examples" / "node_red.json").read_text())
    ids = [node["id"] for node in nodes]
    assert len(set(ids)) == len(ids)
    types = {node["type"] for node in nodes}
    assert types <= {"tab", "mqtt-broker", "mqtt in", "rbe", "change", "switch", "debug"}
    filters = {f"{DEFAULT_ROOT}/{topic.filter()}" for topic in TOPICS.values()}
    for node in nodes:
        assert {to for wire in node.get("wires", []) for to in wire} <= set(ids)
        assert node.get("broker") in (None, "localhost", "icebus-farm")
        assert "credentials" not in node
        if node["type"] == "mqtt in":
            assert node["topic"] in filters
        if node["type"] == "switch":
            assert {rule["v"] for rule in node["rules"]} <= set(DeviceState)
