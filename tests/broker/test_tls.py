"""A broker with TLS, looked at from outside: what it takes, from whom, and under which name."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from icebus.broker.access import Principal
from icebus.broker.bridge import Upstream
from icebus.broker.directory import BrokerDirectory, Settings
from icebus.broker.embedded import EmbeddedBroker, free_port
from icebus.broker.tls.authority import Authority, Issued
from icebus.broker.tls.certificates import GivenCertificate, Listening
from icebus.bus import BrokerAddress, Bus, wait_for
from icebus.schemas.components import WorkerPhase, WorkerState
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import BrokerUnavailable, InvalidRequest, NotAuthorized
from icebus.schemas.topics import WORKER_STATE, Role

pytestmark = pytest.mark.usefixtures("mosquitto")

PEOPLE = [
    Principal(id="alice", role=Role.USER),
    Principal(id="main", role=Role.CONTROL),
    Principal(id="w1", role=Role.WORKER),
    Principal(id="w2", role=Role.WORKER),
    Principal(id="oslo", role=Role.WORKER, speaks_for=("o1",)),
]


def soon() -> Deadline:
    return Deadline.after(10)


class Farm:
    """A broker with TLS that runs, and what its principals have been given."""

    def __init__(self, directory: Path, name: str = "localhost") -> None:
        self.files = BrokerDirectory(directory)
        self.tls = Listening(
            address="127.0.0.1",
            port=free_port(),
            component_port=free_port(),
            hosts=(name, "127.0.0.1"),
        )
        self.settings = Settings(port=free_port(), tls=self.tls)
        self.files.configure(self.settings)
        self.files.add_principals(PEOPLE)
        self.broker = EmbeddedBroker(directory, [], port=self.settings.port, tls=self.tls)
        self.broker.start(soon())

    def admit(self, name: str, *, void_others: bool = True) -> BrokerAddress:
        principal = self.files.principals[name]
        if principal.role is Role.USER:
            return self.files.address_of(principal)
        return self.files.address_of(principal, self.files.issue(name, void_others))


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    running = Farm(tmp_path / "farm")
    yield running
    running.broker.stop(soon())


def connects(address: BrokerAddress) -> bool:
    """Whether the broker takes somebody in; that it does not is a matter of a second or two."""
    bus = Bus(address, "probe", session_expiry=0)
    try:
        bus.connect(Deadline.after(1))
    except (BrokerUnavailable, NotAuthorized):
        return False
    finally:
        bus.close(Deadline.after(1))
    return True


def speaks_as(address: BrokerAddress, name: str) -> bool:
    """Whether the broker takes a worker's state of that name from this connection."""
    bus = Bus(address, "probe", session_expiry=0)
    bus.connect(soon())
    try:
        said = bus.publish(
            WORKER_STATE(worker=name), WorkerState(state=WorkerPhase.READY, session="s1")
        )
        wait_for(said, soon(), "the broker")
    except NotAuthorized:
        return False
    finally:
        bus.close(soon())
    return True


# --- names --------------------------------------------------------------------------------------


def test_given_the_credentials_of_each_then_each_is_taken_in_where_it_belongs(farm: Farm) -> None:
    assert all(connects(farm.admit(each.id)) for each in PEOPLE)
    assert speaks_as(farm.admit("w1"), "w1")
    assert speaks_as(farm.admit("oslo"), "o1")


@pytest.mark.parametrize("claimed", ["w2", "main", "alice", "broker"])
def test_given_a_worker_that_says_it_is_somebody_else_then_its_certificate_counts(
    farm: Farm, claimed: str
) -> None:
    passwords = {each.id: each.password for each in PEOPLE}
    posing = replace(farm.admit("w1"), user=claimed, password=passwords.get(claimed, ""))

    assert not speaks_as(posing, "w2")
    assert speaks_as(posing, "w1")


