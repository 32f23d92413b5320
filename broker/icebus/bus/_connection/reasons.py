"""Why there is no connection to the broker, in words that name what to do about it.

Every such error has ``details['cause']``, one of :class:`Cause`, and ``details['remedy']``, with
which its message ends.
"""

from __future__ import annotations

import errno
import socket
import ssl
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from paho.mqtt.reasoncodes import ReasonCode

from icebus.bus._broker_address.address import PLAIN_PORT, TLS_PORT, BrokerAddress
from icebus.bus._connection.acknowledgements import NOT_AUTHORIZED
from icebus.bus._connection.tcp import NoHandshake
from icebus.bus._connection.tls import without_authorities
from icebus.schemas.errors import BrokerUnavailable, IcebusError, NotAuthorized

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})

REFUSED_CREDENTIALS: Final = frozenset({0x86, NOT_AUTHORIZED, 0x8A})
"""Reason codes of MQTT 5 that trying again does not change: bad user name or password, not
authorized, banned."""

CLOCKS_DIFFER: Final = timedelta(minutes=5)
"""How much a clock here may be behind the broker's."""

SHOWN: Final = 40
"""Characters shown of what something else than a broker says."""


class Cause(StrEnum):
    """Why there is no connection."""

    CREDENTIALS = "credentials"
    """The broker refuses the user or password."""
    REPLACED = "replaced"
    """The broker refuses a password that was replaced by another."""
    ENDED = "ended"
    """The broker refuses somebody whose account has ended."""
    CERTIFICATE = "certificate"
    """The broker's certificate can't be trusted."""
    CLIENT_CERTIFICATE = "client_certificate"
    """The broker wants a certificate of ours, or does not trust the one it was shown."""
    NEEDS_TLS = "needs_tls"
    """TLS is spoken there, and the URL says to speak without."""
    NO_TLS = "no_tls"
    """A broker that speaks without TLS, and the URL says to speak with it."""
    NO_BROKER = "no_broker"
    """Something else than an MQTT broker."""
    REFUSED = "refused"
    """The broker refuses the connection for now."""
    UNRESOLVED = "unresolved"
    """The host's name has no address."""
    NOTHING_LISTENS = "nothing_listens"
    """The host is there, and nothing listens on the port."""
    NO_WAY = "no_way"
    """The host can't be reached, or does not answer."""
    SILENT = "silent"
    """Something accepts the connection and says nothing."""
    LOST = "lost"
    """The connection has ended."""


_CAUSES: Final = {cause.value: cause for cause in Cause}

LASTING: Final = frozenset(
    {
        Cause.CREDENTIALS,
        Cause.REPLACED,
        Cause.ENDED,
        Cause.CERTIFICATE,
        Cause.CLIENT_CERTIFICATE,
    }
)
"""What trying again does not change, also where the same broker was connected to before."""

FUTILE: Final = LASTING | {Cause.NEEDS_TLS, Cause.NO_TLS, Cause.NO_BROKER}
"""What trying again does not change where nobody was connected before."""


def cause_of(error: IcebusError) -> Cause | None:
    """The cause in an error of this module."""
    return _CAUSES.get(str(error.details.get("cause")))


def of_exception(address: BrokerAddress, error: Exception) -> BrokerUnavailable:
    """What kept a connection from being opened."""
    why = " ".join(str(getattr(error, "strerror", None) or error).split())
    where = _where(address)
    match error:
        case NoHandshake():
            return silent(address)
        case ssl.SSLCertVerificationError():
            return _certificate(address, error)
        case ssl.SSLError() if (found := of_alert(address, error)) is not None:
            return found
        case socket.gaierror() | UnicodeError():
            return unresolved(address, why)
        case ConnectionRefusedError():
            return _error(
                address,
                Cause.NOTHING_LISTENS,
                f"no broker answers at {where}: nothing listens there ({why})",
                _is_it_up(address),
            )
        case TimeoutError():
            return _error(
                address,
                Cause.NO_WAY,
                f"no broker answers at {where}: the connection is not answered at all",
                f"is the host up, and does a firewall let port {address.port} through?",
            )
        case OSError() if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
            return _error(
                address,
                Cause.NO_WAY,
                f"no broker answers at {where}: there is no way there ({why})",
                "check the network of this machine, and the host in the URL or profile",
            )
    return _error(address, Cause.LOST, f"no broker answers at {where} ({why})", _is_it_up(address))


