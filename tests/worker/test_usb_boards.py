"""Which USB devices a worker takes for boards, and what it knows of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.rack import RP2040_BOOTLOADER_SERIAL, Mode
from icebus.worker.hardware.usb.boards import FoundBoards, Known, KnownBoard, find_boards
from icebus.worker.hardware.usb.port_memory import PortMemory
from icebus.worker.hardware.usb.rules import NamedBoard, UsbRules
from icebus.worker.hardware.usb.usb_device import Tty, UsbDevice

NO_RULES = UsbRules()
HOSTILE_SERIALS = (
    *("", "a/b", "../../etc/passwd", "..", "A.db", "a\0b", "\x1b[2J", "A\n", " A", "é", "\u202e"),
    *("A" * 65, "A\0" * 5_000, "all"),  # "all" stands for every device of a reservation
)
ACM0, ACM1 = Tty(Path("/dev/ttyACM0"), 0), Tty(Path("/dev/ttyACM1"), 2)


def application(
    serial: str = "A", port: str = "1-1.2", product: str = "pico-ice", *ttys: Tty
) -> UsbDevice:
    """An application made with pico-ice-sdk."""
    return UsbDevice(port, f"s-{serial}", 0x1209, 0xB1C0, serial, product, ttys or (ACM0, ACM1))


def bootloader(chip: Chip, port: str = "1-1.2", serial: str = "A") -> UsbDevice:
    shown = RP2040_BOOTLOADER_SERIAL if chip is Chip.RP2040 else serial
    pid = 0x0003 if chip is Chip.RP2040 else 0x000F
    return UsbDevice(port, f"b-{port}", 0x2E8A, pid, shown, "RP2 Boot")


def pico(chip: Chip, serial: str = "K", port: str = "1-1.4") -> UsbDevice:
    """An application made with pico-sdk, such as somebody's keyboard."""
    pid = 0x000A if chip is Chip.RP2040 else 0x0009
    return UsbDevice(port, f"p-{serial}", 0x2E8A, pid, serial, "Pico", (ACM0,))


def after(*snapshots: list[UsbDevice], rules: UsbRules = NO_RULES) -> FoundBoards:
    """What is found in the last of these, one after the other."""
    found = FoundBoards([], {}, {})
    for devices in snapshots:
        found = find_boards(devices, rules, found.known)
    return found


# --- applications -------------------------------------------------------------------------------


def test_given_a_board_then_it_is_spoken_to_on_the_interface_of_its_console() -> None:
    device = application("A", "1-1.2", "pico-ice", ACM1, replace(ACM0, path=Path("/dev/ttyACM7")))
    (board,) = after([device]).boards
    assert (board.tty, board.serial, board.mode) == (Path("/dev/ttyACM7"), "A", Mode.APPLICATION)
    assert not board.virtual


@pytest.mark.parametrize(("port", "hub"), [("1-1.2", "1-1"), ("2-3.1.4", "2-3.1"), ("3-1", "usb3")])
def test_given_a_board_then_it_is_labelled_with_its_hub(port: str, hub: str) -> None:
    (board,) = after([application(port=port)]).boards
    assert board.labels == {"hub": hub}


@pytest.mark.parametrize(
    ("product", "chip"), [("icebus pico-ice", Chip.RP2040), ("icebus pico2-ice", Chip.RP2350)]
)
def test_given_firmware_of_ours_then_its_product_says_the_chip(product: str, chip: Chip) -> None:
    (board,) = after([application(product=product)]).boards
    assert board.chip is chip


def test_given_firmware_of_the_sdk_then_the_chip_is_unknown_until_somebody_says_it() -> None:
    (board,) = after([application()]).boards
    assert (board.chip, board.problem) == (None, "")
    for named in (
        NamedBoard(port="1-1.2", chip=Chip.RP2350),
        NamedBoard(serial="A", chip=Chip.RP2350),
    ):
        (board,) = after([application()], rules=UsbRules(boards=(named,))).boards
        assert board.chip is Chip.RP2350


