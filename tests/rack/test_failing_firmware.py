"""Virtual firmware that fails: the log names it, and every board goes on."""

from __future__ import annotations

from typing import Any

import pytest

from icebus.rack.firmware import Firmware, Step, installed, installed_firmware, said
from icebus.schemas.boards.rack import Mode


class Fragile(Firmware):
    """Echoes, but for one line, which it can't bear."""

    @property
    def wants(self) -> int:
        return 64

    def receive(self, data: bytes, now: float) -> Step:
        if data == b"!":
            raise SystemExit("bye")
        return Step(said(data.decode()))


class NeverStarts(Firmware):
    def __init__(self, *_: object) -> None:
        raise ZeroDivisionError


@pytest.fixture
def fragile_firmware(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {**installed_firmware(), "fragile": Fragile, "never_starts": NeverStarts}
    monkeypatch.setattr(installed, "installed_firmware", lambda: given)


def test_given_firmware_that_fails_then_the_log_names_it_and_all_boards_go_on(
    start_rack: Any, fragile_firmware: None, caplog: pytest.LogCaptureFixture
) -> None:
    rack = start_rack(boards=2, firmware="fragile")
    with rack.open("1-1.1") as first, rack.open("1-1.2") as second:
        first.write(b"!")
        rack.wait_until(lambda: "Fragile failed" in caplog.text)
        for port in (first, second):
            port.write(b"hello")
            assert port.read_until(b"\n") == b"hello\r\n"
    assert rack.wait_for(Mode.APPLICATION).serial in caplog.text


def test_given_firmware_that_can_not_start_then_the_log_names_it_and_the_board_is_silent(
    start_rack: Any, fragile_firmware: None, caplog: pytest.LogCaptureFixture
) -> None:
    rack = start_rack(firmware="never_starts")
    rack.wait_for(Mode.APPLICATION)
    assert "NeverStarts can't start" in caplog.text
