"""Lines for people from what crosses the bus: queues, replacements, recovery with its reasons."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from icebus.client.cli.commands.farm.watch_lines import LineWriter, Senders


def told(writer: LineWriter, what: str, data: object, **ids: str) -> str:
    """What a line has behind the time and what it is about."""
    line = writer.line({"at": "2026-11-22T17:09:00.000", "what": what, "data": data, **ids})
    return " ".join(line.split()[1:])


def reservation(state: str, *devices: tuple[str, str], **facts: Any) -> dict[str, Any]:
    held = [{"serial": serial, "state": stands, "reason": ""} for serial, stands in devices]
    return {"state": state, "user": "ann", "kind": "pulsecount", "devices": held, **facts}


def test_given_a_reservation_when_it_waits_gets_boards_and_loses_one_then_each_step_is_told() -> (
    None
):
    writer = LineWriter()

    def tell(data: object) -> str:
        return told(writer, "reservation", data, reservation="r1").removeprefix("reservation r1 ")

    queue = {"position": 2, "reason": "3 wanted, 1 free (2 in use)"}
    assert tell(reservation("queued", queue=queue)) == (
        "queued pulsecount by ann at position 2: 3 wanted, 1 free (2 in use)"
    )
    given = reservation("preparing", ("A", "preparing"), ("B", "preparing"))
    assert tell(given) == "preparing pulsecount by ann +A +B"
    assert tell(reservation("active", ("A", "serving"), ("B", "serving"))) == (
        "active pulsecount by ann"
    )
    failed = reservation("active", ("A", "failed"), ("B", "serving"))
    failed["devices"][0]["reason"] = "unplugged"
    assert tell(failed) == "active pulsecount by ann -A failed (unplugged)"
    replaced = reservation("active", ("A", "released"), ("B", "serving"), ("C", "preparing"))
    assert tell(replaced) == "active pulsecount by ann -A released +C"
    over = reservation("ended", ("B", "released"), reason="expired")
    assert tell(over) == "ended pulsecount by ann (expired)"
    assert tell(None) == "ended"


def test_given_a_board_that_fails_when_told_then_the_reason_and_the_next_look_are() -> None:
    writer = LineWriter()
    recovery = {"state": "flashing", "reason": "silent for 10 s; reflashing (1st try)"}
    assert told(writer, "device", recovery, serial="A") == (
        "device A flashing (silent for 10 s; reflashing (1st try))"
    )
    broken = {"state": "broken", "reason": "silent", "retry": "2026-11-22T17:09:30+00:00"}
    line = told(writer, "device", broken, serial="A")
    assert line.startswith("device A broken (silent) looked at again at ")
    assert told(writer, "worker", {"state": "draining"}, worker="w") == "worker w draining"
    assert told(writer, "device_replaced", {"by": "B"}, serial="A") == (
        "device_replaced A replaced by B"
    )
    assert told(writer, "transferred", {"user": "ben"}, serial="all").endswith("to ben")


@pytest.mark.parametrize(
    ("measured", "shown"), [({"pulses": 7, "exact": True}, 7), ({"hz": 2.5}, 2.5)]
)
def test_given_a_result_of_any_kind_when_told_then_what_was_measured_is(
    measured: dict[str, Any], shown: object
) -> None:
    data = {"serial": "A", "bitstream": "x.bin", "upload": 0.1, "window": 1.0, **measured}
    assert told(LineWriter(), "results", data, serial="A") == f"results A x.bin {shown}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["state", "devices", "queue", "reason", "retry", "error", "user"]), JSON
    ),
    st.sampled_from(["reservation", "device", "results"]),
)
def test_given_anything_when_told_then_it_is_one_printable_line(
    data: dict[str, Any], what: str
) -> None:
    assert told(LineWriter(), what, data, reservation="r").isprintable()


def event(sender: str, serial: str = "a", reservation: str = "r") -> dict[str, Any]:
    return {
        "at": "2026-01-01T00:00:00+00:00",
        "what": "results",
        "sender": sender,
        "serial": serial,
        "reservation": reservation,
        "data": {},
    }


def test_given_an_event_then_it_is_shown_if_it_comes_from_the_boards_own_worker_or_control() -> (
    None
):
    senders = Senders()
    document = {"devices": [{"serial": "a", "worker": "w1"}, "odd"]}

    before = senders.counts(event("w1"))
    told = senders.counts({"what": "reservation", "reservation": "r", "data": document})
    after = [
        senders.counts(each)
        for each in (
            event("w1"),
            event("control"),
            event("w2"),
            event("w1", serial="b"),
            event("w1", reservation="other"),
        )
    ]
    over = senders.counts({"what": "reservation", "reservation": "r", "data": None})

    assert (before, told, over) == (False, True, True)
    assert after == [True, True, False, False, False]
    assert senders.counts(event("w1")), "its last outcomes may come after the end"
    assert senders.counts({"what": "device", "worker": "w2", "serial": "a", "data": {}})


def test_given_a_board_that_two_workers_claim_when_told_then_both_are_named() -> None:
    writer = LineWriter()

    line = told(writer, "claim", {"worker": "w1", "claimed_by": ["w2"]}, serial="a")

    assert "of w1 is claimed by w2 too" in line
    assert "claimed by one worker only" in told(writer, "claim", None, serial="a")
