"""A firmware that misbehaves: what an ill board does, switched on and off while it runs.

The firmware inside goes on by itself, deaf or mute as the fault has it; so a fault that is switched
off leaves a board that is well at once, or comes round by its own watchdog.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from icebus.rack.firmware.base import Firmware, Step
from icebus.schemas.boards.rack import Fault

if TYPE_CHECKING:
    from random import Random

    from icebus.rack.firmware.base import Evaluation
    from icebus.rack.verdict import Verdict

BABBLE_SECONDS: Final = 0.01
"""Between two mouthfuls of a board that babbles: about what USB full speed moves."""

_MOUTHFUL: Final = 8192
_MUTE: Final = frozenset({Fault.HANG, Fault.WEDGE, Fault.BABBLE})


class Faulty(Firmware):
    """``inner`` with a fault.

    Args:
        inner: the firmware as it should be.
        fault: what is wrong.
        random: for what is said at random.
    """

    def __init__(self, inner: Firmware, fault: Fault, random: Random) -> None:
        super().__init__(inner.settings, random, inner.runs_on)
        self._inner = inner
        self._fault = fault
        self._taken = 0
        self._stalled = False
        self._babble_at = 0.0

    @property
    def waits_for_host(self) -> bool:  # type: ignore[override]  # a fixed answer everywhere else
        """As the firmware inside; one that babbles waits for nobody."""
        return self._inner.waits_for_host and self._fault is not Fault.BABBLE

    @property
    def salvages(self) -> bool:  # type: ignore[override]  # as above
        """As the firmware inside, unless it is deaf."""
        return self._inner.salvages and self._fault not in _MUTE and not self._stalled

    @property
    def wants(self) -> int:
        """Nothing when it is deaf; half a transfer when it will stall."""
        if self._fault in _MUTE or self._stalled:
            return 0
        wanted = self._inner.wants
        return min(wanted, self.stalls_at - self._taken) if self._fault is Fault.STALL else wanted

    @property
    def receiving(self) -> bool:
        """As the firmware inside."""
        return self._inner.receiving

    @property
    def stalls_at(self) -> int:
        """As the firmware inside."""
        return self._inner.stalls_at

    @property
    def touchable(self) -> bool:
        """A chip that hangs does not even serve its USB."""
        return self._fault is not Fault.HANG

    def salvage(self, unread: bytes) -> bytes:
        """As the firmware inside."""
        return self._inner.salvage(unread)

    @property
    def deadline(self) -> float | None:
        """The next mouthful, or what the firmware inside waits for."""
        inside = self._inner.deadline
        if self._fault is not Fault.BABBLE:
            return inside
        return self._babble_at if inside is None else min(inside, self._babble_at)

    def start(self, now: float) -> Step:
        """The board was enumerated."""
        return self._said(self._inner.start(now))

    def receive(self, data: bytes, now: float) -> Step:
        """Bytes from the host."""
        step = self._inner.receive(data, now)
        self._taken = self._taken + len(data) if self._inner.receiving else 0
        said = self._said(step)
        self._stalled = self._fault is Fault.STALL and self._taken >= self.stalls_at
        return said

    def wake(self, now: float) -> Step:
        """Say the next mouthful; the firmware inside has its turn, too."""
        step = self._said(self._inner.wake(now))
        if self._fault is not Fault.BABBLE or now < self._babble_at:
            return step
        self._babble_at = now + BABBLE_SECONDS
        # Lines, and now and then none for long.
        ends = self.random.choice((b"\r\n", b" "))
        return replace(step, output=ends.join([b"babble"] * (_MOUTHFUL // 8)))

    def measured(self, evaluation: Evaluation, verdict: Verdict, now: float) -> Step:
        """The verdict on an evaluation that was started."""
        return self._said(self._inner.measured(evaluation, verdict, now))

    def host_closed(self, now: float) -> Step:
        """The host has closed the port."""
        self._taken = 0
        return self._said(self._inner.host_closed(now))

    def _said(self, step: Step) -> Step:
        if not step.output:
            return step
        if self._fault in _MUTE or self._stalled:
            return replace(step, output=b"")
        if self._fault is Fault.GARBAGE:
            return replace(step, output=self.random.randbytes(len(step.output)))
        if self._fault is Fault.MISREPORT:
            return replace(step, output=self._inner.garble(step.output))
        return step
