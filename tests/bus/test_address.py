"""Addresses of brokers: URLs read and written, and passwords kept out of errors."""

from __future__ import annotations

import pytest

from icebus.bus import BrokerAddress
from icebus.schemas.errors import InvalidRequest


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://a:b@host", BrokerAddress("host", 1883, "a", "b")),
        ("mqtt://a@host:1/", BrokerAddress("host", 1, "a", "")),
        ("mqtts://a:b@host", BrokerAddress("host", 8883, "a", "b", tls=True)),
        ("mqtt://a:b@[::1]:5/lab/two", BrokerAddress("::1", 5, "a", "b", "lab/two")),
        ("mqtt://a:%40%2F%3A@host", BrokerAddress("host", 1883, "a", "@/:")),
    ],
)
def test_given_a_url_then_it_is_read_and_written(url: str, expected: BrokerAddress) -> None:
    assert BrokerAddress.parse(url) == expected
    assert BrokerAddress.parse(expected.url()) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host",
        "http://a:b@host",
        "mqtt://host",
        "mqtt://:b@host",
        "mqtt://a:b@host:0",
        "mqtt://a:b@host:70000",
        "mqtt://a:b@host:x",
        "mqtt://a:b@",
        "mqtt://a:b@[::1",
        "mqtt://a:b@host/lab/+/x",
        "mqtt://a:b@host/a//b",
    ],
)
def test_given_a_url_that_is_none_then_the_error_shows_one_and_not_the_password(url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        BrokerAddress.parse(url)
    assert ":b@" not in caught.value.message
