"""Which state of a device comes next, and what the one before ends with: nothing is done here.

A healthy device becomes what is desired (:mod:`.lifecycle`), one that fails climbs
(:mod:`.recovery`), and an administrator's word goes before both.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from icebus.schemas.devices import Desired, DeviceState
from icebus.schemas.errors import FirmwareUnknown, IcebusError
from icebus.worker.device import endings, lifecycle
from icebus.worker.device.commands import Command
from icebus.worker.device.facts import Facts
from icebus.worker.device.recovery import Climb, Remedy
from icebus.worker.firmware import catalogue
from icebus.worker.firmware.measuring import Meter
from icebus.worker.states._framework import Hold, Reservable, State
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
class Move:
    """Into another state.

    Attributes:
        state: the next one.
        why: what outstanding work of the one before ends with.
        afresh: whether the board's port is to be closed first.
    """

    state: State
    why: IcebusError
    afresh: bool = False


class Course:
    """The course of one device, which remembers how often it has failed in a row.

    Args:
        kinds: what it may be reserved for.
        probe_every: seconds between looks at it while it is idle, about; 0 for never.
    """

    def __init__(self, kinds: Mapping[str, type[Reservable]], probe_every: float) -> None:
        self._kinds = kinds
        self._probe_every = probe_every
        self._needed = {name: kind.firmware for name, kind in kinds.items()}
        self._climb = Climb()

    def reached(self, state: State) -> None:
        """The device is in ``state``: in one where nothing is wrong with it, failures are over."""
        if state.reported in lifecycle.SOUND:
            self._climb.end()

    def meet(self, facts: Facts) -> Move:
        """A board was plugged that nothing is known of."""
        if facts.board is not None and facts.board.in_bootloader:
            return self._flash(facts, catalogue.DEFAULT, endings.released())
        return self.examine(facts)

    def examine(self, facts: Facts, expect: str | None = None) -> Move:
        """Test a board that has come up, and if need be that it runs what it was given."""
        return self._test(facts, endings.released(), expect=expect)

    def settle(self, facts: Facts, probe: Meter | None = None) -> Move:
        """Be what is desired; for a board that is proved and idle, but for ``probe``."""
        desired = facts.desired
        match lifecycle.next_step(desired, facts.firmware, self._needed):
            case lifecycle.Isolate(reason):
                return Move(Quarantined(reason), endings.failed(facts.name, reason))
            case lifecycle.Refuse(reason):
                return self.refuse(facts, reason)
            case lifecycle.Flash(firmware):
                return self._flash(facts, firmware, endings.released())
            case lifecycle.Serve(kind) if desired is not None:
                return self._serve(facts, self._kinds[kind], desired, probe)
            case _:
                return Move(Ready(facts.firmware, self._probe_every), endings.released())

    def come_to_rest(self, facts: Facts) -> Move:
        """Serve no longer, and see the board to the end of what it does."""
        return Move(Testing(DeviceState.RELEASING, facts.firmware), endings.released())

    def lose(self, facts: Facts, reason: str) -> Move:
        """The board is gone."""
        return Move(Absent(reason), endings.unplugged(facts.name, reason))

    def refuse(self, facts: Facts, reason: str) -> Move:
        """Do nothing until the hardware, or what is desired, is another."""
        return Move(Broken(reason, retry=None), endings.failed(facts.name, reason))

    def fail(self, facts: Facts, reason: str) -> Move:
        """The board does not do what it should: take the next step of the ladder."""
        if facts.board is None:
            return self.lose(facts, reason)
        if facts.board.in_bootloader:
            self._climb.reach(Remedy.REBOOT)  # there is no port to open
        rung, told = self._climb.fail(reason)
        log.warning("device %s: %s", facts.name, told)
        why = endings.failed(facts.name, reason)
        match rung.remedy:
            case Remedy.REOPEN:
                return self._test(facts, why, told, afresh=True)
            case Remedy.REBOOT:
                return self._reboot(facts, why, told)
            case Remedy.REFLASH:
                return self._flash(facts, catalogue.DEFAULT, why, told)
            case Remedy.REST:
                return Move(Broken(told, rung.pause), why)
            case Remedy.SET_ASIDE:
                return Move(SetAside(told, rung.pause), why)

    def fail_unrecognised(self, facts: Facts) -> Move:
        """It says nothing we know: a board that never did is given the default firmware."""
        if not facts.firmware:
            self._climb.reach(Remedy.REFLASH)
        return self.fail(facts, "what the board runs is not known")

    def retry(self, facts: Facts) -> Move:
        """It has rested, or something about it has changed: look at it anew."""
        if facts.board is None:
            return self.lose(facts, "the board is not there")
        if facts.board.in_bootloader:
            return self._flash(facts, catalogue.DEFAULT, endings.released())
        told = "looked at again" if self._climb.begun else ""
        return self._test(facts, endings.released(), told, afresh=True)

    def obey(self, facts: Facts, command: Command) -> Move:
        """Do what an administrator asked for; what failed before is forgotten."""
        self._climb.end()
        why = endings.failed(facts.name, f"an administrator asked for a {command}")
        told = f"{command}, as an administrator asked"
        if command is Command.REBOOT:
            return self._reboot(facts, why, told)
        wanted = facts.desired.kind if facts.desired is not None else None
        firmware = self._needed.get(wanted or "", facts.firmware or catalogue.DEFAULT)
        return self._flash(facts, firmware, why, told)

    def _serve(
        self, facts: Facts, kind: type[Reservable], desired: Desired, probe: Meter | None
    ) -> Move:
        try:
            args = kind.Args.model_validate(desired.args)
        except ValidationError as error:
            return self.refuse(facts, f"args of {kind.kind}: {error.errors()[0]['msg']}")
        if probe is not None and not (kind.takes_over and probe.in_step):
            return self._test(facts, endings.released(), afresh=True)
        serving = kind(Hold(reservation=str(desired.reservation), user=str(desired.user)), args)
        serving.probe = probe
        return Move(serving, endings.released())

    def _reboot(self, facts: Facts, why: IcebusError, told: str) -> Move:
        reported = lifecycle.purpose(facts.desired, DeviceState.TESTING)
        return Move(Rebooting(reported, told), why)

    def _flash(self, facts: Facts, firmware: str, why: IcebusError, told: str = "") -> Move:
        if facts.board is None:
            return self.lose(facts, "the board went away")
        try:
            image = catalogue.image(firmware, facts.board)
        except FirmwareUnknown as error:
            return Move(Broken(error.message, retry=None), error)
        reported = lifecycle.purpose(facts.desired, DeviceState.FLASHING)
        return Move(Flashing(reported, firmware, image, told), why)

    def _test(
        self,
        facts: Facts,
        why: IcebusError,
        told: str = "",
        expect: str | None = None,
        afresh: bool = False,
    ) -> Move:
        reported = lifecycle.purpose(facts.desired, DeviceState.TESTING)
        return Move(Testing(reported, expect, told), why, afresh)