@pytest.mark.parametrize("chip", list(Chip))
def test_given_a_board_that_was_in_its_bootloader_then_its_chip_is_known_from_there(
    chip: Chip,
) -> None:
    (board,) = after([application()], [bootloader(chip)], [application()]).boards
    assert board.chip is chip
    (elsewhere,) = after(
        [application()], [bootloader(chip)], [application()], [], [application(port="1-3")]
    ).boards
    assert elsewhere.chip is chip, "it is the same board"
    (other,) = after(
        [application()], [bootloader(chip)], [application()], [application("B")]
    ).boards
    assert other.chip is None, "another board may have another chip"


def test_given_a_board_whose_port_has_not_come_up_then_it_is_waited_for() -> None:
    incomplete = replace(application(), ttys=(ACM1,), settled=False)
    assert after([incomplete]).boards == []
    (board,) = after([replace(incomplete, settled=True)]).boards
    assert "cdc_acm" in board.problem
    assert board.tty is None


def test_given_a_port_that_may_not_be_opened_then_the_board_says_so_with_the_remedy() -> None:
    locked = replace(ACM0, usable=False, group="dialout")
    (board,) = after([application("A", "1-1.2", "pico-ice", locked)]).boards
    assert "/dev/ttyACM0" in board.problem
    assert "usermod -aG dialout" in board.problem
    assert after([replace(application("A", "1-1.2", "", locked), settled=False)]).boards == []


def test_given_a_serial_that_can_name_no_device_then_it_is_left_alone_and_told() -> None:
    for serial in HOSTILE_SERIALS:
        found = after([application(serial)])
        assert found.boards == []
        assert "can't name a device" in found.left_alone["1-1.2"]
        assert found.left_alone["1-1.2"].isprintable()
        assert len(found.left_alone["1-1.2"]) < 500


@pytest.mark.parametrize("owned", [False, True])
def test_given_such_a_serial_in_a_bootloader_then_it_names_no_board_either(owned: bool) -> None:
    rules = UsbRules(boards=(NamedBoard(port="1-1.2", owned=True),)) if owned else NO_RULES
    for serial in HOSTILE_SERIALS:
        found = after([bootloader(Chip.RP2350, serial=serial)], rules=rules)
        assert [board.serial for board in found.boards] == [None] * owned
        assert all(each.isprintable() for each in found.left_alone.values())


# --- bootloaders --------------------------------------------------------------------------------


@pytest.mark.parametrize(("chip", "serial"), [(Chip.RP2040, None), (Chip.RP2350, "A")])
def test_given_a_board_that_goes_to_its_bootloader_then_its_port_tells_which(
    chip: Chip, serial: str | None
) -> None:
    (board,) = after([application()], [], [bootloader(chip)]).boards
    assert (board.mode, board.chip, board.serial) == (Mode.BOOTLOADER, chip, serial)
    assert board.tty is None


@pytest.mark.parametrize("chip", list(Chip))
def test_given_a_bootloader_where_no_board_was_then_it_is_left_alone_unless_named(
    chip: Chip,
) -> None:
    found = after([bootloader(chip)])
    assert found.boards == []
    assert 'port = "1-1.2", owned = true' in found.left_alone["1-1.2"]
    named = UsbRules(boards=(NamedBoard(port="1-1.2", owned=True),))
    (board,) = after([bootloader(chip)], rules=named).boards
    assert board.chip is chip


def test_given_a_port_whose_board_has_shown_itself_elsewhere_then_a_bootloader_there_is_none() -> (
    None
):
    there = [application()]
    moved = [application(port="1-3"), bootloader(Chip.RP2040)]
    assert [board.path for board in after(there, moved).boards] == ["1-3"]
    assert [board.path for board in after(there, [application(port="1-3")], moved).boards] == [
        "1-3"
    ]


def test_given_a_port_where_something_else_was_since_then_a_bootloader_there_is_left_alone() -> (
    None
):
    mouse = UsbDevice("1-1.2", "m", 0x046D, 0xC077, "", "USB Optical Mouse")
    for other in (mouse, pico(Chip.RP2040, port="1-1.2")):
        assert after([application()], [other], [bootloader(Chip.RP2040)]).boards == []


