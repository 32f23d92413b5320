"""The web page of a farm that `icebus up` brings up."""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.request
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from tests.farm.conftest import alive, wait_until

from icebus.client.dashboard.built import is_built

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from tests.farm.conftest import Machine, Up

SEEN_WITHIN = 30_000
"""Milliseconds within which the page shows anything, on a busy machine."""

needs_page = pytest.mark.skipif(
    not is_built() and not os.environ.get("CI"), reason="needs the page: script/dashboard"
)


@pytest.fixture
def up(machine: Machine) -> Iterator[Up]:
    with machine.up("--boards", "0", "--user", "ann") as farm:
        yield farm


def link_of(machine: Machine) -> tuple[str, str]:
    """Where the page is, and a token that signs in there."""
    done = machine.run("dashboard", "--link")
    assert done.returncode == 0, done.stderr
    base, _, token = done.stdout.strip().partition("/#sign-in=")
    return base, token


def sign_in(base: str, token: str) -> dict[str, object]:
    request = urllib.request.Request(
        f"{base}/sign-in",
        data=json.dumps({"token": token}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        told = json.load(response)
    assert isinstance(told, dict)
    return told


@needs_page
def test_given_a_farm_then_its_page_is_served_and_a_link_signs_its_user_in(
    up: Up, machine: Machine
) -> None:
    wait_until(lambda: machine.run("dashboard", "--link").returncode == 0)
    base, token = link_of(machine)
    with urllib.request.urlopen(f"{base}/", timeout=10) as page:
        assert b"<script" in page.read()
    told = sign_in(base, token)
    assert told["user"] == "ann"
    assert isinstance(told["password"], str)
    assert told["password"] in up.url


@needs_page
def test_given_a_page_that_is_killed_then_it_is_back_under_the_same_address_and_ends_with_the_farm(
    up: Up, machine: Machine
) -> None:
    wait_until(lambda: machine.run("dashboard", "--link").returncode == 0)
    base, token = link_of(machine)
    killed = up.child("dashboard --listen")
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: not alive(killed))

    def back() -> bool:
        done = machine.run("dashboard", "--link")
        return done.returncode == 0 and done.stdout.startswith(base) and token not in done.stdout

    wait_until(back)
    again = up.child("dashboard --listen")
    up.process.send_signal(signal.SIGTERM)
    up.process.wait(timeout=60)
    assert not alive(again)
    assert machine.run("dashboard", "--link").returncode != 0


def test_given_no_dashboard_is_wanted_then_there_is_none(machine: Machine) -> None:
    with machine.up("--boards", "0", "--no-dashboard") as farm:
        assert not any("dashboard --listen" in line for line in farm.children().values())
        done = machine.run("dashboard", "--link")
    assert done.returncode != 0
    assert "start one with `icebus dashboard`" in done.stderr


def test_given_the_output_in_a_file_then_nobody_finds_a_link_there(machine: Machine) -> None:
    with machine.up("--boards", "0") as farm:
        process = farm.process
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)
    assert re.search(r"in a browser: (http://127\.0\.0\.1:\d+ \(|.*script/)", told), told
    assert "#sign-in=" not in told


@needs_page
def test_given_a_newcomer_who_opens_the_link_then_they_see_their_boards_without_a_password(
    chromium: Browser, machine: Machine
) -> None:
    with machine.up("--boards", "2", "--user", "ann"):
        wait_until(lambda: machine.run("dashboard", "--link").returncode == 0)
        base, token = link_of(machine)
        page = chromium.new_page()
        mistakes: list[str] = []
        page.on("pageerror", lambda error: mistakes.append(str(error)))
        page.goto(f"{base}/#sign-in={token}")
        page.get_by_text("2 ready").wait_for(timeout=SEEN_WITHIN)
        assert token not in page.url
        assert "ann" in page.inner_text("body")
        again = chromium.new_context().new_page()
        again.goto(f"{base}/#sign-in={token}")
        again.get_by_text("used already").wait_for(timeout=SEEN_WITHIN)
        again.context.close()
        page.close()
    assert mistakes == []
