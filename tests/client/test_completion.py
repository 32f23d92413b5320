"""What shells are answered when somebody presses TAB, by the protocols that they speak."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from icebus.client.cli.completing.asking import SILENT_FOR, SilentFarm

ICEBUS = [sys.executable, "-m", "icebus.client.cli"]
TIMEOUT = 60.0


def complete(shell: str, words: list[str], home: Path) -> tuple[str, str]:
    """What the program prints for a shell in which these words stand, the last one unfinished."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ICEBUS_")}
    environment |= {"HOME": str(home), "XDG_STATE_HOME": str(home), "XDG_RUNTIME_DIR": str(home)}
    environment["_ICEBUS_COMPLETE"] = f"complete_{shell}"
    line = " ".join(words)
    if shell == "bash":
        environment |= {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    else:
        environment |= {
            f"_TYPER_COMPLETE_{shell.upper()}_ACTION": "get-args",
            "_TYPER_COMPLETE_ARGS": line,
        }
    done = subprocess.run(
        ICEBUS,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_given_a_shell_when_a_command_is_begun_then_it_is_completed(
    shell: str, tmp_path: Path
) -> None:
    told, errors = complete(shell, ["icebus", "evalu"], tmp_path)
    assert "evaluate" in told
    assert errors == ""


@pytest.mark.slow
def test_given_no_farm_when_what_is_on_it_is_begun_then_nothing_is_said(tmp_path: Path) -> None:
    told, errors = complete("fish", ["icebus", "devices", ""], tmp_path)
    assert (told.strip(), errors) == ("", "")


@pytest.mark.slow
def test_given_the_command_line_when_loaded_then_it_waits_for_no_library_that_is_not_needed() -> (
    None
):
    heavy = ("pydantic", "paho.mqtt", "rich", "sqlalchemy", "numpy", "icebus.bus")
    code = f"import sys, icebus.client.cli.app; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_given_a_farm_that_did_not_answer_when_tab_is_pressed_again_then_nobody_waits_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    farm, other = SilentFarm("lab"), SilentFarm("home")
    assert not farm.lately
    farm.note()
    assert farm.lately
    assert not other.lately
    (marker,) = tmp_path.iterdir()
    earlier = time.time() - SILENT_FOR - 1
    os.utime(marker, (earlier, earlier))
    assert not farm.lately
    farm.note()
    assert farm.lately


def test_given_a_link_where_that_is_remembered_when_noted_then_it_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    farm = SilentFarm("lab")
    farm.note()
    (marker,) = tmp_path.iterdir()
    marker.unlink()
    marker.symlink_to(tmp_path / "elsewhere")
    farm.note()
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.slow
@pytest.mark.parametrize("words", ["rel", "devices ", "history --user ", "reserve --kind "])
def test_given_a_shell_that_completes_when_answered_then_no_model_and_no_typer_is_loaded(
    words: str, tmp_path: Path
) -> None:
    """What is loaded is what somebody at a prompt waits for; also of a farm that is away."""
    code = (
        "import sys\nfrom icebus.client.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "sys.stderr.write(' '.join(sys.modules))"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ICEBUS_")} | {
        "_ICEBUS_COMPLETE": "complete_fish",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_ARGS": f"icebus {words}",
        "ICEBUS_URL": "mqtt://ann@127.0.0.1:1",
        "XDG_RUNTIME_DIR": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    loaded = set(done.stderr.split())
    heavy = {"typer", "click", "rich", "pydantic", "icebus.bus", "icebus.schemas.errors"}
    assert not heavy & loaded
    assert ("paho.mqtt.client" in loaded) == (words != "rel")
    assert len(loaded) < 250
