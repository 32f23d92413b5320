"""Who we are at the broker: read anew before each connection, in case somebody has replaced it."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

from icebus.bus._broker_address.address import BrokerAddress
from icebus.bus._connection.connecting import ConnectingClient
from icebus.bus._connection.tls import client_context, der_of
from icebus.schemas.errors import IcebusError, InvalidRequest

log = logging.getLogger(__name__)

REPLACED = "our credentials were replaced meanwhile, and the new ones are used"

DAY = 86_400.0

SOON = timedelta(days=30)
"""How long before its end our certificate is warned of: somebody has to carry a new one here."""

STAYS = ("user", "root", "tls")
"""What of an address can't change while a program runs: its topics are made of it."""


RETRY = 0.5
"""Seconds until a credentials file is written that somebody else is writing."""

Later = Callable[[float, Callable[[], None]], None]
"""Calls something after some seconds, on the thread that calls this."""


class Identity:
    """What a connection shows of us, kept as our credentials file has it.

    A password or a certificate that is replaced on this machine costs a reconnect that way, and no
    restart. What can't be read, or is somebody else's, is logged once, and the former is kept.

    Args:
        client: of paho.
        address: as the program has read it at its start.

    Attributes:
        address: what is used from the next connection on.
        password_ends: when the password ends, which was replaced; None if that is not known.
        account_ends: when the account ends; likewise.

    Raises:
        InvalidRequest: its certificates can't be used.
    """

    def __init__(self, client: ConnectingClient, address: BrokerAddress) -> None:
        self._client = client
        self._complaint = ""
        self._heard = ""
        self.address = address
        self._warn_at = 0.0
        self.password_ends: datetime | None = None
        self.account_ends = address.ends
        self._use(address, _context(address))
        client.before_connecting = self.read_again

    @property
    def replaced(self) -> bool:
        """Whether there are others by now than those that were last tried."""
        found = self._read()
        return found is not None and _differs(found, self.address)

    def read_again(self) -> None:
        """Use what stands there now, from the next connection on."""
        found = self._read()
        if found is None or not _differs(found, self.address):
            return
        try:
            context = _context(found)
        except InvalidRequest as error:
            self._complain(error.message)
            return
        self.address = found
        self.password_ends, self.account_ends = None, found.ends
        self._use(found, context)
        self._client.use_host(found.host, found.port)
        log.info("the credentials of %s were replaced; using the new ones", found.user)

    def trust(self, ca: str, later: Later) -> None:
        """Trust these authorities to be the broker from the next connection on, and for good.

        To be called with what was heard over a connection of this identity, which the authorities
        that it trusts already have vouched for. Where none of those is among the new ones they are
        another broker's, or would lock us out, and are not taken.

        Args:
            ca: their certificates, as PEM.
            later: as for :meth:`mind_end`.
        """
        known = self.address.ca
        if known is None or ca == known or ca == self._heard:
            return
        try:
            trusting = replace(self.address, ca=ca)
            context = _context(trusting)
            if not der_of(ca) & der_of(known):
                raise InvalidRequest("none of them is trusted already")
            if self.address.keep is None:
                raise InvalidRequest("they were read from no file")
            self.address.keep(ca)
        except BlockingIOError:  # somebody else writes in that folder
            later(RETRY, lambda: self.trust(ca, later))
        except (InvalidRequest, OSError, ValueError) as error:
            self._heard = ca
            log.warning(
                "the broker has another authority, which %s can't be told to trust (%s): get a new "
                "credentials file from whoever keeps the broker, before the former ends",
                self.address.user,
                error,
            )
        else:
            self.address = trusting
            self._use(trusting, context)
            log.info("the broker has another authority; %s trusts it now", self.address.user)

    def mind_end(self, later: Later) -> None:
        """Log once a day when our certificate ends within a month: its file is to be replaced.

        Args:
            later: calls something after some seconds, on the thread that calls this.
        """
        if time.monotonic() >= self._warn_at:
            self._warn_at = time.monotonic() + DAY
            self._warn_of_end()
            later(DAY, lambda: self.mind_end(later))

    def _warn_of_end(self) -> None:
        ends = self.address.ends
        if self.address.certificate is None or ends is None or ends > datetime.now(UTC) + SOON:
            return
        log.warning(
            "the certificate of %s ends on %s; `icebus-broker renew %s -o FILE` on the broker's "
            "machine makes a new one, to be put in place of the old",
            self.address.user,
            f"{ends:%Y-%m-%d}",
            self.address.user,
        )

    def _read(self) -> BrokerAddress | None:
        reread = self.address.reread
        if reread is None:
            return None
        try:
            found = reread()
        except (IcebusError, OSError) as error:
            self._complain(str(error))
            return None
        if any(getattr(found, each) != getattr(self.address, each) for each in STAYS):
            self._complain(
                f"they are those of {found.user!r} under {found.root!r} now; restart this program "
                "to be that one"
            )
            return None
        self._complaint = ""
        return found

    def _complain(self, complaint: str) -> None:
        if complaint != self._complaint:
            log.warning(
                "the credentials of %s stay those of before: %s", self.address.user, complaint
            )
        self._complaint = complaint

    def _use(self, address: BrokerAddress, context: ssl.SSLContext | None) -> None:
        self._client.username_pw_set(address.logs_in_as, address.password or None)
        if context is not None:
            self._client.use_context(context)


def _differs(one: BrokerAddress, other: BrokerAddress) -> bool:
    return any(
        getattr(one, each.name) != getattr(other, each.name) for each in fields(one) if each.compare
    )


def _context(address: BrokerAddress) -> ssl.SSLContext | None:
    if not address.tls:
        return None
    return client_context(address.ca, address.certificate, address.key)
