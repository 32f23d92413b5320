"""Reads Mosquitto's log as it is written: through a pipe, on a thread that ends with Mosquitto.

Mosquitto has one thread, and must never wait for us. Its end of the pipe does not block: while we
are stopped or too slow it goes on, and lines are lost.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import select
import threading
import time
from collections import deque
from pathlib import Path

from icebus.broker.log_files import keep_bounded
from icebus.broker.logins.lines import Opened, Other, read_line, shown, text_of
from icebus.broker.logins.watch import LoginWatch
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import IcebusError
from icebus.schemas.programs.private_files import open_private

log = logging.getLogger("mosquitto")

TICK = 1.0
"""Seconds between looks at whose time has passed."""

PIPE_BYTES = 1 << 20
"""Of lines that wait for us: ten thousand."""

LINES_A_SECOND = 20.0
"""About connections, that are written to the log's file; others are counted."""

LINES_AT_ONCE = 400.0

LAST_LINES = 20
"""Kept, for a message when Mosquitto does not start."""

_F_SETPIPE_SZ = getattr(fcntl, "F_SETPIPE_SZ", None)


class LogReader:
    """Passes on what Mosquitto logs: to a file, or to our own log; and to a :class:`LoginWatch`.

    Args:
        watch: learns of all connections.
        path: of the file; None to pass on to our log what is not about connections.

    Raises:
        InvalidRequest: the file's name is a link's, or another thing's that is not a file.
    """

    def __init__(self, watch: LoginWatch, path: Path | None) -> None:
        self._watch = watch
        self._path = path
        self._file = None if path is None else open_private(path, os.O_WRONLY | os.O_APPEND)
        self._input, self.output = os.pipe()
        os.set_blocking(self.output, False)
        if _F_SETPIPE_SZ is not None:
            with contextlib.suppress(OSError):  # more than this user may have
                fcntl.fcntl(self.output, _F_SETPIPE_SZ, PIPE_BYTES)
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self._left = LINES_AT_ONCE
        self._since = time.monotonic()
        self._omitted = 0
        self._thread = threading.Thread(target=self._run, name="mosquitto-log", daemon=True)

    def start(self) -> None:
        """Begin, once Mosquitto has the other end of the pipe; it ends when that closes it."""
        os.close(self.output)
        self._thread.start()

    def close(self) -> None:
        """Give up what was never started."""
        os.close(self.output)
        self._close()

    def join(self, deadline: Deadline) -> None:
        """Wait until everything is read that Mosquitto, which has ended, has said."""
        self._thread.join(timeout=deadline.remaining)

    @property
    def said(self) -> str:
        """The last that Mosquitto said."""
        return "\n".join(list(self._last))

    # --- its thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._input, select.POLLIN)
        rest = b""
        try:
            while True:
                if poll.poll(TICK * 1000):
                    chunk = os.read(self._input, 1 << 16)
                    if not chunk:
                        break
                    *lines, rest = (rest + chunk).split(b"\n")
                    rest = rest[-(1 << 16) :]
                    for line in lines:
                        self._take(line)
                self._guard_tick()
        finally:
            self._watch.ended()
            self._close()

    def _take(self, line: bytes) -> None:
        now = time.monotonic()
        try:
            read = read_line(line)
            self._last.append(shown(text_of(line)))
            self._watch.take(read, now)
            if isinstance(read, Opened):
                return  # what becomes of it is the next line
            if isinstance(read, Other):
                self._pass_on(line)
            elif self._file is not None:
                self._pass_on_some(line, now)
        except Exception:
            # Whatever a line is like, the next ones have to be read.
            log.exception("a line of Mosquitto's log could not be read")

    def _pass_on_some(self, line: bytes, now: float) -> None:
        self._left = min(LINES_AT_ONCE, self._left + (now - self._since) * LINES_A_SECOND)
        self._since = now
        if self._left < 1:
            self._omitted += 1
            return
        self._left -= 1
        if self._omitted:
            self._write(f"… {self._omitted:,} lines about connections are left out here")
            self._omitted = 0
        self._pass_on(line)

    def _pass_on(self, line: bytes) -> None:
        if self._file is not None:
            self._write(shown(line.decode("utf-8", "backslashreplace")))
            return
        text = shown(text_of(line))
        warns = text.startswith(("Warning", "Error", "Unable"))
        log.log(logging.WARNING if warns else logging.INFO, "%s", text)

    def _write(self, line: str) -> None:
        if self._file is not None:
            os.write(self._file, f"{line}\n".encode())

    def _guard_tick(self) -> None:
        try:
            self._watch.tick(time.monotonic())
            if self._path is not None:
                keep_bounded(self._path)
        except (IcebusError, OSError) as error:
            log.warning("the log of Mosquitto: %s", error)

    def _close(self) -> None:
        os.close(self._input)
        if self._file is not None:
            os.close(self._file)
            self._file = None
