"""Links: good for whom they are made, as often and as long as they say, and for nobody else."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.dashboard.conftest import Serve
from tests.dashboard.scripted_broker import ScriptedBroker

from icebus.bus import BrokerAddress
from icebus.client.dashboard.running import RunningFile
from icebus.client.dashboard.sign_in import (
    LIFETIME,
    Account,
    Link,
    SignIn,
    link_url,
    make_token,
    new_key,
)
from icebus.client.dashboard.starting import Dashboard
from icebus.schemas.errors import Forbidden, IcebusError, InvalidRequest

KEY = new_key()


class Clock:
    """Says what time a test wants it to be."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def sign_in(clock: Clock, link: Link = Link.SIGN_IN) -> SignIn:
    return SignIn(KEY, link, lambda: Account(user="alice", password="secret"), clock)


def test_given_a_sign_in_link_then_it_is_good_once() -> None:
    clock = Clock()
    door = sign_in(clock)
    token = make_token(KEY, Link.SIGN_IN, clock.now)
    assert door.redeem(token).user == "alice"
    with pytest.raises(Forbidden, match="used already"):
        door.redeem(token)
    assert door.redeem(make_token(KEY, Link.SIGN_IN, clock.now)).user == "alice"


def test_given_a_sign_in_link_that_is_old_then_it_has_ended_used_or_not() -> None:
    clock = Clock()
    door = sign_in(clock)
    used, unused = (make_token(KEY, Link.SIGN_IN, clock.now) for _ in range(2))
    door.redeem(used)
    clock.now += LIFETIME - 1
    with pytest.raises(Forbidden, match="used already"):
        door.redeem(used)
    clock.now += 2
    for token in (used, unused):
        with pytest.raises(Forbidden, match="has ended"):
            door.redeem(token)


def test_given_a_restart_then_sign_in_links_of_before_have_ended() -> None:
    clock = Clock()
    token = make_token(KEY, Link.SIGN_IN, clock.now)
    clock.now += 0.5
    with pytest.raises(Forbidden, match="has ended"):
        sign_in(clock).redeem(token)


def test_given_a_clock_that_is_set_back_then_links_do_not_live_longer() -> None:
    clock = Clock()
    door = sign_in(clock)
    token = make_token(KEY, Link.SIGN_IN, clock.now + 3600)
    with pytest.raises(Forbidden, match="has ended"):
        door.redeem(token)


def test_given_a_wall_link_then_it_is_good_again_and_after_a_restart() -> None:
    clock = Clock()
    token = make_token(KEY, Link.WALL, clock.now)
    clock.now += 30 * 86_400
    for door in (sign_in(clock, Link.WALL), sign_in(clock, Link.WALL)):
        assert door.redeem(token) == door.redeem(token)


@pytest.mark.parametrize("link", Link)
def test_given_the_other_sort_of_link_then_it_is_refused(link: Link) -> None:
    clock = Clock()
    (other,) = set(Link) - {link}
    with pytest.raises(Forbidden, match="takes no"):
        sign_in(clock, link).redeem(make_token(KEY, other, clock.now))


def test_given_a_link_of_another_dashboard_then_it_is_refused() -> None:
    clock = Clock()
    with pytest.raises(Forbidden, match="not of this dashboard"):
        sign_in(clock).redeem(make_token(new_key(), Link.SIGN_IN, clock.now))


@given(st.text(max_size=150) | st.from_regex(r"\A(wall|sign-in)\.[0-9]{1,15}\.\w{1,30}\.\w{43}\Z"))
def test_given_any_text_then_it_is_refused_in_words(text: str) -> None:
    with pytest.raises(IcebusError):
        sign_in(Clock()).redeem(text)


@given(st.integers(min_value=0), st.characters(codec="utf-8"))
def test_given_a_token_with_one_sign_changed_then_it_is_refused(where: int, sign: str) -> None:
    clock = Clock()
    token = make_token(KEY, Link.WALL, clock.now)
    where %= len(token)
    changed = token[:where] + sign + token[where + 1 :]
    if changed == token:
        return
    with pytest.raises(IcebusError):
        sign_in(clock, Link.WALL).redeem(changed)


