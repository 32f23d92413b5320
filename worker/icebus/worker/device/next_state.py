"""Which state of a device comes next, and what the one before ends with: nothing is done here.

A healthy device becomes what is desired (:mod:`.lifecycle`), one that fails is recovered
(:mod:`.recovery`), and a command of an administrator or of the holder goes before both.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from icebus.schemas.boards.images import is_newer
from icebus.schemas.devices import Desired, DeviceState
from icebus.schemas.errors import (
    DeviceFailed,
    DeviceUnplugged,
    FirmwareUnknown,
    IcebusError,
    KindFailed,
    ReservationEnded,
)
from icebus.schemas.programs.logs import about
from icebus.worker.device import lifecycle
from icebus.worker.device.commands import Command
from icebus.worker.device.recovery import Recovery, Remedy
from icebus.worker.firmware import RECOVERY, Firmware, FirmwarePolicy, Probe
from icebus.worker.hardware.board import ConnectedBoard
from icebus.worker.states import Hold, Reservable, State, kind_failed
from icebus.worker.states.core import (
    Absent,
    Broken,
    Flashing,
    Quarantined,
    Ready,
    Rebooting,
    SetAside,
    Testing,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DeviceFacts:
    """A device as it stands, apart from what it does.

    Attributes:
        name: its serial, or where it is while that is not known.
        board: as it is plugged.
        desired: what control wants; None while it has not said.
        firmware: what the board was last proved to run; empty when it never was.
        firmware_version: of that, where it says so.
    """

    name: str
    board: ConnectedBoard | None
    desired: Desired | None
    firmware: str
    firmware_version: str = ""


@dataclass(frozen=True)
class Transition:
    """Into another state.

    Attributes:
        state: the next one.
        why: what outstanding work of the one before ends with.
        reopen: whether the board's port is to be closed first.
    """

    state: State
    why: IcebusError
    reopen: bool = False


class NextState:
    """Decides for one device, and remembers how often it has failed in a row.

    Each method is named for what has happened.

    Args:
        kinds: what it may be reserved for.
        firmware: what its board may be given.
        check_every: seconds between checks of it while it is idle, about; 0 for never.
        policy: what becomes of firmware that could be newer.
    """

    def __init__(
        self,
        kinds: Mapping[str, type[Reservable]],
        firmware: Mapping[str, Firmware],
        check_every: float,
        policy: FirmwarePolicy = FirmwarePolicy.KEEP,
    ) -> None:
        self._kinds = kinds
        self._firmware = firmware
        self._check_every = check_every
        self._usable = {
            name: tuple(each for each in kind.firmware if each in firmware)
            for name, kind in kinds.items()
        }
        self._policy = policy
        self._upgraded_to: set[tuple[str, str]] = set()
        self._recovery = Recovery()
        self._reached: State | None = None

    def reached(self, state: State) -> None:
        """The device is in ``state``: in one where nothing is wrong with it, failures are over."""
        self._reached = state
        if state.reported in lifecycle.HEALTHY:
            self._recovery.reset()

    def plugged(self, facts: DeviceFacts) -> Transition:
        """A board was plugged that nothing is known of."""
        if facts.board is not None and facts.board.in_bootloader:
            return self._revive(facts)
        return self.found(facts)

    def found(self, facts: DeviceFacts, expect: str | None = None, version: str = "") -> Transition:
        """A board has come up: test it, and if need be that it runs what it was given."""
        reported = lifecycle.preparing_or(facts.desired, DeviceState.TESTING)
        return Transition(Testing(reported, expect, version=version), _released())

    def idle(self, facts: DeviceFacts, check: Probe | None = None) -> Transition:
        """The board is proved and idle, but for ``check``: be what is desired."""
        desired = facts.desired
        upgrade = self._upgrade(facts)
        if upgrade is not None:
            return upgrade
        match lifecycle.next_step(desired, facts.firmware, self._usable):
            case lifecycle.Quarantine(reason):
                return Transition(Quarantined(reason), _failed(facts.name, reason))
            case lifecycle.Refuse(reason):
                return self.refuse(facts, reason)
            case lifecycle.Flash(firmware):
                return self._flash(facts, firmware, _released())
            case lifecycle.Serve(kind) if desired is not None:
                return self._serve(facts, self._kinds[kind], desired, check)
            case _:
                return Transition(Ready(facts.firmware, self._check_every), _released())

    def released_while_busy(self, facts: DeviceFacts) -> Transition:
        """It is to serve no longer, but its board is busy: wait until that is idle."""
        return Transition(Testing(DeviceState.RELEASING, facts.firmware), _released())

    def lost(self, facts: DeviceFacts, reason: str) -> Transition:
        """The board is gone."""
        return Transition(Absent(reason), _unplugged(facts.name, reason))

    def refuse(self, facts: DeviceFacts, reason: str) -> Transition:
        """Do nothing until the hardware, or what is desired, is another."""
        return Transition(Broken(reason, retry=None), _failed(facts.name, reason))

    def failed(self, facts: DeviceFacts, reason: str) -> Transition:
        """The board does not do what it should: take the next step of its recovery."""
        if facts.board is None:
            return self.lost(facts, reason)
        if facts.board.in_bootloader:
            self._recovery.skip_to(Remedy.REBOOT)  # there is no port to open
        step, doing = self._recovery.fail(reason)
        log.warning("device %s: %s", facts.name, doing, extra=about(facts.name))
        why = _failed(facts.name, reason)
        match step.remedy:
            case Remedy.REOPEN:
                return self._test(facts, why, doing, reopen=True)
            case Remedy.REBOOT:
                return self._reboot(facts, why, doing)
            case Remedy.REFLASH:
                return self._flash(facts, self._for_recovery(facts), why, doing)
            case Remedy.REST:
                return Transition(Broken(doing, step.pause), why)
            case Remedy.SET_ASIDE:
                return Transition(SetAside(doing, step.pause), why)

    def kind_failed(self, facts: DeviceFacts, state: Reservable, mistake: KindFailed) -> Transition:
        """The code of a kind has a mistake, and the board none that it would have to recover from.

        It is tested, as nobody knows what it was told last, and may serve again. A kind that can't
        even begin is refused until something else is desired.
        """
        if facts.board is None:
            return self.lost(facts, mistake.message)
        if state is not self._reached:
            return Transition(Broken(mistake.message, retry=None), mistake)
        reported = lifecycle.preparing_or(facts.desired, DeviceState.RELEASING)
        testing = Testing(reported, facts.firmware, mistake.message)
        return Transition(testing, mistake, reopen=True)

    def unrecognised(self, facts: DeviceFacts) -> Transition:
        """No firmware was recognised: a board of which none ever was is flashed at once."""
        if not facts.firmware:
            self._recovery.skip_to(Remedy.REFLASH)
        return self.failed(facts, "what the board runs is not known")

    def look_again(self, facts: DeviceFacts) -> Transition:
        """It was left alone long enough, or something about it has changed: test it anew."""
        if facts.board is None:
            return self.lost(facts, "the board is not there")
        if facts.board.in_bootloader:
            return self._revive(facts)
        doing = "looked at again" if self._recovery.has_failed else ""
        return self._test(facts, _released(), doing, reopen=True)

    def commanded(self, facts: DeviceFacts, command: Command) -> Transition:
        """Somebody has asked for something; what failed before is forgotten."""
        self._recovery.reset()
        by = facts.desired.asked_by if facts.desired is not None else None
        who = by or "an administrator"  # controls of earlier versions don't say
        why = _failed(facts.name, f"{who} asked for a {command}")
        doing = f"{command}, as {who} asked"
        if command is Command.REBOOT:
            return self._reboot(facts, why, doing)
        wanted = facts.desired.kind if facts.desired is not None else None
        usable = self._usable.get(wanted or "", (facts.firmware,) if facts.firmware else RECOVERY)
        # What it runs is written anew, if that will do.
        usable = tuple(sorted(usable, key=lambda each: each != facts.firmware))
        return self._flash(facts, usable, why, doing)

    def _upgrade(self, facts: DeviceFacts) -> Transition | None:
        """To what the board is to run instead, if that is the policy and was not tried before."""
        board = facts.board
        busy = isinstance(self._reached, Reservable)  # it is idle again before the next holder
        if self._policy is not FirmwarePolicy.UPGRADE or board is None or busy:
            return None
        for preferred in self._preferred_to(facts.firmware):
            version = self._firmware[preferred].image_version(board)
            better = preferred != facts.firmware or is_newer(version, facts.firmware_version)
            if version and better and (preferred, version) not in self._upgraded_to:
                self._upgraded_to.add((preferred, version))
                doing = f"upgrading from {facts.firmware} to {preferred} {version}"
                return self._flash(facts, (preferred,), _released(), doing)
        return None

    def _preferred_to(self, firmware: str) -> list[str]:
        """What kinds that can run on ``firmware`` prefer: itself, or another."""
        return list(
            dict.fromkeys(usable[0] for usable in self._usable.values() if firmware in usable)
        )

    def _serve(
        self, facts: DeviceFacts, kind: type[Reservable], desired: Desired, check: Probe | None
    ) -> Transition:
        try:
            args = kind.Args.model_validate(desired.args)
        except ValidationError as error:
            return self.refuse(facts, f"args of {kind.kind}: {error.errors()[0]['msg']}")
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a package's code
            return self._refuse_kind(facts, kind, "its Args", error)
        meter = check.meter if check is not None else None
        if check is not None and not (kind.takes_over and meter is not None and meter.in_step):
            return self._test(facts, _released(), reopen=True)
        hold = Hold(reservation=str(desired.reservation), user=str(desired.user))
        try:
            serving = kind(hold, args)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a package's code
            return self._refuse_kind(facts, kind, "its constructor", error)
        serving.probe = meter
        return Transition(serving, _released())

    def _refuse_kind(
        self, facts: DeviceFacts, kind: type[Reservable], doing: str, error: BaseException
    ) -> Transition:
        """A kind that can't begin, until another is desired: the board is left as it is."""
        mistake = kind_failed(kind.kind, doing, error)
        log.error(
            "device %s: %s", facts.name, mistake.message, exc_info=error, extra=about(facts.name)
        )
        return Transition(Broken(mistake.message, retry=None), mistake)

    def _revive(self, facts: DeviceFacts) -> Transition:
        """It waits in its bootloader: perhaps its flash was half written when somebody died.

        Without anything to give it, it is asked to start what it has, which may be whole.
        """
        flash = self._flash(facts, self._for_recovery(facts), _released())
        if facts.board is None or not isinstance(flash.why, FirmwareUnknown):
            return flash
        return self._reboot(facts, _released(), "was in its bootloader; started what it has")

    def _for_recovery(self, facts: DeviceFacts) -> Sequence[str]:
        """What a board may be given that does not work: whatever there is an image of for it."""
        wanted = facts.desired.kind if facts.desired is not None else None
        kinds = [self._usable.get(wanted or "", ()), *self._usable.values()]
        usable = [name for names in kinds for name in names]
        ran = [facts.firmware] if facts.firmware else []
        return list(dict.fromkeys((*RECOVERY, *ran, *usable, *self._firmware)))

    def _image(self, names: Sequence[str], board: ConnectedBoard) -> tuple[str, bytes]:
        """The first of this firmware of which there is an image for ``board``, with that.

        Raises:
            FirmwareUnknown: there is none of any.
        """
        problems: list[FirmwareUnknown] = []
        for name in names:
            try:
                return name, self._firmware_named(name).image(board)
            except FirmwareUnknown as problem:
                problems.append(problem)
        raise problems[0]

    def _firmware_named(self, name: str) -> Firmware:
        if name not in self._firmware:
            raise FirmwareUnknown(
                f"no firmware {name!r} is installed on the worker; install what brings it",
                firmware=name,
            )
        return self._firmware[name]

    def _reboot(self, facts: DeviceFacts, why: IcebusError, doing: str) -> Transition:
        reported = lifecycle.preparing_or(facts.desired, DeviceState.TESTING)
        return Transition(Rebooting(reported, doing), why)

    def _flash(
        self, facts: DeviceFacts, names: Sequence[str], why: IcebusError, doing: str = ""
    ) -> Transition:
        """Put the first of ``names`` on it of which there is an image."""
        if facts.board is None:
            return self.lost(facts, "the board went away")
        try:
            firmware, image = self._image(names, facts.board)
        except FirmwareUnknown as error:
            return Transition(Broken(error.message, retry=None), error)
        reported = lifecycle.preparing_or(facts.desired, DeviceState.FLASHING)
        return Transition(Flashing(reported, firmware, image, doing), why)

    def _test(
        self,
        facts: DeviceFacts,
        why: IcebusError,
        doing: str = "",
        reopen: bool = False,
    ) -> Transition:
        reported = lifecycle.preparing_or(facts.desired, DeviceState.TESTING)
        return Transition(Testing(reported, None, doing), why, reopen)


def _failed(device: str, reason: str) -> DeviceFailed:
    """It did not do what it should, or was doing to do something else."""
    return DeviceFailed(f"device {device} failed: {reason}", reason=reason, serial=device)


def _unplugged(device: str, reason: str) -> DeviceUnplugged:
    return DeviceUnplugged(
        f"device {device} was unplugged; plug it in again or release it",
        reason=reason,
        serial=device,
    )


def _released() -> ReservationEnded:
    """Nobody is served any more, or somebody else."""
    return ReservationEnded(
        "the reservation ended before this was measured; extend it in time, or reserve again"
    )
