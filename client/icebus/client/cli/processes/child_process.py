"""A user's command as a child of ours: found, run, sent what signals we get, waited for."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from icebus.client.cli.output.printing import print_message

if TYPE_CHECKING:
    from icebus.client.cli.processes.signals import Signals
    from icebus.schemas.deadline import Deadline

NO_PROGRAM = 127
"""Exit code for a command that does not exist, as in a shell."""

NOT_RUNNABLE = 126
"""Exit code for one that exists and can't be run, as in a shell."""

OF_TERMINAL = frozenset({signal.SIGINT, signal.SIGQUIT})
"""What the terminal sends to everything that runs in front of it, so also to the command."""


def check_command(command: Sequence[str]) -> None:
    """Find out, before anything is done for it, whether a command can be run.

    Raises:
        typer.Exit: it can't, which has been told.
    """
    name = command[0]
    if shutil.which(name) is not None:
        return
    path = Path(name)
    if os.sep in name and path.exists():
        what = "a folder" if path.is_dir() else "not executable; `chmod +x` makes it so"
        print_message(f"icebus: can't run {name!r}: it is {what}")
        raise typer.Exit(NOT_RUNNABLE)
    print_message(f"icebus: there is no program {name!r} to run")
    raise typer.Exit(NO_PROGRAM)


class ChildProcess:
    """A command that runs; its standard streams and its terminal are ours.

    Args:
        command: the program and its arguments.
        environment: all of its variables.

    Raises:
        typer.Exit: it can't be run, which has been told.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        setpriv = shutil.which("setpriv")
        # Should we be killed, the command is to end as well.
        guard = [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
        try:
            self._process = subprocess.Popen([*guard, *command], env=dict(environment))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            print_message(f"icebus: can't run {command[0]!r}: {reason}")
            raise typer.Exit(NOT_RUNNABLE) from None

    def wait(self, signals: Signals, tend: Callable[[], Deadline]) -> int:
        """Wait for its end, and pass on signals meanwhile; returns its exit code as a shell would.

        Args:
            signals: that come to us.
            tend: called again and again; returns when to be called again at latest.
        """
        while self._process.poll() is None:
            signals.wait(tend())
            for number in signals.take():
                # A Ctrl-C at the terminal has reached the command already.
                if number not in OF_TERMINAL or not in_front_of_terminal():
                    self.send(number)
        code = self._process.returncode
        return code if code >= 0 else 128 - code

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it has not ended."""
        self._process.send_signal(number)


def in_front_of_terminal() -> bool:
    """Whether what is typed at the terminal comes to us, and so to our children."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