@pytest.mark.parametrize("name", ["w1", "main", "oslo"])
@pytest.mark.parametrize("password", ["", "guess", None])
def test_given_the_name_of_a_component_without_its_certificate_then_no_password_lets_in(
    farm: Farm, name: str, password: str | None
) -> None:
    known = farm.files.principals[name].password
    address = replace(
        farm.admit("alice"), user=name, password=known if password is None else password
    )
    plain = BrokerAddress("127.0.0.1", farm.settings.port, name, address.password)

    assert not connects(address)
    assert not connects(plain)
    assert not connects(replace(address, port=farm.tls.component_port))


def test_given_a_certificate_without_password_then_it_does_not_open_the_door_for_people(
    farm: Farm,
) -> None:
    assert not connects(replace(farm.admit("w1"), port=farm.tls.port))
    assert not connects(replace(farm.admit("w1"), port=farm.tls.port, user="alice"))


def test_given_the_brokers_own_key_then_nobody_can_come_in_with_it(farm: Farm) -> None:
    certificates = farm.files.certificates
    stolen = replace(
        farm.admit("w1"),
        certificate=certificates.certificate.read_text(),
        key=certificates.key.read_text(),
    )

    assert not connects(stolen)


def test_given_a_component_then_it_can_not_pose_as_the_broker(farm: Farm, tmp_path: Path) -> None:
    worker = farm.admit("w1")
    assert worker.certificate is not None
    assert worker.key is not None

    with listening_as(worker.certificate, worker.key, tmp_path) as port:
        address = replace(farm.admit("alice"), host="127.0.0.1", port=port)
        assert not connects(address)


def test_given_another_farms_certificates_then_neither_side_takes_them(
    farm: Farm, tmp_path: Path
) -> None:
    other = Farm(tmp_path / "other")
    try:
        theirs = other.admit("w1")
        ours = farm.admit("w1")
        assert connects(theirs)
        assert not connects(replace(ours, certificate=theirs.certificate, key=theirs.key))
        assert not connects(replace(ours, ca=theirs.ca))
        assert not connects(replace(farm.admit("alice"), ca=theirs.ca))
    finally:
        other.broker.stop(soon())


# --- time and revocation ------------------------------------------------------------------------


def made_by(farm: Farm) -> Authority:
    folder = farm.files.path / "tls"
    return Authority((folder / "authority.pem").read_text(), (folder / "authority.key").read_text())


def test_given_a_component_whose_certificate_has_ended_then_it_is_refused(farm: Farm) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=3000)
    old = made_by(farm).for_component("w1", now=long_ago)
    address = replace(farm.admit("w1"), certificate=old.certificate, key=old.key)

    with pytest.raises(BrokerUnavailable, match=r"'w1', which has ended; .*renew w1 -o w1.json"):
        Bus(address, "test").connect(soon())


def test_given_a_broker_whose_certificate_has_ended_when_renewed_then_it_is_believed_again(
    farm: Farm,
) -> None:
    alice = farm.admit("alice")
    long_ago = datetime.now(UTC) - timedelta(days=3000)
    use(farm, made_by(farm).for_broker(["localhost"], now=long_ago))
    assert not connects(alice)

    before = farm.broker.child.process.pid
    farm.files.renew()

    until(lambda: connects(alice))
    assert farm.broker.child.process.pid == before, "it did not have to be started again"


def test_given_a_broker_under_another_name_then_it_is_not_believed(farm: Farm) -> None:
    alice = farm.admit("alice")
    use(farm, made_by(farm).for_broker(["other.example.org"]))

    assert not connects(alice)


def use(farm: Farm, issued: Issued) -> None:
    """Have the broker show that certificate, and wait until it does."""
    certificates = farm.files.certificates
    certificates.key.write_text(issued.key)
    certificates.certificate.write_text(issued.certificate)
    os.kill(farm.broker.child.process.pid, signal.SIGHUP)
    wanted = ssl.PEM_cert_to_DER_cert(issued.certificate)
    until(lambda: shown_at(farm.tls.port) == wanted)


def shown_at(port: int) -> bytes | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), 5) as raw,
        context.wrap_socket(raw) as wrapped,
    ):
        return wrapped.getpeercert(binary_form=True)


