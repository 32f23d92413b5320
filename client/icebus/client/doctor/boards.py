"""Checks of this machine as one that has boards on USB: rights, rules, power, ways to flash them.

Each check judges facts and does no I/O. Without a board on USB they say so and no more: most
machines have none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from icebus.client.doctor.finding import Finding, ok, warn
from icebus.schemas.programs.installation import install_extra

RULES_NAME: Final = "70-icebus.rules"
INSTALL_RULES: Final = (
    f"sudo cp worker/udev/{RULES_NAME} /etc/udev/rules.d && sudo udevadm control --reload && "
    "sudo udevadm trigger --subsystem-match=usb --subsystem-match=tty"
)
GROUP: Final = "dialout"
JOIN_GROUP: Final = f"sudo usermod -aG {GROUP} $USER, then log in again"

MODEM_MANAGER: Final = "ModemManager"
BRLTTY: Final = "brltty"

BUS_POWERED: Final = 400
"""mA that a hub without a supply of its own may pass on: 500 from its port, less 100 for itself
(USB 2.0, section 7.2.1)."""


def _install_libusb() -> str:
    return (
        f"{install_extra('worker')}; or, on Debian and Ubuntu, `sudo apt-get install libusb-1.0-0`"
    )


@dataclass(frozen=True)
class UsbBoard:
    """A board that is plugged in.

    Attributes:
        port: USB port path.
        product: as it calls itself.
        chip: if its USB id says that.
        bootloader: whether it waits for firmware.
        files: what it is used through, serial ports and its USB device file.
    """

    port: str
    product: str
    chip: str = ""
    bootloader: bool = False
    files: Sequence[Path] = ()


@dataclass(frozen=True)
class Hub:
    """A hub with something behind it.

    Attributes:
        port: USB port path, or ``usb1`` for a controller of the machine.
        own_supply: whether it says that it has a power supply of its own.
        wanted: mA that all that is plugged into it may draw.
        over_current: ports on which the current was too high, with how often.
    """

    port: str
    own_supply: bool
    wanted: int = 0
    over_current: Mapping[str, int] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class FlashingTools:
    """What boards can be flashed with.

    Attributes:
        pyusb: whether it is installed.
        libusb: whether it is, from the system or as a package.
        picotool: whether it is.
    """

    pyusb: bool
    libusb: bool
    picotool: bool


@dataclass(frozen=True)
class BoardFacts:
    """All there is to know about boards on USB here.

    Attributes:
        boards: that are plugged in.
        closed: files of boards that this user may not open.
        member: whether the user is in the group of serial ports; True where there is none.
        rules: icebus's udev rules, where they are installed; None where they are not.
        has_udev: whether the machine has udev at all.
        running: names of programs.
        holders: programs that have a port of a board open, by port.
        braille_rules: udev rules of brltty that name a board.
        hubs: with boards behind them.
        tools: to flash with.
        images: firmware that there are images of, by chip.
    """

    boards: Sequence[UsbBoard] = ()
    closed: Sequence[Path] = ()
    member: bool = True
    rules: Path | None = None
    has_udev: bool = True
    running: Sequence[str] = ()
    holders: Mapping[str, Sequence[str]] = field(default_factory=dict, hash=False)
    braille_rules: Sequence[str] = ()
    hubs: Sequence[Hub] = ()
    tools: FlashingTools = FlashingTools(pyusb=True, libusb=True, picotool=False)
    images: Mapping[str, Sequence[str]] = field(default_factory=dict, hash=False)


def findings(facts: BoardFacts) -> list[Finding]:
    """All checks; one alone where no board is plugged in."""
    if not facts.boards:
        return [check_boards(facts)]
    return [
        check_boards(facts),
        check_rights(facts),
        check_rules(facts),
        check_modem_manager(facts),
        check_braille(facts),
        check_holders(facts),
        *check_power(facts.hubs),
        check_flashing(facts.tools),
        check_images(facts),
    ]


def check_boards(facts: BoardFacts) -> Finding:
    """Which boards there are."""
    if not facts.boards:
        if facts.member:
            return ok("boards", "none on USB")
        return ok("boards", f"none on USB; before you plug one in: {JOIN_GROUP}")
    return ok("boards", ", ".join(f"{board.product} at {board.port}" for board in facts.boards))


def check_rights(facts: BoardFacts) -> Finding:
    """Whether this user may open boards and flash them."""
    if not facts.closed:
        return ok("rights", "all files of boards can be opened")
    shown = f"{_listed(facts.closed)} can't be opened by you"
    if facts.has_udev and facts.rules is None:
        return warn("rights", shown, INSTALL_RULES)
    if not facts.member:
        return warn("rights", shown, JOIN_GROUP)
    return warn(
        "rights", shown, "plug the boards in again; a container has to be given these devices"
    )


def check_rules(facts: BoardFacts) -> Finding:
    """Whether udev knows what boards are."""
    if not facts.has_udev:
        return ok("udev rules", "there is no udev here")
    if facts.rules is not None:
        return ok("udev rules", str(facts.rules))
    return warn("udev rules", "not installed: flashing boards needs root", INSTALL_RULES)


def check_modem_manager(facts: BoardFacts) -> Finding:
    """Whether it may send AT commands to a board that was just plugged in."""
    if MODEM_MANAGER not in facts.running:
        return ok("modems", f"{MODEM_MANAGER} does not run")
    if facts.rules is not None:
        return ok("modems", f"{MODEM_MANAGER} runs, and is told by udev to leave boards alone")
    return warn(
        "modems",
        f"{MODEM_MANAGER} opens boards when they are plugged in",
        f"{INSTALL_RULES}; or sudo systemctl mask --now {MODEM_MANAGER}",
    )


def check_braille(facts: BoardFacts) -> Finding:
    """Whether brltty takes boards for Braille displays."""
    if facts.braille_rules:
        return warn(
            "braille",
            f"{_listed(facts.braille_rules)} takes boards for Braille displays",
            f"sudo systemctl mask {BRLTTY}-udev.service, if nobody here reads Braille",
        )
    if BRLTTY in facts.running:
        return warn(
            "braille",
            f"{BRLTTY} runs and may open serial ports",
            f"sudo systemctl mask --now {BRLTTY}, if nobody here reads Braille",
        )
    return ok("braille", f"{BRLTTY} takes no boards")


def check_holders(facts: BoardFacts) -> Finding:
    """Who has boards open. A worker does, and nobody else may."""
    others = {
        port: [name for name in names if not name.startswith(_OURS)]
        for port, names in facts.holders.items()
    }
    shown = [f"{', '.join(names)} has {port} open" for port, names in others.items() if names]
    if not shown:
        return ok("holders", "no other program has a board open")
    return warn("holders", "; ".join(shown), "close it: bytes meant for the worker go there")


_OURS: Final = ("icebus", "python")
"""How the name of a worker's process begins."""


