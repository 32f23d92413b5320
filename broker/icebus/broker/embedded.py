"""A private Mosquitto on a loopback port, with credentials and an access list from the start."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterable
from pathlib import Path

from icebus.broker.access import (
    Principal,
    access_list,
    check,
    find_program,
    write_password_file,
    write_private,
)
from icebus.broker.address import BrokerAddress
from icebus.broker.process import Child
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import BrokerUnavailable
from icebus.schemas.topics import DEFAULT_ROOT

LOOPBACK = "127.0.0.1"

MAX_PACKET = 2 << 20
"""Bytes of one message: a file of the largest size as base64 in a call, with room around it."""

MAX_QUEUED = 100_000
"""Messages kept for a slow subscriber. Mosquitto's own 1000 truncates in silence."""


def configuration(directory: Path, port: int, host: str = LOOPBACK) -> str:
    """The text of ``mosquitto.conf`` for a broker that keeps everything in ``directory``."""
    lines = [
        f"listener {port} {host}",
        "allow_anonymous false",
        f"password_file {directory / 'passwords'}",
        f"acl_file {directory / 'acl'}",
        "set_tcp_nodelay true",
        f"max_packet_size {MAX_PACKET}",
        f"max_queued_messages {MAX_QUEUED}",
        "max_queued_bytes 0",
        "persistence true",
        f"persistence_location {directory}/",
        "autosave_interval 60",
        "persistent_client_expiration 1d",
        "log_dest stderr",
        "log_type error",
        "log_type warning",
        "log_type notice",
        "connection_messages false",
    ]
    if os.geteuid() == 0:
        # As root it would become user mosquitto, lose the death signal and not read our files.
        lines.append("user root")
    return "\n".join(lines) + "\n"


class EmbeddedBroker:
    """Mosquitto as a child process that keeps everything in one directory.

    Args:
        directory: made if missing; holds configuration, hashed passwords, access list and log.
        principals: who may connect.
        root: of the topics.
        port: to listen on; None for a free one.

    Raises:
        ProgramMissing: Mosquitto is not installed; the message says how to.
        InvalidRequest: the principals are ambiguous.
    """

    def __init__(
        self,
        directory: Path,
        principals: Iterable[Principal],
        root: str = DEFAULT_ROOT,
        port: int | None = None,
    ) -> None:
        self.directory = directory.resolve()
        self.root = root
        self.port = port if port is not None else free_port()
        self._principals: dict[str, Principal] = {}
        self._child: Child | None = None
        self._program = find_program("mosquitto")
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.admit(principals)

    def admit(self, principals: Iterable[Principal]) -> None:
        """Add principals, or change those of the same id; a running broker learns of it."""
        merged = {**self._principals, **{p.id: p for p in principals}}
        check(list(merged.values()))
        self._principals = merged
        write_password_file(self.directory / "passwords", merged.values())
        write_private(self.directory / "acl", access_list(merged.values(), self.root))
        if self._child is not None and self._child.running:
            self._child.process.send_signal(signal.SIGHUP)

    def address(self, principal: str) -> BrokerAddress:
        """How the principal of that id connects."""
        return BrokerAddress(
            host=LOOPBACK,
            port=self.port,
            user=principal,
            password=self._principals[principal].password,
            root=self.root,
        )

    def start(self, deadline: Deadline) -> None:
        """Start it and return when it accepts connections (typically within 10 ms).

        Raises:
            BrokerUnavailable: it ended or did not listen; the message has the end of its log.
        """
        write_private(self.directory / "mosquitto.conf", configuration(self.directory, self.port))
        log = self.directory / "mosquitto.log"
        self._child = Child([self._program, "-c", str(self.directory / "mosquitto.conf")], log)
        pause = threading.Event()
        while not _accepts(self.port):
            if not self._child.running or deadline.expired:
                self.stop(Deadline.after(1))
                tail = log.read_text(errors="replace")[-800:].strip()
                raise BrokerUnavailable(f"Mosquitto did not start on port {self.port}: {tail}")
            pause.wait(0.005)

    @property
    def child(self) -> Child:
        """The running process."""
        if self._child is None:
            raise BrokerUnavailable("the embedded broker was not started")
        return self._child

    def stop(self, deadline: Deadline) -> None:
        """End it; it saves retained messages first."""
        if self._child is not None:
            self._child.stop(deadline)


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection((LOOPBACK, port), timeout=0.2):
            return True
    except OSError:
        return False
