"""A certificate authority for one farm: it vouches for its broker and for its components.

ECDSA on P-256, by the package ``cryptography``; nothing of the mathematics is ours. No file is
read or written here.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING

from icebus.schemas.errors import InvalidRequest, ProgramMissing
from icebus.schemas.programs.installation import lacks

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

AUTHORITY_LIFE = timedelta(days=3650)
"""Of the authority itself. Everybody has its certificate, and hears of the next one in time."""

BROKER_LIFE = timedelta(days=397)
"""Of the broker's certificate: what public authorities give at most (CA/Browser Forum, Baseline
Requirements 6.3.2, 398 days), and renewing it tells nobody but Mosquitto."""

COMPONENT_LIFE = timedelta(days=730)
"""Of the certificate of a worker, control or site: a new one has to be carried to its machine."""

_BLOCK = re.compile(r"-----BEGIN ([A-Z ]+)-----[^-]+-----END \1-----")

BACKDATED = timedelta(days=1)
"""How long before it was made a certificate is good: clocks of machines differ."""


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, both as PEM.

    Attributes:
        serial: its number, by which it can be revoked.
        expires: when it ends.
    """

    certificate: str
    key: str
    serial: int
    expires: datetime


@dataclass(frozen=True)
class Revoked:
    """A certificate that counts no longer, though its time has not come."""

    serial: int
    since: datetime


class Authority:
    """Whoever has its key can make certificates that everybody in the farm believes.

    Args:
        certificate: of the authority, as PEM.
        key: of it, as PEM.

    Attributes:
        certificate: as given.
        key: as given.

    Raises:
        ProgramMissing: the package that makes certificates is not installed.
        InvalidRequest: they are damaged.
    """

    def __init__(self, certificate: str, key: str) -> None:
        self._certificate = _load_certificate(certificate)
        self._key = _load_key(key)
        self.certificate, self.key = certificate, key

    @staticmethod
    def create(now: datetime | None = None) -> Issued:
        """A new authority: its certificate and key."""
        _need_cryptography()
        key = _new_key()
        # Two farms have two authorities: nobody confuses them in a list.
        name = _name(f"icebus authority {secrets.token_hex(4)}")
        return _signed(_authority(name, key, AUTHORITY_LIFE, now), key, key)

    @staticmethod
    def succeed(former: Authority, now: datetime | None = None) -> tuple[Issued, str]:
        """A new authority of the same name, and its certificate by the one before.

        Whoever trusts only the former trusts what the new one signs where that certificate comes
        along (RFC 4210, 4.4: "new with old"). It needs the same name: below the former there may be
        no other authority, and one of its own name is none (RFC 5280, 4.2.1.9, self-issued).

        Returns:
            The new one, and the certificate as PEM, which is good for as long as the former.
        """
        from cryptography.hazmat.primitives import serialization

        name = former._certificate.subject
        key = _new_key()
        made = _signed(_authority(name, key, AUTHORITY_LIFE, now), key, key)
        moment = now or datetime.now(UTC)
        link = _authority(name, key, former.expires - moment, now)
        link = link.add_extension(former._identifier, False)
        signed = _sign(link, former._key)
        return made, signed.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def id(self) -> str:
        """Of its key: two authorities of one farm have the same name."""
        from cryptography import x509

        return x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()).digest.hex()

    @property
    def _identifier(self) -> x509.AuthorityKeyIdentifier:
        from cryptography import x509

        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())

    @property
    def expires(self) -> datetime:
        """When nothing that it has signed counts any more."""
        return self._certificate.not_valid_after_utc

    def for_broker(self, hosts: Sequence[str], now: datetime | None = None) -> Issued:
        """A certificate for the broker under these names and addresses."""
        from cryptography import x509
        from cryptography.x509.oid import ExtendedKeyUsageOID

        names = [_host(each) for each in hosts]
        return self._issue(
            "icebus broker",
            BROKER_LIFE,
            ExtendedKeyUsageOID.SERVER_AUTH,
            x509.SubjectAlternativeName(names),
            now,
        )

    def for_component(self, name: str, now: datetime | None = None) -> Issued:
        """A certificate that makes whoever has its key the principal of that name."""
        from cryptography.x509.oid import ExtendedKeyUsageOID

        return self._issue(name, COMPONENT_LIFE, ExtendedKeyUsageOID.CLIENT_AUTH, None, now)

    def revocations(self, revoked: Sequence[Revoked], now: datetime | None = None) -> str:
        """The list of those that count no longer, as PEM.

        It is good for as long as the authority: OpenSSL takes nobody by an old one, and a new one
        is made whenever somebody is removed.
        """
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization

        builder = x509.CertificateRevocationListBuilder().issuer_name(self._certificate.subject)
        builder = builder.last_update((now or datetime.now(UTC)) - BACKDATED)
        builder = builder.next_update(self.expires)
        # By which OpenSSL tells it from the list of another authority of the same name.
        builder = builder.add_extension(self._identifier, False)
        for each in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(each.serial)
            builder = builder.add_revoked_certificate(entry.revocation_date(each.since).build())
        signed = builder.sign(self._key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM).decode()

    def _issue(
        self,
        name: str,
        life: timedelta,
        purpose: x509.ObjectIdentifier,
        names: x509.SubjectAlternativeName | None,
        now: datetime | None,
    ) -> Issued:
        from cryptography import x509

        key = _new_key()
        builder = _builder(_name(name), self._certificate.subject, key, life, now)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        builder = builder.add_extension(_usage(signs_certificates=False), True)
        # A component can't pose as the broker, nor the broker as a component.
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), True)
        if names is not None:
            builder = builder.add_extension(names, False)
        return _signed(builder.add_extension(self._identifier, False), key, self._key)


