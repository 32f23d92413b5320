"""What a connection with TLS asks of the broker's certificate, and what it shows of ours."""

from __future__ import annotations

import os
import ssl
import tempfile
from pathlib import Path

from icebus.schemas.errors import InvalidRequest

AUTHORITIES = "SSL_CERT_FILE"
"""The variable that names a file of authorities to OpenSSL, instead of the system's."""


def without_authorities() -> str:
    """What is wrong with the file that it names; OpenSSL says nothing of it. Empty when nothing."""
    path = os.environ.get(AUTHORITIES)
    if not path:
        return ""
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError as error:
        return f"{AUTHORITIES} names {path!r}, which has no certificate ({_reason(error)})"
    except OSError as error:
        return f"{AUTHORITIES} names {path!r}, which can't be read ({error.strerror})"
    return ""


def client_context(ca: str | None, certificate: str | None, key: str | None) -> ssl.SSLContext:
    """TLS 1.2 or later, to a broker whose certificate is good for the host that was asked for.

    Args:
        ca: whom to trust, and nobody else; None for whom the system trusts.
        certificate: ours, for brokers that ask for one.
        key: of our certificate.

    Raises:
        InvalidRequest: one of them is no certificate or key, or the two don't belong together.
    """
    try:
        context = ssl.create_default_context(cadata=ca)
    except ssl.SSLError as error:
        raise InvalidRequest(
            f"what is to be trusted is no certificate ({_reason(error)}); get a new credentials "
            "file or URL from whoever keeps the broker"
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is None and key is None:
        return context
    if certificate is None or key is None:
        raise InvalidRequest(
            "a certificate and its key belong together, and one of them is missing; get a new "
            "credentials file from whoever keeps the broker"
        )
    # Python's ssl reads certificates from files only. The folder is ours alone, and is gone when
    # they are read.
    with tempfile.TemporaryDirectory(prefix="icebus-") as folder:
        ours = Path(folder) / "ours.pem"
        ours.touch(mode=0o600)
        ours.write_text(f"{key.strip()}\n{certificate.strip()}\n")
        try:
            context.load_cert_chain(ours, password=_no_password)
        except (ssl.SSLError, ValueError) as error:
            raise InvalidRequest(
                f"our certificate or its key can't be used ({_reason(error)}); get a new "
                "credentials file from whoever keeps the broker"
            ) from None
    return context


def der_of(certificates: str) -> frozenset[bytes]:
    """Certificates in PEM as what is in them, however they are written.

    Raises:
        ValueError: one is none.
    """
    end = "-----END CERTIFICATE-----"
    return frozenset(
        ssl.PEM_cert_to_DER_cert((each + end).strip()) for each in certificates.split(end)[:-1]
    )


def ends_of(connection: object) -> float | None:
    """When the certificate of who is at the other end ends, as seconds since 1970.

    Args:
        connection: a socket; None where there is none.

    Returns:
        None without TLS.
    """
    if not isinstance(connection, ssl.SSLSocket):
        return None
    try:
        shown = connection.getpeercert()
    except (OSError, ValueError):  # it has just been closed
        return None
    ends = (shown or {}).get("notAfter")
    return ssl.cert_time_to_seconds(ends) if isinstance(ends, str) else None


def _no_password() -> str:
    # OpenSSL would ask on the terminal, where a program may wait for ever.
    raise ValueError("the key has a password, which is not supported")


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason or error).replace("_", " ").lower()
