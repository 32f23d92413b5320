"""A PostgreSQL server of our own: a child, on a socket in a directory that only it and we enter."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

import psycopg

from bench.processes import children
from icebus.schemas.deadline import Deadline

USER = "icebus"
START_TIMEOUT = 30.0
CONNECT_TIMEOUT = 5

NO_POWER_CUTS = {"fsync": "off", "full_page_writes": "off"}
"""What is committed survives the end of the server, but not that of the machine."""

AGAIN = 0.02
"""Seconds until a server that starts is tried again."""


def programs() -> Path | None:
    """Where PostgreSQL's server programs are; Debian keeps them out of everybody's PATH."""
    found = shutil.which("postgres")
    if found is not None:
        return Path(found).parent
    versions = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    return max((each.parent for each in versions), default=None)


class PostgresServer:
    """A server that runs as somebody else when we are root, for it refuses to be root.

    Args:
        programs: directory of ``initdb`` and ``postgres``.
        settings: of the server.

    Attributes:
        directory: where all of it is.
        log: what it says.
    """

    def __init__(self, programs: Path, settings: Mapping[str, str] = NO_POWER_CUTS) -> None:
        self._programs = programs
        self._settings = settings
        # A short path that others may enter: a socket's may have no more than 107 characters.
        self.directory = Path(tempfile.mkdtemp(prefix="icebus-pg-"))
        self.log = self.directory / "log"
        self._data = self.directory / "data"
        self._as_user: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count()
        if os.geteuid() == 0:
            owner = _unprivileged()
            os.chown(self.directory, owner.pw_uid, owner.pw_gid)
            ids = [f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
            self._as_user = ["setpriv", *ids]
        initdb = [str(self._programs / "initdb"), "-D", str(self._data), "--no-sync"]
        self._run(*initdb, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C")

    def _run(self, *argv: str) -> None:
        whole = [*self._as_user, "--", *argv] if self._as_user else argv
        done = subprocess.run(
            whole, cwd=self.directory, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{argv[0]} failed: {done.stderr}")

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The server's first process, which the others end with."""
        if self._process is None:
            raise RuntimeError("the server was never started")
        return self._process

    def start(self) -> None:
        """Start it, and return when it answers."""
        deadline = Deadline.after(START_TIMEOUT)
        pause = threading.Event()
        self._process = self._launch()
        while not self._answers():
            if deadline.expired:
                raise TimeoutError(f"PostgreSQL does not start: {self.log.read_text()}")
            if self._process.poll() is not None:
                # One that was killed leaves processes behind that end a moment later, and while
                # they live no other may touch what is theirs.
                self._process = self._launch()
            pause.wait(AGAIN)

    def _launch(self) -> subprocess.Popen[bytes]:
        settings = {
            **self._settings,
            "listen_addresses": "",
            "unix_socket_directories": str(self.directory),
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        setpriv = self._as_user or (["setpriv"] if shutil.which("setpriv") else [])
        # INT is its quick shutdown: should we be killed, it ends.
        guard = [*setpriv, "--pdeathsig", "INT", "--"] if setpriv else []
        argv = [*guard, str(self._programs / "postgres"), "-D", str(self._data), *options]
        with self.log.open("ab") as log:
            return subprocess.Popen(argv, stdout=log, stderr=log, cwd=self.directory)

    def _answers(self) -> bool:
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """Stop it at once, whoever is connected; what is in it stays."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(START_TIMEOUT)

    def freeze(self) -> None:
        """Let all of it stand still."""
        # The first process first: then there will be no more.
        for pid in (self.process.pid, *children(self.process.pid)):
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let all of it go on."""
        for pid in (*children(self.process.pid), self.process.pid):
            os.kill(pid, signal.SIGCONT)

    def remove(self) -> None:
        """Stop it, and forget everything."""
        self.stop()
        shutil.rmtree(self.directory)

    def url(self, database: str) -> str:
        """Of a database, as control takes it."""
        return f"postgresql://{USER}@/{database}?host={self.directory}"

    def create(self, template: str = "template1", name: str | None = None) -> str:
        """A new database, with all that a template has; returns its name."""
        name = name or f"test_{next(self._numbers)}"
        with self._connect() as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'.encode())
        return name

    def drop(self, name: str) -> None:
        """Remove a database, whoever is connected."""
        with self._connect() as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(
            host=str(self.directory),
            user=USER,
            dbname="postgres",
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT,
        )


def find() -> PostgresServer:
    """A server that is yet to be started; without its programs, an error that says what to do."""
    where = programs()
    if where is None:
        raise RuntimeError("PostgreSQL is not installed: script/bootstrap --postgresql")
    return PostgresServer(where)


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("PostgreSQL refuses to run as root, and there is nobody else")
