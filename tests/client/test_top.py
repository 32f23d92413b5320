"""What `icebus top` shows: sums and rates of what is heard, drawn into any terminal."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from icebus.client.cli.commands.farm import top_state
from icebus.client.cli.commands.farm.keys import letters
from icebus.client.cli.commands.farm.top_state import TopState
from icebus.client.cli.commands.farm.top_view import allot, view
from icebus.schemas.components import (
    ControlState,
    Heartbeat,
    Presence,
    WorkerHeartbeat,
    WorkerLoad,
    WorkerPhase,
    WorkerState,
)
from icebus.schemas.devices import DeviceReport, DeviceState
from icebus.schemas.errors import InvalidRequest
from icebus.schemas.operations.reservations import (
    HeldDevice,
    HoldState,
    Queue,
    Reservation,
    ReservationState,
)
from icebus.schemas.topics import (
    CONTROL_HEARTBEAT,
    CONTROL_STATE,
    DEVICE,
    RESERVATION,
    WORKER_HEARTBEAT,
    WORKER_STATE,
)

NOW = datetime(2026, 11, 28, 12, 0, 0, tzinfo=UTC)


class Farm:
    """A farm that a test makes up, at a moment that it chooses."""

    def __init__(self) -> None:
        self.state = TopState()
        self.at = 1000.0
        self.sequence = 0

    def control(self, *, leading: bool = True) -> None:
        said = ControlState(state=Presence.ONLINE, session="c", leading=leading)
        self.state.take(CONTROL_STATE, {"control": "main"}, said.to_json(), self.at)

    def beat(self, seconds: float = 1.0) -> None:
        self.at += seconds
        self.sequence += 1
        beat = Heartbeat(epoch="c", sequence=self.sequence, interval=1.0)
        self.state.take(CONTROL_HEARTBEAT, {}, beat.to_json(), self.at)

    def worker(self, name: str, *serials: str) -> None:
        said = WorkerState(state=WorkerPhase.READY, session=name, serials=list(serials))
        self.state.take(WORKER_STATE, {"worker": name}, said.to_json(), self.at)
        for serial in serials:
            self.report(name, serial)

    def echo(self, name: str, session: str = "", **load: int) -> None:
        echo = WorkerHeartbeat(
            epoch="c",
            sequence=self.sequence,
            session=session or name,
            load=WorkerLoad.model_validate(load),
        )
        self.state.take(WORKER_HEARTBEAT, {"worker": name}, echo.to_json(), self.at)

    def report(
        self, worker: str, serial: str, state: DeviceState = DeviceState.READY, **more: Any
    ) -> None:
        fields = {"since": NOW - timedelta(hours=2), "session": worker, **more}
        report = DeviceReport.model_validate({"serial": serial, "state": state, **fields})
        ids = {"worker": worker, "serial": serial}
        self.state.take(DEVICE, ids, report.to_json(), self.at)

    def reservation(self, name: str, user: str, *held: str, **more: Any) -> None:
        made = Reservation.model_validate(
            {
                "id": name,
                "user": user,
                "kind": "pulsecount",
                "state": ReservationState.ACTIVE,
                "devices": [
                    HeldDevice(serial=each, worker="w1", state=HoldState.SERVING) for each in held
                ],
                "created": NOW - timedelta(minutes=5),
                "until": NOW + timedelta(minutes=30),
                **more,
            }
        )
        self.state.take(RESERVATION, {"reservation": name}, made.to_json(), self.at)

    @property
    def document(self) -> dict[str, Any]:
        return self.state.document(self.at, NOW)


@pytest.fixture
def farm() -> Farm:
    """A farm with two workers, of which one has a broken board, and two users."""
    made = Farm()
    made.control()
    made.worker("w1", "A", "B")
    made.worker("w2", "C")
    made.report("w2", "C", DeviceState.BROKEN, reason="silent for 10 s")
    made.reservation("r1", "alice", "A", "B")
    waiting = Queue(position=1, reason="2 boards more")
    made.reservation("r2", "bob", state=ReservationState.QUEUED, queue=waiting)
    return made


def test_given_a_farm_then_boards_holders_queue_and_troubles_are_told(farm: Farm) -> None:
    farm.beat()
    farm.echo("w1", queued=7, serving=2)

    told = farm.document

    assert told["leader"] == "main"
    assert told["boards"] == {"ready": 2, "broken": 1}
    assert told["queued_evaluations"] == 7
    assert [(each["user"], each["boards"], each["queued"]) for each in told["holders"]] == [
        ("alice", 2, 0),
        ("bob", 0, 1),
    ]
    assert [(each["user"], each["reason"], each["seconds"]) for each in told["queue"]] == [
        ("bob", "2 boards more", 300)
    ]
    assert [(each["serial"], each["reason"]) for each in told["troubled"]] == [
        ("C", "silent for 10 s")
    ]
    assert [each["state"] for each in told["workers"]] == ["ready", "unanswering"]


def test_given_counters_of_workers_then_rates_are_those_of_the_last_half_minute(
    farm: Farm,
) -> None:
    for second in range(100):
        farm.beat()
        farm.echo("w1", results=10 * second, failures=second)
        farm.echo("w2", results=500, failures=0)

    told = farm.document

    assert told["results_per_second"] == 10.0
    assert told["failures_per_second"] == 1.0
    assert farm.state.measured(farm.at)


def test_given_a_worker_that_starts_anew_then_its_counters_do_too(farm: Farm) -> None:
    for results in (1000, 1010):
        farm.beat()
        farm.echo("w1", results=results, failures=0)
    farm.beat()
    farm.echo("w1", "another", results=3, failures=0)
    assert farm.document["results_per_second"] is None

    farm.beat()
    farm.echo("w1", "another", results=5, failures=0)

    assert farm.document["results_per_second"] == 2.0


def test_given_a_worker_that_is_silent_then_its_rate_is_not_told_for_ever(farm: Farm) -> None:
    for results in (0, 10):
        farm.beat()
        farm.echo("w1", results=results, failures=0)
    assert farm.document["results_per_second"] == 10.0

    farm.at += 5.0

    assert farm.document["results_per_second"] is None


def test_given_results_of_boards_then_the_slowest_come_first(farm: Farm) -> None:
    for tenth in range(400):
        farm.at += 0.1
        farm.state.result_came("A", farm.at)
        if tenth % 10 == 0:
            farm.state.result_came("B", farm.at)

    [b, a] = farm.document["slowest"]

    assert (b["serial"], a["serial"]) == ("B", "A")
    assert a["results_per_second"] == pytest.approx(10.0, rel=0.1)
    assert b["results_per_second"] == pytest.approx(1.0, rel=0.1)
    farm.at += 100.0
    assert [each["results_per_second"] for each in farm.document["slowest"]] == [0.0, 0.0]


def test_given_more_boards_than_anybody_has_then_what_is_remembered_is_bounded(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(top_state, "MOST_BOARDS", 3)
    for number in range(10):
        farm.state.result_came(f"X{number}", farm.at)

    assert len(farm.document["slowest"]) == 3


def test_given_a_topic_that_is_cleared_then_what_it_told_of_is_gone(farm: Farm) -> None:
    for topic, ids in (
        (DEVICE, {"worker": "w2", "serial": "C"}),
        (WORKER_STATE, {"worker": "w2"}),
        (RESERVATION, {"reservation": "r1"}),
        (CONTROL_STATE, {"control": "main"}),
        (CONTROL_STATE, {"control": "never there"}),
    ):
        farm.state.take(topic, ids, b"", farm.at)

    told = farm.document

    assert told["boards"] == {"ready": 2}
    assert [each["worker"] for each in told["workers"]] == ["w1"]
    assert [each["user"] for each in told["holders"]] == ["bob"]
    assert told["leader"] is None


def test_given_a_message_that_is_none_then_what_is_known_stays(farm: Farm) -> None:
    before = farm.document
    with pytest.raises(InvalidRequest):
        farm.state.take(DEVICE, {"worker": "w1", "serial": "A"}, b"nonsense", farm.at)

    assert farm.document == before


# --- keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "rest"),
    [
        ("q", "q"),
        ("\x1b[A\x1b[Bq", "q"),
        ("\x1bOPx\x1b[15~", "x"),
        ("\x1bq", ""),
        ("\x1b[", ""),
        ("\x1b", ""),
        ("", ""),
    ],
)
def test_given_keys_without_letters_then_those_with_are_found_among_them(
    typed: str, rest: str
) -> None:
    assert letters(typed) == rest


# --- the view -------------------------------------------------------------------------------------


def drawn(farm: Farm, width: int = 100, height: int | None = None) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, height=height or 100, color_system=None)
    console.print(view(farm.document, "localhost:1883 as alice", height))
    return out.getvalue().splitlines()


def test_given_a_farm_then_it_is_drawn_with_all_its_tables(farm: Farm) -> None:
    text = "\n".join(drawn(farm))

    for words in (
        "control main leads",
        "3 boards: 2 ready, 1 broken",
        "Workers",
        "Who holds boards",
        "Queue",
        "Boards that need somebody",
        "silent for 10 s",
    ):
        assert words in text
    assert "slowest" not in text, "nothing is known of it"


def test_given_a_farm_that_is_away_then_that_is_said_in_place_of_who_leads(farm: Farm) -> None:
    farm.state.away = ("the broker is away since 11:59:00", NOW)

    text = "\n".join(drawn(farm))

    assert "the broker is away since 11:59:00" in text
    assert "leads" not in text
    assert farm.document["away"]["since"] == NOW.isoformat(timespec="seconds")


def test_given_nothing_heard_yet_then_an_empty_farm_is_drawn() -> None:
    assert drawn(Farm())[1].startswith("no control leads")


def test_given_a_large_farm_then_it_fits_the_terminal_and_says_what_is_left_out(
    farm: Farm,
) -> None:
    for number in range(50):
        farm.worker(f"x{number}")
        farm.report("w1", f"S{number}", DeviceState.BROKEN)

    lines = drawn(farm, width=60, height=40)

    assert len(lines) <= 40
    assert max(map(len, lines)) <= 60
    assert sum("more)" in line for line in lines) == 2


def test_given_what_terminals_obey_in_a_reason_then_it_is_shown_and_not_obeyed(
    farm: Farm,
) -> None:
    farm.report("w2", "C", DeviceState.BROKEN, reason="\x1b[2J[bold]red[/bold]")

    text = "\n".join(drawn(farm))

    assert "\x1b" not in text
    assert "[bold]red[/bold]" in text


@given(st.lists(st.integers(0, 50), max_size=6), st.integers(-5, 100))
def test_given_room_for_rows_then_all_is_used_and_nobody_gets_more_than_it_wants(
    wanted: list[int], room: int
) -> None:
    given_rows = allot(wanted, room)

    assert all(0 <= each <= most for each, most in zip(given_rows, wanted, strict=True))
    assert sum(given_rows) == min(max(0, room), sum(wanted))
    hungry = [each for each, most in zip(given_rows, wanted, strict=True) if each < most]
    assert not hungry or max(given_rows) - min(hungry) <= 1
