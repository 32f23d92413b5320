"""Farms by name: what is handed over, stored, redeemed once, and replaced."""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import JsonValue
from typer.testing import CliRunner

from icebus.broker.access import Principal
from icebus.broker.accounts import MOST_FORMER, hashed, invite, invite_again, with_password
from icebus.broker.directory import BrokerDirectory
from icebus.broker.embedded import EmbeddedBroker
from icebus.broker.service.service import BrokerService
from icebus.bus import BrokerAddress, Bus, Invitation, Requester
from icebus.client._profiles.account import choose_password, settle
from icebus.client._profiles.login import log_in
from icebus.client._profiles.profile import Profile, find_address
from icebus.client._profiles.saved_profiles import SavedProfiles
from icebus.client.cli.app import app
from icebus.schemas.calls import Request
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import (
    BrokerUnavailable,
    Conflict,
    IcebusError,
    InvalidRequest,
    NoProfile,
    NotAuthorized,
)
from icebus.schemas.ids import BROKER, new_id, user_of
from icebus.schemas.operations.accounts import Account
from icebus.schemas.topics import BROKER_OPERATION, Role


@pytest.fixture(autouse=True)
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SavedProfiles:
    """A machine of its own, on which nothing is stored."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("ICEBUS_URL", "ICEBUS_FARM"):
        monkeypatch.delenv(name, raising=False)
    return SavedProfiles()


@pytest.fixture
def files(broker: EmbeddedBroker) -> Iterator[BrokerDirectory]:
    """The directory of a broker whose service runs."""
    known = BrokerDirectory(broker.directory)
    service = BrokerService(known, broker.address(BROKER))
    service.start()
    yield known
    service.stop(Deadline.after(5))


def invited(
    broker: EmbeddedBroker, files: BrokerDirectory, valid: timedelta = timedelta(days=3)
) -> Invitation:
    until = datetime.now(UTC) + valid
    principal, token = invite(Principal(id="carol", role=Role.USER), until)
    files.add_principals([principal])
    carol = BrokerAddress("127.0.0.1", broker.port, "carol", token, broker.root)
    return Invitation(carol, until)


def connects(address: BrokerAddress) -> bool:
    bus = Bus(address, "test")
    try:
        bus.connect(Deadline.after(5))
    except NotAuthorized:
        return False
    bus.close(Deadline.after(1))
    return True


def stored(broker: EmbeddedBroker, files: BrokerDirectory) -> BrokerAddress:
    """Carol's farm, stored as lab; returns what she has logged in with."""
    files.add_principals([hashed(Principal(id="carol", role=Role.USER, password="x" * 20))])
    old = BrokerAddress("127.0.0.1", broker.port, "carol", "x" * 20, broker.root)
    log_in(old.url(), "lab")
    return old


def until(condition: Callable[[], bool]) -> None:
    deadline = Deadline.after(15)
    while not condition():
        assert not deadline.expired
        threading.Event().wait(0.02)


def ask(address: BrokerAddress, operation: str, args: dict[str, JsonValue]) -> Account:
    bus = Bus(replace(address, reread=None), "asks")
    bus.connect(Deadline.after(5))
    try:
        requester = Requester(bus, address.user, new_id())
        topic = BROKER_OPERATION(user=address.user, operation=operation)
        request = Request(args=args)
        return requester.send(topic, request, BROKER, Account, Deadline.after(5)).wait()
    finally:
        bus.close(Deadline.after(1))


def may_read_own_replies(address: BrokerAddress) -> bool:
    return ask(address, "whoami", {}).user == address.user


def test_given_an_invitation_when_redeemed_then_its_account_works_and_the_line_does_not(
    broker: EmbeddedBroker, files: BrokerDirectory, saved: SavedProfiles
) -> None:
    line = f"icebus login '{invited(broker, files).url()}'\n"
    done = log_in(line, "lab")
    assert (done.name, done.role, saved.current) == ("lab", "user", "lab")
    text = saved.path("lab").read_text()
    assert done.profile.password
    assert done.profile.password not in done.profile.url
    assert done.profile.password not in (files.path / "principals.json").read_text()
    assert stat.S_IMODE(saved.path("lab").stat().st_mode) == 0o600
    assert stat.S_IMODE(saved.folder.stat().st_mode) == 0o700
    assert "next_password" not in text
    assert connects(find_address())
    with pytest.raises(NotAuthorized, match="was used already"):
        log_in(line, "lab2")
    assert saved.names == ["lab"]


def test_given_an_invitation_that_is_over_then_it_says_so_and_whom_to_ask(
    broker: EmbeddedBroker, files: BrokerDirectory, saved: SavedProfiles
) -> None:
    invitation = invited(broker, files, timedelta(seconds=-1))
    with pytest.raises(NotAuthorized, match=r"was good until .*add carol --new-password"):
        log_in(invitation.url())
    assert saved.names == []


