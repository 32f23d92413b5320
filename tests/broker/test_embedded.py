"""The embedded broker: private, restartable, and gone with its parent."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from icebus.broker.access import Principal
from icebus.broker.directory import BrokerDirectory, Settings
from icebus.broker.embedded import EmbeddedBroker, free_port
from icebus.broker.process import Child
from icebus.bus import BrokerAddress, Bus
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import (
    BrokerUnavailable,
    Conflict,
    InvalidRequest,
    NotAuthorized,
    UnknownPrincipal,
)
from icebus.schemas.topics import DEVICE, Role

pytestmark = pytest.mark.usefixtures("mosquitto")

ALICE = Principal(id="alice", role=Role.USER)


def soon() -> Deadline:
    return Deadline.after(10)


def greet(address: BrokerAddress) -> None:
    """Connect and go; raises what connecting raises."""
    bus = Bus(address, "test")
    bus.connect(soon())
    bus.close(soon())


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


# --- private ------------------------------------------------------------------------------------


def test_given_a_broker_then_all_it_keeps_is_its_owners_only(broker: EmbeddedBroker) -> None:
    greet(broker.address("alice"))
    broker.stop(soon())
    assert stat.S_IMODE(broker.directory.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in broker.directory.iterdir()}
    assert modes == dict.fromkeys(modes, 0o600)
    assert set(modes) == {
        "acl",
        "broker.pid",
        "mosquitto.conf",
        "mosquitto.db",
        "mosquitto.log",
        "passwords",
        "principals.json",
        "principals.lock",
    }


def test_given_a_broker_then_it_listens_on_loopback_only(broker: EmbeddedBroker) -> None:
    text = (broker.directory / "mosquitto.conf").read_text()
    assert f"listener {broker.port} 127.0.0.1\n" in text
    assert "allow_anonymous false" in text
    assert "set_tcp_nodelay true" in text


def test_given_a_broker_then_no_password_is_on_a_command_line_or_in_its_logs(
    broker: EmbeddedBroker,
) -> None:
    password = broker.address("alice").password
    greet(broker.address("alice"))
    with pytest.raises(NotAuthorized):
        greet(broker.address("alice").as_user("alice", "wrong"))
    command = Path(f"/proc/{broker.child.process.pid}/cmdline").read_bytes()
    assert password.encode() not in command
    for name in ("mosquitto.log", "passwords", "mosquitto.conf", "acl"):
        assert password not in (broker.directory / name).read_text()


def test_given_an_address_then_its_repr_hides_the_password(broker: EmbeddedBroker) -> None:
    address = broker.address("alice")
    assert address.password not in repr(address)
    assert BrokerAddress.parse(address.url()) == address


# --- people -------------------------------------------------------------------------------------


def test_when_somebody_is_admitted_at_run_time_then_nobody_else_notices(
    broker: EmbeddedBroker, connect: Any
) -> None:
    before = connect("alice")
    broker.add_principals([Principal(id="carol", role=Role.USER)])
    connect("carol")
    assert before.connected
    assert before is not None


def test_when_the_directory_is_changed_by_another_program_then_the_broker_obeys(
    broker: EmbeddedBroker, connect: Any, eventually: Any
) -> None:
    alice = connect("alice")
    other = BrokerDirectory(broker.directory)
    other.add_principals([Principal(id="carol", role=Role.USER)])
    greet(broker.address("carol"))
    broker.add_principals([Principal(id="dave", role=Role.USER)])
    greet(broker.address("carol"))
    other.remove_principal("alice")
    eventually(lambda: not alice.connected)
    with pytest.raises(NotAuthorized):
        greet(alice.address)


def test_when_a_role_changes_then_so_does_the_password_and_what_is_granted(
    broker: EmbeddedBroker,
) -> None:
    before = broker.address("alice")
    broker.add_principals([Principal(id="alice", role=Role.OBSERVER)])
    assert broker.address("alice").password != before.password
    with pytest.raises(NotAuthorized):
        greet(before)


def test_given_a_stranger_then_there_is_no_address(broker: EmbeddedBroker) -> None:
    with pytest.raises(UnknownPrincipal, match="'stranger'"):
        broker.address("stranger")
    with pytest.raises(UnknownPrincipal, match="'stranger'"):
        BrokerDirectory(broker.directory).remove_principal("stranger")


def test_given_ambiguous_principals_then_nothing_is_changed(broker: EmbeddedBroker) -> None:
    known = BrokerDirectory(broker.directory).principals
    for wrong in ("control", "all"):
        with pytest.raises(InvalidRequest):
            broker.add_principals(
                [Principal(id="new", role=Role.USER), Principal(id=wrong, role=Role.USER)]
            )
    assert BrokerDirectory(broker.directory).principals == known


def test_when_started_anew_then_port_and_passwords_are_the_same(tmp_path: Path) -> None:
    first = EmbeddedBroker(tmp_path, [ALICE])
    first.start(soon())
    url = first.address("alice").url()
    first.stop(soon())
    second = EmbeddedBroker(tmp_path, [Principal(id="alice", role=Role.USER)])
    assert second.address("alice").url() == url
    third = EmbeddedBroker(tmp_path, [])
    third.start(soon())
    greet(BrokerAddress.parse(url))
    third.stop(soon())


def test_when_a_password_is_chosen_then_it_replaces_the_known_one(tmp_path: Path) -> None:
    EmbeddedBroker(tmp_path, [ALICE])
    chosen = Principal(id="alice", role=Role.USER, password="chosen")
    assert EmbeddedBroker(tmp_path, [chosen]).address("alice").password == "chosen"


def test_given_many_programs_that_change_the_directory_at_once_then_no_change_is_lost(
    tmp_path: Path,
) -> None:
    names = [f"user{number}" for number in range(20)]
    threads = [
        threading.Thread(
            target=lambda name: BrokerDirectory(tmp_path).add_principals(
                [Principal(id=name, role=Role.USER)]
            ),
            args=(name,),
        )
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(BrokerDirectory(tmp_path).principals) == set(names)
    for file in ("passwords", "acl"):
        assert all(name in (tmp_path / file).read_text() for name in names)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"principals": [{"id": "a b"}]}', "\0"])
def test_given_a_broken_principals_file_then_the_error_names_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "principals.json").write_text(text)
    with pytest.raises(InvalidRequest, match=r"principals\.json"):
        EmbeddedBroker(tmp_path, [ALICE])


# --- life ---------------------------------------------------------------------------------------


def test_when_stopped_and_started_then_retained_messages_are_back(
    broker: EmbeddedBroker, connect: Any, inbox: Any
) -> None:
    worker = connect("w1")
    worker.publish(DEVICE(worker="w1", serial="a"), b"x")
    worker.close(soon())
    broker.stop(soon())
    broker.start(soon())
    kept = inbox()
    connect("alice").subscribe(DEVICE, kept)
    assert kept.wait(1)[0].payload == b"x"


def test_when_a_second_broker_wants_the_directory_then_it_is_told_who_has_it(
    broker: EmbeddedBroker,
) -> None:
    pid = broker.child.process.pid
    with pytest.raises(Conflict, match=f"pid {pid}"):
        EmbeddedBroker(broker.directory, [])
    with pytest.raises(Conflict, match=f"pid {pid}"):
        BrokerDirectory(broker.directory).configure(Settings(port=free_port()))
    assert BrokerDirectory(broker.directory).pid == pid
    greet(broker.address("alice"))
    broker.stop(soon())
    assert BrokerDirectory(broker.directory).pid is None


def test_when_the_port_is_taken_then_another_is_found_unless_it_was_asked_for(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        fixed = EmbeddedBroker(tmp_path / "fixed", [ALICE], port=taken)
        with pytest.raises(BrokerUnavailable, match=f"port {taken} is in use"):
            fixed.start(soon())
        free = EmbeddedBroker(tmp_path / "free", [ALICE])
        free.port = taken
        free.start(soon())
        assert free.port != taken
        greet(free.address("alice"))
        free.stop(soon())


def test_when_mosquitto_refuses_its_configuration_then_the_error_has_its_words(
    tmp_path: Path,
) -> None:
    broker = EmbeddedBroker(tmp_path, [ALICE])
    with (tmp_path / "mosquitto.conf").open("a") as file:
        file.write("no_such_option true\n")
    with pytest.raises(BrokerUnavailable, match="no_such_option"):
        broker.start(soon())
    assert not broker.child.running


def test_given_a_directory_with_spaces_then_it_works(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path / "my lab's broker", [ALICE])
    broker.start(soon())
    greet(broker.address("alice"))
    broker.stop(soon())


def test_given_another_root_then_addresses_and_grants_have_it(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path, [ALICE], root="lab/one")
    assert broker.address("alice").url().endswith("/lab/one")
    assert "lab/one/control/call/alice/+" in (tmp_path / "acl").read_text()


PARENT = """
import sys, time
from pathlib import Path
from icebus.broker.access import Principal
from icebus.broker.embedded import EmbeddedBroker
from icebus.schemas.deadline import Deadline
from icebus.schemas.topics import Role
broker = EmbeddedBroker(Path(sys.argv[1]), [Principal(id="alice", role=Role.USER)])
broker.start(Deadline.after(10))
print(broker.child.process.pid, broker.port, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="the kernel's help is Linux's")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_when_its_parent_dies_then_the_broker_does(
    tmp_path: Path, eventually: Any, how: signal.Signals
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        pid, port = (int(word) for word in parent.stdout.readline().split())
        assert alive(pid)
        parent.send_signal(how)
        parent.wait(timeout=10)
    eventually(lambda: not alive(pid))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_when_a_child_does_not_end_when_asked_then_it_is_ended(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = "import signal,time; signal.signal(15, signal.SIG_IGN); print(1, flush=True)"
    child = Child([sys.executable, "-c", f"{code}; time.sleep(60)"], log, {"SECRET": "x"})
    deadline = soon()
    while not log.read_text():
        deadline.check("the child")
    assert child.stop(Deadline.after(0.1)) == -signal.SIGKILL
    assert not child.running
    assert child.stop(Deadline.after(0.1)) == -signal.SIGKILL
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_given_a_child_then_its_environment_has_what_was_added(tmp_path: Path) -> None:
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    child = Child([sys.executable, "-c", code], tmp_path / "log", {"ICEBUS_SECRET": "x"})
    assert child.process.wait(timeout=10) == 0
    told = json.loads((tmp_path / "log").read_text())
    assert told["ICEBUS_SECRET"] == "x"
    assert told["PATH"] == os.environ["PATH"]
    assert "ICEBUS_SECRET" not in os.environ
