"""What ``icebus profile -o mosquitto`` prints, tried with the program that it is for."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from icebus.broker.access import Principal
from icebus.broker.directory import BrokerDirectory, Settings
from icebus.broker.embedded import EmbeddedBroker, free_port
from icebus.broker.tls.certificates import Listening
from icebus.bus import BrokerAddress, Bus, CertificateFiles, wait_for
from icebus.schemas.components import WorkerPhase, WorkerState
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import InvalidRequest
from icebus.schemas.topics import WORKER_STATE, Role

pytestmark = [
    pytest.mark.usefixtures("mosquitto"),
    pytest.mark.skipif(not shutil.which("mosquitto_sub"), reason="there are no clients"),
]

W1 = Principal(id="w1", role=Role.WORKER)
EVE = Principal(id="eve", role=Role.OBSERVER)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[BrokerDirectory]:
    """A broker with TLS, at which a worker has left its state."""
    made = BrokerDirectory(tmp_path / "broker")
    tls = Listening(
        address="127.0.0.1", port=free_port(), component_port=free_port(), hosts=("localhost",)
    )
    settings = Settings(port=free_port(), tls=tls)
    made.configure(settings)
    made.add_principals([W1, EVE])
    broker = EmbeddedBroker(made.path, [], port=settings.port, tls=tls)
    broker.start(Deadline.after(10))
    bus = Bus(made.address_of(W1, made.issue("w1")), "w1")
    bus.connect(Deadline.after(10))
    state = WorkerState(state=WorkerPhase.READY, session="s1")
    wait_for(bus.publish(WORKER_STATE(worker="w1"), state), Deadline.after(10), "the broker")
    bus.close(Deadline.after(10))
    yield made
    broker.stop(Deadline.after(10))


def heard_by(address: BrokerAddress, folder: Path) -> str:
    """What mosquitto_sub is told first."""
    address.write_mosquitto_options(folder)
    done = subprocess.run(
        ["mosquitto_sub", "-t", "icebus/v1/worker/+/state", "-C", "1", "-W", "10"],
        env={**os.environ, "XDG_CONFIG_HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.stdout


def test_given_a_persons_address_with_an_authority_then_mosquitto_sub_is_told(
    files: BrokerDirectory, tmp_path: Path
) -> None:
    assert "ready" in heard_by(files.address_of(EVE), tmp_path / "eve")


def test_given_a_workers_address_then_its_certificate_is_shown_and_all_is_kept_private(
    files: BrokerDirectory, tmp_path: Path
) -> None:
    folder = tmp_path / "w1"

    assert "ready" in heard_by(files.address_of(W1, files.issue("w1")), folder)
    assert {file.name for file in folder.iterdir()} == {
        *("mosquitto_sub", "mosquitto_pub", "mosquitto_rr"),
        *("trusted.pem", "certificate.pem", "certificate.key"),
    }
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_given_no_authority_then_that_of_the_system_is_asked(tmp_path: Path) -> None:
    plain = BrokerAddress("farm", 1883, "eve", "secret")
    encrypted = BrokerAddress("farm", 8883, "eve", "secret", tls=True)
    plain.write_mosquitto_options(tmp_path / "plain")
    encrypted.write_mosquitto_options(tmp_path / "encrypted")

    assert "--tls-use-os-certs\n" in (tmp_path / "encrypted" / "mosquitto_sub").read_text()
    assert (tmp_path / "plain" / "mosquitto_sub").read_text() == (
        "-V mqttv5\n-h farm\n-p 1883\n-u eve\n-P secret\n"
    )


@pytest.mark.parametrize("password", ["two words", "line\nbreak", "x" * 2000])
def test_given_a_password_that_such_a_file_cannot_say_then_that_is_said_without_it(
    password: str, tmp_path: Path
) -> None:
    address = BrokerAddress("farm", 1883, "eve", password)

    with pytest.raises(InvalidRequest, match="choose another password") as refused:
        address.write_mosquitto_options(tmp_path / "eve")

    assert password not in str(refused.value)


def test_given_certificates_that_are_not_said_any_more_then_their_files_go(tmp_path: Path) -> None:
    before = BrokerAddress("farm", 8884, "w1", "", tls=True, ca="A", certificate="B", key="C")
    CertificateFiles.write(tmp_path, before)

    CertificateFiles.write(tmp_path, BrokerAddress("farm", 8884, "w1", "", tls=True, ca="A"))

    assert [file.name for file in tmp_path.iterdir()] == ["trusted.pem"]
