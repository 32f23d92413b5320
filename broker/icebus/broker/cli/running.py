"""``icebus-broker run``: Mosquitto in the foreground, for containers, systemd and terminals.

Whatever minds us minds Mosquitto: it logs to our stderr, ends with us, and we end when it does.
"""

from __future__ import annotations

import logging
import queue
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from icebus.broker.cli.command_options import Directory, configured
from icebus.broker.cli.setup_commands import warnings_of
from icebus.broker.directory import BrokerDirectory
from icebus.broker.embedded import LONGEST_START, EmbeddedBroker
from icebus.broker.health import look
from icebus.broker.service.failed_logins import FailedLoginsTold
from icebus.broker.service.service import BrokerService
from icebus.broker.service.sessions import Sessions
from icebus.broker.tls.certificates import SOON
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import BrokerUnavailable, IcebusError
from icebus.schemas.ids import BROKER
from icebus.schemas.programs.log_options import (
    LogFormat,
    LogFormatOption,
    LogLevel,
    LogLevelOption,
    log_as_told,
)
from icebus.schemas.programs.logs import log_to_stderr
from icebus.schemas.supervision.command import (
    MARGIN,
    PATIENCE,
    EndpointOption,
    OnlyCritical,
    Output,
    OutputOption,
    PatienceOption,
    tell,
    within,
)
from icebus.schemas.supervision.service import Supervision

log = logging.getLogger(__name__)

STOP_TIMEOUT = 10.0

SERVICE_STOP_TIMEOUT = 3.0
"""Seconds of them for the broker's own service: what it has not said by then is said anew when it
starts, and what Mosquitto has not saved is lost."""

CHECK_INTERVAL = 0.5
"""Seconds between looks at whether Mosquitto lives, and whether somebody was shut out."""

CRASH_SPAN = 60.0
MOST_CRASHES = 5
"""Crashes within so many seconds after which it is not started once more."""

EXPIRY_INTERVAL = 86_400.0
"""Seconds between looks at when certificates end."""


class StandingBroker:
    """The broker of a directory, until it is told to stop.

    Args:
        files: the directory.

    Raises:
        InvalidRequest: there is no broker in it.
    """

    def __init__(self, files: BrokerDirectory) -> None:
        settings = configured(files)
        self._files = files
        self._tls = settings.tls
        self.broker = EmbeddedBroker(
            files.path,
            [],
            root=settings.root,
            port=settings.port,
            host=settings.host,
            tls=settings.tls,
            to_stderr=True,
            minded=True,
        )
        self._revocations = self._revocations_now()
        self._next_expiry_check = 0.0
        self._crashes: list[float] = []
        self._turns: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        address = self.broker.address(BROKER)
        told = FailedLoginsTold(self.broker.logins)
        sessions = Sessions(self.broker.logins, address)
        self._service = BrokerService(files, address, [sessions, told], self.broker.logins)

    @property
    def listening(self) -> str:
        """Where it listens, for people."""
        plain = f"{self.broker.host}:{self.broker.port}"
        if self._tls is None:
            return plain
        tls = self._tls
        return f"{tls.address}, ports {tls.port} and {tls.component_port} with TLS, and {plain}"

    def start(self) -> None:
        """Start Mosquitto.

        Raises:
            BrokerUnavailable: it does not start; its own words stand on stderr.
            Conflict: another broker runs on the directory.
        """
        self._mind_expiry()
        self.broker.start(Deadline.after(LONGEST_START))
        self._service.start()

    def check(self) -> None:
        """What is due: to be called every :data:`CHECK_INTERVAL` seconds.

        Raises:
            BrokerUnavailable: Mosquitto has ended.
        """
        if shut_out := self.broker.shut_out:
            log.info(
                "a password of %s counts no longer: starting Mosquitto anew to end connections",
                ", ".join(shut_out),
            )
            self._restart()
        elif not self.broker.child.running:
            self._start_again()
        if time.monotonic() >= self._next_expiry_check:
            self._mind_expiry()
        now = self._revocations_now()
        if now != self._revocations:
            # Mosquitto keeps connections whose certificate was revoked, and would go on taking
            # messages from them when their name is let in anew.
            self._revocations = now
            log.info("a certificate was revoked: starting Mosquitto anew to end connections")
            self._restart()

        while not self._turns.empty():
            self._turns.get_nowait()()

    def _start_again(self) -> None:
        """Start Mosquitto once more after it crashed; what it retains is a minute old at most.

        Raises:
            BrokerUnavailable: it ended otherwise, or crashes again and again.
        """
        code = self.broker.child.process.returncode
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        now = time.monotonic()
        self._crashes = [at for at in self._crashes if at > now - CRASH_SPAN] + [now]
        if code >= 0 or len(self._crashes) > MOST_CRASHES:
            raise BrokerUnavailable(
                f"Mosquitto ended, {how}; its last words stand above, if it had any"
            )
        log.error("Mosquitto was %s: starting it again", how)
        self._restart()

    def _restart(self) -> None:
        self.broker.stop(Deadline.after(STOP_TIMEOUT))
        self.broker.start(Deadline.after(LONGEST_START))

    @property
    def serves(self) -> bool:
        """Whether Mosquitto listens, and has taken in the service."""
        return self._service.ready

    @property
    def loops(self) -> dict[str, Callable[[Callable[[], None]], None]]:
        """What has to turn for the broker to be alive: by name, how each is asked to."""
        return {
            "what looks after Mosquitto": self._turns.put,
            "Mosquitto, or the broker's service": self._service.ask,
        }

    def status(self) -> str:
        """What it does, in some words."""
        return f"listening on {self.listening}"

    def reload(self) -> None:
        """Have Mosquitto read its people and certificates again."""
        self._files.reload()

    def stop(self) -> None:
        """End Mosquitto, which saves what it retains."""
        deadline = Deadline.after(STOP_TIMEOUT)
        self._service.stop(Deadline.after(SERVICE_STOP_TIMEOUT))
        self.broker.stop(deadline)

    def give_up(self) -> None:
        """Wait no longer for a Mosquitto that is starting; may be called by a signal's handler."""
        self.broker.give_up()

    def _mind_expiry(self) -> None:
        self._next_expiry_check = time.monotonic() + EXPIRY_INTERVAL
        if self._tls is None:
            return
        try:
            ends = self._files.certificates.ends
            if self._tls.own and ends < datetime.now(UTC) + SOON:
                self._files.renew()
                log.info(
                    "renewed the broker's certificate, which would have ended on %s", ends.date()
                )
            for warning in warnings_of(self._files):
                log.warning("%s", warning)
        except (IcebusError, OSError) as error:
            # A broker that runs is worth more than one that knows when its certificate ends.
            log.warning("can't look at when certificates end: %s", error)

    def _revocations_now(self) -> tuple[int, int] | None:
        try:
            found = self._files.certificates.revocations.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns


