"""docs/boards.md, as far as it can be tried without a board."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import typer.main
import yaml

from icebus.client.doctor import boards
from icebus.client.doctor.boards import BoardFacts, UsbBoard
from icebus.schemas.boards.rack import BOOTLOADER, PICO_APPLICATION, PICO_ICE_APPLICATION
from icebus.worker.cli import app as worker_app

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "boards.md").read_text()


def section(title: str) -> str:
    return DOCUMENT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_given_what_doctor_is_shown_to_say_then_it_says_so_of_such_a_machine() -> None:
    shown = re.findall(r"^   (\w[\w ]*?) +(ok|warn) +(\S.*)$", DOCUMENT, re.MULTILINE)
    facts = BoardFacts(
        boards=[UsbBoard("1-1.2", "pico-ice")],
        rules=Path("/etc/udev/rules.d/70-icebus.rules"),
        running=["ModemManager"],
        images={"rp2040": ["icebus 0.1.0"], "rp2350": ["icebus 0.1.0"]},
    )

    said = [(each.check, each.level.value, each.found) for each in boards.findings(facts)]

    assert shown == said


def test_given_the_usb_ids_then_they_are_those_that_icebus_knows() -> None:
    table = set(re.findall(r"\b([0-9a-f]{4}:[0-9a-f]{4})\b", section("Which boards are taken")))
    known = [PICO_ICE_APPLICATION, *PICO_APPLICATION.values(), *BOOTLOADER.values()]

    assert table == {f"{usb.vid:04x}:{usb.pid:04x}" for usb in known}


def test_given_the_container_then_it_may_open_boards_and_nothing_else() -> None:
    [block] = re.findall(r"^```yaml\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
    override = yaml.safe_load(block)
    service = override["services"]["usb-worker"]
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    usual = compose["services"]["virtual-worker"]

    # Documentation/admin-guide/devices.txt of Linux: ACM modems, and USB devices.
    assert service["device_cgroup_rules"] == ["c 166:* rw", "c 189:* rw"]
    assert service["image"] == usual["image"]
    for promise in ("read_only", "cap_drop", "security_opt", "restart", "stop_grace_period"):
        assert service[promise] == usual[promise], promise
    assert not service.keys() & {"privileged", "cap_add"}
    assert {mount.split(":")[0] for mount in service["volumes"]} >= set(override["volumes"])
    program, *words = service["command"]
    assert program == "icebus-worker"
    assert {word for word in words if word.startswith("--")} <= options_of_worker()


def options_of_worker() -> set[str]:
    command = typer.main.get_command(worker_app)
    return {name for parameter in command.params for name in parameter.opts}


def test_given_the_commands_then_what_they_name_exists() -> None:
    assert (ROOT / "worker" / "udev" / "70-icebus.rules").is_file()
    told = subprocess.run(
        [ROOT / "script" / "firmware", "--help"], capture_output=True, text=True, check=True
    )
    assert "--install" in told.stdout
    assert "--usb" in options_of_worker()


def test_given_the_table_of_troubles_then_programs_say_these_words() -> None:
    sources = [
        path
        for name in ("schemas", "worker", "client")
        for path in (ROOT / name / "icebus").rglob("*.py")
    ]
    # Texts that go on in the next line of a source are one text.
    everything = "\n".join(re.sub(r'"\n\s*f?"', "", path.read_text()) for path in sources)
    quoted = re.findall(r"^\| `([^`]+)` \|", section("When something is wrong"), re.MULTILINE)

    assert len(quoted) >= 4
    for text in quoted:
        for part in text.split("…"):
            assert part.strip() in everything, text
