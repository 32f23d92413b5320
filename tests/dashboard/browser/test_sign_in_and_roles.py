"""Who signs in, and what each role finds on the page."""

from __future__ import annotations

import re

import pytest
from tests.dashboard.browser.conftest import Open
from tests.dashboard.browser.simulated_farm import SimulatedFarm

from icebus.client.dashboard.starting import Dashboard

ACTIONS = re.compile("Extend|Release|Cancel|End|Drain|Reboot|Reflash|Quarantine|Older")


def test_given_an_observer_when_they_look_around_then_there_is_nothing_to_be_done(
    farm: SimulatedFarm, open_page: Open
) -> None:
    with farm.client("alice") as alice, alice.reserve(2):
        page = open_page().signed_in("eve", "observer")
        for fragment, text in [
            ("#/farm", "Who holds boards"),
            ("#/boards", f"{len(farm.serials)} boards"),
            ("#/reservations", "alice"),
            ("#/activity", "reserved"),
            (f"#/board/{farm.serials[0]}", "Its life"),
        ]:
            page.visit(fragment)
            page.see(text)
            assert page.button("Sign out").count() == 1
            assert page.tab.get_by_role("button", name=ACTIONS).count() == 0
        assert page.tab.get_by_role("link", name="Experiment").count() == 0


def test_given_a_user_when_reservations_are_listed_then_only_their_own_can_be_changed(
    farm: SimulatedFarm, open_page: Open
) -> None:
    with (
        farm.client("alice") as alice,
        alice.reserve(2) as mine,
        farm.client("bob") as bob,
        bob.reserve(1) as others,
    ):
        page = open_page().signed_in("alice", "user")
        page.go("Reservations")
        page.see(others.id)
        assert page.button(f"Extend {mine.id}").count() == 1
        assert page.button(f"Release {mine.id}").count() == 1
        assert page.tab.get_by_role("button", name=re.compile(others.id)).count() == 0
        page.button(f"Extend {mine.id}").click()
        page.tab.get_by_label("4 hours").check()
        page.confirm("Extend")
        page.see("Extended by 4 h")
        page.button(f"Release {mine.id}").click()
        page.confirm("Release")
        page.wait_unlisted(mine.id)


def test_given_an_administrator_when_a_board_is_quarantined_then_a_reason_is_asked_for_and_told(
    farm: SimulatedFarm, open_page: Open
) -> None:
    page = open_page().signed_in("root", "administrator")
    serial = farm.serials[0]
    page.visit(f"#/board/{serial}")
    page.button("Quarantine").click()
    dialog = page.tab.get_by_role("dialog")
    assert dialog.get_by_role("button", name="Quarantine").is_disabled()
    page.confirm("Quarantine", "loose socket")
    page.see("quarantined")
    page.tab.get_by_role("listitem").filter(has_text="loose socket").first.wait_for()
    page.button("Unquarantine").click()
    page.confirm("Unquarantine", "soldered")
    page.see("ready")


def test_given_an_administrator_when_a_worker_is_drained_and_a_reservation_ended_then_it_is_so(
    farm: SimulatedFarm, open_page: Open
) -> None:
    with farm.client("alice") as alice, alice.reserve(1) as held:
        page = open_page().signed_in("root", "administrator")
        page.button("Drain w1").click()
        page.confirm("Drain", "new kernel")
        page.see("1 of its reservations go on")
        page.go("Reservations")
        page.button(f"End {held.id}").click()
        page.confirm("End it", "maintenance")
        page.see("Nobody waits.")
        page.wait_unlisted(held.id)


def test_given_what_is_logged_when_looked_at_then_administrators_see_all_and_holders_their_boards(
    farm: SimulatedFarm, open_page: Open
) -> None:
    with farm.client("alice") as alice, alice.reserve(1) as held:
        (mine,) = held.serials
        other = next(each for each in farm.serials if each != mine)
        farm.log("of alice's own", mine, ("alice", held.id))
        page = open_page().signed_in("alice", "user")
        assert page.tab.get_by_role("link", name="Logs").count() == 0
        page.visit(f"#/board/{mine}")
        page.see("of alice's own")
        page.button("Sign out").click()
        page.signed_in("root", "administrator").go("Logs")
        # The broker's service and control have said something by now; w1 is simulated.
        lines = page.tab.locator("ol.log li")
        lines.filter(has_text="control main").first.wait_for()
        farm.log("<b>fails</b>", other)
        page.see("<b>fails</b>")
        page.tab.get_by_label("Of which component").select_option("worker/w1")
        assert lines.count() == 1
        assert page.accessibility() == []
        page.tab.get_by_role("link", name=other).click()
        page.see("<b>fails</b>")
        page.visit("#/logs?level=error")
        page.see("No such line.")


def test_given_a_wrong_password_when_somebody_signs_in_then_it_is_said_and_nothing_is_kept(
    open_page: Open,
) -> None:
    page = open_page()
    page.sign_in("alice", "wrong")
    page.see("The name or the password is wrong")
    assert page.tab.evaluate("() => sessionStorage.length + localStorage.length") == 0


def test_given_a_link_when_it_is_opened_then_one_is_signed_in_and_it_is_gone_from_the_address(
    open_page: Open, dashboard: Dashboard
) -> None:
    page = open_page()
    page.tab.goto(dashboard.running.make_link())
    page.wait_live()
    page.see("alice")
    assert "sign-in" not in page.tab.url
    page.tab.reload()
    page.wait_live()
    page.button("Sign out").click()
    page.tab.get_by_label("Password").wait_for()
    assert page.tab.evaluate("() => sessionStorage.length") == 0


@pytest.mark.parametrize("fragment", ["#sign-in=nonsense", "#wall=nonsense"])
def test_given_a_link_that_is_none_when_it_is_opened_then_the_form_says_why(
    open_page: Open, fragment: str
) -> None:
    page = open_page()
    page.visit(fragment)
    page.tab.locator("[role=alert]:not(:empty)").wait_for()
    page.tab.get_by_label("Password").wait_for()
