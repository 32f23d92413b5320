"""``icebus-broker run`` as those see it who mind it: revocations, and certificates that end."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.broker.standing import directory_with_tls

from icebus.broker.access import Principal
from icebus.broker.cli.running import MOST_CRASHES, StandingBroker
from icebus.broker.cli.setup_commands import warnings_of
from icebus.broker.directory import BrokerDirectory
from icebus.broker.embedded import EmbeddedBroker
from icebus.broker.tls.authority import BROKER_LIFE, Authority
from icebus.broker.tls.certificates import Certificates
from icebus.bus import BrokerAddress, Bus
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import BrokerUnavailable, Conflict
from icebus.schemas.topics import Role

pytestmark = pytest.mark.usefixtures("mosquitto")

WORKERS = [Principal(id=name, role=Role.WORKER) for name in ("w1", "w2")]


def soon() -> Deadline:
    return Deadline.after(15)


@pytest.fixture
def files(tmp_path: Path) -> BrokerDirectory:
    """A broker that does not run yet."""
    return directory_with_tls(tmp_path / "broker", WORKERS)


def admit(files: BrokerDirectory, name: str) -> BrokerAddress:
    return files.address_of(files.principals[name], files.issue(name, void_others=True))


def test_given_a_connection_when_its_certificate_is_voided_then_it_ends_and_others_come_back(
    standing: StandingBroker, files: BrokerDirectory
) -> None:
    thief, other = Bus(admit(files, "w1"), "w1"), Bus(admit(files, "w2"), "w2")
    try:
        standing.check()
        for bus in (thief, other):
            bus.connect(soon())
        before = standing.broker.child.process.pid
        standing.check()
        assert standing.broker.child.process.pid == before, "nothing was revoked since"

        owner = admit(files, "w1")
        standing.check()

        until(lambda: not thief.connected)
        until(lambda: other.connected and other.connected_at > 0)
        assert standing.broker.child.process.pid != before
        ours = Bus(owner, "w1")
        ours.connect(soon())
        ours.close(soon())
        assert not thief.connected
    finally:
        thief.close(Deadline.after(1))
        other.close(Deadline.after(1))


def test_given_a_worker_whose_file_gets_the_new_certificate_then_it_goes_on_without_a_restart(
    standing: StandingBroker, files: BrokerDirectory, tmp_path: Path
) -> None:
    file = tmp_path / "w1.json"
    admit(files, "w1").credentials().write(file)
    standing.check()
    worker = Bus(BrokerAddress.parse(str(file)), "w1")
    try:
        worker.connect(soon())
        first, before = worker.address.certificate, worker.connected_at

        # The file comes to its machine when it has been refused already.
        new = admit(files, "w1")
        standing.check()
        until(lambda: worker.problem is not None and not worker.connected)
        new.credentials().write(file)

        until(lambda: worker.connected_at > before)
        assert worker.address.certificate == new.certificate != first
    finally:
        worker.close(Deadline.after(1))


def test_given_somebody_new_with_a_certificate_then_nothing_is_started_anew(
    standing: StandingBroker, files: BrokerDirectory
) -> None:
    before = standing.broker.child.process.pid

    files.add_principals([Principal(id="w3", role=Role.WORKER)])
    admit(files, "w3")
    files.renew()
    files.issue("w1")
    standing.check()

    assert standing.broker.child.process.pid == before


def die(standing: StandingBroker, by: signal.Signals) -> None:
    os.kill(standing.broker.child.process.pid, by)
    standing.broker.child.process.wait(10)


def test_when_mosquitto_crashes_then_it_is_started_again_and_everybody_comes_back(
    standing: StandingBroker, files: BrokerDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    bus = Bus(admit(files, "w1"), "w1")
    standing.check()
    try:
        bus.connect(soon())
        before = bus.connected_at
        die(standing, signal.SIGSEGV)

        standing.check()

        assert "Mosquitto was killed by SIGSEGV: starting it again" in caplog.text
        until(lambda: bus.connected and bus.connected_at > before)
    finally:
        bus.close(soon())


def test_when_mosquitto_crashes_again_and_again_then_whoever_minds_it_is_told_how(
    standing: StandingBroker,
) -> None:
    for _ in range(MOST_CRASHES):
        die(standing, signal.SIGKILL)
        standing.check()
    die(standing, signal.SIGABRT)

    with pytest.raises(BrokerUnavailable, match="Mosquitto ended, killed by SIGABRT"):
        standing.check()


def test_when_mosquitto_is_told_to_end_then_it_stays_down(standing: StandingBroker) -> None:
    die(standing, signal.SIGTERM)

    with pytest.raises(BrokerUnavailable, match="Mosquitto ended, with exit code 0"):
        standing.check()


def test_given_a_certificate_that_ends_soon_when_run_then_the_broker_has_a_new_one(
    files: BrokerDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    certificates = files.certificates
    shorten(certificates, timedelta(days=10))

    running = StandingBroker(files)
    running.start()
    running.stop()

    assert certificates.ends > datetime.now(UTC) + timedelta(days=300)
    assert "renewed the broker's certificate" in caplog.text


def shorten(certificates: Certificates, left: timedelta) -> None:
    """Have the broker's certificate end after so long."""
    folder = certificates.folder
    authority = Authority(
        certificates.authority.read_text(), (folder / "authority.key").read_text()
    )
    old = authority.for_broker(["localhost"], now=datetime.now(UTC) - BROKER_LIFE + left)
    certificates.certificate.write_text(old.certificate)
    certificates.key.write_text(old.key)


