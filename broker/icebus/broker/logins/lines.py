"""Lines of Mosquitto's log: what they say of connections.

Client ids stand in lines unquoted, and are whatever a client with a password chose. Mosquitto
refuses those with control characters, so none of them begins a line; but they may read like another
line's end, and may be so long that a line's own end is cut off. So fixed ends are looked for first,
from the right, and a line that was cut says nothing but that.

The texts are those of Mosquitto 2.0.11, seen by running it; 2.0.18 has the same ones *unverified*.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from icebus.schemas.programs.logs import printable

LONGEST = 999
"""Bytes of a line of Mosquitto, with its timestamp; what is as long may have been cut."""

UNKNOWN = "<unknown>"
"""How Mosquitto calls a connection that has not logged in."""


class Reason(StrEnum):
    """Why a connection ended before it had logged in."""

    REFUSED = "wrong name or password, or none"
    MALFORMED = "what came is not MQTT, or not as it must be"
    NO_TLS = "no TLS, or no certificate that counts"
    LEFT = "went without a word"


@dataclass(frozen=True)
class Opened:
    """A connection that has yet to log in."""

    address: str
    port: int


@dataclass(frozen=True)
class LoggedIn:
    """A connection that has logged in.

    Attributes:
        client: its client id; empty when that is too long to be known whole.
        user: whose it is; empty likewise.
    """

    address: str
    port: int
    client: str
    user: str


@dataclass(frozen=True)
class Failed:
    """A connection that ended before it had logged in.

    Attributes:
        address: where it came from, if the line says so.
    """

    reason: Reason
    address: str = ""


@dataclass(frozen=True)
class Ended:
    """A connection that had logged in and ended."""

    client: str


@dataclass(frozen=True)
class Full:
    """A listener has all the connections that it takes."""

    address: str


@dataclass(frozen=True)
class Detail:
    """Something about a connection that another line says better.

    Attributes:
        left: the next line seems to say that there was no TLS, but the other end just went.
    """

    left: bool = False


@dataclass(frozen=True)
class Other:
    """Nothing about connections: Mosquitto's own troubles."""


Line = Opened | LoggedIn | Failed | Ended | Full | Detail | Other

_SECRET = re.compile(r"[0-9a-f]{32,}")
"""What makes an id of a connection random, and the name under which controls share requests."""

_STAMP = re.compile(r"\d+: ")
_OPENED = re.compile(r"New connection from (\S+):(\d{1,5}) on port \d+\.")
_LOGGED_IN = re.compile(
    r"New (?:client|bridge) connected from (\S+?):(\d{1,5}) as (.*) "
    r"\(p\d+, c\d, k\d+, u'([^']*)'\)\."
)
_CUT = re.compile(r"New (?:client|bridge) connected from (\S+?):(\d{1,5}) as ")
_ENDED = re.compile(
    r"Client (.*) (?:disconnected\.|closed its connection\.|disconnected, not authorised\."
    r"|disconnected: [^:]*\.|disconnected due to [a-zA-Z ]+\.|has exceeded timeout, disconnecting\."
    r"|been disconnected by administrative action\."
    r"|already connected, closing old connection\.)"
)
_TLS_FAILED = re.compile(r"Client connection from (\S+) failed: error:([0-9A-F]+):(.*)\.")
_FULL = re.compile(r"Client connection from (\S+) denied: max_connections exceeded\.")
_SOCKET_ERROR = re.compile(r"Bad socket read/write on client (.*): [^:]*")
_EOF = "unexpected eof"
_OF_CLIENTS = (
    "Client ",
    "New client ",
    "New bridge ",
    "New connection ",
    "OpenSSL Error",
    "Bad client ",
)


def text_of(line: bytes) -> str:
    """A line without its timestamp; bytes that are no text are shown as escapes."""
    text = line.decode("utf-8", "backslashreplace")
    stamp = _STAMP.match(text)
    return text[stamp.end() :] if stamp else text


def shown(text: str) -> str:
    """A line as it may be kept: nothing in it is obeyed by a terminal, and no id is whole.

    Whoever knows the id of a connection can end it, so ours are random; logs get about.
    """
    return printable(_SECRET.sub("…", text))


def plain(address: str) -> str:
    """An address as the log has it; IPv4 as such, also where it came to a socket of IPv6."""
    if not address.lower().startswith("::ffff:"):
        return address
    mapped = address[len("::ffff:") :]
    return mapped if mapped.count(".") == 3 else address


def read_line(line: bytes) -> Line:
    """What a line says; never fails.

    Args:
        line: without its newline.
    """
    text = text_of(line)
    if len(line) >= LONGEST:
        cut = _CUT.match(text)
        if cut is not None and _is_port(cut[2]):
            return LoggedIn(plain(cut[1]), int(cut[2]), "", "")
        return Detail() if text.startswith(_OF_CLIENTS) else Other()
    return _read_whole(text)


def _read_whole(text: str) -> Line:
    if (found := _ENDED.fullmatch(text)) is not None:
        if found[1] != UNKNOWN:
            return Ended(found[1])
        return Failed(_reason(text))
    if (found := _SOCKET_ERROR.fullmatch(text)) is not None:
        return Failed(Reason.LEFT) if found[1] == UNKNOWN else Ended(found[1])
    if (found := _OPENED.fullmatch(text)) is not None and _is_port(found[2]):
        return Opened(plain(found[1]), int(found[2]))
    if (found := _LOGGED_IN.fullmatch(text)) is not None and _is_port(found[2]):
        return LoggedIn(plain(found[1]), int(found[2]), found[3], found[4])
    if (found := _TLS_FAILED.fullmatch(text)) is not None:
        gone = _EOF in found[3]
        return Failed(Reason.LEFT if gone else Reason.NO_TLS, plain(found[1]))
    if (found := _FULL.fullmatch(text)) is not None:
        return Full(plain(found[1]))
    if not text.startswith(_OF_CLIENTS):
        return Other()
    return Detail(text.startswith("OpenSSL Error") and _EOF in text)


def _reason(text: str) -> Reason:
    if text.endswith("not authorised."):
        return Reason.REFUSED
    if text.endswith("Protocol error."):
        return Reason.NO_TLS
    if text.endswith(("closed its connection.", "has exceeded timeout, disconnecting.")):
        return Reason.LEFT
    return Reason.MALFORMED


def _is_port(digits: str) -> bool:
    return int(digits) < 1 << 16
