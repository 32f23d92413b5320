"""Messages that are not what they should be: a worker refuses them and goes on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.by_hand import publish_by_hand

from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import DeviceState
from icebus.schemas.ids import new_id
from icebus.schemas.topics import CALL, REPLY

if TYPE_CHECKING:
    from tests.worker.peers import Peers

pytestmark = pytest.mark.timeout(60)

Circuits = dict[str, bytes]


# --- nothing crashes it ---------------------------------------------------------------------------

NASTY = [
    b"",
    b"\x00",
    b"{}",
    b"[]",
    b"null",
    b"nonsense",
    b"\xff\xfe\xfd",
    b'{"id": 5}',
    b'{"serial": "BOARD1"}',
    b'{"serial": "BOARD1", "generation": -1}',
    b'{"serial": "BOARD1", "generation": 1e400}',
    b'{"serial": "OTHER", "generation": 99}',
    b'{"serial": "../../etc", "generation": 99}',
    b'{"id": "a", "reservation": "r1", "serials": ["BOARD1"], "args": []}',
    b'{"id": "a", "reservation": "r1", "serials": []}',
    b'{"epoch": "x", "sequence": 1, "interval": 1e308}',
    b'{"epoch": "x", "sequence": 1, "interval": NaN}',
    b"[" * 5000,
    b'{"a":' * 5000,
    b'{"id": "' + b"9" * 5000 + b'"}',
    b"9" * 5000,
]


def places() -> list[str]:
    sha256 = "0" * 64
    return [
        "worker/w1/desired/BOARD1",
        "worker/w1/desired/NOSUCH",
        "worker/w1/call/alice/evaluate",
        "worker/w1/call/alice/status",
        f"worker/w1/blob/alice/{sha256}",
        "worker/w1/blob/alice/nohash",
        "control/heartbeat",
    ]


def throw(peers: Peers, topic: str, payload: bytes) -> None:
    bus = peers.users["alice"] if "/alice/" in topic else peers.control
    reply_to = "user/alice/client/c/reply/w1"
    publish_by_hand(bus, topic, payload, response_topic=reply_to).result(10)


def test_given_nasty_messages_on_every_topic_then_the_worker_goes_on(farm: Peers) -> None:
    farm.reserve("BOARD1")
    for topic in places():
        for payload in NASTY:
            throw(farm, topic, payload)
        if topic == "worker/w1/desired/BOARD1":  # empty, it says that nothing is desired
            farm.reserve("BOARD1")
        farm.check_answers()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    ["id", "serial", "serials", "generation", "reservation", "user", "kind", "args", "bitstreams"]
)
PLAUSIBLE = st.dictionaries(FIELDS, st.sampled_from(["BOARD1", "r1", "alice", 1, {}, []]) | JSON)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(places()[2:]),
    st.binary(max_size=50) | PLAUSIBLE.map(lambda value: json.dumps(value).encode()),
)
def test_given_any_bytes_on_any_topic_then_the_worker_goes_on(
    farm: Peers, topic: str, payload: bytes
) -> None:
    if (report := farm.last("BOARD1")) is None or report.state is not DeviceState.SERVING:
        farm.reserve("BOARD1")
    throw(farm, topic, payload)
    farm.check_answers()


@pytest.mark.parametrize(
    "value", ["NaN", "1e999", "9" * 4000, '"\\ud83d\\ude00"', "[" * 90 + "]" * 90]
)
def test_given_odd_annotations_then_the_evaluation_is_refused_or_has_its_outcome(
    farm: Peers, circuits: Circuits, value: str
) -> None:
    farm.reserve("BOARD1")
    sha256 = farm.send_blob(circuits["pulse_2khz"])
    file = f'{{"id": "e1", "sha256": "{sha256}", "annotations": {{"x": {value}}}}}'
    args = f'{{"bitstreams": [{file}]}}'
    reservation = farm.hold.reservation
    call = (
        f'{{"id": "{new_id()}", "reservation": "{reservation}", "serials": ["BOARD1"], '
        f'"args": {args}}}'
    )
    replies: list[dict[str, Any]] = []
    bus = farm.users["alice"]
    heard = bus.subscribe(
        REPLY, lambda incoming: replies.append(json.loads(incoming.payload)), user="alice"
    )
    heard.acknowledged.result(5)
    bus.publish(
        CALL(worker="w1", user="alice", method="evaluate"),
        call.encode(),
        deadline=Deadline.after(10),
        response_topic=REPLY(user="alice", client="c", sender="w1"),
    )
    deadline = Deadline.after(10)
    while not replies:
        deadline.check("a reply")
    heard.cancel()
    reply = replies[0]
    if reply.get("error") is not None:
        assert reply["error"]["code"] == "invalid_request", reply
    elif reply["ok"]["errors"]:
        assert reply["ok"]["errors"]["BOARD1"]["code"] == "invalid_request", reply
    else:
        farm.wait_outcome("e1")
    farm.check_answers()