def check_power(hubs: Sequence[Hub]) -> list[Finding]:
    """Whether hubs give boards what they may draw, and whether a port has cut it off."""
    found = []
    for hub in hubs:
        if hub.over_current:
            ports = ", ".join(f"{port} ({count} times)" for port, count in hub.over_current.items())
            found.append(
                warn(
                    "power",
                    f"too high a current was cut off at {ports}",
                    "try another cable and board there; a short circuit does this, too",
                )
            )
        if not hub.own_supply and hub.wanted > BUS_POWERED:
            found.append(
                warn(
                    "power",
                    f"hub {hub.port} has no power supply of its own, and what is plugged into it "
                    f"may draw {hub.wanted} mA of the {BUS_POWERED} mA there are",
                    "use a hub with a power supply",
                )
            )
    return found or [ok("power", "enough for all that is plugged in, by what hubs say")]


def check_flashing(tools: FlashingTools) -> Finding:
    """Whether boards can be given firmware."""
    ways = []
    if tools.pyusb and tools.libusb:
        ways.append("PICOBOOT through libusb")
    if tools.picotool:
        ways.append("picotool")
    if not ways:
        missing = "libusb" if tools.pyusb else "pyusb"
        return warn(
            "flashing",
            f"{missing} and picotool are not installed: only a mounted drive takes firmware",
            _install_libusb(),
        )
    return ok("flashing", ", ".join(ways))


def check_images(facts: BoardFacts) -> Finding:
    """Whether there is firmware for the boards."""
    chips = sorted({board.chip for board in facts.boards if board.chip} or set(facts.images))
    missing = [chip for chip in chips if not facts.images.get(chip)]
    if not facts.images or missing:
        shown = f"none for {' and '.join(missing)}" if missing else "none"
        return warn(
            "firmware",
            f"{shown}: a board that lacks it can't be given any",
            "script/firmware --install, or put UF2 files into a folder that ICEBUS_FIRMWARE names",
        )
    shown = "; ".join(f"{chip}: {', '.join(facts.images[chip])}" for chip in chips)
    return ok("firmware", shown)


def _listed(things: Sequence[object]) -> str:
    names = [str(thing) for thing in things]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