def test_given_an_invitation_when_it_ends_then_whoever_is_connected_by_it_is_shut_out(
    broker: EmbeddedBroker, files: BrokerDirectory
) -> None:
    invitation = invited(broker, files, timedelta(seconds=2))
    assert connects(invitation.address)
    deadline = Deadline.after(15)
    while connects(invitation.address):
        assert not deadline.expired


def test_given_an_interrupted_login_when_the_line_is_used_again_then_it_works(
    broker: EmbeddedBroker, files: BrokerDirectory, saved: SavedProfiles
) -> None:
    invitation = invited(broker, files)
    saved.prepare()
    password = "chosen-before-the-crash"
    before = Profile(
        url=invitation.address.url().replace(invitation.address.password, ""),
        user="carol",
        password=invitation.address.password,
        next_password=password,
    )
    before.write(saved.path("lab"))
    files.change("carol", lambda known: with_password(known, password))
    files.reload()
    deadline = Deadline.after(5)
    while connects(invitation.address):
        assert not deadline.expired
    assert log_in(invitation.url(), "lab").profile.password == password


def test_given_a_stored_farm_when_the_password_is_replaced_then_both_are_good_for_a_while(
    broker: EmbeddedBroker, files: BrokerDirectory, saved: SavedProfiles
) -> None:
    old = stored(broker, files)
    before = Bus(replace(old, reread=None), "before")
    before.connect(Deadline.after(5))
    try:
        new = choose_password(saved.path("lab"))
        assert new.password != old.password
        assert (new.address.user, user_of(new.address.logs_in_as)) == ("carol", "carol")
        assert new.address.logs_in_as != "carol"
        assert connects(new.address)
        assert connects(old)
        assert may_read_own_replies(new.address)
        assert before.connected
        assert Profile.read(saved.path("lab")).password == new.password
        [former] = files.principals["carol"].others
        assert timedelta(hours=23) < former.until - datetime.now(UTC) <= timedelta(hours=24)
    finally:
        before.close(Deadline.after(1))


@pytest.mark.parametrize("hours", [0, 8])
def test_given_an_overlap_of_ones_own_when_a_password_is_replaced_then_the_former_ends_after_it(
    hours: int, broker: EmbeddedBroker, files: BrokerDirectory, saved: SavedProfiles
) -> None:
    old = replace(stored(broker, files), reread=None)
    files.set_overlap(timedelta(hours=hours))

    new = choose_password(saved.path("lab"))

    assert connects(new.address)
    assert connects(old) == bool(hours)
    ends = [each.until - datetime.now(UTC) for each in files.principals["carol"].others]
    assert [round(each / timedelta(hours=1)) for each in ends] == ([hours] if hours else [])
    assert Profile.read(saved.path("lab")).password == new.password


def test_given_a_program_that_reads_the_profile_when_all_former_end_then_it_goes_on(
    broker: EmbeddedBroker, files: BrokerDirectory, saved: SavedProfiles
) -> None:
    old = stored(broker, files)
    here = Bus(find_address(), "here")
    elsewhere = Bus(replace(old, reread=None), "elsewhere")
    for bus in (here, elsewhere):
        bus.connect(Deadline.after(5))
    try:
        before = here.connected_at
        new = choose_password(saved.path("lab"), now=True)

        until(lambda: here.connected_at > before)
        until(lambda: elsewhere.refusal is not None)
        assert here.address.logs_in_as == new.address.logs_in_as
        assert connects(new.address)
        assert not connects(old)
    finally:
        for bus in (here, elsewhere):
            bus.close(Deadline.after(1))


def test_given_another_line_for_somebody_who_works_when_used_then_the_former_password_stays(
    broker: EmbeddedBroker, files: BrokerDirectory, saved: SavedProfiles
) -> None:
    old = replace(stored(broker, files), reread=None)
    until_ = datetime.now(UTC) + timedelta(days=3)
    token = login = ""

    def invite_carol(known: Principal) -> Principal:
        nonlocal token, login
        again, token, login = invite_again(known, until_)
        return again

    files.change("carol", invite_carol)
    line = Invitation(replace(old, password=token, login=login), until_).url()
    assert connects(old)

    done = log_in(line, "lab2")

    assert connects(done.profile.address)
    assert connects(old)
    assert ask(old, "whoami", {}).former.keys() == {"carol"}
    with pytest.raises(NotAuthorized, match="was used already"):
        log_in(line, "lab3")


def test_given_many_new_passwords_then_the_last_few_former_ones_are_good_and_end(
    broker: EmbeddedBroker, files: BrokerDirectory, saved: SavedProfiles
) -> None:
    stored(broker, files)
    chosen = [choose_password(saved.path("lab")).address for _ in range(MOST_FORMER + 1)]
    assert len(files.principals["carol"].others) == MOST_FORMER
    assert connects(replace(chosen[0], reread=None))
    ended = [
        each.model_copy(update={"until": datetime.now(UTC) + timedelta(seconds=1)})
        for each in files.principals["carol"].others
    ]
    files.change("carol", lambda known: known.model_copy(update={"others": tuple(ended)}))
    until(lambda: not connects(replace(chosen[0], reread=None)))
    assert connects(find_address())
    assert files.principals["carol"].others == ()


