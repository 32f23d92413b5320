"""A private Mosquitto with credentials and an access list from the start."""

from __future__ import annotations

import errno
import os
import signal
import socket
import threading
from collections.abc import Iterable
from pathlib import Path

from icebus.broker.access import Principal
from icebus.broker.directory import BrokerDirectory, Settings
from icebus.broker.logins.reader import LogReader
from icebus.broker.logins.watch import LoginWatch
from icebus.broker.mosquitto import LOOPBACK, find_program, may_open_many_files
from icebus.broker.process import Child
from icebus.broker.reading import is_harmed_by_shutting_out
from icebus.broker.saved_state import forget_sessions
from icebus.broker.tls.certificates import Listening
from icebus.bus import BrokerAddress
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import BrokerUnavailable, UnknownPrincipal
from icebus.schemas.topics import DEFAULT_ROOT

ATTEMPTS = 5
"""Ports to try when the choice is ours: another program may take a free one before Mosquitto."""


LONGEST_START = 60.0
"""Seconds for it to listen, unless it ends before. It reads what it has saved first: 140 MB, which
one user can have it keep for a while, take 4 s on an idle machine."""


class EmbeddedBroker:
    """Mosquitto as a child process that keeps everything in one directory.

    It knows the principals given and those it finds in the directory, with their passwords.

    Args:
        directory: made if missing; holds configuration, hashed passwords, access list and log.
        principals: who may connect.
        root: of the topics.
        port: to listen on; None for the one used here before, or else a free one.
        host: to listen on; loopback unless other machines shall reach it.
        tls: where to listen with TLS besides, with the certificates in the directory.
        to_stderr: pass on what Mosquitto logs to our own log instead of a file in the directory;
            but not each connection.
        minded: whether it is started again where :attr:`shut_out` names somebody.

    Raises:
        ProgramMissing: Mosquitto is not installed; the message says how to.
        InvalidRequest: the principals are ambiguous.
        Conflict: another broker runs on this directory.
    """

    def __init__(
        self,
        directory: Path,
        principals: Iterable[Principal],
        root: str = DEFAULT_ROOT,
        port: int | None = None,
        host: str = LOOPBACK,
        tls: Listening | None = None,
        to_stderr: bool = False,
        minded: bool = False,
    ) -> None:
        self._files = BrokerDirectory(directory)
        self.directory = self._files.path
        self.root = root
        self.host = host
        self._tls = tls
        self._minded = minded
        self._log = None if to_stderr else self.directory / "mosquitto.log"
        self._program = self._find()
        self._child: Child | None = None
        self._lock: int | None = None
        self._reader: LogReader | None = None
        self.logins = LoginWatch()
        self._given_up = threading.Event()
        self._attempts = ATTEMPTS if port is None else 1
        self.port = port if port is not None else self._choose_port()
        self._principals = self._files.add_principals(principals, self._settings)

    def add_principals(self, principals: Iterable[Principal]) -> None:
        """Add principals, or change those of the same id; a running broker learns of it."""
        self._principals = self._files.add_principals(principals)

    def address(self, principal: str) -> BrokerAddress:
        """How the principal of that id connects.

        Raises:
            UnknownPrincipal: nobody of that name was admitted.
        """
        if principal not in self._principals:
            self._principals = self._files.principals
        if principal not in self._principals:
            raise UnknownPrincipal(f"the broker knows nobody called {principal!r}")
        password = self._principals[principal].password
        if not password:
            raise UnknownPrincipal(
                f"only the hash of {principal}'s password is kept; "
                f"`icebus-broker add {principal} --new-password` makes a new one"
            )
        return BrokerAddress(
            host=reachable(self.host),
            port=self.port,
            user=principal,
            password=password,
            root=self.root,
            login=self._principals[principal].login or "",
        )

    def start(self, deadline: Deadline) -> None:
        """Start it and return when it accepts connections (typically within 10 ms).

        Raises:
            BrokerUnavailable: it ended or did not listen; the message has the end of its log.
            Conflict: another broker runs on this directory.
        """
        while True:
            try:
                self._start(deadline)
            except _PortTaken as taken:
                self._attempts -= 1
                if self._attempts <= 0 or deadline.expired:
                    raise BrokerUnavailable(
                        f"port {taken.port} is in use; stop what listens there or choose another"
                    ) from taken
                self.port = free_port()
                self._files.configure(self._settings)
            else:
                # From now on clients know the port: a restart must use the same.
                self._attempts = 1
                return

    def _start(self, deadline: Deadline) -> None:
        lock = self._files.claim.take()
        for host, port in self._listeners:
            if _taken(host, port):
                os.close(lock)
                raise _PortTaken(port)
        read = self._files.version
        self._files.reading.begins(self._minded)
        if is_harmed_by_shutting_out():
            forget_sessions(self.directory)
        self._child = self._launch(lock, self._log)
        while not (
            all(_accepts(reachable(host), port) for host, port in self._listeners)
            and _takes_hangups(self._child.process.pid)
        ):
            if not self._child.running or deadline.expired or self._given_up.is_set():
                self._let_go()
                self.stop(Deadline.after(1))
                said = self._reader.said[-800:] if self._reader is not None else "see its log"
                if "Address already in use" in said:
                    raise _PortTaken(self.port)
                raise BrokerUnavailable(f"Mosquitto did not start on port {self.port}: {said}")
            self._given_up.wait(0.005)
        self._let_go(self._child.process.pid)
        if self._files.version != read:
            self._files.reload()  # somebody may have changed it after Mosquitto had read it
        if self._reader is not None:
            self.logins.started(self._child.process.pid)

    def give_up(self) -> None:
        """Have :meth:`start` wait no longer, now and later: whoever runs this is told to end."""
        self._given_up.set()

    def _find(self) -> str:
        return find_program("mosquitto")

    def _launch(self, lock: int, log: Path | None) -> Child:
        argv = [self._program, "-c", str(self._files.configuration)]
        reader = LogReader(self.logins, log)
        try:
            with may_open_many_files():
                child = Child(argv, reader.output, inherit=[lock])
        except BaseException:
            reader.close()
            raise
        reader.start()
        self._reader = reader
        self._lock = lock
        return child

    def _let_go(self, pid: int | None = None) -> None:
        """Leave the claim to Mosquitto; with its number, once it heeds signals."""
        if self._lock is None:
            return
        if pid is not None:
            self._files.claim.record(self._lock, pid)
        os.close(self._lock)
        self._lock = None

    @property
    def child(self) -> Child:
        """The running process."""
        if self._child is None:
            raise BrokerUnavailable("the embedded broker was not started")
        return self._child

    @property
    def shut_out(self) -> list[str]:
        """Because of whose passwords it has ended, to be started anew; nobody's if it has not."""
        child = self._child
        if child is None or child.running:
            return []
        return self._files.reading.over(child.process.pid)

    def stop(self, deadline: Deadline) -> None:
        """End it; it saves retained messages first."""
        if self._child is not None:
            self._child.stop(deadline)
        if self._reader is not None:
            self._reader.join(deadline)

    @property
    def _settings(self) -> Settings:
        return Settings(host=self.host, port=self.port, root=self.root, tls=self._tls)

    @property
    def _listeners(self) -> list[tuple[str, int]]:
        """Addresses and ports."""
        here = [(self.host, self.port)]
        if self._tls is not None:
            ports = (self._tls.port, self._tls.component_port)
            here += [(self._tls.address, port) for port in ports]
        return here

    def _choose_port(self) -> int:
        before = self._files.settings
        if before is not None and not _taken(self.host, before.port):
            return before.port
        return free_port()


class _PortTaken(Exception):
    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.port = port


def reachable(host: str) -> str:
    """Where to connect to, on this machine, for what listens on ``host``."""
    return {"0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host)  # noqa: S104


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def _taken(host: str, port: int) -> bool:
    """Whether somebody listens there. Mosquitto would fail, but a client would reach them."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As Mosquitto does: connections of an earlier broker that still linger are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def _accepts(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=0.2):
            return True
    except OSError:
        return False


def _takes_hangups(pid: int) -> bool:
    """Whether SIGHUP has it read its files again: it listens a moment before, and would die."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True  # not Linux, or it has ended, which others notice
    caught = status.partition("SigCgt:")[2].split()
    return not caught or bool(int(caught[0], 16) & 1 << (signal.SIGHUP - 1))
