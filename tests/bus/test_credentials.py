"""Credentials files: taken wherever a broker's URL is, private, and refused when they are none."""

from __future__ import annotations

import json
import logging
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from icebus.bus import BrokerAddress, Bus, Credentials
from icebus.schemas.errors import InvalidRequest

ids = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40)
addresses = st.builds(
    BrokerAddress,
    host=st.sampled_from(["farm.example.org", "127.0.0.1", "::1"]),
    port=st.integers(1, 65535),
    user=ids,
    password=texts | st.just(""),
    root=st.sampled_from(["icebus/v1", "lab/two"]),
    tls=st.just(True),
    ca=st.none() | texts,
    certificate=st.none() | texts,
    key=st.none() | texts,
)


@given(address=addresses)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_given_an_address_when_written_to_a_file_then_its_path_is_as_good_as_a_url(
    address: BrokerAddress, tmp_path: Path
) -> None:
    file = tmp_path / "deep" / "broker.json"
    address.credentials().write(file)

    assert BrokerAddress.parse(str(file)) == address
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in file.parent.iterdir()] == ["broker.json"]


def test_given_an_address_when_shown_then_no_secret_is() -> None:
    address = BrokerAddress("h", 8883, "a", "s3cret", tls=True, ca="s3cret", key="s3cret")

    assert "s3cret" not in repr(address) + repr(address.credentials())


@pytest.mark.parametrize(
    "text", ["", "{}", "mqtt://a:b@h", '{"url": 1, "user": "a"}', '{"url": "mqtt://a@h"}', "\xff"]
)
def test_given_a_file_that_holds_something_else_then_it_is_refused_by_name(
    text: str, tmp_path: Path
) -> None:
    file = tmp_path / "broker.json"
    file.write_text(text, encoding="latin-1")

    with pytest.raises(InvalidRequest, match=r"broker\.json is not a credentials file"):
        BrokerAddress.parse(str(file))


@pytest.mark.parametrize("name", ["missing.json", ".", "a\0b", "x" * 5000])
def test_given_no_such_file_then_the_error_says_what_was_wanted(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="credentials file"):
        BrokerAddress.parse(f"{tmp_path}/{name}")


@pytest.mark.parametrize("slip", ["alice:s3cret@host", "mqtt:/alice:s3cret@host"])
def test_given_a_url_with_a_slip_then_its_password_is_not_repeated(slip: str) -> None:
    with pytest.raises(InvalidRequest, match="a broker's URL looks like") as refused:
        BrokerAddress.parse(slip)

    assert "s3cret" not in refused.value.message


def test_given_certificates_without_tls_then_they_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "broker.json"
    file.write_text(json.dumps({"url": "mqtt://a:b@h", "user": "a", "ca": "x"}))

    with pytest.raises(InvalidRequest, match="mqtts"):
        BrokerAddress.parse(str(file))


def test_given_a_file_that_others_can_read_then_a_warning_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "broker.json"
    Credentials(url="mqtt://a:b@h", user="a").write(file)
    with caplog.at_level(logging.WARNING):
        BrokerAddress.parse(str(file))
        assert caplog.messages == []
        file.chmod(0o644)
        BrokerAddress.parse(str(file))

    assert caplog.messages == [f"others on this machine can read {file}: chmod 600 it"]


def test_given_a_link_in_the_way_then_writing_replaces_it_and_does_not_follow(
    tmp_path: Path,
) -> None:
    victim, file = tmp_path / "victim", tmp_path / "broker.json"
    victim.write_text("mine")
    file.symlink_to(victim)

    Credentials(url="mqtt://a:b@h", user="a").write(file)

    assert victim.read_text() == "mine"
    assert not file.is_symlink()


@pytest.mark.parametrize(
    ("given_", "complaint"),
    [
        ({"ca": "nonsense"}, "is no certificate"),
        ({"certificate": "nonsense", "key": "nonsense"}, "can't be used"),
        ({"certificate": "nonsense"}, "one of them is missing"),
        ({"key": "nonsense"}, "one of them is missing"),
    ],
)
def test_given_certificates_that_are_none_then_a_connection_is_not_even_tried(
    given_: dict[str, str], complaint: str
) -> None:
    ca, certificate, key = (given_.get(each) for each in ("ca", "certificate", "key"))
    address = BrokerAddress("h", 8883, "a", "", tls=True, ca=ca, certificate=certificate, key=key)

    with pytest.raises(InvalidRequest, match=complaint):
        Bus(address, "a")