@pytest.mark.parametrize("login", ["bob.1", "carol.", "carol.A", "carol.1.2", "broker.x"])
def test_given_a_name_that_is_not_ones_own_then_no_password_is_made_for_it(
    login: str, broker: EmbeddedBroker, files: BrokerDirectory
) -> None:
    old = stored(broker, files)
    with pytest.raises(InvalidRequest):
        ask(old, "passwd", {"password": "z" * 20, "login": login})
    assert files.principals["carol"].others == ()


@pytest.mark.parametrize("came_about", [True, False])
def test_given_a_crash_while_replacing_when_settled_then_the_good_password_stands(
    came_about: bool, broker: EmbeddedBroker, files: BrokerDirectory, saved: SavedProfiles
) -> None:
    files.add_principals([hashed(Principal(id="carol", role=Role.USER, password="x" * 20))])
    old = BrokerAddress("127.0.0.1", broker.port, "carol", "x" * 20, broker.root)
    done = log_in(old.url(), "lab")
    path = saved.path("lab")
    done.profile.model_copy(update={"next_password": "y" * 20}).write(path)
    if came_about:
        files.change("carol", lambda known: with_password(known, "y" * 20))
        files.reload()
        deadline = Deadline.after(5)
        while connects(old):
            assert not deadline.expired
    settled = settle(path)
    assert settled.password == ("y" if came_about else "x") * 20
    assert Profile.read(path).next_password is None


def test_given_a_broker_without_a_service_when_invited_then_it_says_who_must_run_it(
    broker: EmbeddedBroker, saved: SavedProfiles
) -> None:
    invitation = invited(broker, BrokerDirectory(broker.directory))
    deadline = Deadline.after(5)
    while not connects(invitation.address):
        assert not deadline.expired
    with pytest.raises(InvalidRequest, match="icebus-broker run"):
        log_in(invitation.url())
    assert saved.names == []


def test_given_a_url_that_does_not_work_then_nothing_is_stored(
    broker: EmbeddedBroker, saved: SavedProfiles
) -> None:
    wrong = broker.address("alice").as_user("alice", "wrong")
    with pytest.raises(NotAuthorized):
        log_in(wrong.url())
    with pytest.raises((BrokerUnavailable, IcebusError)):
        log_in("mqtt://alice:x@127.0.0.1:1")
    assert saved.names == []


def test_given_two_farms_and_none_chosen_then_the_error_names_them_and_the_remedy(
    broker: EmbeddedBroker, saved: SavedProfiles
) -> None:
    log_in(broker.address("alice").url())
    log_in(broker.address("bob").url())
    assert saved.names == ["127-0-0-1", "127-0-0-1-bob"]
    assert find_address().user == "alice"
    saved.use(None)
    with pytest.raises(NoProfile, match="icebus profile use"):
        find_address()
    saved.use("127-0-0-1-bob")
    assert find_address().user == "bob"
    assert find_address(None, "127-0-0-1").user == "alice"
    assert find_address(None, None, {"ICEBUS_FARM": "127-0-0-1"}).user == "alice"
    with pytest.raises(NoProfile, match="did you mean 127-0-0-1"):
        find_address(None, "127-0-0-2")
    with pytest.raises(Conflict, match="another --name"):
        log_in(broker.address("bob").url(), "127-0-0-1")
    saved.remove("127-0-0-1-bob")
    assert saved.current is None
    assert find_address().user == "alice"
    with pytest.raises(NoProfile, match="there are: 127-0-0-1"):
        saved.remove("nobody")


@pytest.mark.parametrize(
    "line",
    [
        "icebus://",
        "icebus://carol:t@h:1/icebus/v1",
        "icebus://carol:t@h:1/icebus/v1?until=x",
        "icebus://carol@h:1/icebus/v1?until=1800000000",
        "icebus://carol:t@h:1/icebus/v1?until=1800000000&tls=1&ca=%%%",
        "icebus://carol:t@h:1/icebus/v1?until=99999999999999999999",
        "nonsense@nowhere",
    ],
)
def test_given_a_line_that_is_torn_then_it_is_refused_in_words(line: str) -> None:
    with pytest.raises(InvalidRequest):
        log_in(line)


@pytest.mark.parametrize("given", ["", " \n"])
def test_given_nothing_to_log_in_with_then_it_is_told_what_to_give(given: str) -> None:
    done = CliRunner().invoke(app, ["login", "-"], input=given)
    assert done.exit_code == 2
    assert "nothing was given" in done.stderr