def read_authorities(certificates: str, keys: str) -> list[Authority]:
    """The authorities of a farm, the present one first.

    Args:
        certificates: of them, as PEM.
        keys: of them, as PEM, in any order; others may stand there.

    Raises:
        ProgramMissing: the package that makes certificates is not installed.
        InvalidRequest: one is damaged, or its key is missing.
    """
    of = {}
    for key in blocks(keys):
        of[_public(_load_key(key))] = key
    found = []
    for certificate in blocks(certificates):
        its = of.get(_public(_load_certificate(certificate)))
        if its is None:
            raise _damaged("a key is missing")
        found.append(Authority(certificate, its))
    if not found:
        raise _damaged("there is none")
    return found


def blocks(pem: str) -> list[str]:
    """What stands in a text, each as PEM by itself."""
    return [f"{each[0]}\n" for each in _BLOCK.finditer(pem)]


def expiry_of(certificate: str) -> datetime:
    """When a certificate, as PEM, ends.

    Raises:
        InvalidRequest: it is none.
    """
    _need_cryptography()
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(certificate.encode()).not_valid_after_utc
    except ValueError as error:
        raise InvalidRequest(f"that is no certificate in PEM ({error})") from None


def ends_of(certificate: str | None) -> float | None:
    """When a certificate in PEM ends, as seconds since 1970.

    Returns:
        None for none, and where that can't be told: it is no certificate, or nothing is installed
        here that reads them.
    """
    if certificate is None:
        return None
    try:
        return expiry_of(certificate).timestamp()
    except (InvalidRequest, ProgramMissing):
        return None


def check_pair(certificate: str, key: str) -> None:
    """Refuse a certificate that somebody else made when it can't be the broker's.

    Raises:
        InvalidRequest: one of the two is damaged, they don't belong together, or its time is over.
    """
    _need_cryptography()
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    try:
        ours = x509.load_pem_x509_certificates(certificate.encode())[0]
        loaded = serialization.load_pem_private_key(key.encode(), password=None)
    except (ValueError, TypeError) as error:
        raise InvalidRequest(
            f"the certificate or its key is not in PEM, or the key has a password ({error})"
        ) from None
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if ours.public_key().public_bytes(*form) != loaded.public_key().public_bytes(*form):
        raise InvalidRequest("the key is not the one of the certificate; give the pair")
    if ours.not_valid_after_utc < datetime.now(UTC):
        raise InvalidRequest(
            f"the certificate ended on {ours.not_valid_after_utc:%Y-%m-%d}; get a new one"
        )


def _need_cryptography() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise lacks("broker", "making certificates", "cryptography") from None


def _load_certificate(pem: str) -> x509.Certificate:
    _need_cryptography()
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError as error:
        raise _damaged(str(error)) from None


def _load_key(pem: str) -> EllipticCurvePrivateKey:
    _need_cryptography()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        loaded = serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError) as error:
        raise _damaged(str(error)) from None
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise _damaged("the key is not ours")
    return loaded


def _public(of: x509.Certificate | EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return of.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _damaged(why: str) -> InvalidRequest:
    return InvalidRequest(
        f"the authority's certificate or key is damaged ({why}); restore them from a backup"
    )


def _new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _name(text: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _host(text: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: EllipticCurvePrivateKey,
    life: timedelta,
    now: datetime | None,
) -> x509.CertificateBuilder:
    from cryptography import x509

    start = now or datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - BACKDATED)
        .not_valid_after(start + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    )


def _authority(
    name: x509.Name, key: EllipticCurvePrivateKey, life: timedelta, now: datetime | None
) -> x509.CertificateBuilder:
    from cryptography import x509

    builder = _builder(name, name, key, life, now)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
    return builder.add_extension(_usage(signs_certificates=True), True)


def _sign(builder: x509.CertificateBuilder, signer: EllipticCurvePrivateKey) -> x509.Certificate:
    from cryptography.hazmat.primitives import hashes

    return builder.sign(signer, hashes.SHA256())


def _signed(
    builder: x509.CertificateBuilder,
    key: EllipticCurvePrivateKey,
    signer: EllipticCurvePrivateKey,
) -> Issued:
    from cryptography.hazmat.primitives import serialization

    made = _sign(builder, signer)
    return Issued(
        certificate=made.public_bytes(serialization.Encoding.PEM).decode(),
        key=key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode(),
        serial=made.serial_number,
        expires=made.not_valid_after_utc,
    )
