"""paho over WebSockets, through a dashboard, at a real Mosquitto, with TLS and without."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode
from tests.connections import Connect, published
from tests.dashboard.conftest import Serve
from tests.dashboard.scripted_broker import browse

from icebus.broker.access import Principal
from icebus.broker.directory import BrokerDirectory, Settings
from icebus.broker.embedded import EmbeddedBroker, free_port
from icebus.broker.tls.certificates import Listening
from icebus.bus import BrokerAddress
from icebus.client.dashboard.starting import Dashboard, check_reads_only
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import InvalidRequest
from icebus.schemas.topics import CONTROL_STATE, Role

TIMEOUT = 10.0

TOPIC = "icebus/v1/user/alice/client/{}/state"


class PahoBrowser:
    """MQTT over a WebSocket, as a browser speaks it, by a client that is not ours.

    Attributes:
        answers: reason codes of CONNACKs.
        messages: payloads.
        ends: why connections ended.
    """

    def __init__(self, dashboard: Dashboard, user: str, password: str) -> None:
        self.answers: queue.Queue[ReasonCode] = queue.Queue()
        self.messages: queue.Queue[bytes] = queue.Queue()
        self.ends: queue.Queue[ReasonCode] = queue.Queue()
        self.id = f"{user}-web-test"
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, self.id, protocol=paho.MQTTv5, transport="websockets"
        )
        self.client.ws_set_options(path="/mqtt")
        self.client.username_pw_set(user, password)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda _c, _u, _f, reason, _p: self.answers.put(reason)
        self.client.on_message = lambda _c, _u, message: self.messages.put(bytes(message.payload))
        self.client.on_disconnect = lambda _c, _u, _f, reason, _p: self.ends.put(reason)
        self.client.connect(*dashboard.running.listens)
        self.client.loop_start()

    def accepted(self) -> None:
        assert not self.answers.get(timeout=TIMEOUT).is_failure

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


Browse = Callable[[Dashboard, BrokerAddress], PahoBrowser]


@pytest.fixture
def browsing() -> Iterator[Browse]:
    """Opens browsers, and closes them in the end."""
    opened: list[PahoBrowser] = []

    def open_one(dashboard: Dashboard, who: BrokerAddress) -> PahoBrowser:
        opened.append(PahoBrowser(dashboard, who.user, who.password))
        return opened[-1]

    yield open_one
    for browser in opened:
        browser.close()


class TlsBroker:
    """A broker that people reach with TLS only."""

    def __init__(self, directory: Path, name: str = "localhost") -> None:
        files = BrokerDirectory(directory)
        tls = Listening(
            address="127.0.0.1", port=free_port(), component_port=free_port(), hosts=(name,)
        )
        files.configure(Settings(port=free_port(), tls=tls))
        files.add_principals([Principal(id="alice", role=Role.USER)])
        assert files.settings is not None
        self.broker = EmbeddedBroker(directory, [], port=files.settings.port, tls=tls)
        self.broker.start(Deadline.after(TIMEOUT))
        self.alice = files.address_of(files.principals["alice"])


@pytest.fixture
def tls_broker(tmp_path: Path, mosquitto: None) -> Iterator[TlsBroker]:
    made = TlsBroker(tmp_path / "tls")
    yield made
    made.broker.stop(Deadline.after(TIMEOUT))


@pytest.fixture(params=["plain", "tls"])
def alice(request: pytest.FixtureRequest) -> BrokerAddress:
    """Who she is at a broker of that sort."""
    if request.param == "tls":
        encrypted: TlsBroker = request.getfixturevalue("tls_broker")
        assert encrypted.alice.tls
        return encrypted.alice
    plain: EmbeddedBroker = request.getfixturevalue("broker")
    return plain.address("alice")


@pytest.mark.parametrize("size", [0, 1, 65_536, 1_900_000])
def test_given_a_message_of_any_size_then_it_comes_back_as_it_was(
    serve: Serve, browsing: Browse, alice: BrokerAddress, size: int
) -> None:
    browser = browsing(serve(alice), alice)
    browser.accepted()
    topic = TOPIC.format(browser.id)
    browser.client.subscribe(topic, qos=1)
    payload = bytes(each % 251 for each in range(size))
    browser.client.publish(topic, payload, qos=1).wait_for_publish(TIMEOUT)
    assert browser.messages.get(timeout=TIMEOUT) == payload


def test_given_a_wrong_password_then_the_broker_itself_refuses(
    serve: Serve, browsing: Browse, alice: BrokerAddress
) -> None:
    browser = browsing(serve(alice), alice.as_user("alice", "wrong"))
    refused = browser.answers.get(timeout=TIMEOUT)
    assert refused.is_failure
    assert refused.value in (0x86, 0x87)


def test_given_the_dashboards_own_account_then_nobody_else_comes_in_by_it(
    serve: Serve, browsing: Browse, broker: EmbeddedBroker
) -> None:
    browser = browsing(serve(broker.address("root")), broker.address("root").as_user("root", ""))
    assert browser.answers.get(timeout=TIMEOUT).is_failure


def test_given_a_broker_that_restarts_then_browsers_are_told_and_come_back(
    dashboard: Dashboard, browsing: Browse, broker: EmbeddedBroker
) -> None:
    browser = browsing(dashboard, broker.address("bob"))
    browser.accepted()
    broker.stop(Deadline.after(TIMEOUT))
    browser.ends.get(timeout=TIMEOUT)
    with browse(dashboard) as other:
        other.send(b"\x10")
        with pytest.raises(Exception, match="4001"):
            other.recv(TIMEOUT)
    broker.start(Deadline.after(TIMEOUT))
    browser.accepted()


def test_given_a_broker_under_another_name_then_it_is_not_believed(
    tmp_path: Path, serve: Serve, mosquitto: None
) -> None:
    other = TlsBroker(tmp_path / "other", "elsewhere.example.org")
    try:
        with browse(serve(replace(other.alice, host="127.0.0.1"))) as browser:
            browser.send(b"\x10")
            with pytest.raises(Exception, match=r"4001.*certificate"):
                browser.recv(TIMEOUT)
    finally:
        other.broker.stop(Deadline.after(TIMEOUT))


@pytest.mark.parametrize("name", ["alice", "root"])
def test_given_an_account_that_may_do_more_than_look_then_it_is_not_for_a_wall(
    broker: EmbeddedBroker, name: str
) -> None:
    with pytest.raises(InvalidRequest, match="--role observer"):
        check_reads_only(broker.address(name), Deadline.after(TIMEOUT))


def test_given_an_observer_then_it_is_for_a_wall(broker: EmbeddedBroker, connect: Connect) -> None:
    published(connect("main"), CONTROL_STATE(control="main"), b"{}")
    check_reads_only(broker.address("eve"), Deadline.after(TIMEOUT))