def run(
    directory: Directory,
    log_level: LogLevelOption = LogLevel.INFO,
    log_format: LogFormatOption = LogFormat.TEXT,
    health: EndpointOption = None,
) -> None:
    """Run the broker until interrupted.

    SIGTERM and Ctrl-C end it, SIGHUP has it read its people and certificates again. Mosquitto's log
    is part of ours, on stderr.
    """
    log_as_told(log_level, log_format)
    # Before Mosquitto is started, which would tell systemd that it is ready itself.
    supervision = Supervision(health)
    files = BrokerDirectory(directory)
    standing = StandingBroker(files)
    stop, again = threading.Event(), threading.Event()

    def leave(_signal: int, _frame: object) -> None:
        stop.set()
        standing.give_up()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    signal.signal(signal.SIGHUP, lambda _signal, _frame: again.set())
    try:
        standing.start()
    except BrokerUnavailable:
        if not stop.is_set():
            raise
        log.info("stopped")
        return
    log.info("listening on %s", standing.listening)
    supervision.tell_health("broker", partial(look, files))
    ready = False
    try:
        while not stop.wait(CHECK_INTERVAL):
            if again.is_set():
                again.clear()
                _reload(standing)
            try:
                standing.check()
            except BrokerUnavailable:
                if stop.is_set():
                    break
                raise
            if not ready and standing.serves:
                ready = True
                supervision.ready(standing.loops, standing.status)
    finally:
        supervision.stop()
        standing.stop()
    log.info("stopped")


def _reload(standing: StandingBroker) -> None:
    try:
        standing.reload()
    except (IcebusError, OSError) as error:
        log.warning("people and certificates could not be read again: %s", error)


def tell_health(
    directory: Directory,
    output: OutputOption = Output.TEXT,
    timeout: PatienceOption = PATIENCE,
    only_critical: OnlyCritical = False,
) -> None:
    """Say in one line whether the broker is well: Mosquitto, ports, disk, certificates.

    Whoever may read its directory may ask.
    """
    log_to_stderr(logging.ERROR)
    files = BrokerDirectory(directory)
    verdict = within("broker", lambda: look(files, timeout), timeout + MARGIN)
    tell(verdict, output, only_critical=only_critical)
