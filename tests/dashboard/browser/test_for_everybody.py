"""The page on any screen, in any light, without a mouse, and for those who don't see it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests.dashboard.browser.conftest import Open
from tests.dashboard.browser.simulated_farm import SimulatedFarm

from icebus.schemas.devices import DeviceState

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
DESK = {"viewport": {"width": 1280, "height": 800}}
SCREENS: dict[str, dict[str, Any]] = {
    "desk": DESK,
    "desk-dark": {**DESK, "color_scheme": "dark"},
    "phone": PHONE,
    "phone-dark": {**PHONE, "color_scheme": "dark"},
}

RESULTS = [round(1400 + 250 * math.sin(minute / 40) + minute * 7 % 60) for minute in range(330)]
FAILURES = [minute % 11 * 3 if 120 < minute < 160 else minute % 3 for minute in range(330)]
"""What ended in each minute of some hours, as on a farm whose boards had trouble for a while."""


@pytest.mark.parametrize("screen", SCREENS)
def test_given_any_screen_when_each_view_is_shown_then_axe_finds_nothing_serious_and_all_fits(
    farm: SimulatedFarm, open_page: Open, screen: str
) -> None:
    farm.report(farm.serials[-1], DeviceState.BROKEN, reason="silent for 10 s; rebooting")
    farm.tell_throughput(RESULTS, FAILURES)
    with farm.client("root") as root, root.reserve(2) as boards:
        page = open_page(**SCREENS[screen])
        assert page.accessibility() == []
        page.signed_in("root", "root")
        views = {
            "farm": "at most in a minute",
            "boards": f"{len(farm.serials)} boards",
            "reservations": boards.id,
            "activity": "reserved",
            "experiment": "on the boards",
            f"board/{boards.serials[0]}": "Its life",
        }
        for view, text in views.items():
            page.visit(f"#/{view}")
            page.see(text)
            if view == "experiment":
                for pulses in range(2000, 2060, 3):
                    for serial in boards.serials:
                        farm.measure("root", boards.id, serial, pulses)
                page.see("Boards compared")
            assert page.accessibility() == [], view
            wider = "() => document.documentElement.scrollWidth > innerWidth"
            assert not page.tab.evaluate(wider), view
            page.picture(f"{view.split('/')[0]}-{screen}")


def test_given_no_mouse_when_a_board_is_looked_for_then_it_is_found_and_opened(
    farm: SimulatedFarm, open_page: Open
) -> None:
    page = open_page().signed_in("root", "administrator")
    keyboard = page.tab.keyboard
    page.tab.get_by_role("link", name="Boards", exact=True).focus()
    keyboard.press("Enter")
    page.wait_state(farm.serials[0], "ready")
    page.tab.get_by_role("searchbox").focus()
    keyboard.type(farm.serials[3])
    page.row(farm.serials[0]).wait_for(state="detached")
    page.row(farm.serials[3]).get_by_role("link").focus()
    keyboard.press("Enter")
    page.button("Reboot").focus()
    keyboard.press("Enter")
    dialog = page.tab.get_by_role("dialog")
    dialog.wait_for()
    keyboard.press("Escape")
    dialog.wait_for(state="detached")
    assert page.tab.evaluate("() => document.activeElement.textContent") == "Reboot"


def test_given_columns_of_labels_when_they_are_chosen_then_they_are_remembered_and_sorted_by(
    farm: SimulatedFarm, open_page: Open
) -> None:
    page = open_page().signed_in("eve", "observer")
    page.go("Boards")
    page.wait_state(farm.serials[0], "ready")
    page.tab.get_by_text("Columns", exact=True).click()
    page.tab.get_by_label("rack").check()
    page.tab.reload()
    page.wait_live()
    heading = page.tab.get_by_role("columnheader", name="rack")
    for _ in range(2):
        heading.get_by_role("button").click()
    page.tab.locator("th[aria-sort=descending]").wait_for()
    first = page.tab.locator("tbody tr.board").first.inner_text()
    assert first.startswith(farm.serials[1])  # of rack b
    assert "sort=-label%3Arack" in page.tab.url


@pytest.mark.parametrize("boards", [1000])
def test_given_a_thousand_boards_when_they_are_listed_then_only_what_is_seen_is_in_the_page(
    farm: SimulatedFarm, open_page: Open, boards: int
) -> None:
    page = open_page().signed_in("eve", "observer")
    page.go("Boards")
    page.see(f"{boards} boards")
    page.tab.get_by_role("region", name="Boards").focus()
    page.tab.keyboard.press("End")
    page.row(farm.serials[-1]).wait_for()
    assert page.tab.locator("tbody tr.board").count() < 80
    page.tab.get_by_role("searchbox").fill("rack=b")
    page.see(f"{boards // 2} of {boards}")
