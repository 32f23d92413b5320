"""A broker's directory: who it knows, what it listens on, and the files Mosquitto reads.

Everything in it is private to its owner. Several programs may change it at once, and a broker that
runs on it learns of the change: the embedded one of ``icebus up`` or ``icebus-broker run``.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from icebus.broker.access import Principal, access_list, check_principals
from icebus.broker.bridge import Upstream, bridge
from icebus.broker.mosquitto import LOOPBACK, configuration, password_file
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import Conflict, InvalidRequest, UnknownPrincipal
from icebus.schemas.message import invalid
from icebus.schemas.topics import DEFAULT_ROOT

LOCK_TIMEOUT = 0.5
"""Seconds to wait for a directory: a broker that was just killed is still going, and whoever asks
whether one runs holds the lock for a moment."""


class Settings(BaseModel):
    """What a broker listens on, and the root of its topics."""

    model_config = ConfigDict(frozen=True)

    host: str = LOOPBACK
    port: int = Field(ge=1, le=65535)
    root: str = DEFAULT_ROOT


class _Contents(BaseModel):
    settings: Settings | None = None
    upstream: Upstream | None = None
    principals: list[Principal] = Field(default_factory=list)


class BrokerDirectory:
    """The files of one broker.

    Args:
        path: made if missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()

    @property
    def exists(self) -> bool:
        """Whether anything was ever configured here."""
        return (self.path / "principals.json").exists()

    @property
    def settings(self) -> Settings | None:
        """What the broker listens on; None when it was never configured."""
        return self._read().settings

    @property
    def principals(self) -> dict[str, Principal]:
        """Everybody the broker knows, by id."""
        return {principal.id: principal for principal in self._read().principals}

    def configure(self, settings: Settings) -> None:
        """Set what the broker listens on.

        Raises:
            Conflict: a broker runs on this directory, and Mosquitto can't move while it runs.
        """
        with self._change(settings):
            pass

    def bridge(self, upstream: Upstream | None) -> None:
        """Make this the broker of a site of a larger farm, or of a farm by itself.

        Raises:
            InvalidRequest: it was not configured, or the farm's topics have another root.
            Conflict: a broker runs on this directory, and Mosquitto can't change that meanwhile.
        """
        settings = self.settings
        if settings is None:
            raise InvalidRequest(
                f"there is no broker in {self.path}; make one with `icebus-broker configure`"
            )
        if upstream is not None:
            bridge(upstream, settings.root)
        with self._change() as known:
            if self.pid is not None:
                raise self._in_use()
            known.upstream = upstream and upstream.replacing(known.upstream)

    def add_principals(
        self, principals: Iterable[Principal], settings: Settings | None = None
    ) -> dict[str, Principal]:
        """Add principals, or change those of the same id; returns everybody known then.

        One that is known in the same role and comes without a password of its own keeps the one
        it has, so that passwords survive restarts.

        With ``settings``, also :meth:`configure`.

        Raises:
            InvalidRequest: the principals are ambiguous; nothing was changed.
            Conflict: as for :meth:`configure`.
        """
        given = list(principals)
        check_principals(given)
        with self._change(settings) as known:
            merged = {principal.id: principal for principal in known.principals}
            for principal in given:
                before = merged.get(principal.id)
                chosen = "password" in principal.model_fields_set
                if before is None or before.role is not principal.role or chosen:
                    merged[principal.id] = principal
            known.principals = list(merged.values())
        return merged

    def remove_principal(self, name: str) -> None:
        """Forget a principal; a running broker ends its connections.

        Raises:
            UnknownPrincipal: nobody of that name is known.
        """
        with self._change() as known:
            left = [principal for principal in known.principals if principal.id != name]
            if len(left) == len(known.principals):
                raise UnknownPrincipal(f"nobody here is called {name!r}; `icebus-broker list`")
            known.principals = left

    @property
    def configuration(self) -> Path:
        """Where ``mosquitto.conf`` is."""
        return self.path / "mosquitto.conf"

    # --- the broker that runs here ------------------------------------------------------------

    def lock(self) -> int:
        """A descriptor for the broker to inherit; while it is open, the directory is taken.

        Raises:
            Conflict: another broker runs on this directory.
        """
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.path / "broker.pid", os.O_RDWR | os.O_CREAT, 0o600)
        deadline = Deadline.after(LOCK_TIMEOUT)
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if deadline.expired:
                    os.close(descriptor)
                    raise self._in_use() from None
                time.sleep(0.01)
            else:
                return descriptor

    def _in_use(self) -> Conflict:
        return Conflict(
            f"a broker runs on {self.path} already (pid {self.pid}); stop it, or choose another "
            "directory"
        )

    def record_pid(self, descriptor: int, pid: int) -> None:
        """Note the pid of the broker that has inherited the lock, and let go of our copy."""
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{pid}\n".encode())
        os.close(descriptor)

    @property
    def pid(self) -> int | None:
        """The pid of the broker that runs on this directory, or None."""
        try:
            descriptor = os.open(self.path / "broker.pid", os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            # The lock, not the number, says whether it lives: numbers are used again.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.read(descriptor, 32).decode(errors="replace").strip()
            return int(text) if text.isdecimal() else None
        else:
            return None
        finally:
            os.close(descriptor)

    # --- files --------------------------------------------------------------------------------

    def _read(self) -> _Contents:
        path = self.path / "principals.json"
        try:
            return _Contents.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return _Contents()
        except ValidationError as error:
            raise invalid(error, str(path)) from None
        except PermissionError:
            raise InvalidRequest(
                f"{path} belongs to somebody else; run this as its owner"
            ) from None

    @contextmanager
    def _change(self, settings: Settings | None = None) -> Iterator[_Contents]:
        """Change what is known, alone; then write Mosquitto's files and have them read."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.path / "principals.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            known = self._read()
            if settings is not None and settings != known.settings and self.pid is not None:
                raise self._in_use()
            known.settings = settings or known.settings
            yield known
            check_principals(known.principals)
            root = known.settings.root if known.settings else DEFAULT_ROOT
            write_private(self.path / "passwords", password_file(known.principals))
            write_private(self.path / "acl", access_list(known.principals, root))
            write_private(self.path / "principals.json", known.model_dump_json(indent=2) + "\n")
            if (chosen := known.settings) is not None:
                text = configuration(self.path, chosen.port, chosen.host)
                if known.upstream is not None:
                    text += "\n" + bridge(known.upstream, chosen.root)
                write_private(self.configuration, text)
            if (pid := self.pid) is not None:
                os.kill(pid, signal.SIGHUP)
        finally:
            os.close(descriptor)


def write_private(path: Path, text: str) -> None:
    """Write a file only its owner can read, whole or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)
