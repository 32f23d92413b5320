"""What systemd is told by a service of ``Type=notify``: datagrams to a socket that it names.

The protocol is sd_notify(3) and sd_watchdog_enabled(3): lines of ``NAME=value``. Of the libraries
for it, ``sdnotify`` has had no release since 2017, ``systemd-python`` and ``cysystemd`` are built
against systemd's headers, and ``systemd-watchdog`` waits where systemd does not read, and leaves
the variables to the programs that we start.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import MutableMapping

from icebus.schemas.programs.logs import printable, shortened

log = logging.getLogger(__name__)

LONGEST_STATUS = 200
"""Characters of what ``systemctl status`` shows."""


class ServiceManager:
    """systemd, where that has started us; otherwise nobody, and nothing is sent.

    Takes its variables out of the environment, so that what we start does not speak for us:
    Debian's Mosquitto would.

    Args:
        environment: where they stand.
    """

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        address = environment.pop("NOTIFY_SOCKET", "")
        microseconds = environment.pop("WATCHDOG_USEC", "")
        process = environment.pop("WATCHDOG_PID", str(os.getpid()))
        # A leading @ stands for the zero byte of an abstract address.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._status = ""
        watched = microseconds.isdecimal() and process == str(os.getpid())
        self.watchdog = int(microseconds) / 1e6 if watched and address else None
        """Seconds within which :meth:`alive` has to be said again; None for never."""

    @property
    def there(self) -> bool:
        """Whether anybody is told."""
        return bool(self._address)

    def ready(self, status: str) -> None:
        """The service serves."""
        self._send("READY=1", f"STATUS={_line(status)}")

    def status(self, status: str) -> None:
        """What it does, for ``systemctl status``; the same is said once."""
        if status != self._status:
            self._send(f"STATUS={_line(status)}")
        self._status = status

    def alive(self) -> None:
        """All that has to turn does."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """It ends, in good order."""
        self._send("STOPPING=1", "STATUS=stopping")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                # systemd that does not read must not hold us.
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode("utf-8", "replace"), self._address)
        except (OSError, ValueError) as error:
            log.warning("can't tell systemd: %s", error)


def _line(text: str) -> str:
    return printable(shortened(" ".join(text.split()), LONGEST_STATUS))
