"""``icebus-broker`` as people run it: a process, its output and its exit code."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest

from icebus.broker.cli.app import main
from icebus.broker.directory import BrokerDirectory
from icebus.broker.embedded import EmbeddedBroker, free_port
from icebus.bus import BrokerAddress, Bus, Invitation, wait_for
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import NotAuthorized
from icebus.schemas.topics import OPERATION

pytestmark = pytest.mark.usefixtures("mosquitto")

PROGRAM = [sys.executable, "-m", "icebus.broker.cli.app"]


def soon() -> Deadline:
    return Deadline.after(10)


class Done(NamedTuple):
    code: int
    out: str
    err: str


class Program(Protocol):
    def __call__(self, *arguments: str, directory: Path) -> Done: ...


class Init(Protocol):
    def __call__(self, directory: Path, *arguments: str) -> str: ...


class Admit(Protocol):
    def __call__(self, name: str, role: str, *arguments: str, directory: Path) -> BrokerAddress: ...


class Works(Protocol):
    def __call__(self, *arguments: str, directory: Path) -> str: ...


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Program:
    """Runs the program, in this process: starting another takes a second of imports."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setenv("COLUMNS", "200")

    def program(*arguments: str, directory: Path) -> Done:
        monkeypatch.setenv("ICEBUS_BROKER_DIRECTORY", str(directory))
        monkeypatch.setattr(sys, "argv", ["icebus-broker", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        captured = capsys.readouterr()
        return Done(int(left.value.code or 0), captured.out, captured.err)

    return program


@pytest.fixture
def ok(run: Program) -> Works:
    """Runs the program and gives what it printed; it must succeed."""

    def works(*arguments: str, directory: Path) -> str:
        done = run(*arguments, directory=directory)
        assert done.code == 0, done.err
        return done.out.strip()

    return works


@pytest.fixture
def init(ok: Works) -> Init:
    """Makes a broker on ports of its own."""

    def on_free_ports(directory: Path, *arguments: str) -> str:
        ports = ("--port", str(free_port()), "--component-port", str(free_port()))
        return ok("init", *ports, *arguments, directory=directory)

    return on_free_ports


@pytest.fixture
def admit(ok: Works, tmp_path: Path) -> Admit:
    """Lets somebody in; gives the credentials that were written for them."""

    def to_file(name: str, role: str, *arguments: str, directory: Path) -> BrokerAddress:
        file = tmp_path / f"{name}.json"
        ok("add", name, "--role", role, "-o", str(file), *arguments, directory=directory)
        return BrokerAddress.parse(str(file))

    return to_file


def read_until(process: subprocess.Popen[str], wanted: str) -> None:
    """Reads what a program says on stderr, beside Mosquitto's log, until it says that."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if wanted in line:
            return
    pytest.fail(f"{wanted!r} is not in {said}")


@pytest.fixture
def standing(tmp_path: Path, broker: EmbeddedBroker, init: Init) -> Iterator[Path]:
    """The directory of a broker that runs as a process of its own."""
    directory = tmp_path / "standing"
    init(directory)
    with subprocess.Popen(
        [*PROGRAM, "run", "-d", str(directory)], stderr=subprocess.PIPE, text=True
    ) as process:
        read_until(process, "listening on 127.0.0.1")
        yield directory
        process.send_signal(signal.SIGTERM)
        read_until(process, "stopped")
        assert process.wait(timeout=10) == 0


def test_given_a_standing_broker_then_people_come_and_go_while_it_runs(
    standing: Path, eventually: Any, ok: Works, admit: Admit
) -> None:
    address = admit("alice", "user", directory=standing)
    bus = Bus(address, "alice")
    bus.connect(soon())
    ours, theirs = (OPERATION(user=user, operation="list") for user in ("alice", "bob"))
    wait_for(bus.publish(ours, b"{}", deadline=soon()), soon(), "the broker")
    refused = bus.publish(theirs, b"{}", deadline=soon())
    assert isinstance(refused.exception(timeout=10), NotAuthorized)
    assert ok("remove", "alice", directory=standing) == "alice removed"
    eventually(lambda: not bus.connected)
    bus.close(soon())


def test_given_a_farms_own_broker_then_its_directory_is_served_too(
    broker: EmbeddedBroker, ok: Works
) -> None:
    url = ok("add", "carol", "--role", "observer", directory=broker.directory)
    address = BrokerAddress.parse(url)
    assert address.password not in (broker.directory / "principals.json").read_text()
    bus = Bus(address, "carol")
    bus.connect(soon())
    bus.close(soon())


def test_given_people_then_they_are_listed_without_passwords(
    tmp_path: Path, broker: EmbeddedBroker, ok: Works, run: Program, init: Init, admit: Admit
) -> None:
    init(tmp_path / "b")
    known = [
        admit(name, role, directory=tmp_path / "b")
        for name, role in [("w1", "worker"), ("main", "control"), ("boss", "admin")]
    ]
    listed = ok("list", "-o", "json", directory=tmp_path / "b")
    assert [{key: each[key] for key in ("name", "role")} for each in json.loads(listed)] == [
        {"name": "boss", "role": "admin"},
        {"name": "main", "role": "control"},
        {"name": "w1", "role": "worker"},
    ]
    table = run("list", directory=tmp_path / "b")
    assert table.out.split() == ["boss", "admin", "main", "control", "w1", "worker"]
    assert "not running" in table.err
    assert all(each.password not in listed + table.out for each in known if each.password)


def test_when_made_again_then_what_is_not_said_anew_stays(
    tmp_path: Path, broker: EmbeddedBroker, ok: Works, init: Init, admit: Admit
) -> None:
    directory = tmp_path / "b"
    configuration = Path(init(directory, "--host", "farm.example.org"))
    before = admit("alice", "user", directory=directory)
    ok("init", "--listen", "0.0.0.0", directory=directory)
    settings = BrokerDirectory(directory).settings
    assert settings is not None
    assert settings.tls is not None
    assert (settings.tls.hosts[0], settings.tls.port) == (before.host, before.port)
    assert f"listener {settings.tls.port} 0.0.0.0" in configuration.read_text()
    assert f"listener {settings.port} 127.0.0.1" in configuration.read_text()
    assert "alice" in BrokerDirectory(directory).principals
    assert BrokerDirectory(directory).certificates.authority.read_text() == before.ca
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    folders = [directory, *(path for path in directory.rglob("*") if path.is_dir())]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}


@pytest.mark.parametrize("now", [False, True])
def test_when_a_password_is_renewed_then_the_old_one_is_good_for_a_while_unless_told_otherwise(
    now: bool, standing: Path, run: Program, admit: Admit
) -> None:
    old = admit("alice", "user", directory=standing)
    again = run("add", "alice", "--role", "user", directory=standing)
    assert again.code == 1
    assert "--new-password" in again.err
    options = ["--new-password", *(["--now"] if now else [])]
    new = admit("alice", "user", *options, directory=standing)
    assert new != old
    bus = Bus(new, "alice")
    bus.connect(soon())
    bus.close(soon())
    before = Bus(replace(old, reread=None), "alice")
    if now:
        with pytest.raises(NotAuthorized):
            before.connect(soon())
    else:
        before.connect(soon())
        before.close(soon())


def test_when_a_certificate_is_replaced_then_the_former_counts_for_a_while_unless_told_otherwise(
    tmp_path: Path, run: Program, init: Init
) -> None:
    init(tmp_path / "b")
    replace_it = ["add", "lab1", "--role", "worker", "--new-password", "-o", str(tmp_path / "w")]
    certificates = BrokerDirectory(tmp_path / "b").certificates

    run("add", "lab1", "--role", "worker", "-o", str(tmp_path / "first"), directory=tmp_path / "b")
    assert not certificates.replaced_by_name()
    said = run(*replace_it, directory=tmp_path / "b").err
    assert "the former certificate of lab1 stays good for 24 h; --now ends it" in said
    assert len(certificates.replaced_by_name()["lab1"]) == 1
    run(*replace_it, "--now", directory=tmp_path / "b")
    assert not certificates.replaced_by_name()
    run("overlap", "0", directory=tmp_path / "b")
    said = run(*replace_it, directory=tmp_path / "b").err
    assert "the former certificate of lab1 has ended" in said


@pytest.mark.parametrize("now", [False, True])
def test_when_somebody_gets_another_line_then_what_runs_goes_on_until_it_is_used(
    now: bool, standing: Path, ok: Works, admit: Admit
) -> None:
    old = replace(admit("alice", "user", directory=standing), reread=None)
    options = ["--new-password", *(["--now"] if now else [])]
    line = ok("add", "alice", "--role", "user", *options, directory=standing)
    invitation = Invitation.parse(line.strip())
    assert invitation.address.user == "alice"
    token = Bus(invitation.address, "alice")
    token.connect(soon())
    token.close(soon())
    before = Bus(old, "alice")
    if now:
        with pytest.raises(NotAuthorized):
            before.connect(soon())
    else:
        before.connect(soon())
        before.close(soon())


def test_when_certificates_are_renewed_then_old_ones_of_components_stay_good_meanwhile(
    standing: Path, tmp_path: Path, ok: Works, run: Program, admit: Admit
) -> None:
    first = admit("w1", "worker", directory=standing)
    authority = BrokerDirectory(standing).certificates
    shown = authority.certificate.read_text()

    assert "good until" in ok("renew", directory=standing)
    assert authority.certificate.read_text() != shown
    ok("renew", "w1", "-o", str(tmp_path / "second.json"), directory=standing)
    second = BrokerAddress.parse(str(tmp_path / "second.json"))

    assert second.certificate != first.certificate
    for address in (first, second):
        bus = Bus(address, "w1")
        bus.connect(soon())
        bus.close(soon())
    admit("alice", "user", directory=standing)
    for name, complaint in (("alice", "has a password instead"), ("nobody", "nobody here")):
        done = run("renew", name, directory=standing)
        assert (done.code, done.out) == (1, "")
        assert complaint in done.err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["add", "a b", "--role", "user"], "is no name"),
        (["add", "control", "--role", "control"], "reserved"),
        (["add", "w1", "--role", "user"], "is a worker"),
        (["remove", "nobody"], "nobody here is called 'nobody'"),
        (["init", "--port", "1"], "already (pid"),
        (["init", "--listen", "not a host/"], "is no name or address"),
        (["init", "--host", "a b"], "is no name or address"),
        (["init", "--root", "a/#"], "can't be the root"),
        (["init", "--port", "9", "--component-port", "9"], "a port of its own"),
        (["init", "--certificate", "nowhere.pem"], "belong together"),
        (["init", "--certificate", "no.pem", "--key", "no.key"], "no.pem can't be read"),
        (["renew"], "has no TLS"),
        (["renew", "nobody"], "has no TLS"),
        (["run"], "already (pid"),
    ],
)
def test_when_a_request_is_wrong_then_it_is_refused_in_words(
    broker: EmbeddedBroker, arguments: list[str], complaint: str, run: Program
) -> None:
    done = run(*arguments, directory=broker.directory)
    assert done.code == 1
    assert complaint in done.err
    assert "Traceback" not in done.err
    assert done.out == ""
    assert BrokerDirectory(broker.directory).pid == broker.child.process.pid


def test_given_a_site_when_it_is_bridged_then_its_configuration_has_the_farm(
    tmp_path: Path, ok: Works, run: Program, init: Init, admit: Admit
) -> None:
    farm, site = tmp_path / "farm", tmp_path / "site"
    init(farm)
    init(site)
    admit("oslo", "worker", "--for", "w1", "--for", "w2", directory=farm)
    url = str(tmp_path / "oslo.json")
    acl = ok("access", directory=farm)
    assert acl == (farm / "acl").read_text().strip()
    assert "topic write icebus/v1/worker/w2/state" in acl
    ok("bridge", url, "--for", "w1", directory=site)
    text = (site / "mosquitto.conf").read_text()
    assert "topic icebus/v1/worker/w1/state out 1" in text
    assert "topic icebus/v1/worker/w1/call/+/+ in 1" in text
    ok("bridge", "--off", directory=site)
    assert "\nconnection " not in (site / "mosquitto.conf").read_text().replace("connection_", "")
    for wrong in (["bridge", url], ["bridge", "--for", "w1"], ["bridge", url, "--for", "a/b"]):
        done = run(*wrong, directory=site)
        assert (done.code, done.out) == (1, "")


@pytest.mark.parametrize("form", ["emqx", "hivemq"])
def test_given_another_broker_when_asked_then_its_access_list_is_printed(
    tmp_path: Path, ok: Works, form: str, init: Init
) -> None:
    init(tmp_path)
    ok("add", "alice", "--role", "user", "--keep-password", directory=tmp_path)
    printed = ok("access", "--form", form, directory=tmp_path)
    assert "icebus/v1/control/call/alice/+" in printed


@pytest.mark.parametrize(
    "arguments", [["add", "alice", "--role", "user"], ["remove", "alice"], ["run"]]
)
def test_when_there_is_no_broker_there_then_the_error_says_so(
    tmp_path: Path, arguments: list[str], run: Program
) -> None:
    done = run(*arguments, directory=tmp_path / "nothing")
    assert done.code == 1
    assert "there is no broker in" in done.err
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    "arguments",
    [["add", "alice"], ["add", "alice", "--role", "king"], ["init", "--port", "0"], ["fly"]],
)
def test_when_used_wrongly_then_the_code_is_2(
    tmp_path: Path, arguments: list[str], run: Program
) -> None:
    assert run(*arguments, directory=tmp_path).code == 2


def test_when_the_port_is_taken_then_run_says_so(
    tmp_path: Path, broker: EmbeddedBroker, run: Program, init: Init
) -> None:
    init(tmp_path / "b", "--plain-port", str(broker.port))
    done = run("run", directory=tmp_path / "b")
    assert done.code == 1
    assert f"port {broker.port} is in use" in done.err


def test_when_mosquitto_is_told_to_end_then_run_ends_with_an_error(
    tmp_path: Path, broker: EmbeddedBroker, init: Init
) -> None:
    init(tmp_path / "b")
    with subprocess.Popen(
        [*PROGRAM, "run", "-d", str(tmp_path / "b")], stderr=subprocess.PIPE, text=True
    ) as process:
        read_until(process, "listening on")
        pid = BrokerDirectory(tmp_path / "b").pid
        assert pid is not None
        os.kill(pid, signal.SIGTERM)
        read_until(process, "Mosquitto ended")
        assert process.wait(timeout=10) == 1


@pytest.mark.parametrize("command", ["init", "renew", "add", "remove", "list", "run"])
def test_given_help_then_every_command_has_an_example(
    tmp_path: Path, command: str, ok: Works
) -> None:
    assert command in ok("--help", directory=tmp_path)
    assert f"Example: icebus-broker {command}" in ok(command, "--help", directory=tmp_path)
