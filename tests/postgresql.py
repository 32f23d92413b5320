"""A PostgreSQL server for tests: a child of ours, on a socket in a directory of its own."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from icebus.schemas.deadline import Deadline

USER = "icebus"
START_TIMEOUT = 30.0

QUICK = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
"""Nothing here has to survive a power cut."""


def programs() -> Path | None:
    """Where PostgreSQL's server programs are; Debian keeps them out of everybody's PATH."""
    found = shutil.which("postgres")
    if found is not None:
        return Path(found).parent
    versions = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    return max((each.parent for each in versions), default=None)


def serve() -> Iterator[PostgresServer]:
    """A server for as long as the tests of this process run: the body of a fixture."""
    where = programs()
    if where is None:
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL is not installed: script/bootstrap --postgresql")
        pytest.skip("PostgreSQL is not installed: script/bootstrap --postgresql")
    server = PostgresServer(where)
    try:
        server.start()
        yield server
    finally:
        server.remove()


class PostgresServer:
    """A server that runs as somebody else when we are root, for it refuses to be root.

    Args:
        programs: directory of ``initdb`` and ``postgres``.
    """

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        # A short path that others may enter: a socket's may have no more than 107 characters.
        self.directory = Path(tempfile.mkdtemp(prefix="icebus-pg-"))
        self._data = self.directory / "data"
        self._log = self.directory / "log"
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
        done = subprocess.run(whole, cwd=self.directory, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Start it, and return when it answers."""
        settings = {**QUICK, "listen_addresses": "", "unix_socket_directories": self.directory}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        setpriv = self._as_user or (["setpriv"] if shutil.which("setpriv") else [])
        # INT is its quick shutdown: should we be killed, it ends.
        guard = [*setpriv, "--pdeathsig", "INT", "--"] if setpriv else []
        argv = [*guard, str(self._programs / "postgres"), "-D", str(self._data), *options]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log, cwd=self.directory)
        deadline = Deadline.after(START_TIMEOUT)
        while True:
            try:
                self._connect().close()
            except psycopg.OperationalError:
                assert self._process.poll() is None, self._log.read_text()
                assert not deadline.expired, self._log.read_text()
            else:
                return

    def stop(self) -> None:
        """Stop it at once, whoever is connected; what is in it stays."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(START_TIMEOUT)

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
            host=str(self.directory), user=USER, dbname="postgres", autocommit=True
        )


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    pytest.fail("PostgreSQL refuses to run as root, and there is nobody else")
