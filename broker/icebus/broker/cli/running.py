"""``icebus-broker run``: Mosquitto in the foreground, for containers, systemd and terminals.

Whatever minds us minds Mosquitto: it logs to our stderr, ends with us, and we end when it does.
"""

from __future__ import annotations

import signal
import threading
import time
from datetime import UTC, datetime

from icebus.broker.cli.command_options import Directory, configured, say
from icebus.broker.cli.setup_commands import warnings_of
from icebus.broker.directory import BrokerDirectory
from icebus.broker.embedded import EmbeddedBroker
from icebus.broker.service.service import BrokerService
from icebus.broker.tls.certificates import SOON
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import BrokerUnavailable, IcebusError
from icebus.schemas.ids import BROKER

START_TIMEOUT = 10.0
STOP_TIMEOUT = 10.0

CHECK_INTERVAL = 0.5
"""Seconds between looks at whether Mosquitto lives, and whether somebody was shut out."""

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
        )
        self._revocations = self._revocations_now()
        self._next_expiry_check = 0.0
        self._service = BrokerService(files, self.broker.address(BROKER))

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
        self.broker.start(Deadline.after(START_TIMEOUT))
        self._service.start()

    def check(self) -> None:
        """What is due: to be called every :data:`CHECK_INTERVAL` seconds.

        Raises:
            BrokerUnavailable: Mosquitto has ended.
        """
        if not self.broker.child.running:
            raise BrokerUnavailable("Mosquitto ended; its last words stand above")
        if time.monotonic() >= self._next_expiry_check:
            self._mind_expiry()
        now = self._revocations_now()
        if now != self._revocations:
            # Mosquitto keeps connections whose certificate was revoked, and would go on taking
            # messages from them when their name is let in anew.
            self._revocations = now
            say("somebody's certificate was revoked: starting Mosquitto anew to end connections")
            self.broker.stop(Deadline.after(STOP_TIMEOUT))
            self.broker.start(Deadline.after(START_TIMEOUT))

    def reload(self) -> None:
        """Have Mosquitto read its people and certificates again."""
        if self.broker.child.running:
            self.broker.child.process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """End Mosquitto, which saves what it retains."""
        deadline = Deadline.after(STOP_TIMEOUT)
        self._service.stop(deadline)
        self.broker.stop(deadline)

    def _mind_expiry(self) -> None:
        self._next_expiry_check = time.monotonic() + EXPIRY_INTERVAL
        if self._tls is None:
            return
        try:
            ends = self._files.certificates.ends
            if self._tls.own and ends < datetime.now(UTC) + SOON:
                self._files.renew()
                say(f"renewed the broker's certificate, which would have ended on {ends:%Y-%m-%d}")
            for warning in warnings_of(self._files):
                say(warning)
        except (IcebusError, OSError) as error:
            # A broker that runs is worth more than one that knows when its certificate ends.
            say(f"can't look at when certificates end: {error}")

    def _revocations_now(self) -> tuple[int, int] | None:
        try:
            found = self._files.certificates.revocations.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns


def run(directory: Directory) -> None:
    """Run the broker until interrupted.

    SIGTERM and Ctrl-C end it, SIGHUP has it read its people and certificates again. Mosquitto's log
    goes to stderr.
    """
    standing = StandingBroker(BrokerDirectory(directory))
    stop, again = threading.Event(), threading.Event()

    def leave(_signal: int, _frame: object) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    signal.signal(signal.SIGHUP, lambda _signal, _frame: again.set())
    standing.start()
    say(f"listening on {standing.listening}")
    try:
        while not stop.wait(CHECK_INTERVAL):
            if again.is_set():
                again.clear()
                standing.reload()
            standing.check()
    finally:
        standing.stop()
    say("stopped")
