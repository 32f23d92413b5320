"""A firmware that runs on a board: bytes between its serial port and its state machine."""

from __future__ import annotations

import logging
import select
from functools import partial
from typing import TYPE_CHECKING, Final, ParamSpec

from icebus.rack.firmware import NOTHING, Faulty, Restart, name_of
from icebus.rack.pacing import Pacer
from icebus.rack.pty import EVENTS, PtyPort, Signal

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from icebus.rack.evaluator import Evaluator
    from icebus.rack.firmware import Evaluation, Firmware, Step
    from icebus.rack.loop import Loop, Timer
    from icebus.rack.settings import BoardSettings
    from icebus.rack.verdict import Verdict
    from icebus.schemas.boards.rack import Fault

_LOG = logging.getLogger(__name__)

P = ParamSpec("P")

_READY: Final = select.EPOLLIN | select.EPOLLOUT

_READS_A_TURN: Final = 2
"""Then the other boards have their turn."""


class Application:
    """Runs ``firmware`` on a new serial port until :meth:`close`.

    Args:
        serial: the board's, for the log.
        loop: whose thread everything here runs on.
        firmware: the state machine.
        evaluator: simulates the FPGA.
        settings: bandwidth and times.
        fpga_seed: what makes this board's FPGA differ from the others.
        on_restart: called once the firmware, or a host that has touched the port at 1200 baud, has
            had the chip start something else.
    """

    def __init__(
        self,
        serial: str,
        loop: Loop,
        firmware: Firmware,
        evaluator: Evaluator,
        settings: BoardSettings,
        fpga_seed: int,
        on_restart: Callable[[Restart], None],
    ) -> None:
        self._serial = serial
        self._loop = loop
        self._healthy_firmware = self._firmware = firmware
        self._evaluator = evaluator
        self._settings = settings
        self._fpga_seed = fpga_seed
        self._on_restart = on_restart
        self._port = PtyPort()
        self._pacer = Pacer(settings.bandwidth, loop.now())
        self._firmware_timer: Timer | None = None
        self._pace_timer: Timer | None = None
        self._detach_timer: Timer | None = None
        self._unsent = b""
        self._closed = False

    @property
    def path(self) -> str:
        """The serial port."""
        return self._port.path

    def start(self) -> None:
        """Start the firmware."""
        self._loop.register(self._port.fileno(), EVENTS, self._on_events)
        self._do(self._run(self._firmware.start, self._loop.now()))

    def set_fault(self, fault: Fault | None, random: Random) -> None:
        """Have something wrong with the board from now on, or nothing any more."""
        healthy = self._healthy_firmware
        self._firmware = healthy if fault is None else Faulty(healthy, fault, random)
        self._do(NOTHING)  # it may wait for something else now
        self._pump()

    def close(self) -> None:
        """Pull the plug."""
        if self._closed:
            return
        self._closed = True
        for timer in (self._firmware_timer, self._pace_timer, self._detach_timer):
            if timer is not None:
                timer.cancel()
        self._loop.unregister(self._port.fileno())
        self._port.close()

    def _on_events(self, events: int) -> None:
        if events & select.EPOLLOUT:
            self._send(b"")
        if self._pace_timer is not None and not events & ~_READY:
            return  # more bytes behind those that are held back
        self._pump(hung_up=bool(events & select.EPOLLHUP))

    def _pump(self, *, hung_up: bool = False) -> None:
        if self._closed:
            return
        if hung_up and self._port.is_closed():
            self._drain()
            return
        for _ in range(_READS_A_TURN):
            now = self._loop.now()
            wanted = self._wanted
            got = self._port.read(self._pacer.allowance(now, wanted))
            if isinstance(got, bytes):
                self._pacer.spent(len(got))
                step = self._run(self._firmware.receive, got, now)
                if step is not NOTHING:
                    self._do(step)
                    if self._closed:
                        return
            elif got is Signal.WAITING:
                if wanted:
                    self._pace(self._pacer.next_time(wanted))
                else:
                    self._pacer.empty(now)  # what waits for the firmware is not on the line
                return
            elif got is Signal.EMPTY:
                self._pacer.empty(now)
                return
            elif got is Signal.CLOSED:
                self._host_closed(now)
                return
            else:
                self._noticed(got, now)
        self._loop.call_soon(self._pump)

    @property
    def _wanted(self) -> int:
        # A host that does not read is not served.
        return 0 if self._unsent or self._detach_timer is not None else self._firmware.wants

    def _drain(self) -> None:
        """Take what a host wrote before it closed the port; on USB its close would have waited.

        The next host may open the port meanwhile. It sets the line before it writes, and a port
        tells that first: so bytes are the old host's until the port says something else and is
        open, and nothing of the new host's is to be lost.
        """
        now = self._loop.now()
        while (got := self._port.read(self._wanted)) not in (Signal.CLOSED, Signal.EMPTY):
            if isinstance(got, bytes):
                self._do(self._run(self._firmware.receive, got, now))
                if self._closed:
                    return
            elif got is Signal.WAITING:
                self._port.take_unreceived()
            elif self._port.is_closed():
                self._noticed(got, now)  # the old host's, too
            else:
                self._reopened(now)
                if got is not Signal.REOPENED:
                    self._noticed(got, now)
                self._loop.call_soon(self._pump)
                return
        self._host_closed(now)

    def _noticed(self, signal: Signal, now: float) -> None:
        if signal is Signal.TOUCH and not self._firmware.touchable:
            _LOG.info("%s hangs: the touch of its host resets nothing", self._serial)
        elif signal is Signal.TOUCH and self._detach_timer is None:
            # The firmware's USB stack resets the chip from within its line-coding callback.
            self._detach_timer = self._loop.call_at(now + self._settings.detach, self._touched)
        elif signal is Signal.REOPENED:
            self._reopened(now)

    def _touched(self) -> None:
        self._on_restart(Restart.BOOTLOADER)

    def _reopened(self, now: float) -> None:
        """The host has closed the port and opened it, too quickly for a hang-up to be seen."""
        self._forget_unsent()
        # What is still to be read may be either side's of the close.
        salvaged = b""
        if self._firmware.salvages:
            salvaged = self._firmware.salvage(self._port.take_unreceived())
        elif self._firmware.receiving:
            # It is better lost, which the watchdog notices, than counted.
            _LOG.warning("%s: its port was reopened within a transfer; dropped", self._serial)
            self._port.take_unreceived()
        self._do(self._run(self._firmware.host_closed, now))
        if salvaged:
            self._do(self._run(self._firmware.receive, salvaged, now))

    def _pace(self, deadline: float) -> None:
        if self._pace_timer is None:
            self._pace_timer = self._loop.call_at(deadline, self._paced)

    def _paced(self) -> None:
        self._pace_timer = None
        self._pump()

    def _host_closed(self, now: float) -> None:
        if self._detach_timer is not None:
            self._detach_timer.fire()
            return
        self._forget_unsent()
        self._port.drop_unread()
        self._pacer.empty(now)
        self._do(self._run(self._firmware.host_closed, now))

    def _run(self, take: Callable[P, Step], *args: P.args, **kwargs: P.kwargs) -> Step:
        """Have the firmware take an input; one that fails does nothing, and the log names it."""
        try:
            return take(*args, **kwargs)
        except (Exception, SystemExit):  # noqa: BLE001 (logged; it is a package's code)
            name = name_of(type(self._healthy_firmware))
            _LOG.exception("%s: %s failed", self._serial, name)
            return NOTHING

    def _do(self, step: Step) -> None:
        if step.report:
            _LOG.debug("%s reports %s", self._serial, step.report)
        if step.output and self._detach_timer is None:
            self._send(step.output)
        for evaluation in step.evaluations:
            done = partial(self._measured, evaluation)
            self._evaluator.submit(evaluation, self._fpga_seed, done)
        if step.restart is not None:
            self._on_restart(step.restart)
            return
        timer, deadline = self._firmware_timer, self._firmware.deadline
        if timer is None or timer.deadline != deadline:
            if timer is not None:
                timer.cancel()
            self._firmware_timer = (
                None if deadline is None else self._loop.call_at(deadline, self._wake)
            )

    def _send(self, output: bytes) -> None:
        """Send what was kept for the host and this; keep what it does not take now, or lose it."""
        kept = self._unsent
        whole = kept + output
        sent = self._port.write(whole)
        self._unsent = whole[sent:] if self._firmware.waits_for_host else b""
        if bool(kept) is not bool(self._unsent):
            self._watch()

    def _forget_unsent(self) -> None:
        if self._unsent:
            self._unsent = b""
            self._watch()

    def _watch(self) -> None:
        room = select.EPOLLOUT if self._unsent else 0
        self._loop.watch_for(self._port.fileno(), EVENTS | room)

    def _wake(self) -> None:
        self._firmware_timer = None
        self._advance(self._run(self._firmware.wake, self._loop.now()))

    def _measured(self, evaluation: Evaluation, verdict: Verdict) -> None:
        if not self._closed:
            now = self._loop.now()
            self._advance(self._run(self._firmware.measured, evaluation, verdict, now))

    def _advance(self, step: Step) -> None:
        self._do(step)
        if not self._closed and self._firmware.wants:
            self._pump()
