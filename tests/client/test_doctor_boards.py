"""What `icebus doctor` makes of a machine with boards on USB, and how it looks at one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from icebus.client.doctor import boards, usb
from icebus.client.doctor.boards import BoardFacts, FlashingTools, Hub, UsbBoard
from icebus.client.doctor.finding import Finding, Level
from icebus.client.doctor.usb import Roots
from icebus.schemas.boards import uf2
from icebus.schemas.boards.firmware import Chip, FirmwareMarker, marker_bytes

RULES = Path("/etc/udev/rules.d/70-icebus.rules")
BOARD = UsbBoard("1-1.2", "pico-ice", "rp2040", files=[Path("/dev/ttyACM0")])


def level(finding: Finding) -> str:
    """The level, once it is sure that what is wrong comes with a remedy."""
    assert finding.found
    assert bool(finding.remedy) == (finding.level is not Level.OK), finding
    return finding.level.value


def facts(**change: Any) -> BoardFacts:
    """A machine with a board on which all is well, but for what a test changes."""
    well: dict[str, Any] = {
        "boards": [BOARD],
        "rules": RULES,
        "images": {"rp2040": ["icebus 0.1.0"]},
    }
    return BoardFacts(**(well | change))


def test_given_a_machine_without_boards_then_one_finding_says_so() -> None:
    (finding,) = boards.findings(BoardFacts())
    assert level(finding) == "ok"
    (finding,) = boards.findings(BoardFacts(member=False))
    assert level(finding) == "ok"
    assert "usermod -aG dialout" in finding.found


def test_given_a_machine_on_which_all_is_well_then_every_check_says_so() -> None:
    found = boards.findings(facts())
    assert [level(each) for each in found] == ["ok"] * len(found)
    assert len(found) == 9
    assert "pico-ice at 1-1.2" in found[0].found


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"rules": None}, "70-icebus.rules"),
        ({"member": False}, "usermod -aG dialout"),
        ({"has_udev": False, "rules": None, "member": False}, "usermod"),
        ({}, "container"),
    ],
)
def test_given_files_that_can_t_be_opened_then_the_remedy_fits(
    change: dict[str, Any], remedy: str
) -> None:
    finding = boards.check_rights(facts(closed=[Path("/dev/ttyACM0")], **change))
    assert level(finding) == "warn"
    assert "/dev/ttyACM0" in finding.found
    assert remedy in finding.remedy


def test_given_twenty_boards_that_can_t_be_opened_then_not_all_are_listed() -> None:
    closed = [Path(f"/dev/ttyACM{number}") for number in range(20)]
    assert "and 16 more" in boards.check_rights(facts(closed=closed)).found


def test_given_no_rules_then_they_are_to_be_installed_where_there_is_udev() -> None:
    assert level(boards.check_rules(facts(rules=None))) == "warn"
    assert level(boards.check_rules(facts(rules=None, has_udev=False))) == "ok"


def test_given_modem_manager_then_the_rules_keep_it_off() -> None:
    running = ["bash", "ModemManager"]
    assert level(boards.check_modem_manager(facts(running=running))) == "ok"
    finding = boards.check_modem_manager(facts(running=running, rules=None))
    assert level(finding) == "warn"
    assert "mask --now ModemManager" in finding.remedy


def test_given_brltty_then_what_it_does_to_boards_is_told() -> None:
    assert level(boards.check_braille(facts(running=["brltty"]))) == "warn"
    finding = boards.check_braille(facts(braille_rules=["/usr/lib/udev/rules.d/85-brltty.rules"]))
    assert level(finding) == "warn"
    assert "85-brltty.rules" in finding.found


def test_given_a_terminal_on_a_board_then_it_is_named_and_the_worker_is_not() -> None:
    port = "/dev/ttyACM0"
    assert level(boards.check_holders(facts(holders={port: ["icebus-worker", "python3"]}))) == "ok"
    finding = boards.check_holders(facts(holders={port: ["icebus-worker", "minicom"]}))
    assert level(finding) == "warn"
    assert finding.found == "minicom has /dev/ttyACM0 open"


def test_given_hubs_then_power_is_counted_where_they_have_no_supply() -> None:
    assert level(*boards.check_power([Hub("1-1", own_supply=True, wanted=4000)])) == "ok"
    assert level(*boards.check_power([Hub("1-1", own_supply=False, wanted=400)])) == "ok"
    weak = boards.check_power([Hub("1-1", own_supply=False, wanted=500)])
    assert level(*weak) == "warn"
    assert "500 mA of the 400 mA" in weak[0].found
    cut = boards.check_power([Hub("1-1", own_supply=True, over_current={"1-1-port2": 3})])
    assert level(*cut) == "warn"
    assert "1-1-port2 (3 times)" in cut[0].found


@pytest.mark.parametrize(
    ("pyusb", "libusb", "picotool", "expected"),
    [
        (True, True, False, "ok"),
        (False, False, True, "ok"),
        (True, False, False, "warn"),
        (False, True, False, "warn"),
    ],
)
def test_given_programs_to_flash_with_then_one_is_enough(
    pyusb: bool, libusb: bool, picotool: bool, expected: str
) -> None:
    finding = boards.check_flashing(FlashingTools(pyusb, libusb, picotool))
    assert level(finding) == expected
    if expected == "warn":
        assert ("libusb" if pyusb else "pyusb") in finding.found


def test_given_images_then_those_of_the_plugged_chips_count() -> None:
    assert level(boards.check_images(facts(images={}))) == "warn"
    finding = boards.check_images(facts(images={"rp2350": ["icebus 1"]}))
    assert level(finding) == "warn"
    assert "rp2040" in finding.found
    nameless = UsbBoard("1-1.2", "pico-ice")
    finding = boards.check_images(facts(boards=[nameless], images={"rp2350": ["icebus 1"]}))
    assert level(finding) == "ok"
    assert finding.found == "rp2350: icebus 1"


# --- how it looks at a machine --------------------------------------------------------------------


def device(devices: Path, port: str, **content: str) -> Path:
    folder = devices / port
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in content.items():
        (folder / name).write_text(f"{value}\n")
    return folder


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    """A machine with two boards behind a hub, one in its bootloader, and somebody's keyboard."""
    devices, dev = tmp_path / "devices", tmp_path / "dev"
    device(devices, "usb1", idVendor="1d6b", idProduct="0002", bmAttributes="e0", bMaxPower="0mA")
    device(devices, "1-1", idVendor="05e3", idProduct="0608", bmAttributes="a0", bMaxPower="100mA")
    board = {"busnum": "1", "bMaxPower": "250mA"}
    running = device(
        devices, "1-1.2", idVendor="1209", idProduct="b1c0", product="pico-ice", devnum="7", **board
    )
    for number in (0, 1):
        (running / f"1-1.2:1.{2 * number}" / "tty" / f"ttyACM{number}").mkdir(parents=True)
    device(
        devices, "1-1.3", idVendor="2e8a", idProduct="0003", product="RP2 Boot", devnum="8", **board
    )
    device(devices, "1-1.4", idVendor="2e8a", idProduct="1234", product="Keyboard", devnum="9")
    for port, count in (("1-1-port1", "0"), ("1-1-port2", "2")):
        (devices / "1-1" / "1-1:1.0" / port).mkdir(parents=True)
        (devices / "1-1" / "1-1:1.0" / port / "over_current_count").write_text(f"{count}\n")
    (dev / "bus" / "usb" / "001").mkdir(parents=True)
    for name in ("ttyACM0", "ttyACM1", "bus/usb/001/007"):
        (dev / name).touch()
    rules = [tmp_path / "etc", tmp_path / "lib"]
    for folder in rules:
        folder.mkdir()
    processes = tmp_path / "proc"
    (processes / "812" / "fd").mkdir(parents=True)
    (processes / "812" / "comm").write_text("minicom\n")
    (processes / "812" / "fd" / "3").symlink_to(dev / "ttyACM0")
    (processes / "812" / "fd" / "4").symlink_to("/dev/null")
    return Roots(devices, dev, processes, rules)


