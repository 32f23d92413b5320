"""The farm's authority is replaced by another, on a standing broker, and nobody is cut off."""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.broker.standing import directory_with_tls
from tests.broker.test_tls import PEOPLE, connects, soon, until

from icebus.broker.bridge import Upstream, bridge
from icebus.broker.cli.running import StandingBroker
from icebus.broker.directory import BrokerDirectory, Settings
from icebus.broker.tls.authority import blocks
from icebus.broker.tls.certificates import Listening
from icebus.bus import BrokerAddress, Bus, Credentials, wait_for
from icebus.schemas.components import TrustedAuthorities
from icebus.schemas.errors import Conflict, InvalidRequest
from icebus.schemas.topics import AUTHORITY

pytestmark = pytest.mark.usefixtures("mosquitto")

COMPONENTS = ("main", "w1", "w2", "oslo")


@pytest.fixture
def files(tmp_path: Path) -> BrokerDirectory:
    return directory_with_tls(tmp_path / "broker", PEOPLE)


def given(files: BrokerDirectory, name: str, folder: Path) -> BrokerAddress:
    """Somebody's credentials file, read."""
    principal = files.principals[name]
    issued = files.issue(name) if name in COMPONENTS else None
    path = folder / f"{name}.json"
    files.address_of(principal, issued).credentials().write(path)
    return BrokerAddress.parse(str(path))


def anew(address: BrokerAddress) -> BrokerAddress:
    """What stands in the file by now."""
    assert address.reread is not None
    return address.reread()


def authorities(address: BrokerAddress) -> list[str]:
    return blocks(address.ca or "")


def test_given_people_and_components_when_the_authority_is_replaced_then_nobody_is_cut_off(
    files: BrokerDirectory, standing: StandingBroker, tmp_path: Path
) -> None:
    names = ("alice", "main", "w1")
    before = {name: given(files, name, tmp_path) for name in names}
    away = given(files, "w2", tmp_path)
    buses = {name: Bus(address, name) for name, address in before.items()}
    for bus in buses.values():
        bus.connect(soon())
    since = {name: bus.connected_at for name, bus in buses.items()}
    try:
        files.renew_authority()
        standing.check()

        for name, bus in buses.items():
            until(lambda bus=bus, name=name: bus.connected_at > since[name])  # type: ignore[misc]
            until(lambda name=name: len(authorities(anew(before[name]))) == 2)  # type: ignore[misc]
    finally:
        for bus in buses.values():
            bus.close(soon())
    for address in (*before.values(), away):
        assert connects(replace(address, reread=None, keep=None)), "what it had is good still"
    new = [given(files, name, tmp_path / "new") for name in ("alice", "w2")]
    for address in new:
        present = authorities(address)[0]
        assert connects(replace(address, ca=present)), "the present one is enough"
        assert present not in authorities(away)


def test_given_a_former_authority_when_it_is_ended_then_only_after_everybody_has_newer_ones(
    files: BrokerDirectory, standing: StandingBroker, tmp_path: Path
) -> None:
    former = {name: given(files, name, tmp_path / "former") for name in ("alice", "main", "w1")}
    with pytest.raises(InvalidRequest, match="no former authority"):
        files.end_former_authorities()
    files.renew_authority()
    newer = {"alice": given(files, "alice", tmp_path), "w1": given(files, "w1", tmp_path)}

    with pytest.raises(Conflict, match=r"vouched for main; .*`icebus-broker renew main -o"):
        files.end_former_authorities()
    newer["main"] = given(files, "main", tmp_path)
    files.end_former_authorities()
    standing.check()

    for name, address in newer.items():
        assert connects(replace(address, reread=None)), name
        assert not connects(replace(former[name], reread=None)), name
        assert not connects(replace(newer[name], ca=former[name].ca, reread=None)), name
    w1 = newer["w1"]
    old = replace(w1, certificate=former["w1"].certificate, key=former["w1"].key, reread=None)
    assert not connects(old), "the broker takes no certificate of the former"