def test_given_a_component_that_is_removed_then_its_certificate_counts_no_longer_not_even_later(
    farm: Farm,
) -> None:
    stolen = farm.admit("w1")
    assert connects(stolen)
    farm.files.remove_principal("w1")
    until(lambda: not connects(stolen))
    with pytest.raises(BrokerUnavailable, match=r"'w1': that name was removed .*add w1 --role"):
        Bus(stolen, "test").connect(soon())

    farm.files.add_principals([Principal(id="w1", role=Role.WORKER)])
    assert connects(farm.admit("w1"))
    assert not connects(stolen)
    assert connects(farm.admit("w2"))


def test_given_new_credentials_then_the_old_ones_are_void_but_a_renewal_leaves_them(
    farm: Farm,
) -> None:
    first = farm.admit("w1")
    second = farm.admit("w1", void_others=False)
    assert connects(first)
    assert connects(second)
    third = farm.admit("w1")
    until(lambda: not connects(first))
    assert not connects(second)
    assert connects(third)


# --- the door itself ------------------------------------------------------------------------------


def test_given_new_credentials_beside_the_old_ones_then_those_end_when_it_is_time(
    farm: Farm,
) -> None:
    first = farm.admit("w1")
    issued = farm.files.issue("w1", void_others=True, overlap=timedelta(hours=1))
    second = farm.files.address_of(farm.files.principals["w1"], issued)
    certificates = farm.files.certificates
    assert connects(first)
    [end] = certificates.replaced_by_name()["w1"]
    assert timedelta(0) < end - datetime.now(UTC) <= timedelta(hours=1)

    certificates.revoke_replaced(end)
    farm.files.reload()

    until(lambda: not connects(first))
    assert connects(second)
    assert not certificates.replaced_by_name()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Python, of these very versions
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.parametrize("door", ["port", "component_port"])
def test_given_an_old_version_of_tls_then_there_is_no_connection(
    farm: Farm, version: ssl.TLSVersion, door: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = version
    context.maximum_version = version

    with (
        socket.create_connection(("127.0.0.1", getattr(farm.tls, door)), 5) as raw,
        pytest.raises((ssl.SSLError, ConnectionError)),
        context.wrap_socket(raw),
    ):
        pass


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_given_a_new_version_of_tls_then_it_is_spoken(farm: Farm, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cadata=farm.admit("alice").ca)
    context.minimum_version = version
    context.maximum_version = version

    with (
        socket.create_connection(("127.0.0.1", farm.tls.port), 5) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as wrapped,
    ):
        assert wrapped.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]


@pytest.mark.parametrize("door", ["port", "component_port"])
def test_given_somebody_without_tls_then_the_doors_for_tls_stay_shut(farm: Farm, door: str) -> None:
    alice = farm.files.principals["alice"]
    address = BrokerAddress("127.0.0.1", getattr(farm.tls, door), "alice", alice.password)

    assert not connects(address)


def test_given_a_running_broker_then_it_listens_where_it_was_told_and_nowhere_else(
    farm: Farm,
) -> None:
    told = {farm.settings.port, farm.tls.port, farm.tls.component_port}

    assert listening(farm.broker.child.process.pid) == {("127.0.0.1", port) for port in told}


def test_given_a_broker_for_the_network_then_its_plain_listener_stays_on_this_machine(
    tmp_path: Path,
) -> None:
    files = BrokerDirectory(tmp_path)
    tls = Listening(address="0.0.0.0", port=8883, component_port=8884, hosts=("farm",))

    files.configure(Settings(port=1883, tls=tls))

    lines = files.configuration.read_text().splitlines()
    assert [line for line in lines if line.startswith("listener")] == [
        "listener 1883 127.0.0.1",
        "listener 8883 0.0.0.0",
        "listener 8884 0.0.0.0",
    ]
    with pytest.raises(InvalidRequest, match="loopback"):
        files.configure(Settings(host="0.0.0.0", port=1883, tls=tls))


