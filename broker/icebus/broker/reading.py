"""Having a running Mosquitto read who is known: by SIGHUP, or by starting it anew.

Mosquitto 2.0 corrupts its memory at a SIGHUP with sessions whose name or password counts no longer:
``security_default.c`` ends a connection that is not there, which enters the session a second time
in ``session_expiry.c``; it crashes when that would have ended. Seen with 2.0.11; mended in 2.1. It
is a matter of chance there, and certain under ``MALLOC_PERTURB_=255`` with glibc's caches off.

So where somebody is shut out, it is told to end, and whoever runs it starts it anew, without its
sessions. Where people are only added, SIGHUP does no harm.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from icebus.broker.claim import Claim
from icebus.broker.mosquitto import find_program
from icebus.schemas.errors import ProgramMissing
from icebus.schemas.programs.private_files import write_private

MENDED = (2, 1)
"""The version of Mosquitto that has a session once in its list of those that end."""

ASK_TIMEOUT = 5.0
"""Seconds for Mosquitto to say its version, which takes it milliseconds."""

STARTING = 10.0
"""Seconds for it to be started again, which takes about one."""

_VERSION = re.compile(r"mosquitto version (\d+)\.(\d+)")


class Reading:
    """What Mosquitto has read of ``passwords``, and how it learns of what stands there now.

    Whoever changes it holds the lock of the broker's directory.

    Args:
        path: the directory.
        claim: of the Mosquitto that runs there.
    """

    def __init__(self, path: Path, claim: Claim) -> None:
        self._claim = claim
        self._passwords = path / "passwords"
        self._read = path / "passwords.read"
        self._ended = path / "ended.pid"

    def begins(self, minded: bool) -> None:
        """Mosquitto is about to be started, and reads what stands there now.

        Args:
            minded: whether it is started again when it ends because it was told to.
        """
        if minded:
            self._note()
        else:
            self._read.unlink(missing_ok=True)

    def tell(self) -> None:
        """Have a Mosquitto that runs here know who is known now, and end connections of others."""
        pid = self._claim.pid
        if pid is None:
            return
        # It may end just now, of itself or because it was told to before.
        with suppress(ProcessLookupError):
            self._tell(pid)

    def _tell(self, pid: int) -> None:
        over = _lines(self._read) - _lines(self._passwords)
        if over and is_harmed_by_shutting_out():
            names = sorted(each.partition(":")[0] for each in over)
            write_private(self._ended, " ".join([str(pid), *names]))
            os.kill(pid, signal.SIGTERM)
        else:
            os.kill(pid, signal.SIGHUP)
            if self._read.exists():
                self._note()

    @property
    def starts_soon(self) -> bool:
        """Whether Mosquitto was told to end just now, and is about to be started anew."""
        try:
            return time.time() - self._ended.stat().st_mtime < STARTING
        except FileNotFoundError:
            return False

    def over(self, pid: int) -> list[str]:
        """Because of which names that Mosquitto was told to end, to be started anew: none if not.

        They are those to log in under, whose password counts no longer.
        """
        try:
            told, *names = self._ended.read_text().split()
        except (FileNotFoundError, ValueError):
            return []
        return names if told == str(pid) else []

    def _note(self) -> None:
        write_private(self._read, self._passwords.read_text())


def _lines(path: Path) -> set[str]:
    try:
        return set(path.read_text().splitlines())
    except FileNotFoundError:
        return set()


@cache
def is_harmed_by_shutting_out() -> bool:
    """Whether the Mosquitto that is installed has the mistake; one that is silent may have it."""
    try:
        asked = subprocess.run(
            [find_program("mosquitto"), "-h"], capture_output=True, text=True, timeout=ASK_TIMEOUT
        )
    except (ProgramMissing, OSError, subprocess.TimeoutExpired):
        return True
    return has_the_mistake(asked.stdout)


def has_the_mistake(help_text: str) -> bool:
    """Whether Mosquitto of the version that its help begins with has it."""
    found = _VERSION.search(help_text)
    return found is None or (int(found[1]), int(found[2])) < MENDED