def test_given_a_machine_then_its_boards_are_found_and_nothing_else(roots: Roots) -> None:
    running, waiting = usb.find_boards(roots)
    assert (running.port, running.product, running.chip, running.bootloader) == (
        "1-1.2",
        "pico-ice",
        "",
        False,
    )
    assert [str(file.relative_to(roots.dev)) for file in running.files] == [
        "bus/usb/001/007",
        "ttyACM0",
        "ttyACM1",
    ]
    assert (waiting.port, waiting.chip, waiting.bootloader) == ("1-1.3", "rp2040", True)


def test_given_a_machine_then_hubs_holders_and_rights_are_found(roots: Roots) -> None:
    found = usb.gather(roots, ["ModemManager"], member=True)
    # The device file of the board in its bootloader is not there, as in a container without it.
    assert [file.name for file in found.closed] == ["008"]
    assert found.holders == {str(roots.dev / "ttyACM0"): ["minicom"]}
    assert found.hubs == [
        Hub("1-1", own_supply=False, wanted=500, over_current={"1-1-port2": 2}),
        Hub("usb1", own_supply=True, wanted=100),
    ]
    assert (found.rules, found.has_udev, found.braille_rules) == (None, True, [])
    levels = {each.check: each.level.value for each in boards.findings(found)}
    assert levels["rights"] == levels["udev rules"] == levels["modems"] == "warn"
    assert levels["power"] == levels["holders"] == "warn"


def test_given_rules_then_those_of_icebus_and_brltty_s_about_boards_are_found(
    roots: Roots,
) -> None:
    etc, lib = roots.rules
    (lib / "70-icebus.rules").touch()
    assert usb.find_rules(roots.rules) == lib / "70-icebus.rules"
    braille = lib / "85-brltty.rules"
    braille.write_text('# ENV{PRODUCT}=="2e8a/3/*"\nENV{PRODUCT}=="1a86/7523/*", GOTO="run"\n')
    assert usb.find_braille_rules(roots.rules) == []
    braille.write_text('ENV{PRODUCT}=="1209/b1c0/*", ENV{BRLTTY_BRAILLE_DRIVER}="bm"\n')
    assert usb.find_braille_rules(roots.rules) == [str(braille)]
    (etc / "85-brltty.rules").touch()
    assert usb.find_braille_rules(roots.rules) == [], "one of that name goes before it"


def test_given_no_such_folders_then_nothing_is_found(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    found = usb.gather(Roots(nowhere, nowhere, nowhere, [nowhere]), [], member=True)
    assert (found.boards, found.hubs, found.rules, found.has_udev) == ([], [], None, False)
    assert len(boards.findings(found)) == 1


def test_given_images_then_they_are_told_by_chip(tmp_path: Path) -> None:
    for version in ("0.1.0", "0.2.0"):
        marker = FirmwareMarker(name="icebus", version=version, chip=Chip.RP2350)
        image = uf2.encode(marker_bytes(marker), uf2.RP2350_ARM, uf2.FLASH_ADDRESS)
        (tmp_path / f"{version}.uf2").write_bytes(image)
    assert usb.find_images([tmp_path]) == {"rp2350": ["icebus 0.2.0", "icebus 0.1.0"]}


def test_given_this_environment_then_the_worker_s_libusb_is_found() -> None:
    tools = usb.find_tools()
    assert tools.pyusb
    assert tools.libusb
