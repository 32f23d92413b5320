"""Where Mosquitto's program is found, and what is said when it is not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from icebus.broker.embedded import EmbeddedBroker
from icebus.broker.mosquitto import find_program
from icebus.schemas.errors import ProgramMissing


def test_when_mosquitto_is_missing_then_the_error_names_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(name: str, path: str | None = None) -> None:
        return None

    monkeypatch.setattr(shutil, "which", nothing)
    with pytest.raises(ProgramMissing, match="apt-get install mosquitto") as caught:
        EmbeddedBroker(tmp_path / "broker", [])
    assert caught.value.details == {"program": "mosquitto"}
    assert not (tmp_path / "broker").exists()


def test_when_path_leaves_out_the_administrators_folders_then_mosquitto_is_found_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str | None] = []

    def only_in_sbin(name: str, path: str | None = None) -> str | None:
        asked.append(path)
        return f"/usr/sbin/{name}" if path and "/usr/sbin" in path else None

    monkeypatch.setattr(shutil, "which", only_in_sbin)
    assert find_program("mosquitto") == "/usr/sbin/mosquitto"
    assert asked[0] is None
