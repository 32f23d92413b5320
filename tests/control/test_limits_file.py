"""The file of limits, which control reads anew when it changes."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from icebus.control.limits_file import LOOK_INTERVAL, LimitsFile


def test_given_a_file_that_changes_then_its_limits_are_given_once(tmp_path: Path) -> None:
    path = tmp_path / "limits.toml"
    path.write_text("[default]\ndevices = 1\n")
    file = LimitsFile(path)
    assert file.changed(10.0) is None

    path.write_text("[default]\ndevices = 22\n")

    assert file.changed(10.0 + LOOK_INTERVAL / 2) is None
    changed = file.changed(10.0 + LOOK_INTERVAL)
    assert changed is not None
    assert changed.of("alice").devices == 22
    assert file.changed(10.0 + 2 * LOOK_INTERVAL) is None


@pytest.mark.parametrize("text", ["devices =", "[default]\ndevices = -4\n", None])
def test_given_a_file_that_gets_mistakes_then_the_limits_stay_and_it_is_said_once(
    text: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "limits.toml"
    path.write_text("[default]\ndevices = 1\n")
    file = LimitsFile(path)
    path.unlink() if text is None else path.write_text(text)

    with caplog.at_level(logging.WARNING):
        assert [file.changed(at * LOOK_INTERVAL) for at in range(1, 5)] == [None] * 4

    assert len(caplog.messages) == 1
    path.write_text("[default]\ndevices = 5\n")
    changed = file.changed(9 * LOOK_INTERVAL)
    assert changed is not None
    assert changed.of("alice").devices == 5