def test_given_a_bootloader_of_another_chip_or_serial_then_it_is_not_what_was_there() -> None:
    rp2040 = [application(product="icebus pico-ice")]
    rp2350 = [application(product="icebus pico2-ice")]
    assert after(rp2040, [bootloader(Chip.RP2350, serial="B")]).boards == []
    assert after(rp2350, [bootloader(Chip.RP2040)]).boards == []
    assert after(rp2350, [bootloader(Chip.RP2350, serial="B")]).boards == []


def test_given_a_known_rp2350_in_its_bootloader_elsewhere_then_its_serial_tells_which() -> None:
    (board,) = after([application()], [bootloader(Chip.RP2350, "1-3")]).boards
    assert (board.serial, board.path) == ("A", "1-3")


# --- what is not ours ---------------------------------------------------------------------------


@pytest.mark.parametrize("chip", list(Chip))
def test_given_somebody_elses_pico_then_it_is_left_alone_unless_named(chip: Chip) -> None:
    assert after([pico(chip)]).boards == []
    for named in (NamedBoard(serial="K", owned=True), NamedBoard(port="1-1.4", owned=True)):
        (board,) = after([pico(chip)], rules=UsbRules(boards=(named,))).boards
        assert (board.chip, board.serial) == (chip, "K")
    only_labelled = UsbRules(boards=(NamedBoard(port="1-1.4", labels={"bench": "3"}),))
    assert after([pico(chip)], rules=only_labelled).boards == []


def test_given_a_known_board_with_firmware_made_by_pico_sdk_then_it_is_still_ours() -> None:
    (board,) = after([application()], [pico(Chip.RP2350, "A", "1-1.2")]).boards
    assert (board.serial, board.chip) == ("A", Chip.RP2350)


def test_given_excluded_or_not_included_ports_and_serials_then_what_is_there_is_left_alone() -> (
    None
):
    devices = [application("A", "1-1.2"), application("B", "1-1.2.1"), application("C", "1-12")]

    def taken(rules: UsbRules) -> list[str | None]:
        return [board.serial for board in after(devices, rules=rules).boards]

    assert taken(UsbRules(only=frozenset({"1-1"}))) == ["A", "B"]
    assert taken(UsbRules(only=frozenset({"C", "1-1.2.1"}))) == ["B", "C"]
    assert taken(UsbRules(exclude=frozenset({"1-1.2"}))) == ["C"]
    assert taken(UsbRules(only=frozenset({"1-1"}), exclude=frozenset({"A"}))) == ["B"]


def test_given_labels_of_port_and_serial_then_a_board_has_both_and_those_of_the_serial_first() -> (
    None
):
    rules = UsbRules(
        boards=(
            NamedBoard(serial="A", labels={"fan": "old"}),
            NamedBoard(port="1-1.2", labels={"fan": "new", "bench": "3"}),
        )
    )
    (board,) = after([application()], rules=rules).boards
    assert board.labels == {"hub": "1-1", "bench": "3", "fan": "old"}


# --- what is remembered -------------------------------------------------------------------------


def test_given_a_restart_then_a_bootloader_is_known_by_its_port(tmp_path: Path) -> None:
    memory = PortMemory(tmp_path / "deep" / "ports.json")
    assert memory.load() == {}
    memory.save(after([application(product="icebus pico-ice")]).known)
    known = PortMemory(tmp_path / "deep" / "ports.json").load()
    (board,) = find_boards([bootloader(Chip.RP2040)], NO_RULES, known).boards
    assert board.path == "1-1.2"


@pytest.mark.parametrize("content", ["", "{", '{"ports": {"x": {}}}', '{"ports": 1}'])
def test_given_a_memory_that_cant_be_read_then_nothing_is_known(
    content: str, tmp_path: Path
) -> None:
    (tmp_path / "ports.json").write_text(content)
    assert PortMemory(tmp_path / "ports.json").load() == {}


def test_given_a_memory_that_cant_be_written_then_that_is_only_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    PortMemory(tmp_path / "file" / "ports.json").save({})
    assert "can't be remembered" in caplog.text


# --- whatever is plugged ------------------------------------------------------------------------

