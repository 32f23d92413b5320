"""How far a run has come, and what it has to do without meanwhile."""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from tests.client.background import in_background

from icebus.client import Progress, PulseCountClient
from icebus.client._evaluating.reporting.notebook_bar import NotebookBar, in_notebook, in_words
from icebus.client._evaluating.reporting.progress import Report, bar

if TYPE_CHECKING:
    from tests.client.scripted_worker import ScriptedWorker


def test_given_a_run_whose_board_goes_away_then_the_user_s_function_is_told_once(
    alice: PulseCountClient,
    w1: ScriptedWorker,
    circuits: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("icebus.client._evaluating.running.run.TICK", 0.02)
    told: list[Progress] = []
    w1.measure = False
    with alice.reserve(serials=["d1"]) as boards:

        def lose_the_worker() -> None:
            w1.evaluations.wait(lambda seen: len(seen) == len(circuits))
            w1.die()

        with in_background(lose_the_worker):
            outcomes = list(boards.evaluate_outcomes(circuits, progress=told.append))
    assert len(outcomes) == len(circuits)
    first, *rest = told
    assert (first.done, first.missing) == (0, "board d1 is away: its worker is lost")
    assert [each.done for each in rest] == [1, 2, 3]


def test_given_a_function_then_it_is_called_while_it_waits_only_for_what_is_new() -> None:
    told: list[Progress] = []
    missing = ["", "", "the broker is away", "the broker is away", ""]
    report = Report(4, told.append, lambda: missing.pop(0))

    def outcomes() -> Generator[Any]:
        for _ in range(5):
            report.waiting()
        yield SimpleNamespace()

    assert len(list(report.follow(outcomes()))) == 1
    assert [each.missing for each in told] == ["the broker is away", "", ""]
    assert [each.done for each in told] == [0, 0, 1]


@pytest.mark.parametrize(
    ("progress", "told"),
    [
        (None, "0/8"),
        (Progress(2, 0, 8, 4.0), "2/8, 0.5/s, 12s left"),
        (Progress(8, 1, 8, 61.0), "8/8, 1 failed, 0.131/s, 1m1s"),
    ],
)
def test_given_progress_then_it_is_told_in_words(progress: Progress | None, told: str) -> None:
    assert in_words(progress, 8) == told


def test_given_a_terminal_when_a_run_goes_on_then_the_bar_tells_rate_time_left_and_what_is_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    with bar("evaluating", 8) as update:
        update(Progress(2, 1, 8, 4.0, "the broker is away since 09:00:00"))
    told = capsys.readouterr()
    assert told.out == ""
    for part in ("2/8", "0.5/s", "12s left", "1 failed", "the broker is away since 09:00:00"):
        assert part in told.err


def test_given_a_source_without_a_length_then_no_end_is_made_up() -> None:
    assert in_words(Progress(2, 0, None, 4.0), None) == "2, 0.5/s, 4s"
    assert Progress(0, 0, 8, 0.0).left is None


def test_given_no_notebook_then_none_is_taken_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not in_notebook()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    assert not in_notebook()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=object))
    assert not in_notebook(), "IPython in a terminal"


def test_given_what_is_missing_then_the_notebook_s_bar_says_it_escaped() -> None:
    bar = NotebookBar("evaluating", 8)
    picture = bar._picture(Progress(2, 0, 8, 4.0, "board d1 is away: <script>"))
    assert picture["text/plain"].endswith("12s left; board d1 is away: <script>")
    assert "&lt;script&gt;" in picture["text/html"]
