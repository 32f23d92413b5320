"""Sockets of Mosquitto, in our hands for a moment: its parent may have them duplicated.

Mosquitto has no way to be told whom not to accept. Linux lets a process attach a filter to any
socket that it holds, and lets a parent take duplicates of its child's (``pidfd_getfd``, since 5.6).
Containers forbid that call unless they have ``SYS_PTRACE``; then nobody is shut out.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path

from icebus.broker.logins.allowances import Network
from icebus.broker.logins.filters import filter_program
from icebus.broker.logins.lines import plain

_PIDFD_GETFD = 438
"""Number of the system call: the same on every architecture that Linux knows but Alpha."""

_ATTACH_FILTER = 26
_DETACH_FILTER = 27
"""SO_ATTACH_FILTER and SO_DETACH_FILTER, on all architectures but PA-RISC and SPARC."""

_TCP_INFO_BYTES = 256
_BYTES_RECEIVED = struct.Struct("Q")
_BYTES_RECEIVED_AT = 128
"""Where ``tcpi_bytes_received`` stands in ``struct tcp_info`` (``linux/tcp.h``), since 4.1."""


def _sockets(pid: int) -> Iterator[socket.socket]:
    """Duplicates of a process's sockets, each closed when the next is asked for.

    Raises:
        OSError: the process is gone, or the system does not let us.
    """
    call: Callable[..., int] = ctypes.CDLL(None, use_errno=True).syscall
    process = os.pidfd_open(pid)
    try:
        folder = Path(f"/proc/{pid}/fd")
        for number in os.listdir(folder):  # noqa: PTH208
            with suppress(FileNotFoundError):
                if not os.readlink(folder / number).startswith("socket:"):  # noqa: PTH115
                    continue
                duplicate = call(_PIDFD_GETFD, process, int(number), 0)
                if duplicate < 0:
                    code = ctypes.get_errno()
                    if code == errno.EBADF:
                        continue  # closed just now
                    raise OSError(code, os.strerror(code))
                with socket.socket(fileno=duplicate) as found:
                    yield found
    finally:
        os.close(process)


def shut_out(pid: int, networks: Collection[Network]) -> int:
    """Have what comes from these networks dropped by all sockets on which a process listens.

    Args:
        pid: of a child.
        networks: who is shut out from now on; nobody else is.

    Returns:
        On how many sockets.

    Raises:
        OSError: the process is gone, or the system does not let us.
    """
    program = filter_program(networks)
    buffer = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("HL", len(program) // 8, ctypes.addressof(buffer))
    listening = 0
    for each in _sockets(pid):
        if each.family not in (socket.AF_INET, socket.AF_INET6):
            continue
        if not each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            continue
        listening += 1
        if networks:
            each.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, described)
        else:
            with suppress(FileNotFoundError):  # there was none
                each.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)
    return listening


def peers(pid: int) -> set[tuple[str, int]]:
    """Address and port at the other end of each connection of a process.

    Raises:
        OSError: the process is gone, or the system does not let us.
    """
    found = set()
    for each in _sockets(pid):
        with suppress(OSError):  # not connected, or just ended
            found.add(_peer(each))
    return found


def received(pid: int) -> dict[tuple[str, int], int]:
    """How many bytes each connection of a process has brought, by the other end.

    Raises:
        OSError: the process is gone, or the system does not let us.
    """
    found = {}
    for each in _sockets(pid):
        with suppress(OSError, struct.error):  # not connected, or an older Linux
            said = each.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
            found[_peer(each)] = _BYTES_RECEIVED.unpack_from(said, _BYTES_RECEIVED_AT)[0]
    return found


def _peer(connection: socket.socket) -> tuple[str, int]:
    address, port = connection.getpeername()[:2]
    return plain(address.partition("%")[0]), port  # Mosquitto logs no scope


def end_connections(pid: int, ending: Collection[tuple[str, int]]) -> int:
    """End connections of a process.

    Args:
        pid: of a child.
        ending: address and port at the other end of each.

    Returns:
        How many were there.

    Raises:
        OSError: the process is gone, or the system does not let us.
    """
    ended = 0
    for each in _sockets(pid):
        with suppress(OSError):  # not connected, or just ended
            if _peer(each) in ending:
                each.shutdown(socket.SHUT_RDWR)
                ended += 1
    return ended
