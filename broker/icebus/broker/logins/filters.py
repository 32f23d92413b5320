"""The kernel's filter on a listening socket: packets of some addresses are as if they never came.

A classic BPF program, which Linux runs for every packet to the socket, needs no privilege to be
attached, and costs nanoseconds. Connections that are there already keep the filter of when they
were taken, or none, and go on. See Documentation/networking/filter.rst of Linux.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable

from icebus.broker.logins.allowances import Network

_LOAD_WORD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_LOAD_BYTE = 0x30  # BPF_LD | BPF_B | BPF_ABS
_AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
_IF_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_SKIP = 0x05  # BPF_JMP | BPF_JA
_RETURN = 0x06  # BPF_RET | BPF_K
_LOAD_MEMORY = 0x60  # BPF_LD | BPF_W | BPF_MEM
_STORE = 0x02  # BPF_ST

_NETWORK_HEADER = 0xFFF0_0000
"""SKF_NET_OFF: offsets from here count from the beginning of the IP header."""

_SOURCE_IPV4 = 12
_SOURCE_IPV6 = 8
_DROP = 0
_PASS = 0xFFFF_FFFF

MOST_INSTRUCTIONS = 4096
"""BPF_MAXINSNS."""


def filter_program(shut_out: Iterable[Network]) -> bytes:
    """A program of ``struct sock_filter`` that drops what comes from these networks.

    Args:
        shut_out: whole IPv4 addresses, and /64 of IPv6.
    """
    four = [each for each in shut_out if isinstance(each, ipaddress.IPv4Network)]
    six = [each for each in shut_out if isinstance(each, ipaddress.IPv6Network)]
    on_four = [_step(_LOAD_WORD, _NETWORK_HEADER + _SOURCE_IPV4)]
    for each in sorted(four):
        on_four += [_step(_IF_EQUAL, int(each.network_address), 0, 1), _step(_RETURN, _DROP)]
    on_four.append(_step(_RETURN, _PASS))
    on_six = [
        _step(_LOAD_WORD, _NETWORK_HEADER + _SOURCE_IPV6),
        _step(_STORE, 0),
        _step(_LOAD_WORD, _NETWORK_HEADER + _SOURCE_IPV6 + 4),
        _step(_STORE, 1),
    ]
    for prefix in sorted(six):
        high = int(prefix.network_address) >> 64
        on_six += [
            _step(_LOAD_MEMORY, 0),
            _step(_IF_EQUAL, high >> 32, 0, 3),
            _step(_LOAD_MEMORY, 1),
            _step(_IF_EQUAL, high & 0xFFFF_FFFF, 0, 1),
            _step(_RETURN, _DROP),
        ]
    on_six.append(_step(_RETURN, _PASS))
    version = [
        _step(_LOAD_BYTE, _NETWORK_HEADER),
        _step(_AND, 0xF0),
        _step(_IF_EQUAL, 0x40, 0, 1),
        _step(_SKIP, 1),
        _step(_SKIP, len(on_four)),
    ]
    return b"".join([*version, *on_four, *on_six])


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