def exchange(dashboard: Dashboard, body: bytes, kind: str = "application/json") -> object:
    """What a dashboard answers to a token, or the status and code with which it refuses."""
    request = urllib.request.Request(
        dashboard.running.url + "/sign-in", data=body, headers={"Content-Type": kind}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)["code"]


def token_of(dashboard: Dashboard) -> bytes:
    return json.dumps({"token": dashboard.running.make_link().partition("=")[2]}).encode()


def test_given_a_link_of_a_dashboard_then_its_page_gets_the_account_as_it_is_by_then(
    serve: Serve, scripted: ScriptedBroker
) -> None:
    passwords = ["first"]

    def account() -> BrokerAddress:
        return replace(scripted.address, password=passwords[-1])

    dashboard = serve(account(), find_account=account)
    passwords.append("second")
    told = exchange(dashboard, token_of(dashboard))
    assert told == {"user": "alice", "password": "second", "wall": False}


def test_given_a_wall_when_served_again_then_its_links_are_still_good(
    serve: Serve, scripted: ScriptedBroker
) -> None:
    before = serve(scripted.address, link=Link.WALL)
    token = token_of(before)
    told = {"user": "alice", "password": "secret", "wall": True}
    assert exchange(before, token) == told
    assert exchange(serve(scripted.address, link=Link.WALL), token) == told
    RunningFile(scripted.address).path.unlink()
    assert exchange(serve(scripted.address, link=Link.WALL), token) == (403, "forbidden")


def test_given_no_password_then_there_are_no_links(serve: Serve, scripted: ScriptedBroker) -> None:
    dashboard = serve(replace(scripted.address, password=""))
    assert dashboard.running.key == ""
    assert exchange(dashboard, token_of(dashboard)) == (400, "invalid_request")


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'{"token": 7}', b"\xff", b'{"token": "' + b"x" * 10_000 + b'"}']
)
def test_given_what_is_no_token_then_it_is_refused(
    serve: Serve, scripted: ScriptedBroker, body: bytes
) -> None:
    assert exchange(serve(scripted.address), body) == (400, "invalid_request")


def test_given_a_form_of_another_page_then_it_is_refused(
    serve: Serve, scripted: ScriptedBroker
) -> None:
    dashboard = serve(scripted.address)
    assert exchange(dashboard, token_of(dashboard), "text/plain") == (400, "invalid_request")


def test_given_a_dashboard_that_stops_then_it_leaves_no_file(
    serve: Serve, scripted: ScriptedBroker
) -> None:
    dashboard = serve(scripted.address)
    file = RunningFile(scripted.address)
    assert file.path.stat().st_mode & 0o077 == 0
    assert file.read() == dashboard.running
    file.remove(dashboard.running)
    assert file.read() is None


def test_given_a_component_then_it_has_no_dashboard(serve: Serve, scripted: ScriptedBroker) -> None:
    with pytest.raises(InvalidRequest, match="component"):
        serve(replace(scripted.address, certificate="-"))


def test_given_a_link_then_its_secret_stands_where_no_server_sees_it() -> None:
    url = link_url("http://127.0.0.1:8470", KEY, Link.SIGN_IN, 0.0)
    assert url.startswith("http://127.0.0.1:8470/#sign-in=")


def test_given_a_browser_to_be_opened_then_the_link_stands_in_a_file_that_nobody_else_reads(
    serve: Serve, scripted: ScriptedBroker
) -> None:
    dashboard = serve(scripted.address)
    door = Path(urllib.request.url2pathname(dashboard.door().removeprefix("file://")))
    assert door.stat().st_mode & 0o077 == 0
    assert "#sign-in=" in door.read_text()
    RunningFile(scripted.address).remove(dashboard.running)
    assert not door.exists()