def test_given_two_authorities_when_somebody_is_removed_then_certificates_of_both_are_void(
    files: BrokerDirectory, standing: StandingBroker, tmp_path: Path
) -> None:
    first = given(files, "w1", tmp_path / "1")
    files.renew_authority()
    second = given(files, "w1", tmp_path / "2")
    files.renew_authority()
    standing.check()
    assert connects(first)
    assert connects(second)
    assert len(authorities(given(files, "alice", tmp_path))) == 3

    files.remove_principal("w1")
    standing.check()

    assert not connects(first)
    assert not connects(second)
    assert connects(given(files, "w2", tmp_path))


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl looks from outside")
@pytest.mark.usefixtures("standing")
def test_given_only_one_of_the_authorities_then_openssl_finds_the_broker_to_be_strictly_right(
    files: BrokerDirectory, tmp_path: Path
) -> None:
    former = files.trusted
    files.renew_authority()
    present = blocks(files.trusted or "")[0]
    assert former is not None
    settings = files.settings
    assert settings is not None
    assert settings.tls is not None
    where = f"127.0.0.1:{settings.tls.port}"

    for text, right in ((former, True), (present, True), (other_authority(tmp_path), False)):
        (tmp_path / "ca.pem").write_text(text)

        def verified(right: bool = right) -> bool:
            options = "-verify_return_error -x509_strict -verify_hostname localhost -brief"
            command = f"openssl s_client -connect {where} -CAfile {tmp_path}/ca.pem {options}"
            done = subprocess.run(command.split(), input=b"", capture_output=True, timeout=10)
            return (done.returncode == 0) is right

        until(verified)


def other_authority(folder: Path) -> str:
    other = BrokerDirectory(folder / "other")
    tls = Listening(address="127.0.0.1", port=1, component_port=2, hosts=("localhost",))
    other.configure(Settings(port=3, tls=tls))
    assert other.trusted is not None
    return other.trusted


@pytest.fixture
def told(files: BrokerDirectory, standing: StandingBroker) -> Iterator[Bus]:
    """The broker's service, by whom anything can be told."""
    bus = Bus(standing.broker.address("broker"), "told")
    bus.connect(soon())
    yield bus
    bus.close(soon())


def test_given_an_authority_that_nobody_trusts_has_to_do_with_when_told_then_it_is_not_taken(
    files: BrokerDirectory, told: Bus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    alice = given(files, "alice", tmp_path)
    bus = Bus(alice, "alice")
    bus.connect(soon())
    try:
        with caplog.at_level(logging.WARNING):
            for text in (other_authority(tmp_path), "rubbish", ""):
                said = told.publish(AUTHORITY(), TrustedAuthorities(certificates=text))
                wait_for(said, soon(), "the broker")
            until(lambda: caplog.text.count("another authority, which alice can't") == 3)
    finally:
        bus.close(soon())
    assert "none of them is trusted already" in caplog.text
    assert anew(alice).ca == files.trusted


def test_given_a_file_that_cannot_be_written_then_it_stays_and_the_remedy_is_logged(
    files: BrokerDirectory,
    standing: StandingBroker,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    alice = given(files, "alice", tmp_path)
    (tmp_path / "alice.json").chmod(0o400)
    text = (tmp_path / "alice.json").read_text()
    files.renew_authority()
    standing.check()
    bus = Bus(alice, "alice")
    bus.connect(soon())
    try:
        until(lambda: "get a new credentials file from whoever keeps the broker" in caplog.text)
    finally:
        bus.close(soon())
    assert (tmp_path / "alice.json").read_text() == text
    assert connects(anew(alice))


def test_given_a_file_of_more_than_ours_when_others_are_trusted_then_the_rest_of_it_stays(
    files: BrokerDirectory, tmp_path: Path
) -> None:
    alice = given(files, "alice", tmp_path)
    path = tmp_path / "alice.json"
    path.write_text(path.read_text().replace("{", '{"next_password": "secret",', 1))

    Credentials.keep_authorities(path, "other")

    assert anew(alice).ca == "other"
    assert anew(alice).password == alice.password
    assert '"next_password": "secret"' in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


def test_given_a_site_then_its_workers_are_not_told_of_the_farms_authority(tmp_path: Path) -> None:
    farm = BrokerAddress("farm", 8884, "oslo", "", tls=True)

    said = bridge(Upstream.at(farm, ("o1",)), farm.root, tmp_path)

    assert "broker/" not in said
