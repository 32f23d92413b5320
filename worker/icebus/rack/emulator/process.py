"""The process that emulates one board: commands to it, and what it says, as lines of JSON."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import shutil
import signal
import subprocess
import sys
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from icebus.rack.emulator.parts import FOLDER_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from icebus.rack.emulator.parts import EmulatorParts
    from icebus.rack.loop import Loop

_LOG = logging.getLogger(__name__)

_PROGRAM: Final = Path(__file__).with_name("emulator.mjs")
_READ_MAX: Final = 1 << 16
_END_SECONDS: Final = 5.0
"""To wait for a process that was killed, which the kernel ends at once."""

ENDED: Final = "ended"
"""The event of a process that has ended by itself, or was killed by somebody else."""

Event = dict[str, Any]


class EmulatorProcess:
    """Emulates a board from when it is made, as if its power came on, until :meth:`close`.

    It ends by itself with its standard input, and so with the rack, whatever ends that.

    Args:
        loop: whose thread everything here runs on.
        parts: of the emulator.
        flash: what is in the board's flash, from its start.
        flash_id: the flash's unique id, 16 hexadecimal digits.
        on_event: called with what the emulator says, and once with :data:`ENDED`; never after
            :meth:`close`.

    Raises:
        OSError: it can't be started.
    """

    def __init__(
        self,
        loop: Loop,
        parts: EmulatorParts,
        flash: bytes,
        flash_id: str,
        on_event: Callable[[Event], None],
    ) -> None:
        self._loop = loop
        self._on_event = on_event
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self._watches_input = False
        self._closed = False
        setpriv = shutil.which("setpriv")
        self._process = subprocess.Popen(
            [
                # Standard input ends with the rack, too, but a process that is stopped reads none.
                *((setpriv, "--pdeathsig", "KILL", "--") if setpriv else ()),
                *(parts.node, _PROGRAM, "--boot-rom", parts.boot_rom),
                *("--", sys.executable, "-m", "icebus.rack.emulator.counts"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, FOLDER_VARIABLE: str(parts.folder)},
            start_new_session=True,  # a Ctrl-C in the terminal is the rack's to handle
        )
        streams = (self._process.stdin, self._process.stdout)
        self._streams = [stream for stream in streams if stream is not None]
        self._input, self._output = (stream.fileno() for stream in self._streams)
        for descriptor in (self._input, self._output):
            os.set_blocking(descriptor, False)
        loop.register(self._output, select.EPOLLIN, self._readable)
        self.send("start", flash=b64encode(flash).decode(), id=flash_id)

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def send(self, command: str, **how: object) -> None:
        """Have it carry out a command, after those before."""
        if self._closed:
            return
        self._outgoing += json.dumps({"command": command, **how}).encode() + b"\n"
        self._write()

    def close(self) -> None:
        """Take the power away: nothing of it is left when this returns."""
        if self._closed:
            return
        self._closed = True
        self._loop.unregister(self._output)
        self._watch_input(False)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # its helper, too
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            _LOG.error("the emulator, process %s, can't be killed", self.pid)
        for stream in self._streams:
            with contextlib.suppress(OSError):
                stream.close()

    def _readable(self, _events: int) -> None:
        try:
            data = os.read(self._output, _READ_MAX)
        except BlockingIOError:
            return
        if not data:
            self.close()
            self._on_event({"event": ENDED, "code": self._process.returncode})
            return
        *lines, rest = (self._incoming + data).split(b"\n")
        self._incoming = bytearray(rest)
        for line in lines:
            if self._closed:
                return
            try:
                event = json.loads(line)
            except ValueError:
                _LOG.warning("the emulator says: %s", line.decode(errors="replace"))
                continue
            self._on_event(event)

    def _writable(self, _events: int) -> None:
        self._write()

    def _write(self) -> None:
        try:
            while self._outgoing:
                del self._outgoing[: os.write(self._input, self._outgoing)]
        except BlockingIOError:
            pass
        except OSError:  # it has ended, which its output tells
            self._outgoing.clear()
        self._watch_input(bool(self._outgoing))

    def _watch_input(self, wanted: bool) -> None:
        if wanted and not self._watches_input:
            self._loop.register(self._input, select.EPOLLOUT, self._writable)
        elif self._watches_input and not wanted:
            self._loop.unregister(self._input)
        self._watches_input = wanted