def of_alert(address: BrokerAddress, error: ssl.SSLError) -> BrokerUnavailable | None:
    """What the other side has said of our TLS; None if it was not that which failed."""
    reason = error.reason or ""
    if "ALERT" not in reason or "CERTIFICATE" not in reason.replace("UNKNOWN_CA", "CERTIFICATE"):
        return None
    if "REVOKED" in reason:
        return _error(
            address,
            Cause.CLIENT_CERTIFICATE,
            f"the broker at {_where(address)} refused the certificate of {address.user!r}: that "
            "name was removed there, or has been given another certificate",
            "whoever runs the farm makes another: "
            f"icebus-broker add {address.user} --role ROLE --new-password -o {address.user}.json",
        )
    if "EXPIRED" in reason:
        return _error(
            address,
            Cause.CLIENT_CERTIFICATE,
            f"the broker at {_where(address)} refused the certificate of {address.user!r}, which "
            "has ended",
            "whoever runs the farm makes another: "
            f"icebus-broker renew {address.user} -o {address.user}.json",
        )
    if address.certificate is None:
        return _error(
            address,
            Cause.CLIENT_CERTIFICATE,
            f"the broker at {_where(address)} lets nobody in on this port without a certificate",
            f"name its port for people, usually {TLS_PORT}; workers and controls use the "
            "credentials that were made for them, certificate and key included",
        )
    return _error(
        address,
        Cause.CLIENT_CERTIFICATE,
        f"the broker at {_where(address)} wants a certificate of ours that it trusts "
        f"({reason.replace('_', ' ').lower()})",
        "use the credentials that whoever runs the farm made for you, certificate and key included",
    )


def unresolved(address: BrokerAddress, why: str) -> BrokerUnavailable:
    """The host's name leads nowhere."""
    return _error(
        address,
        Cause.UNRESOLVED,
        f"the name {address.host!r} of the broker's host does not resolve ({why})",
        "check the host in the URL or profile, and the name service of this machine",
    )


def of_refusal(
    address: BrokerAddress,
    reason: ReasonCode,
    account_ends: datetime | None = None,
    password_ends: datetime | None = None,
    now: datetime | None = None,
) -> IcebusError:
    """What a broker answers that does not take us in.

    Args:
        address: of the broker.
        reason: what it answers; it does not say which of user and password is wrong.
        account_ends: when the account ends, as far as is known.
        password_ends: when the password ends, which was replaced; likewise.
        now: when it answers.
    """
    if reason.value in REFUSED_CREDENTIALS:
        moment = (now or datetime.now(UTC)) + CLOCKS_DIFFER
        if account_ends is not None and account_ends <= moment:
            return _account_ended(address, account_ends)
        if password_ends is not None and password_ends <= moment:
            return _password_replaced(address, password_ends)
        return _not_authorized(
            address,
            Cause.CREDENTIALS,
            f"the broker at {_where(address)} refused user {address.user!r} ({reason}): it does "
            "not know that user, no longer, or not with this password",
            "check the user and password of the URL or profile; whoever runs the farm makes new "
            f"ones with `icebus-broker add {address.user}`, with --new-password for one it knows",
        )
    where = _where(address)
    return _error(
        address,
        Cause.REFUSED,
        f"the broker at {where} refused the connection ({reason})",
        "it has to speak MQTT 5, and its log says why it refuses",
    )


def _account_ended(address: BrokerAddress, at: datetime) -> NotAuthorized:
    return _not_authorized(
        address,
        Cause.ENDED,
        f"the account of {address.user} at {_where(address)} ended on {at:%Y-%m-%d %H:%M} UTC",
        f"whoever runs the farm can have it last longer: icebus-broker expires {address.user} DATE",
    )


def _password_replaced(address: BrokerAddress, at: datetime) -> NotAuthorized:
    return _not_authorized(
        address,
        Cause.REPLACED,
        f"the broker at {_where(address)} refused user {address.user!r}: this password was "
        f"replaced, and ended on {at:%Y-%m-%d %H:%M} UTC",
        "log in anew, with what the machine has where it was replaced, or a line from whoever runs "
        f"the farm: icebus-broker add {address.user} --new-password",
    )


