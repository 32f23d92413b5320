"""Answering a shell that asks for completions: the farm is asked for as long as somebody waits."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from icebus.client.cli.completing.command_tree import Words, find_wanted, read_tree
from icebus.client.cli.completing.shells import answer, asked_by, tidy
from icebus.client.cli.completing.where import find_broker, local_users, saved_farms

ANSWER_TIME = 1.0
"""Seconds that somebody who has pressed TAB waits at most."""

SILENT_FOR = 30.0
"""Seconds for which a farm that did not answer in time is not asked again: nobody waits twice."""

_tree = cache(read_tree)


def answer_shell(environment: Mapping[str, str]) -> int | None:
    """Print what a shell asks for; returns the exit code, or None where typer has to answer it.

    Raises:
        OSError: the file of commands can't be read.
        ValueError: it is something else.
    """
    asked = asked_by(environment)
    if asked is None:
        return None
    shell, before, begun = asked
    wanted = find_wanted(_tree(), before, begun)
    words = wanted.matching
    if wanted.completer is not None:
        found = complete(wanted.completer, wanted.given, wanted.begun)
        words += [(wanted.prefix + word, about) for word, about in found]
    told, code = answer(shell, begun, words, environment)
    if told:
        sys.stdout.write(told + "\n")
    return code


def complete(completer: str, given: Mapping[str, Any], begun: str) -> Words:
    """What goes on as was begun, found by one of the completers.

    Args:
        completer: its name.
        given: what stands on the command line, by the names of the command's function.
        begun: what of the word was typed.
    """
    if completer == "saved_farm":
        found = [(name, "") for name in saved_farms()]
    elif completer == "farm":
        found = _named_farms()
    elif completer == "running_farm":
        found = _running_farms()
    else:
        found = _on_the_farm(completer, given, begun)
    return [(word, tidy(about)) for word, about in found if word.startswith(begun)]


def _named_farms() -> Words:
    """What `--farm` knows by name; nobody has to be asked for it."""
    saved = saved_farms()
    users = [each for each in local_users(os.environ) if each not in saved]
    return [(name, "") for name in saved] + [(name, "of the farm here") for name in users]


def _running_farms() -> Words:
    """Farms that run on this machine, by their directories."""
    from icebus.client.local_farm.running_farms import running_farms
    from icebus.schemas.wording import counted

    return [
        (str(farm.directory), f"{counted(farm.boards, 'board')}, since {farm.since:%Y-%m-%d %H:%M}")
        for farm in running_farms()
    ]


def _on_the_farm(completer: str, given: Mapping[str, Any], begun: str) -> Words:
    named = given.get("common_farm") or given.get("farm")
    silent = SilentFarm(named)
    if silent.lately:
        return []
    # Loaded before the clock runs, so that the farm has all of the time that there is.
    from icebus.client.cli.completing.candidates import COMPLETERS
    from icebus.client.cli.completing.retained import read_retained

    names, candidates = COMPLETERS[completer]
    families = {name: _tree()["topics"][name] for name in names}
    found: dict[str, str] = {}

    def ask() -> None:
        # Nobody has asked for an error here, and one would be written over the prompt.
        with contextlib.suppress(Exception):
            broker = find_broker(named, os.environ)
            farm = read_retained(broker, families, ANSWER_TIME)
            for word, about in candidates(farm, broker.user, given, begun):
                found.setdefault(word, about)

    logging.disable()
    # An unreachable broker holds up whoever connects for longer than anybody waits for a TAB.
    asking = threading.Thread(target=ask, name="completion", daemon=True)
    asking.start()
    asking.join(ANSWER_TIME)
    if asking.is_alive():
        silent.note()
        return []  # it may still have something to say
    logging.disable(logging.NOTSET)
    return list(found.items())


class SilentFarm:
    """Remembers for a while that a farm did not answer.

    Args:
        named: as `--farm` names it; None where it does not.
    """

    def __init__(self, named: str | None) -> None:
        meant = (named, os.environ.get("ICEBUS_URL"), os.environ.get("ICEBUS_FARM"))
        name = hashlib.sha256(repr(meant).encode(errors="replace")).hexdigest()[:16]
        folder = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
        self._marker = Path(folder, f"icebus-silent-{os.getuid()}-{name}")

    @property
    def lately(self) -> bool:
        """Whether it did not when it was asked last, a moment ago."""
        try:
            status = self._marker.lstat()
        except OSError:
            return False
        return status.st_uid == os.getuid() and 0 <= time.time() - status.st_mtime < SILENT_FOR

    def note(self) -> None:
        """It did not answer."""
        with contextlib.suppress(OSError):
            flags = os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(self._marker, flags, 0o600))
            os.utime(self._marker, follow_symlinks=False)
