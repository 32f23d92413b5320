"""What a device's journal is for: outcomes that are collected, and a disk that is full."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from tests.worker.device_harness import HOLD
from tests.worker.scripted_board import SIZE, value_of

from icebus.schemas.boards import pulse_count_text as text
from icebus.schemas.devices import DeviceState
from icebus.schemas.errors import JournalUnavailable
from icebus.schemas.files import File
from icebus.schemas.kinds.pulsecount import PulseCountResult
from icebus.worker.device import actor
from icebus.worker.states.measuring import _outcomes

if TYPE_CHECKING:
    from tests.worker.device_harness import DeviceHarness

pytestmark = pytest.mark.timeout(60)


# --- a journal that can't be written --------------------------------------------------------------


@contextlib.contextmanager
def full_disk(harness: DeviceHarness) -> Iterator[None]:
    """The journal can't grow: SQLite says what it says of a disk without room."""

    def grow_no_more() -> int:
        db = harness.device.journal._db
        before: int = db.execute("PRAGMA max_page_count").fetchone()[0]
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages}")
        return before

    before = harness.on_loop(grow_no_more)
    yield
    harness.on_loop(lambda: harness.device.journal._db.execute(f"PRAGMA max_page_count = {before}"))


@contextlib.contextmanager
def locked(harness: DeviceHarness) -> Iterator[None]:
    """Somebody else, such as a backup, holds the file."""
    other = sqlite3.connect(harness.directory / "S1.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


Trouble = Callable[["DeviceHarness"], contextlib.AbstractContextManager[None]]
each_trouble = pytest.mark.parametrize("trouble", [full_disk, locked])


@each_trouble
def test_given_no_room_for_it_then_an_evaluation_is_refused_and_the_next_is_accepted(
    serving: DeviceHarness, trouble: Trouble, make_file: Callable[..., File]
) -> None:
    files = [make_file(bytes(SIZE), f"e{n}", annotations={"x": "y" * 9000}) for n in range(8)]
    with trouble(serving), pytest.raises(JournalUnavailable, match="journal"):
        serving.invoke("evaluate", bitstreams=files, batch="b", validate=False)
    assert serving.board.pending(0.05) == 0, "what was refused is not measured"
    serving.evaluate(7)
    assert value_of(serving.board.measure(5)) == 7
    assert [r.pulses for r in serving.recorder.wait_events("results")] == [5]
    assert serving.recorder.states[-1] is DeviceState.SERVING


@each_trouble
def test_given_no_room_for_an_outcome_then_it_is_sent_once_and_written_down_later(
    serving: DeviceHarness,
    trouble: Trouble,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., Any],
) -> None:
    monkeypatch.setattr(_outcomes, "WRITE_AGAIN", 0.05)
    # So large that it does not fit where its entry is.
    padded = f'{{"padding":"{"z" * 20_000}",'
    written = PulseCountResult.model_dump_json
    monkeypatch.setattr(
        PulseCountResult, "model_dump_json", lambda self: written(self).replace("{", padded, 1)
    )
    serving.evaluate(7)
    serving.board.receive()
    with trouble(serving):
        serving.board.report(5)
        serving.board.go_idle()
        (result,) = serving.recorder.wait_events("results")
        assert result.pulses == 5
        assert serving.invoke("status")["unacknowledged"] == 0  # type: ignore[call-overload, index]
    eventually(
        lambda: serving.invoke("status")["unacknowledged"] == 1,  # type: ignore[call-overload, index]
        "the outcome to be written",
    )
    assert len(serving.recorder.named("results")) == 1


def test_given_a_journal_that_cant_be_opened_then_the_device_says_so_and_recovers(
    harness: DeviceHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actor, "JOURNAL_AGAIN", 0.05)
    blocked = harness.directory / "S1.sqlite"
    blocked.mkdir()
    harness.desire(HOLD)
    harness.plug()
    harness.pass_test()
    report = harness.recorder.wait_state(DeviceState.BROKEN)
    assert "journal" in report.reason
    assert report.retry is not None
    mark = len(harness.recorder.reports)
    blocked.rmdir()
    harness.answer_test()
    harness.recorder.wait_state(DeviceState.SERVING, mark)
    assert DeviceState.FLASHING not in harness.recorder.states, "it is not the board's fault"


# --- what a client finds that takes over ----------------------------------------------------------


def test_given_outcomes_nobody_has_acknowledged_then_they_are_collected_in_pages(
    serving: DeviceHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_outcomes, "COLLECT_PAGE", 2)
    evaluations = serving.evaluate(1, 2, 3, 4)
    for pulses in (1, 2, 3):
        serving.board.measure(pulses)
    serving.recorder.wait_events("results", 3)
    serving.board.receive()
    first = serving.invoke("collect")
    assert first == {"repeated": 2, "next": 2, "outstanding": 1}
    assert serving.invoke("collect", after=2) == {"repeated": 1, "next": None, "outstanding": 1}
    told = [result.evaluation for result in serving.recorder.named("results")]
    assert told == 2 * evaluations[:3]
    serving.invoke("acknowledge", evaluations=evaluations[:3])
    assert serving.invoke("collect") == {"repeated": 0, "next": None, "outstanding": 1}


def test_given_an_acknowledged_evaluation_when_it_is_sent_again_then_it_is_not_measured_again(
    serving: DeviceHarness, one_evaluation: dict[str, Any]
) -> None:
    serving.invoke("evaluate", **one_evaluation)
    serving.board.measure(5)
    serving.recorder.wait_events("results")
    serving.invoke("acknowledge", evaluations=["e1"])
    serving.invoke("evaluate", **one_evaluation, retry=True)
    first, second = serving.recorder.wait_events("results", 2)
    assert first == second
    assert serving.board.pending(0.05) == 0


def test_given_a_failure_when_another_try_is_asked_for_then_it_is_measured_once_more(
    serving: DeviceHarness, one_evaluation: dict[str, Any]
) -> None:
    serving.invoke("evaluate", **one_evaluation)
    serving.board.receive()
    serving.board.say(text.WAITING)
    serving.recorder.wait_events("failures")
    serving.invoke("evaluate", **one_evaluation)
    serving.recorder.wait_events("failures", 2)
    serving.invoke("evaluate", **one_evaluation, retry=True)
    serving.board.measure(9)
    (result,) = serving.recorder.wait_events("results")
    assert (result.evaluation, result.pulses) == ("e1", 9)