def test_given_certificates_that_end_soon_then_it_is_said_whose_and_what_to_do(
    files: BrokerDirectory,
) -> None:
    files.issue("w1")
    now = datetime.now(UTC)

    assert warnings_of(files) == []
    [broker] = warnings_of(files, now + timedelta(days=380))
    assert "the broker's certificate ends on" in broker
    assert "`icebus-broker renew`" in broker
    broker, worker = warnings_of(files, now + timedelta(days=720))
    assert "the broker's certificate ended on" in broker
    assert "the certificate of w1 ends on" in worker
    assert "`icebus-broker renew w1 -o w1.json`" in worker
    files.issue("w1", void_others=True)
    files.remove_principal("w1")
    assert len(warnings_of(files, now + timedelta(days=720))) == 1


def test_given_a_damaged_folder_of_certificates_then_the_broker_runs_on_and_says_so(
    standing: StandingBroker, files: BrokerDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    files.certificates.certificate.write_text("nonsense")

    standing._next_expiry_check = 0
    standing.check()

    assert "can't look at when certificates end" in caplog.text


def until(true: Callable[[], bool]) -> None:
    deadline = Deadline.after(20)
    while not true():
        assert not deadline.expired


def test_given_a_mosquitto_that_never_listens_when_told_to_end_then_nobody_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    silent = programs / "mosquitto"
    silent.write_text('#!/bin/sh\n[ "$1" = -h ] && exit\nexec sleep 60\n')
    silent.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    broker = EmbeddedBroker(tmp_path / "broker", [])
    giving_up = threading.Timer(0.2, broker.give_up)
    began = time.monotonic()
    giving_up.start()
    with pytest.raises(BrokerUnavailable):
        broker.start(Deadline.after(60))
    giving_up.join()
    assert time.monotonic() - began < 20
    assert not broker.child.running


def test_given_another_program_that_never_lets_go_of_the_directory_then_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("icebus.broker.directory.LOCK_TIMEOUT", 0.05)
    (tmp_path / "b").mkdir(mode=0o700)
    files = BrokerDirectory(tmp_path / "b")
    with (tmp_path / "b").joinpath("principals.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match=r"fuser .*principals\.lock"):
            files.add_principals([Principal(id="alice", role=Role.USER)])
    files.add_principals([Principal(id="alice", role=Role.USER)])
