"""Invitations: one line with which somebody gets an account of their own at a broker, once.

It has all that a machine needs to reach the broker, and a token that is good for nothing but to
choose a password. As a URL::

    icebus://user:token@host:8883/icebus/v1?until=1767225600&tls=1&ca=MIIB…

``ca`` is a certificate to trust, in DER and URL-safe base64; there may be several.
"""

from __future__ import annotations

import ssl
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlencode, urlsplit

from icebus.bus._broker_address.address import BrokerAddress
from icebus.schemas.errors import InvalidRequest

SCHEME = "icebus"

_END = "-----END CERTIFICATE-----"
_BROKEN = (
    "this is not a whole invitation; copy the line anew, in quotes, as `icebus-broker add` "
    "printed it"
)


@dataclass(frozen=True)
class Invitation:
    """An account to be taken.

    Attributes:
        address: of the broker, with the token in the place of the password.
        until: when it ends.
    """

    address: BrokerAddress
    until: datetime

    def url(self) -> str:
        """The line, without the command that takes it. A secret until it is redeemed."""
        said: list[tuple[str, str]] = [("until", str(int(self.until.timestamp())))]
        if self.address.tls:
            said.append(("tls", "1"))
        for pem in (self.address.ca or "").split(_END)[:-1]:
            der = ssl.PEM_cert_to_DER_cert((pem + _END).strip())
            said.append(("ca", urlsafe_b64encode(der).decode().rstrip("=")))
        rest = self.address.url().partition("://")[2]
        return f"{SCHEME}://{rest}?{urlencode(said)}"

    @classmethod
    def parse(cls, url: str) -> Invitation:
        """Read such a line.

        Raises:
            InvalidRequest: it is something else, or a part of one.
        """
        try:
            parts = urlsplit(url)
            if parts.scheme != SCHEME:
                raise InvalidRequest(_BROKEN)
            said = parse_qs(parts.query, strict_parsing=True, max_num_fields=20)
            until = datetime.fromtimestamp(int(said["until"][0]), UTC)
            authorities = [
                ssl.DER_cert_to_PEM_cert(urlsafe_b64decode(each + "=" * (-len(each) % 4)))
                for each in said.get("ca", [])
            ]
        except (ValueError, KeyError, OverflowError, OSError):
            raise InvalidRequest(_BROKEN) from None
        tls = said.get("tls") == ["1"]
        scheme = "mqtts" if tls else "mqtt"
        address = BrokerAddress.parse(f"{scheme}://{parts.netloc}{parts.path}")
        if not address.password:
            raise InvalidRequest(_BROKEN)
        return cls(replace(address, ca="".join(authorities) or None), until)
