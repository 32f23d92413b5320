"""Going on in the background, while the process in front waits until all is ready there."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from icebus.schemas.programs.private_files import open_private

READY = b"ready"


@dataclass(frozen=True)
class Background:
    """The process in the background, as itself has it.

    Attributes:
        log: what it says on stdout and stderr.
        ready_pipe: the descriptor on which it says that it is ready.
    """

    log: Path
    ready_pipe: int

    def tell_ready(self) -> None:
        """Let go of the process in the foreground."""
        os.write(self.ready_pipe, READY)
        os.close(self.ready_pipe)


@dataclass(frozen=True)
class Started:
    """The process in the background, as the one in the foreground has it.

    Attributes:
        pid: of it.
        ready_pipe: the descriptor on which it says that it is ready.
    """

    pid: int
    ready_pipe: int

    def wait_ready(self) -> int | None:
        """Wait until it is ready; its exit code if it ended before. Ctrl-C here ends it, too."""
        try:
            ready = os.read(self.ready_pipe, len(READY)) == READY
        except KeyboardInterrupt:
            os.kill(self.pid, signal.SIGTERM)
            self._wait_ended()
            raise
        return None if ready else self._wait_ended()

    def _wait_ended(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


def detach(log: Path) -> Background | Started:
    """Split in two: a process in the background, which nothing ties to a terminal, and this one.

    To be called before there are threads.

    Args:
        log: where that one tells what happens.

    Raises:
        OSError: the log can't be written.
    """
    output = open_private(log, os.O_WRONLY | os.O_APPEND | os.O_TRUNC)
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        os.close(output)
        os.close(writer)
        return Started(pid, reader)
    os.close(reader)
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, standard in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(descriptor, standard)
    os.close(nothing)
    os.close(output)
    return Background(log, writer)
