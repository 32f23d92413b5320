"""Browsers that fail to sign in: counted by address, and none pays for another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.dashboard.conftest import Serve
from tests.dashboard.scripted_broker import CONNECT, TIMEOUT, ScriptedBroker, browse, heard
from websockets.exceptions import ConnectionClosed

from icebus.client.dashboard import failed_sign_ins
from icebus.client.dashboard.failed_sign_ins import (
    AT_ONCE,
    PER_SECOND,
    REMEMBERED,
    FailedSignIns,
    is_refusal,
)

REFUSED = bytes([0x20, 3, 0, 0x87, 0])
TAKEN_IN = bytes([0x20, 3, 0, 0x00, 0])


def test_given_an_address_that_fails_too_often_then_it_waits_and_no_other() -> None:
    failures = FailedSignIns()
    for _ in range(int(AT_ONCE)):
        assert failures.may_try("1.2.3.4", 100.0)
        failures.count("1.2.3.4", 100.0)
    assert not failures.may_try("1.2.3.4", 100.0)
    assert failures.may_try("1.2.3.5", 100.0)
    assert failures.may_try("1.2.3.4", 100.0 + 1 / PER_SECOND)


@given(st.lists(st.floats(0, 3600), max_size=300))
def test_given_failures_at_any_time_then_an_hour_later_an_address_may_try(
    times: list[float],
) -> None:
    failures = FailedSignIns()
    tried = 0
    for now in sorted(times):
        if failures.may_try("a", now):
            failures.count("a", now)
            tried += 1
    assert tried <= AT_ONCE + 3600 * PER_SECOND
    assert failures.may_try("a", 7200.0)


def test_given_very_many_addresses_then_not_all_are_remembered() -> None:
    failures = FailedSignIns()
    for each in range(2 * REMEMBERED):
        failures.count(str(each), 0.0)
    assert len(failures._left) == REMEMBERED


@pytest.mark.parametrize(
    ("answer", "refuses"),
    [
        (REFUSED, True),
        (TAKEN_IN, False),
        (bytes([0x20, 2, 0, 5]), True),
        (bytes([0x20, 2, 1, 0]), False),
        (bytes([0x20, 0x80, 1, 0, 0x87]) + bytes(125), True),
        (bytes([0x20, 0x80, 1, 1, 0]) + bytes(125), False),
        (b"\x20\xff\xff\xff\xff\xff", False),
        (b"\x20", False),
        (b"", False),
        (b"\xe0\x01\x8b", False),
    ],
)
def test_given_what_a_broker_says_first_then_a_refusal_is_known(
    answer: bytes, refuses: bool
) -> None:
    assert is_refusal(answer) is refuses


@given(st.binary(max_size=12))
def test_given_any_bytes_then_they_are_looked_at_without_harm(answer: bytes) -> None:
    assert is_refusal(answer) in (True, False)


def test_given_a_browser_that_fails_again_and_again_then_the_broker_is_not_asked_any_more(
    serve: Serve, scripted: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failed_sign_ins, "AT_ONCE", 2.0)
    monkeypatch.setattr(failed_sign_ins, "PER_SECOND", 0.0)
    dashboard = serve(scripted.address)
    for answer in (TAKEN_IN, REFUSED, TAKEN_IN, REFUSED):
        with browse(dashboard) as browser:
            browser.send(CONNECT)
            broker = scripted.take()
            broker.sendall(answer)
            assert heard(browser, len(answer)) == answer
    with browse(dashboard) as browser, pytest.raises(ConnectionClosed, match=r"4003.*wait"):
        browser.recv(TIMEOUT)