def _not_authorized(address: BrokerAddress, cause: Cause, what: str, remedy: str) -> NotAuthorized:
    return NotAuthorized(f"{what}; {remedy}", user=address.user, cause=cause.value, remedy=remedy)


def lost(address: BrokerAddress, why: str) -> BrokerUnavailable:
    """A connection that stood has ended."""
    where = _where(address)
    return _error(
        address, Cause.LOST, f"lost the broker at {where} ({why})", "it is tried again by itself"
    )


def needs_tls(address: BrokerAddress) -> BrokerUnavailable:
    """The URL says ``mqtt``, and TLS is spoken there."""
    return _error(
        address,
        Cause.NEEDS_TLS,
        f"{_where(address)} speaks TLS, and the URL says to speak without",
        f"begin the URL with mqtts:// instead of mqtt://, or name the port without TLS, usually "
        f"{PLAIN_PORT}",
    )


def no_tls(address: BrokerAddress) -> BrokerUnavailable:
    """The URL says ``mqtts``, and a broker without TLS listens there."""
    return _error(
        address,
        Cause.NO_TLS,
        f"the broker at {_where(address)} does not speak TLS on this port, and the URL says mqtts",
        f"name its port with TLS, usually {TLS_PORT}; mqtt:// instead of mqtts:// would send the "
        "password in the clear",
    )


def no_broker(address: BrokerAddress, said: bytes) -> BrokerUnavailable:
    """Something else listens there."""
    web = said[:5] == b"HTTP/" or b"<html" in said[:SHOWN].lower()
    shown = "".join(c if c.isascii() and c.isprintable() else "." for c in _text(said))[:SHOWN]
    what = "a web server" if web else f"something that says {shown!r}"
    return _error(
        address,
        Cause.NO_BROKER,
        f"{what} listens at {_where(address)}, and no MQTT broker",
        f"check the port of the URL: a broker's is usually {PLAIN_PORT}, or {TLS_PORT} with mqtts://",
    )


def silent(address: BrokerAddress) -> BrokerUnavailable:
    """It accepts the connection and says nothing."""
    return _error(
        address,
        Cause.SILENT,
        f"{_where(address)} took the connection and says nothing",
        "is it an MQTT 5 broker, and does it hang? whoever runs it has to restart it",
    )


def _certificate(address: BrokerAddress, error: ssl.SSLCertVerificationError) -> BrokerUnavailable:
    why = error.verify_message or str(error)
    remedy = (
        "use the credentials that whoever runs the farm handed out, or set SSL_CERT_FILE to the "
        "certificate of the farm's authority"
    )
    if address.ca is not None:
        remedy = (
            "the authority that you were given is not the one which signed it; ask whoever runs "
            "the farm whether it was made anew"
        )
    elif problem := without_authorities():
        remedy = f"{problem}; {remedy}"
    if error.verify_code in (62, 63, 64):  # X509_V_ERR_HOSTNAME_, EMAIL_ and IP_ADDRESS_MISMATCH
        remedy = "use the host's name that stands in the certificate in the URL or profile"
    elif error.verify_code == 9:  # X509_V_ERR_CERT_NOT_YET_VALID
        remedy = "set this machine's clock"
    elif error.verify_code == 10:  # X509_V_ERR_CERT_HAS_EXPIRED
        remedy = "whoever runs the farm has to renew it; check this machine's clock too"
    return _error(
        address,
        Cause.CERTIFICATE,
        f"the certificate of the broker at {_where(address)} can't be trusted ({why})",
        remedy,
    )


def _is_it_up(address: BrokerAddress) -> str:
    if address.started_by:
        return f"is the farm up? `{address.started_by}` starts it"
    where = "this machine" if address.host in LOOPBACK else address.host
    return f"is its broker running, and is the port right? ask whoever runs the farm on {where}"


def _where(address: BrokerAddress) -> str:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}"


def _text(said: bytes) -> str:
    return said.split(b"\n")[0].decode(errors="replace").strip()


def _error(address: BrokerAddress, cause: Cause, what: str, remedy: str) -> BrokerUnavailable:
    return BrokerUnavailable(
        f"{what}; {remedy}",
        host=address.host,
        port=address.port,
        cause=cause.value,
        remedy=remedy,
    )
