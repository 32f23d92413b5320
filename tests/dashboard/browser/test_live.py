"""What is shown is of now, or greyed: with what is gone, and since when."""

from __future__ import annotations

import contextlib
import re
from threading import Thread

from tests.dashboard.browser.conftest import Open
from tests.dashboard.browser.simulated_farm import STOP, WORKER, SimulatedFarm

from icebus.schemas.devices import DeviceState
from icebus.schemas.errors import IcebusError
from icebus.schemas.topics import DEVICE


def test_given_the_boards_when_one_changes_then_that_is_seen(
    farm: SimulatedFarm, open_page: Open
) -> None:
    page = open_page().signed_in("eve", "observer")
    page.go("Boards")
    page.wait_state(farm.serials[0], "ready")
    farm.report(farm.serials[0], DeviceState.BROKEN, reason="silent for 10 s")
    page.wait_state(farm.serials[0], "silent for 10 s")
    page.go("Farm")
    page.see("silent for 10 s")


def test_given_the_page_when_the_broker_goes_then_it_is_grey_until_that_is_back_and_up_to_date(
    farm: SimulatedFarm, open_page: Open
) -> None:
    page = open_page().signed_in("root", "administrator")
    page.visit(f"#/board/{farm.serials[0]}")
    page.see("Reboot")
    farm.stop_broker()
    told = page.wait_gone("broker gone")
    assert re.search(r"since \d+:\d\d:\d\d", told)
    assert "/mqtt" in told
    assert page.button("Reboot").is_disabled()
    page.picture("broker-gone")
    farm.start_broker()
    page.wait_live()
    farm.report(farm.serials[0], DeviceState.BROKEN, reason="while nobody looked")
    page.see("while nobody looked")
    assert page.button("Reboot").is_enabled()


def test_given_the_page_when_control_goes_then_it_says_so_and_boards_go_on(
    farm: SimulatedFarm, open_page: Open
) -> None:
    page = open_page().signed_in("alice", "user")
    page.go("Boards")
    page.wait_state(farm.serials[0], "ready")
    farm.stop_control()
    told = page.wait_gone("control gone")
    assert "no control sends heartbeats" in told
    farm.report(farm.serials[0], DeviceState.BROKEN)
    page.wait_state(farm.serials[0], "broken")
    farm.start_control()
    page.wait_live()


def test_given_a_reservation_when_it_ends_while_the_broker_is_gone_then_it_is_listed_no_more(
    farm: SimulatedFarm, open_page: Open
) -> None:
    with farm.client("alice") as alice:
        held = alice.reserve(1)
        page = open_page().signed_in("alice", "user")
        page.go("Reservations")
        page.see(held.id)
        page.tab.context.set_offline(True)
        held.release()
        page.tab.context.set_offline(False)
        page.wait_unlisted(held.id)


def test_given_payloads_that_are_no_messages_when_they_come_then_the_others_are_read(
    farm: SimulatedFarm, open_page: Open
) -> None:
    for payload in (b"{", b"\xff", b"[]", b'{"serial": 3}'):
        farm.worker.bus.publish(DEVICE(worker=WORKER, serial="odd"), payload)
    page = open_page().signed_in("eve", "observer")
    page.see(f"worker/{WORKER}/device/odd")
    page.go("Boards")
    page.see(f"{len(farm.serials)} boards")


def test_given_any_view_when_it_subscribes_then_never_to_everything(
    farm: SimulatedFarm, open_page: Open
) -> None:
    page = open_page().signed_in("root", "administrator")
    for view in ("Farm", "Boards", "Reservations", "Activity", "Experiment"):
        page.go(view)
    page.visit(f"#/board/{farm.serials[0]}")
    page.see("Its life")
    assert page.subscriptions
    assert not [each for each in page.subscriptions if "#" in each]


def test_given_an_experiment_when_boards_measure_then_it_is_plotted_and_compared(
    farm: SimulatedFarm, open_page: Open
) -> None:
    with farm.client("alice") as alice, alice.reserve(2) as boards:
        page = open_page().signed_in("alice", "user")
        page.go("Experiment")
        page.see("on the boards")
        for pulses in range(1000, 1200, 5):
            for serial in boards.serials:
                farm.measure("alice", boards.id, serial, pulses)
        page.see("1,195")
        page.see("circuit-1195.bin")
        assert page.tab.locator("canvas").count() == 2
        page.tab.get_by_label("Best is").select_option("lowest")
        page.see("circuit-1000.bin")
        page.visit(f"#/board/{boards.serials[0]}")
        page.see("What it measured")
        page.picture("board")


def test_given_hours_in_which_boards_measured_when_the_farm_is_looked_at_then_they_are_plotted(
    farm: SimulatedFarm, open_page: Open
) -> None:
    farm.tell_throughput(results=[1200] * 90, failures=[*[0] * 89, 400])
    page = open_page().signed_in("eve", "observer")
    page.see("20 on average, 20 at most")
    page.see("25 % at most in a minute")
    assert page.tab.locator("canvas").count() == 2
    page.tab.get_by_label("How many hours are shown").select_option("1 hour")
    page.tab.get_by_role("img", name="over the last 1 hour: 20 on average").wait_for()


def test_given_an_experiment_that_was_told_of_when_another_begins_then_that_is_shown_at_once(
    farm: SimulatedFarm, open_page: Open
) -> None:
    with farm.client("alice") as alice, alice.reserve(1) as before, alice.reserve(1) as boards:
        farm.tell_experiment("alice", before.id, before.serials, done=60, total=500)
        page = open_page().signed_in("alice", "user")
        page.go("Experiment")
        page.see("60 of 500 done")
        farm.measure("alice", boards.id, boards.serials[0], 7777)
        page.see("circuit-7777.bin")
        page.tab.get_by_text("60 of 500 done").wait_for(state="detached")
        assert page.tab.get_by_label("Reservation").input_value() == boards.id


def test_given_an_experiment_that_began_earlier_when_its_user_signs_in_then_all_of_it_is_shown(
    farm: SimulatedFarm, open_page: Open
) -> None:
    with farm.client("alice") as alice, alice.reserve(2) as boards:
        farm.tell_experiment("alice", boards.id, boards.serials, done=60, total=500)
        page = open_page().signed_in("alice", "user")
        page.go("Experiment")
        page.see("60 of 500 done, 12 %")
        page.see("circuit-59.bin")
        page.see("Boards compared")
        farm.measure("alice", boards.id, boards.serials[0], 7777)
        page.see("circuit-7777.bin")


def test_given_reservations_when_one_waits_then_its_place_and_reason_are_shown(
    farm: SimulatedFarm, open_page: Open
) -> None:
    with farm.client("alice") as alice, alice.reserve(len(farm.serials)), farm.client("bob") as bob:

        def wait() -> None:
            with contextlib.suppress(IcebusError):
                bob.reserve(1, wait=60)

        request = Thread(target=wait)
        request.start()
        page = open_page().signed_in("bob", "user")
        page.go("Reservations")
        page.see("1 wanted")
        page.picture("reservations")
        page.button("Cancel").click()
        page.confirm("Leave the queue")
        page.see("Nobody waits.")
        request.join(STOP)
