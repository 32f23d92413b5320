"""The state that the tutorial has its reader write: what it does with what a board prints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.docs.reading import blocks

from icebus.worker.states import Hold

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"


class Device:
    """A device that notes what its state says, and has a clock that is turned by hand."""

    def __init__(self) -> None:
        self.told: list[tuple[int, str]] = []
        self.failed: list[str] = []
        self.due: list[Callable[[], None]] = []
        self.loop = SimpleNamespace(call_later=self._later)

    def _later(self, _seconds: float, callback: Callable[[], None]) -> Any:
        self.due.append(callback)
        return SimpleNamespace(pending=True, cancel=lambda: None)

    def run(self, _state: object, callback: Callable[[], None]) -> None:
        callback()

    def emit(self, _hold: Hold, event: str, data: Any) -> None:
        assert event == "line"
        self.told.append((data.number, data.text))

    def fail(self, reason: str) -> None:
        self.failed.append(reason)

    def pass_time(self) -> None:
        self.due.pop()()


@pytest.fixture
def device() -> Device:
    return Device()


@pytest.fixture
def lines(device: Device) -> Any:
    """The state, as it is when a board was reserved for lines with an ``o`` in them."""
    [source] = [
        block.text
        for block in blocks("tutorial", TUTORIAL.read_text())
        if block.file == "icebus_lines.py"
    ]
    names: dict[str, Any] = {"__name__": "icebus_lines"}
    exec(compile(source, "icebus_lines.py", "exec"), names)  # the tutorial's own words
    state = names["Lines"](Hold("r1", "ann"), names["Lines"].Args(containing="o"))
    state.device = device
    state.on_enter()
    return state


def test_given_lines_in_pieces_when_listened_to_then_those_asked_for_are_told_whole(
    lines: Any, device: Device
) -> None:
    lines.on_data(b"before anybody asked, so\r\n")
    assert lines.listen(2).lines == 2
    for piece in (b"on", b"e\r", b"\nthree\r\ntwo\r\nfo", b"ur\r\n"):
        lines.on_data(piece)
    assert device.told == [(1, "one"), (2, "two")]


def test_given_a_board_that_falls_silent_when_time_passes_then_it_has_failed(
    lines: Any, device: Device
) -> None:
    lines.on_data(b"x\r\n")
    device.pass_time()
    assert not device.failed
    device.pass_time()
    assert device.failed == ["the board is silent"]
