"""Child processes that end with their parent, whatever ends it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from icebus.schemas.deadline import Deadline
from icebus.schemas.programs.private_files import open_private


class Child:
    """A program started by us, and ended with us.

    On Linux the kernel sends it SIGTERM when the thread that started it ends, so start children on
    a thread that lives as long as they should.

    Args:
        argv: the program and its arguments.
        log: file its output is appended to, or a descriptor that it goes to; None to share ours.
        environment: variables to add to ours; secrets go here, not into ``argv``.
        inherit: descriptors it keeps open.

    Raises:
        InvalidRequest: the log's name is a link's, or another thing's that is not a file.
    """

    def __init__(
        self,
        argv: Sequence[str],
        log: Path | int | None,
        environment: Mapping[str, str] | None = None,
        inherit: Sequence[int] = (),
    ) -> None:
        setpriv = shutil.which("setpriv")
        guarded = [setpriv, "--pdeathsig", "TERM", "--", *argv] if setpriv else list(argv)
        self.argv = list(argv)
        output = open_private(log, os.O_WRONLY | os.O_APPEND) if isinstance(log, Path) else log
        try:
            self.process = subprocess.Popen(
                guarded,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output is not None else None,
                env={**os.environ, **(environment or {})},
                # A Ctrl-C in the terminal is the parent's to handle: it ends children in order.
                start_new_session=True,
                pass_fds=inherit,
                umask=0o077,
            )
        finally:
            if output is not None and isinstance(log, Path):
                os.close(output)

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def stop(self, deadline: Deadline) -> int:
        """Ask it to end, and end it when it has not by the deadline; returns its exit code."""
        if self.running:
            self.process.terminate()
        try:
            return self.process.wait(timeout=deadline.remaining)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
