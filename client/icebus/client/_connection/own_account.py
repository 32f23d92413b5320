"""Hearing of one's own account, so that nobody learns of its end by being refused."""

from __future__ import annotations

import logging

from icebus.bus import Bus, Incoming
from icebus.client._connection.hook_runner import HookRunner
from icebus.client._profiles.endings import Ending, endings
from icebus.schemas.message import decode, now
from icebus.schemas.operations.accounts import Account
from icebus.schemas.topics import ACCOUNT

log = logging.getLogger(__name__)

SETTLED = 10.0
"""Seconds until a profile on this machine has the new password, where that was made here."""


class OwnAccount:
    """Listens to what the broker tells of our account; logs what ends soon, and runs hooks.

    Args:
        bus: of the client.
        hooks: to run, those of ``ends``.
    """

    def __init__(self, bus: Bus, hooks: HookRunner) -> None:
        self._bus = bus
        self._hooks = hooks
        self._account: Account | None = None
        self._logged: set[tuple[str, object]] = set()
        bus.subscribe(ACCOUNT, self._on_account, user=bus.address.user)

    def listen(self) -> None:
        """Tell hooks that are new what is known already."""
        self._bus.call_soon(self._tell)

    # --- on the dispatcher ----------------------------------------------------------------------

    def _on_account(self, incoming: Incoming) -> None:
        if not incoming.payload:
            return
        account = self._account = decode(Account, incoming.payload)
        login = self._bus.address.logs_in_as
        self._bus.expect_end(account=account.expires, password=account.former.get(login))
        if incoming.retained:
            self._tell()
        else:
            self._bus.call_later(SETTLED, self._tell)

    def _tell(self) -> None:
        if self._account is None:
            return
        for ending in endings(self._account, self._bus.address.logs_in_as, now()):
            # The next connection uses the new one by itself.
            if ending.what == "password" and self._bus.credentials_replaced:
                continue
            self._log(ending)
            if self._hooks.has("ends"):
                self._hooks.run("ends", ending, ("ends", ending.what, ending.at))

    def _log(self, ending: Ending) -> None:
        if (ending.what, ending.at) not in self._logged:
            self._logged.add((ending.what, ending.at))
            log.warning("%s", ending.message)
