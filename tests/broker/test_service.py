"""The broker's own service: who is known, and what users ask of the broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from queue import Queue

import pytest
from tests.connections import published

from icebus.broker.access import Principal
from icebus.broker.directory import BrokerDirectory
from icebus.broker.embedded import EmbeddedBroker
from icebus.broker.reading import is_harmed_by_shutting_out
from icebus.broker.service import requests
from icebus.broker.service.departures import MOST_OF_USER, OfUsers
from icebus.broker.service.service import BrokerService
from icebus.bus import Bus, Requester
from icebus.client._evaluating.reporting.tally import Tally
from icebus.schemas.calls import Request
from icebus.schemas.components import ClientState, Presence, Principals
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import InvalidRequest, TooManyRequests, UnknownOperation
from icebus.schemas.ids import BROKER
from icebus.schemas.log_records import RecentLog
from icebus.schemas.message import decode, now
from icebus.schemas.operations.accounts import Account
from icebus.schemas.topics import (
    ACCOUNT,
    BROKER_OPERATION,
    CLIENT_STATE,
    DEVICE_LOG,
    EXPERIMENT,
    LOG_RECENT,
    PRINCIPALS,
    Role,
)

Connect = Callable[..., Bus]


def soon() -> Deadline:
    return Deadline.after(10)


@pytest.fixture
def service(broker: EmbeddedBroker) -> Iterator[BrokerService]:
    running = BrokerService(BrokerDirectory(broker.directory), broker.address(BROKER))
    running.start()
    yield running
    running.stop(Deadline.after(5))


def roster_of(bus: Bus) -> list[Principals]:
    heard: list[Principals] = []
    bus.subscribe(PRINCIPALS, lambda each: heard.append(decode(Principals, each.payload)))
    return heard


def ask(
    bus: Bus, user: str, operation: str, args: dict[str, object] | None = None, within: float = 10
) -> Account:
    requester = Requester(bus, user, "c1")
    topic = BROKER_OPERATION(user=user, operation=operation)
    return requester.send(
        topic, Request(args=args or {}), BROKER, Account, Deadline.after(within)
    ).wait()


@pytest.mark.usefixtures("service")
def test_given_a_service_when_somebody_is_added_or_removed_then_the_list_says_so(
    broker: EmbeddedBroker, connect: Connect, eventually: Callable[..., None]
) -> None:
    heard = roster_of(connect("root"))
    eventually(lambda: heard)
    names = {each.id: each.role for each in heard[0].principals}
    assert names["alice"] == "user"
    assert BROKER not in names

    BrokerDirectory(broker.directory).add_principals([Principal(id="new", role=Role.USER)])
    eventually(lambda: "new" in {each.id for each in heard[-1].principals})
    BrokerDirectory(broker.directory).remove_principal("new")
    eventually(lambda: "new" not in {each.id for each in heard[-1].principals})


@pytest.mark.usefixtures("service")
def test_given_a_user_when_it_asks_who_it_is_then_the_broker_says(connect: Connect) -> None:
    assert ask(connect("alice"), "alice", "whoami") == Account(
        user="alice", role="user", login="alice"
    )


@pytest.mark.usefixtures("service")
def test_given_a_broker_that_is_killed_when_it_is_back_then_people_are_told_of_their_accounts_anew(
    broker: EmbeddedBroker, connect: Connect
) -> None:
    told: Queue[bytes] = Queue()
    alice = connect("alice")
    alice.subscribe(ACCOUNT, lambda each: told.put(each.payload), user="alice")
    account = told.get(timeout=10)
    broker.child.process.kill()
    broker.child.process.wait(10)
    broker.start(soon())
    assert told.get(timeout=20) == account


@pytest.mark.usefixtures("service")
def test_given_a_user_when_it_ends_passwords_again_and_again_then_it_is_told_who_can_help(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Mosquitto is started anew for each, that would keep everybody else away."""
    monkeypatch.setattr(requests, "ENDINGS_AT_ONCE", 0)
    alice = connect("alice")
    ask(alice, "alice", "end_former")  # there is none: it ends nothing
    if not is_harmed_by_shutting_out():
        return
    with pytest.raises(TooManyRequests, match="icebus-broker add alice --new-password --now"):
        ask(alice, "alice", "passwd", {"password": "another-password"}, within=1)
    assert alice.connected


@pytest.mark.usefixtures("service")
def test_given_a_request_that_is_wrong_then_it_is_refused_with_the_reason(connect: Connect) -> None:
    bus = connect("alice")
    with pytest.raises(UnknownOperation, match="whoami"):
        ask(bus, "alice", "nonsense")
    with pytest.raises(InvalidRequest):
        ask(bus, "alice", "whoami", {"more": 1})


@pytest.mark.usefixtures("service")
def test_given_a_worker_that_is_removed_then_what_it_logged_is_for_nobody_of_its_name(
    broker: EmbeddedBroker, connect: Connect, eventually: Callable[..., None]
) -> None:
    files = BrokerDirectory(broker.directory)
    files.add_principals([Principal(id="lab8", role=Role.WORKER)])
    heard: dict[str, bytes] = {}
    reader = connect("root")
    reader.subscribe(LOG_RECENT, lambda each: heard.update({each.ids["id"]: each.payload}))
    for name in ("lab8", "w1"):
        topic = LOG_RECENT(role=Role.WORKER, id=name)
        published(connect(name), topic, RecentLog(lines=[]).to_json())
    eventually(lambda: set(heard) >= {"lab8", "w1"})
    files.remove_principal("lab8")
    eventually(lambda: heard["lab8"] == b"")
    assert heard["w1"]