def listening(pid: int) -> set[tuple[str, int]]:
    """Addresses and ports that a process listens on, as the kernel tells."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            inodes.add(str(link.readlink()))
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in inodes:
                address, port = words[1].split(":")
                raw = bytes.fromhex(address)
                groups = [raw[at : at + 4][::-1] for at in range(0, len(raw), 4)]
                found.add((socket.inet_ntop(family, b"".join(groups)), int(port, 16)))
    return found


# --- certificates of others, sites ----------------------------------------------------------------


def test_given_a_certificate_of_the_labs_own_authority_then_it_is_used_and_handed_on(
    farm: Farm,
) -> None:
    root = Authority.create()
    made = Authority(root.certificate, root.key).for_broker(["localhost", "127.0.0.1"])
    given = GivenCertificate(made.certificate, made.key, root.certificate)

    farm.files.configure(replace_tls(farm.settings, own=True), given)
    before = farm.admit("alice")
    farm.broker.stop(soon())
    farm.files.configure(replace_tls(farm.settings, own=False))
    farm.broker = EmbeddedBroker(
        farm.files.path, [], port=farm.settings.port, tls=replace_tls(farm.settings, own=False).tls
    )
    farm.broker.start(soon())

    assert not connects(before), "whoever trusts the farm's authority only does not trust the lab's"
    assert farm.admit("alice").ca == root.certificate
    assert connects(farm.admit("alice"))
    assert connects(farm.admit("w1"))
    with pytest.raises(InvalidRequest, match="--certificate"):
        farm.files.renew()


def replace_tls(settings: Settings, own: bool) -> Settings:
    assert settings.tls is not None
    return settings.model_copy(update={"tls": settings.tls.model_copy(update={"own": own})})


def test_given_a_key_of_another_certificate_then_it_is_refused_and_the_old_pair_stays(
    farm: Farm,
) -> None:
    authority = made_by(farm)
    one, two = authority.for_broker(["a"]), authority.for_broker(["a"])
    before = farm.files.certificates.certificate.read_text()

    for certificate, key in (
        (one.certificate, two.key),
        (one.certificate, "nonsense"),
        ("nonsense", one.key),
        ("", ""),
    ):
        with pytest.raises(InvalidRequest):
            farm.files.renew(GivenCertificate(certificate, key))

    assert farm.files.certificates.certificate.read_text() == before


def test_given_a_site_when_bridged_with_its_certificate_then_its_workers_are_heard(
    farm: Farm, tmp_path: Path, inbox: Any
) -> None:
    site = EmbeddedBroker(tmp_path / "site", [Principal(id="o1", role=Role.WORKER)])
    BrokerDirectory(tmp_path / "site").bridge(Upstream.at(farm.admit("oslo"), ("o1",)))
    site.start(soon())
    heard = inbox()
    alice, worker = Bus(farm.admit("alice"), "alice"), Bus(site.address("o1"), "o1")
    try:
        alice.connect(soon())
        alice.subscribe(WORKER_STATE, heard)
        worker.connect(soon())
        worker.publish(
            WORKER_STATE(worker="o1"), WorkerState(state=WorkerPhase.READY, session="s1")
        )
        heard.wait(1)
    finally:
        alice.close(soon())
        worker.close(soon())
        site.stop(soon())


@contextlib.contextmanager
def listening_as(certificate: str, key: str, folder: Path) -> Iterator[int]:
    """A port where somebody shows that certificate to one who connects."""
    pem = folder / "posing.pem"
    pem.write_text(certificate + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with EmbeddedListener(context) as listener:
        yield listener.port


class EmbeddedListener:
    """Takes TLS connections until it is closed."""

    def __init__(self, context: ssl.SSLContext) -> None:
        import threading

        self._context = context
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> EmbeddedListener:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                taken, _ = self._socket.accept()
            except OSError:
                return
            with taken, contextlib.suppress(OSError):
                taken.settimeout(5)
                self._context.wrap_socket(taken, server_side=True).close()


def until(true: Callable[[], bool]) -> None:
    deadline = Deadline.after(20)
    while not true():
        assert not deadline.expired