PORTS = ["1-1", "1-1.2", "2-4"]
SERIALS = st.sampled_from(["A", "B", "", "b/d"])
TTYS = st.sets(st.sampled_from([0, 2, 4])).map(
    lambda numbers: tuple(Tty(Path(f"/dev/ttyACM{n}"), n, n != 4) for n in sorted(numbers))
)
IDS = st.sampled_from(
    [
        *((0x1209, 0xB1C0), (0x1209, 0xB1C0), (0x2E8A, 0x0003), (0x2E8A, 0x000F)),
        *((0x2E8A, 0x000A), (0x2E8A, 0x0009), (0x2E8A, 0x0005), (0x046D, 0xC077)),
    ]
)
PRODUCTS = st.sampled_from(["pico-ice", "icebus pico-ice", "icebus pico2-ice", "", "Pico"])


@st.composite
def devices(draw: st.DrawFn) -> list[UsbDevice]:
    found = []
    for port in draw(st.lists(st.sampled_from(PORTS), unique=True)):
        vid, pid = draw(IDS)
        serial = RP2040_BOOTLOADER_SERIAL if (vid, pid) == (0x2E8A, 0x0003) else draw(SERIALS)
        found.append(
            UsbDevice(
                *(port, draw(st.sampled_from(["s1", "s2"])), vid, pid, serial, draw(PRODUCTS)),
                ttys=draw(TTYS),
                settled=draw(st.booleans()),
            )
        )
    return found


NAMES = st.frozensets(st.sampled_from(["1-1", "2-4", "A"]), max_size=1)
RULES = st.builds(
    UsbRules,
    only=NAMES,
    exclude=NAMES,
    boards=st.lists(
        st.builds(
            NamedBoard,
            port=st.sampled_from(["1-1", "2-4", None]),
            serial=st.sampled_from(["A", None]),
            chip=st.sampled_from([None, *Chip]),
            owned=st.booleans(),
        ),
        max_size=2,
    ).map(tuple),
)
KNOWN: st.SearchStrategy[Known] = st.dictionaries(
    st.sampled_from(PORTS),
    st.builds(KnownBoard, st.sampled_from(["A", "B", None]), st.sampled_from([None, *Chip])),
)


@settings(max_examples=300)
@given(devices(), RULES, KNOWN)
def test_given_anything_then_only_what_is_ours_beyond_doubt_is_taken(
    plugged: list[UsbDevice], rules: UsbRules, known: Known
) -> None:
    at_ports = {device.port: device for device in plugged}
    found = find_boards(plugged, rules, known)
    assert len({board.path for board in found.boards}) == len(found.boards)
    for board in found.boards:
        device = at_ports[board.path]
        remembered = known.get(board.path)
        serial = found.known[board.path].serial
        assert board.session == device.session
        assert rules.allow(board.path, serial)
        if (device.vid, device.pid) != (0x1209, 0xB1C0):
            before = remembered is not None or device.serial in {b.serial for b in known.values()}
            assert before or rules.owns(board.path, serial)
        assert (board.mode is Mode.BOOTLOADER) == (device.pid in (0x0003, 0x000F))
        if board.mode is Mode.APPLICATION:
            assert board.serial == device.serial
            assert board.tty == (device.console.path if device.console else None)
            assert bool(board.problem) == (device.console is None or not device.console.usable)
        else:
            assert board.tty is None
            assert board.chip is (Chip.RP2040 if device.pid == 0x0003 else Chip.RP2350)
            assert board.serial == (None if device.pid == 0x0003 else serial)
    assert not {board.path for board in found.boards} & set(found.left_alone)


@settings(max_examples=300)
@given(devices(), RULES, KNOWN, st.randoms())
def test_given_the_same_once_more_in_any_order_then_it_is_found_the_same(
    plugged: list[UsbDevice], rules: UsbRules, known: Known, random: Random
) -> None:
    found = find_boards(plugged, rules, known)
    shuffled = list(plugged)
    random.shuffle(shuffled)
    assert find_boards(shuffled, rules, known) == found
    assert find_boards(plugged, rules, found.known) == found


@given(devices(), KNOWN)
def test_given_all_boards_gone_then_what_was_where_is_remembered(
    plugged: list[UsbDevice], known: Known
) -> None:
    found = find_boards(plugged, NO_RULES, known)
    gone = find_boards([], NO_RULES, found.known)
    assert gone.boards == []
    assert gone.known == found.known