@pytest.mark.usefixtures("service")
def test_given_a_user_who_is_removed_then_no_successor_reads_what_workers_told_of_boards(
    broker: EmbeddedBroker, connect: Connect, eventually: Callable[..., None]
) -> None:
    """A worker that is away clears nothing."""
    files = BrokerDirectory(broker.directory)
    files.add_principals([Principal(id="guest", role=Role.USER)])
    roster = roster_of(connect("root"))
    eventually(lambda: roster and "guest" in {each.id for each in roster[-1].principals})
    heard: dict[str, bytes] = {}
    looker = Bus(broker.address(BROKER), "looker")
    looker.subscribe(DEVICE_LOG, lambda each: heard.update({each.ids["user"]: each.payload}))
    looker.connect(soon())
    for user in ("alice", "guest"):
        topic = DEVICE_LOG(user=user, reservation="r1", sender="w1", serial="B1")
        published(connect("w1"), topic, RecentLog(lines=[]).to_json())
    eventually(lambda: heard.keys() == {"alice", "guest"})
    files.remove_principal("guest")
    eventually(lambda: heard["guest"] == b"")
    assert heard["alice"]
    looker.close(soon())


def test_given_a_user_who_names_ever_more_topics_then_what_is_remembered_of_them_is_bounded() -> (
    None
):
    remembered = OfUsers[int]()
    for number in range(10 * MOST_OF_USER):
        remembered.add("mallory", number)
    remembered.add("alice", 1)
    remembered.discard("nobody", 1)
    assert len(remembered.take("mallory".__eq__)) == MOST_OF_USER
    assert remembered.take(lambda _: True) == [("alice", 1)]


@pytest.mark.usefixtures("service")
def test_given_a_password_in_the_clear_when_replaced_then_mosquitto_has_the_same_line_of_it(
    broker: EmbeddedBroker, connect: Connect
) -> None:
    """With another salt it would be another password, for which it is started anew."""
    passwords = broker.directory / "passwords"
    before = next(each for each in passwords.read_text().splitlines() if each.startswith("alice:"))
    args: dict[str, object] = {"password": "another-password", "login": "alice.0123abcd"}
    ask(connect("alice"), "alice", "passwd", args)
    assert before in passwords.read_text().splitlines()


def test_given_a_part_that_fails_then_the_others_go_on(
    broker: EmbeddedBroker, connect: Connect
) -> None:
    class Failing:
        def __init__(self) -> None:
            self.told: Queue[Mapping[str, Principal]] = Queue()

        def start(self, bus: Bus, soon: Callable[[Callable[[], None]], bool]) -> None:
            raise RuntimeError("does not start")

        def on_principals(self, principals: Mapping[str, Principal]) -> None:
            self.told.put(principals)
            raise RuntimeError("does not like them")

        def tick(self) -> None:
            raise RuntimeError("has no time")

        def stop(self) -> None:
            raise RuntimeError("does not stop")

    part = Failing()
    files = BrokerDirectory(broker.directory)
    service = BrokerService(files, broker.address(BROKER), [part])
    service.start()
    try:
        assert "alice" in part.told.get(timeout=10)
        assert ask(connect("alice"), "alice", "whoami").user == "alice"
    finally:
        service.stop(Deadline.after(5))


def test_given_a_broker_that_is_away_when_the_service_stops_then_it_ends(
    broker: EmbeddedBroker,
) -> None:
    address = broker.address(BROKER)
    broker.stop(Deadline.after(5))
    service = BrokerService(BrokerDirectory(broker.directory), address)
    service.start()
    service.stop(Deadline.after(15))
    assert not service.running


@pytest.mark.usefixtures("service")
def test_given_a_user_who_left_a_state_when_removed_then_it_is_cleared_and_others_stay(
    broker: EmbeddedBroker, connect: Connect, eventually: Callable[..., None]
) -> None:
    watcher = connect("root")
    files = BrokerDirectory(broker.directory)
    files.add_principals([Principal(id="guest", role=Role.USER)])
    alice = connect("alice")
    guest = Bus(broker.address("guest"), "guest")
    guest.connect(soon())
    heard: list[Principals] = roster_of(watcher)
    eventually(lambda: heard and "guest" in {each.id for each in heard[-1].principals})
    states: dict[tuple[str, str], bytes] = {}
    looker = Bus(broker.address(BROKER), "looker")
    looker.subscribe(
        CLIENT_STATE,
        lambda each: states.update({(each.ids["user"], each.ids["client"]): each.payload}),
    )
    experiments: dict[str, bytes] = {}
    looker.subscribe(EXPERIMENT, lambda each: experiments.update({each.ids["user"]: each.payload}))
    looker.connect(soon())
    tally = Tally("r1", "pulsecount")
    tally.begin(1, now())
    experiment = tally.told(now())
    assert experiment is not None
    for bus, user in ((alice, "alice"), (guest, "guest")):
        state = ClientState(state=Presence.ONLINE, session="s")
        bus.publish(CLIENT_STATE(user=user, client="c1"), state, interval=600).result(10)
        topic = EXPERIMENT(user=user, client="c1", reservation="r1")
        bus.publish(topic, experiment).result(10)
    eventually(lambda: states.keys() >= {("alice", "c1"), ("guest", "c1")})
    eventually(lambda: experiments.keys() == {"alice", "guest"})

    files.remove_principal("guest")

    eventually(lambda: states["guest", "c1"] == b"")
    eventually(lambda: experiments["guest"] == b"")
    assert states["alice", "c1"]
    assert experiments["alice"]
    looker.close(soon())
    guest.close(Deadline.after(1))
